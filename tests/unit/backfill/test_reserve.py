"""Room on the disk is taken before it is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engagement_async.backfill.reserve import Reserve
from engagement_async.errors import JobDiskError


def test_room_is_taken_grows_and_is_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")
    assert not reserve.release()
    for size in (4096, 70_000, 1000):
        reserve.hold(size)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 70_000
    assert (tmp_path / "reserve").stat().st_mode & 0o777 == 0o600

    assert reserve.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(JobDiskError, match=r"0.5 MB must be free"):
        Reserve(tmp_path / "reserve").hold(500_000)

    assert not list(tmp_path.iterdir())


def test_a_file_system_that_cannot_allocate_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    Reserve(tmp_path / "reserve").hold(200_000)

    assert (tmp_path / "reserve").stat().st_size == 200_000


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "reserve").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobDiskError):
        Reserve(tmp_path / "reserve").hold(4096)

    assert not (tmp_path / "elsewhere").exists()
