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
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement_async._export import files
from engagement_async._export.files import atomic_file, atomic_path, check_outputs, check_outside_jobs, output_stream
from engagement_async._export.formats import write_parquet
from engagement_async.errors import UsageError
from tests.support.jobs import started

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


def test_a_leftover_without_its_lock_goes_too(tmp_path: Path) -> None:
    for name in (".x.csv.0123abcd.part", ".x.csv.0123abcd.part.wal", ".x.csv.89abcdef.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".x.csv.gz.0123abcd.part").touch()  # of another file
    (tmp_path / ".x.csv.0123abcd.lock.part").touch()
    with atomic_file(tmp_path / "x.csv") as file:
        file.write(b"1")

    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".x.csv.0123abcd.lock.part",
        ".x.csv.gz.0123abcd.part",
        "x.csv",
    ]


@pytest.mark.parametrize("name", ["x" * 256, "文" * 86, "x" * 5000])
def test_a_name_that_is_too_long_is_told_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="the name is longer than this file system takes"):
        check_outputs([str(tmp_path / name)], [])


def test_a_place_below_a_file_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="lies in what is no folder"):
        check_outputs([str(tmp_path / "file" / "x.csv")], [])


def test_an_input_is_no_output_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ids.csv").write_text("1")
    Path("soft.csv").symlink_to("ids.csv")
    os.link("ids.csv", "hard.csv")
    Path("sub").mkdir()
    for name in ("ids.csv", "soft.csv", "hard.csv", "sub/../ids.csv", str(tmp_path / "ids.csv"), "./ids.csv"):
        for source in ("ids.csv", "soft.csv", str(tmp_path / "ids.csv")):
            with pytest.raises(UsageError, match="is the same file as the input"):
                check_outputs(["new.csv", name], ["none.csv", "/dev/null", "a\0b", source])
    with pytest.raises(UsageError, match="named twice"):
        check_outputs(["a.csv", "sub/../a.csv"], [])
    check_outputs(["new.csv", "-", "/dev/null", "/dev/stdout"], ["ids.csv", "/dev/null"])


@pytest.mark.parametrize("name", ["job/x.csv", "job/journal.sqlite", "link/x.csv", "job/parts/x.csv", "job/a/b/c.csv"])
def test_nothing_is_written_into_the_folder_of_a_job(tmp_path: Path, name: str) -> None:
    directory = started(tmp_path / "job", 3)
    (tmp_path / "link").symlink_to("job")
    before = sorted(directory.path.iterdir())
    with pytest.raises(UsageError, match="lies in the folder of a job"):
        check_outside_jobs(tmp_path / name)
    if (tmp_path / name).parent.is_dir():
        with pytest.raises(UsageError, match="lies in the folder of a job"):
            check_outputs([str(tmp_path / name)], [])

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "journal.sqlite").write_text("of somebody else")
    check_outputs([str(tmp_path / "other" / "x.csv")], [])
    assert sorted(directory.path.iterdir()) == before


def test_the_standard_input_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("1")
    code = "import sys; from engagement_async._export.files import check_outputs; check_outputs([sys.argv[1]], ['-'])"
    with (tmp_path / "ids.csv").open() as stdin:
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "ids.csv"], stdin=stdin, capture_output=True, text=True, check=False
        )

    assert "is the same file as the standard input" in done.stderr


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("old", [b"old", b"older and longer"])
def test_a_file_that_cannot_be_replaced_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, old: bytes
) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(old)
    inode = path.stat().st_ino

    def replace(self: Path, target: Path) -> None:
        raise OSError(number, "cannot")

    monkeypatch.setattr(Path, "replace", replace)
    with atomic_file(path) as file:
        file.write(b"newest")
        assert path.read_bytes() == old

    assert (path.read_bytes(), path.stat().st_ino) == (b"newest", inode)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="cannot"), atomic_file(tmp_path / "none.csv"):
        pass


def test_a_mount_point_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    mounted = subprocess.run(["mount", "--bind", path, path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this user cannot mount: {mounted.stderr.decode().strip()}")
    try:
        with atomic_file(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"
    finally:
        subprocess.run(["umount", path], check=True)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])


def test_a_full_disk_leaves_the_old_content_of_a_file_that_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user cannot mount: {mounted.stderr.decode().strip()}")
    try:
        (disk / "out.csv").write_bytes(b"old")
        (tmp_path / "out.csv").symlink_to(disk / "out.csv")
        monkeypatch.setattr(files, "_begin", lambda target, path: begin_in(tmp_path))
        with pytest.raises(OSError, match="No space left"), atomic_file(tmp_path / "out.csv") as file:
            file.write(bytes(100_000))
        assert (disk / "out.csv").read_bytes() == b"old"
        with atomic_file(tmp_path / "out.csv") as file:
            file.write(b"newer")
        assert (disk / "out.csv").read_bytes() == b"newer"
    finally:
        subprocess.run(["umount", disk], check=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def begin_in(folder: Path) -> tuple[Path, int]:
    """Return what `_begin` does for a target whose folder nobody may write to: a hidden file elsewhere."""
    hidden = folder / ".out.csv.01234567.part"
    return hidden, os.open(hidden.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)


def test_a_file_on_a_file_system_that_is_read_only_elsewhere_is_written_over(tmp_path: Path) -> None:
    """As a container has it: one file mounted into an image that nobody may write to."""
    folder, outside = tmp_path / "image", tmp_path / "volume.csv"
    folder.mkdir()
    outside.write_bytes(b"old")
    (folder / "out.csv").touch()
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount --bind "$2" "$1/out.csv" && '
        'exec "$3" -c "$4" "$1/out.csv"'
    )
    code = (
        "import sys; from engagement_async._export.files import *\nwith atomic_file(sys.argv[1]) as f: f.write(b'new')"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", folder, outside, sys.executable, code],
        capture_output=True,
        check=False,
    )
    if done.returncode and (b"mount" in done.stderr or b"unshare" in done.stderr):
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()[-200:]}")

    assert (done.returncode, done.stderr, outside.read_bytes()) == (0, b"", b"new")


def as_nobody(function: Callable[[], object]) -> str:
    """Return what a function raises when a user without rights calls it."""
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the child runs nothing of theirs
        child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            function()
            os.write(write, b"fine")
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as said:
        return said.read()


@pytest.mark.parametrize(
    ("mode", "says"),
    [(0o666, "fine"), (0o644, "UsageError: {}: belongs to another user, and only its owner may replace")],
)
def test_another_users_file_in_a_sticky_folder_is_written_over_or_refused(mode: int, says: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "shared"
        folder.mkdir()
        Path(name).chmod(0o755)
        folder.chmod(0o1777)
        path = folder / "out.csv"
        path.write_bytes(b"old")
        path.chmod(mode)

        def write() -> None:
            with atomic_file(path) as file:
                file.write(b"new")

        assert as_nobody(write).startswith(says.format(path))
        assert path.read_bytes() == (b"new" if says == "fine" else b"old")
        assert list(folder.iterdir()) == [path]


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


def test_a_reader_that_takes_nothing_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Poll:
        def register(self, *_: int) -> None:
            pass

        def poll(self, timeout_ms: float) -> list[int]:
            waits.append(timeout_ms)
            return []

    monkeypatch.setattr("engagement_async._export.files.select.poll", Poll)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    full = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(full, bytes(4096))
    with (
        pytest.raises(TimeoutError, match="takes nothing"),
        output_stream(tmp_path / "pipe", reader_timeout_s=5) as file,
    ):
        file.write(b"a line")
    os.close(reader)
    os.close(full)

    assert sum(waits) == 5_000


def test_parquet_goes_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with atomic_file(tmp_path / "pipe") as file:
        write_parquet(file, [pa.table({"a": [1, 2]})])
    reader.join()

    assert pq.read_table(io.BytesIO(got[0])).to_pydict() == {"a": [1, 2]}
