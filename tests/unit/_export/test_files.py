"""Files: whole or not there."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement_async._export.files import atomic_file, atomic_path
from engagement_async._export.formats import write_parquet
from engagement_async.errors import UsageError

AT = datetime(2015, 9, 14, 17, tzinfo=UTC)


def test_a_file_appears_whole_with_the_mode_that_umask_leaves(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_file(path) as file:  # noqa: PT012 - the block is what is tested
        file.write(b"half")
        raise error

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with atomic_file(pipe) as file:
        file.write(b"through")
    reader.join()

    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_path_that_no_file_can_have_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"), atomic_file(tmp_path / "none" / "out"):
        pass
    with pytest.raises(UsageError, match="is a folder"), atomic_file(tmp_path):
        pass


def test_a_file_keeps_the_mode_of_the_one_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_file(path) as file:
        file.write(b"new")

    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


def test_a_library_gets_no_place_that_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.duckdb")
    with pytest.raises(UsageError, match="no regular file"), atomic_path(tmp_path / "pipe.duckdb"):
        pass

    assert stat.S_ISFIFO((tmp_path / "pipe.duckdb").stat().st_mode)


@pytest.mark.parametrize("name", ["x" * 255, "文" * 85, "é" * 127])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    with atomic_file(tmp_path / name) as file:
        file.write(b"1")

    assert [path.name for path in tmp_path.iterdir()] == [name]


KILLED = """
import os, signal, sys
from engagement_async._export.files import atomic_file, atomic_path
with atomic_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a[b]*.csv"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    left = {entry.suffix for entry in tmp_path.iterdir()}
    with atomic_file(path) as other:
        other.write(b"other")
        with atomic_file(path) as file:
            file.write(b"whole")
        assert path.read_bytes() == b"whole"

    assert left == {".part", ".lock"}
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [(path.name, b"other")]


WRITER = """
import sys
from engagement_async._export.files import atomic_file, atomic_path
with atomic_file(sys.argv[1]) as file:
    for n in range(200_000):
        file.write(b"%9d\\n" % n)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_pipe_gets_every_byte(unbuffered: str, blocking: bool, place: str) -> None:
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    with open(read, "rb") as reader:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, place], stdout=write, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}
        )
        os.close(write)
        got = b""
        for signal_ in (signal.SIGSTOP, signal.SIGCONT) * 3:
            got += os.read(reader.fileno(), 4096)
            process.send_signal(signal_)
        got += reader.read()

    assert process.wait() == 0
    assert got == b"".join(b"%9d\n" % n for n in range(200_000))


def test_a_reader_that_goes_away_is_an_error() -> None:
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", WRITER, "/dev/stdout"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)

    assert b"BrokenPipeError" in process.communicate()[1]
    assert process.returncode == 1


def test_parquet_goes_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with atomic_file(tmp_path / "pipe") as file:
        write_parquet(file, [pa.table({"a": [1, 2]})])
    reader.join()

    assert pq.read_table(io.BytesIO(got[0])).to_pydict() == {"a": [1, 2]}
