"""The file of a store: made at once or not at all, opened when nobody else has it, and read as Arrow."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from engagement_async._export.databases import duckdb_disk_error
from engagement_async._export.files import check_duckdb_path
from engagement_async.errors import OtherSeriesError, SeriesCorruptError, SeriesError, SeriesLockedError, UsageError
from engagement_async.series.schema import FORMAT, TABLES

try:
    import duckdb
    import pyarrow as pa
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("a series needs duckdb and pyarrow: pip install 'engagement-async[series]'") from error

__all__ = ["Database", "NoStoreError", "make_store", "opened"]

_MAGIC = b"DUCK"
_MAGIC_AT = 8
_RETRY_S = 0.05


class NoStoreError(UsageError):
    """There is no store."""


class Database:
    """An open store: every statement goes through `execute`."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def execute(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        found: list[tuple[Any, ...]] = self.connection.execute(sql, parameters or None).fetchall()
        return found

    def arrow(self, sql: str) -> pa.Table:
        """Return the rows of a query."""
        return self.connection.sql(sql).to_arrow_table()

    @contextmanager
    def registered(self, tables: Mapping[str, pa.Table]) -> Iterator[None]:
        """Show Arrow tables to the statements of the block, by name."""
        for name, table in tables.items():
            self.connection.register(name, table)
        try:
            yield
        finally:
            for name in tables:
                self.connection.unregister(name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction: all of it is in the store afterwards, or nothing."""
        self.execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            with suppress(duckdb.Error):
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")


@contextmanager
def opened(path: Path, *, read_only: bool, wait_s: float) -> Iterator[Database]:
    """Open a store.

    Args:
        path: Its file.
        read_only: Whether others may read it meanwhile.
        wait_s: Seconds to wait while another program has it open.

    Raises:
        UsageError: There is none.
        SeriesLockedError: Another program has it open, and still had when the time was over.
        OtherSeriesError: The file is something else.
        SeriesCorruptError: DuckDB cannot read it.
    """
    connection = _connect(path, read_only=read_only, wait_s=wait_s)
    try:
        database = Database(connection)
        _check_format(path, database)
        yield database
    except duckdb.Error as error:
        raise _store_error(error, path) from None
    finally:
        connection.close()


def _disk_error(error: Exception, path: Path) -> SeriesError | None:
    """Return the error of a store that could not be written; None for any other error of DuckDB."""
    found = duckdb_disk_error(error, path)
    if found is None:
        return None
    fix = ": make room and run it again" if found.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SeriesError(f"{path}: cannot be written: {found.strerror}{fix}")


def _store_error(error: Exception, path: Path) -> Exception:
    """Return what an error of DuckDB means for a store; an unknown error is returned as it is."""
    full = _disk_error(error, path)  # first: a full disk makes fatal errors too, and damages nothing
    if full is not None:
        return full
    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)):
        return SeriesError(f"{path}: {_first_line(error)}")
    if isinstance(error, (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)):
        return SeriesCorruptError(f"{path}: is damaged: {_first_line(error)}")
    return error


def make_store(path: Path) -> None:
    """Make an empty store, unless there is a file: it is there whole, or not at all. The caller holds the store's lock."""
    if path.exists():
        return
    hidden = path.with_name(f".{path.name}.new")
    _remove_unfinished(hidden)
    try:
        with closing(duckdb.connect(str(hidden))) as connection:
            for statement in TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO series_info VALUES ('format', ?)", [FORMAT])
            connection.execute("CHECKPOINT")
    except BaseException as error:
        _remove_unfinished(hidden)
        if isinstance(error, duckdb.Error):
            raise _store_error(error, path) from None
        raise
    os.replace(hidden, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove_unfinished(hidden: Path) -> None:
    for leftover in (hidden, hidden.with_name(f"{hidden.name}.wal")):
        leftover.unlink(missing_ok=True)


def _connect(path: Path, *, read_only: bool, wait_s: float) -> Any:
    check_duckdb_path(path)
    until = time.monotonic() + wait_s
    if not read_only and not path.exists():
        raise _no_store(path)  # DuckDB would make one
    was_free = False
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.ConnectionException as error:  # this process has it open: to look at the file would free its lock
            reason: Exception = error
        except duckdb.IOException as error:
            _check_file(path)
            if (full := _disk_error(error, path)) is not None:
                raise full from None
            reason = error
            if not _is_locked(path, read_only=read_only):
                if was_free:
                    raise SeriesCorruptError(f"{path}: is damaged: {_first_line(error)}") from None
                was_free = True  # or just freed: once more
                continue
        except duckdb.Error as error:
            _check_file(path)  # of other files DuckDB may make a database in memory
            if (full := _disk_error(error, path)) is not None:
                raise full from None
            raise SeriesCorruptError(f"{path}: is damaged: {_first_line(error)}") from None
        if time.monotonic() >= until:
            raise SeriesLockedError(
                f"{path}: another program has it open: close it there. {_first_line(reason)}"
            ) from None
        time.sleep(_RETRY_S)


def _is_locked(path: Path, *, read_only: bool) -> bool:
    """Return whether another process holds DuckDB's lock on a file."""
    with path.open("rb" if read_only else "r+b") as file:
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _no_store(path: Path) -> NoStoreError:
    return NoStoreError(f"{path}: there is no series here: begin one with `engagement series pull {path} --ids FILE`")


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_MAGIC_AT + len(_MAGIC))
    except FileNotFoundError:
        raise _no_store(path) from None
    except IsADirectoryError:
        raise OtherSeriesError(f"{path}: is a folder: a series is a file, as series.duckdb") from None
    if head[_MAGIC_AT:] != _MAGIC:
        raise OtherSeriesError(
            f"{path}: is no DuckDB file: name the store of a series, or a file that is not there yet"
        )


def _check_format(path: Path, database: Database) -> None:
    tables = {name for (name,) in database.execute("SELECT table_name FROM duckdb_tables()")}
    if "series_info" not in tables:
        raise OtherSeriesError(f"{path}: is a DuckDB file of something else: name another file for the series")
    ((found,),) = database.execute("SELECT value FROM series_info WHERE key = 'format'")
    if found != FORMAT:
        raise OtherSeriesError(f"{path}: was made by a later version (format {found}): update engagement-async")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
