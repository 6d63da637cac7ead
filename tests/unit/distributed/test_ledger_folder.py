"""The files in which processes of one machine share a contract."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from engagement_async._core.shared_block import SLOTS, block_bytes
from engagement_async.distributed.ledger_folder import OpenFile


def test_what_is_written_counts_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the half and the byte that names it leaves the other half in use."""
    file = OpenFile(tmp_path)
    into = memoryview(bytearray(block_bytes()))
    for number in range(5):
        file.read(into, 10)
        file.write(memoryview(bytes([number]) * 10))
        assert file.read(into, 10) == 10
        assert bytes(into[:10]) == bytes([number]) * 10
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda number, data, at: _killed() if at == 0 else len(data))
        with pytest.raises(KeyboardInterrupt):
            file.write(memoryview(b"x" * 10))

    other = OpenFile(tmp_path)
    assert other.read(into, 4) == 4
    assert other.read_on(into, 4, 10) == 6
    assert bytes(into[:10]) == bytes([4]) * 10
    file.close()
    other.close()


def _killed() -> int:
    raise KeyboardInterrupt


def test_a_file_that_was_cut_short_has_fewer_bytes(tmp_path: Path) -> None:
    file = OpenFile(tmp_path)
    os.truncate(tmp_path / "ledger", 0)

    assert file.read(memoryview(bytearray(block_bytes())), 10) == 0
    file.close()


def test_a_lock_is_had_by_one_and_ends_with_its_file(tmp_path: Path) -> None:
    first, second = OpenFile(tmp_path), OpenFile(tmp_path)
    assert first.lock()
    assert not second.lock()
    first.unlock()
    assert second.lock()
    second.close()
    assert first.lock()
    first.close()
    first.close()


def test_a_file_that_is_there_no_longer_is_noticed(tmp_path: Path) -> None:
    file = OpenFile(tmp_path / "folder")
    assert not file.is_deleted()
    assert not file.is_elsewhere()
    (tmp_path / "folder").rename(tmp_path / "other")
    assert file.is_elsewhere()
    OpenFile(tmp_path / "folder").close()
    assert file.is_elsewhere()
    assert not file.is_deleted()
    shutil.rmtree(tmp_path / "other")
    assert file.is_deleted()
    file.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_that_may_open_no_more_files_has_not_lost_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = OpenFile(tmp_path / "contract")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", Mock(side_effect=OSError(number, os.strerror(number))))
        assert not file.is_elsewhere()
        patched.setattr(os, "open", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        assert file.is_elsewhere()
    file.close()


def test_slots_are_given_out_one_by_one(tmp_path: Path) -> None:
    file = OpenFile(tmp_path)
    assert file.used_at == 0.0
    held = [file.lock_any_slot() for _ in range(SLOTS)]
    assert [each[0] for each in held if each] == list(range(SLOTS))
    assert file.lock_any_slot() is None
    assert file.lock_slot(7) is None
    assert held[7]
    os.close(held[7][1])
    again = file.lock_any_slot()
    assert again
    assert again[0] == 7
    for descriptor in (again[1], *(each[1] for each in held if each and each[0] != 7)):
        os.close(descriptor)
    os.utime(tmp_path / "slot-3", (5e9, 5e9))

    assert OpenFile(tmp_path).used_at == 5e9
    file.close()


@pytest.mark.parametrize(
    ("number", "is_full"), [(errno.ENOSPC, True), (errno.EOPNOTSUPP, False), (errno.EINVAL, False)]
)
def test_a_disk_without_room_is_an_error_before_anything_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_full: bool
) -> None:
    def allocate(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)

    if is_full:
        with pytest.raises(OSError, match="No space"):
            OpenFile(tmp_path)
    else:
        OpenFile(tmp_path).close()


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    OpenFile(tmp_path / "a" / "b").close()

    for path in tmp_path.rglob("*"):
        assert not path.stat().st_mode & 0o077


def test_a_process_that_may_not_write_so_large_a_file_cannot_share_it(tmp_path: Path) -> None:
    OpenFile(tmp_path).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            OpenFile(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
