"""Credentials of many owners: a protocol, what is made into one, and a file."""

from __future__ import annotations

import asyncio
import csv
import inspect
import io
import os
import re
import stat
import threading
import tomllib
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import orjson

from engagement_async.credentials import Credentials, OAuth1Credentials
from engagement_async.errors import UsageError

__all__ = ["CredentialFile", "CredentialStore", "Lookup", "as_store", "is_private"]


@runtime_checkable
class CredentialStore(Protocol):
    """Where a client gets the credentials of each owner from: a `CredentialFile`, or a class of your own.

    A client asks when it first needs an owner, keeps what it got, and asks again when the API refuses that: give newer
    credentials then, and the request is sent once more.
    """

    async def get(self, owner: str) -> Credentials | None:
        """Return an owner's credentials; None if there are none, whereupon the Tweets of this owner fail.

        Args:
            owner: The name that the Tweets came with.

        Raises:
            Exception: Whatever it raises ends the run.
        """
        ...


Lookup = Callable[[str], Credentials | Awaitable[Credentials | None] | None]
"""A function that returns an owner's credentials, sync or async."""


class _FunctionStore:
    """Asks a function. Two of them are equal if they ask the same one: they are of one application then."""

    def __init__(self, look_up: Lookup) -> None:
        self._look_up = look_up

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FunctionStore) and other._look_up == self._look_up

    def __hash__(self) -> int:
        return hash(self._look_up) if isinstance(self._look_up, Hashable) else id(self._look_up)

    async def get(self, owner: str) -> Credentials | None:
        found = self._look_up(owner)
        return await found if inspect.isawaitable(found) else found


class _MappingStore:
    """Looks into a mapping. Which application it is of, the first credentials in it say, as in a `CredentialFile`."""

    def __init__(self, credentials: Mapping[str, Credentials]) -> None:
        self._credentials = credentials

    async def get(self, owner: str) -> Credentials | None:
        return self._credentials.get(owner)

    def fingerprint(self, key: bytes) -> str:
        fingerprint = getattr(next(iter(self._credentials.values()), None), "fingerprint", None)
        return f"mapping {id(self._credentials)}" if fingerprint is None else str(fingerprint(key))


def as_store(credentials: object) -> CredentialStore | None:
    """Return a store for what is one, a mapping of owners to credentials, or a function; None for anything else."""
    if hasattr(credentials, "signer"):
        return None
    if isinstance(credentials, Mapping):
        return _MappingStore(credentials)
    if isinstance(credentials, CredentialStore):
        return credentials
    return _FunctionStore(credentials) if callable(credentials) and not isinstance(credentials, type) else None


def is_private(mode: int, owner: int) -> bool:
    """Return whether a file of this mode and owner may hold secrets: nobody else can read it, or root gave it out, as
    Kubernetes and Docker mount secrets, and nobody else can write it.
    """
    return not mode & 0o077 or (owner == 0 and not mode & 0o022)


class CredentialFile:
    """Credentials of many owners in a file: CSV, JSON lines or TOML, by its suffix. A `CredentialStore`.

    CSV and JSON lines have the columns `owner`, `access_token` and `access_token_secret`; TOML has a table for each owner
    with these two keys. `consumer_key` and `consumer_secret` may stand beside them, where owners granted their tokens to
    different applications.

    The file is read when it is first needed, and again when it has changed.

    Args:
        path: The file. It must be readable by its owner alone, unless it belongs to root and nobody else can write it, as
            mounted secrets do.
        consumer_key: The key of your app, for owners without one of their own.
        consumer_secret: Its secret.

    Raises:
        UsageError: The suffix is unknown, or one of the consumer pair is missing. Later, when the file is read: others can
            read or write it, or a line is not what it must be. Names the line, and never a value.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, consumer_key: str | None = None, consumer_secret: str | None = None
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _READERS:
            raise UsageError(
                f"{self.path} is neither .csv, .jsonl nor .toml: name it so, or give a mapping of owners to credentials"
            )
        if (consumer_key is None) != (consumer_secret is None):
            raise UsageError("consumer_key and consumer_secret go together: give both, or neither")
        # A closure: nothing that prints an object finds them.
        self._consumer: Callable[[], tuple[str | None, str | None]] = lambda: (consumer_key, consumer_secret)
        self._stamp: tuple[int, int, int] | None = None
        self._owners: dict[str, OAuth1Credentials] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"CredentialFile({str(self.path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._consumer() != (None, None):
            raise TypeError(
                "CredentialFile was given a consumer pair and is not pickled: write consumer_key and consumer_secret into "
                "the file, or make it anew in the other process"
            )
        return CredentialFile, (str(self.path),)

    async def get(self, owner: str) -> Credentials | None:
        """Return an owner's credentials; None if the file has none.

        Args:
            owner: The name in the column `owner`.

        Raises:
            UsageError: The file cannot be read, or a line is not what it must be.
        """
        return (await asyncio.to_thread(self._read)).get(owner)

    def owners(self) -> list[str]:
        """Return the owners in the file, in its order. Reads it if it changed.

        Raises:
            UsageError: As for `get`.
        """
        return list(self._read())

    def fingerprint(self, key: bytes) -> str:
        """Return a keyed hash of what identifies the application: its contract is the same, whoever the owners are.

        Args:
            key: What the hash is keyed with.

        Raises:
            UsageError: As for `get`.
        """
        first = next(iter(self._read().values()), None)
        return "" if first is None else first.fingerprint(key)

    def _read(self) -> dict[str, OAuth1Credentials]:
        with self._lock:
            self._read_if_changed()
            return self._owners

    def _read_if_changed(self) -> None:
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                status = os.fstat(file.fileno())  # of the very file that is read
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp == self._stamp:
                    return
                if not is_private(stat.S_IMODE(status.st_mode), status.st_uid):
                    raise UsageError(
                        f"{self.path} holds secrets, and others can read or write it: chmod 600 {self.path}"
                    )
                text = file.read()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{self.path} is not UTF-8") from None
        owners: dict[str, OAuth1Credentials] = {}
        read: _Reader = _READERS[self.path.suffix.lower()]
        for where, owner, entry in read(self.path, text):
            if owner in owners:
                raise UsageError(f"{where}: owner {owner!r} is there twice: take one out")
            owners[owner] = self._credentials(where, entry)
        self._stamp, self._owners = stamp, owners

    def _credentials(self, where: str, entry: Mapping[str, Any]) -> OAuth1Credentials:
        consumer_key, consumer_secret = self._consumer()
        values: dict[str, Any] = {
            "consumer_key": entry.get("consumer_key") or consumer_key,
            "consumer_secret": entry.get("consumer_secret") or consumer_secret,
            "access_token": entry.get("access_token"),
            "access_token_secret": entry.get("access_token_secret"),
        }
        if missing := [name for name, value in values.items() if not isinstance(value, str) or not value]:
            hint = ": give them to CredentialFile, or in the file" if missing[0].startswith("consumer") else ""
            raise UsageError(f"{where}: no {' and no '.join(missing)}{hint}")
        try:
            return OAuth1Credentials(**values)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None


_COLUMNS: Final = ("owner", "access_token", "access_token_secret")
_Entries = Iterator[tuple[str, str, Mapping[str, Any]]]


def _checked_owner(where: str, owner: object) -> str:
    if not isinstance(owner, str) or not owner.strip():
        raise UsageError(f"{where}: no owner: each line has `owner`, `access_token` and `access_token_secret`")
    return owner.strip()


def _read_csv(path: Path, text: str) -> _Entries:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        names = rows.fieldnames or _COLUMNS
        if missing := [f"`{name}`" for name in _COLUMNS if name not in names]:
            # What the line has instead is not shown: it may be a token.
            raise UsageError(
                f"{path}, line {rows.line_num}: no {' and no '.join(missing)}: the first line names the columns, with "
                f"commas between them: {','.join(_COLUMNS)}"
            )
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if None in row:
                raise UsageError(f"{where}: more cells than there are columns")
            yield (
                where,
                _checked_owner(where, row.get("owner")),
                {name: (value or "").strip() for name, value in row.items()},
            )
    except csv.Error:
        raise UsageError(f"{path}, line {rows.line_num}: this is no CSV") from None


def _read_jsonl(path: Path, text: str) -> _Entries:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise UsageError(f"{where}: this is no JSON") from None
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: this is no JSON object")
        yield where, _checked_owner(where, entry.get("owner")), entry


def _read_toml(path: Path, text: str) -> _Entries:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at [^()]*\)", str(error))  # the rest of the message may quote the text
        raise UsageError(f"{path} is no TOML {at.group() if at else ''}".rstrip()) from None
    for owner, entry in tables.items():
        where = f"{path}, table {owner!r}"
        if not isinstance(entry, dict):
            raise UsageError(f"{path}: {owner!r} is no table: write [owner] above its access_token")
        yield where, _checked_owner(where, owner), entry


_Reader = Callable[[Path, str], _Entries]
_READERS: Mapping[str, _Reader] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".toml": _read_toml,
}
