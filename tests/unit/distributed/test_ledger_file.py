"""The file that the processes of a machine share: its lock, its life over boots and forks."""

from __future__ import annotations

import fcntl
import math
import os
from pathlib import Path
from typing import Any

import pytest

from engagement_async import RateLimit, UsageError
from engagement_async._core.shared_ledger import SLOTS, SharedToken
from engagement_async.distributed import ledger_file
from engagement_async.distributed.ledger_file import LedgerFile, OpenFile, boot_clock, boot_id


def opened(folder: Path, limit: RateLimit, **options: Any) -> LedgerFile:
    ledger = LedgerFile([limit], **options)
    ledger.install(OpenFile(folder))
    return ledger


def taken(ledger: LedgerFile, now: float) -> SharedToken:
    token = ledger.reserve(now)
    assert isinstance(token, SharedToken)
    return token


def test_another_boot_is_crossed_by_the_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = RateLimit(2, period=100, burst=2)
    first = opened(tmp_path, limit, clock=lambda: 5_000.0, wall_clock=lambda: 1e9, quarantine_s=5)
    first.settle(taken(first, 5_000.0), 5_000.0)
    taken(first, 5_000.0)
    monkeypatch.setattr(ledger_file, "boot_id", lambda: "another boot")

    def available(now: float, wall: float) -> int:
        after = opened(tmp_path, limit, clock=lambda: now, wall_clock=lambda: wall, quarantine_s=5)
        try:
            return after.available(limit, now)
        finally:
            after.close()

    assert available(20.0, 1e9 + 60) == 0
    assert available(61.0, 1e9 + 101) == 1
    assert available(67.0, 1e9 + 107) == 2
    first.close()


def test_a_lock_that_is_not_to_be_had_makes_nobody_wait_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit(3, period=0.1, burst=3)
    ledger = opened(tmp_path, limit)
    now = boot_clock()
    tokens = [taken(ledger, now) for _ in range(3)]
    with open(tmp_path / "ledger", "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for token in tokens:
            ledger.settle(token, now)
        assert isinstance(ledger.reserve(now), float)
        assert isinstance(ledger.reserve(now + 10), float)
        assert ledger.available(limit, now) == 0
        assert ledger.is_active(now)

    ledger.refresh(now)
    assert ledger.available(limit, now) == 0
    assert ledger.available(limit, now + 0.2) == 3
    assert "nothing is granted until it goes on" in caplog.text
    ledger.close()


def test_before_the_file_is_open_nothing_is_granted_and_nothing_is_lost(tmp_path: Path) -> None:
    limit = RateLimit(3, period=60, burst=3)
    ledger = LedgerFile([limit])
    now = boot_clock()
    assert ledger.needs_opening
    assert isinstance(ledger.reserve(now), float)
    assert ledger.available(limit, now) == 0
    ledger.cap(limit, 1, now, now + 60)
    ledger.hold_until(now + 50)

    ledger.install(OpenFile(tmp_path))

    assert not ledger.needs_opening
    assert ledger.available(limit, now) == 1
    assert ledger.held_until == now + 50
    assert ledger.capped_until(now) == -math.inf
    with pytest.raises(ValueError, match="not in this ledger"):
        ledger.cap(RateLimit(7), 1, now, now + 60)
    ledger.close()


def test_a_file_that_was_swept_away_must_be_opened_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limit = RateLimit(3, period=10, burst=3)
    ledger = opened(tmp_path, limit)
    now = boot_clock()
    token, _ = taken(ledger, now), taken(ledger, now)
    (tmp_path / "ledger").unlink()

    ledger.settle(token, now)
    assert ledger.needs_opening
    ledger.install(OpenFile(tmp_path))

    assert ledger.available(limit, now) == 1  # as before
    assert ledger.reserve(now) == pytest.approx(boot_clock() + limit.window_s, abs=5)
    assert caplog.text.count("was lost") == 1
    ledger.close()


def test_what_was_abandoned_as_a_whole_is_given_back_no_more(tmp_path: Path) -> None:
    limit = RateLimit(2, period=1, burst=2)
    ledger = opened(tmp_path, limit, quarantine_s=0.0)
    now = boot_clock()
    token = taken(ledger, now)

    ledger.abandon_all(now, within_s=5)
    ledger.refund(token)

    assert ledger.available(limit, now + 5) == 1
    assert ledger.available(limit, now + 7) == 2
    ledger.close()


def test_a_process_that_was_forked_off_is_another_one(tmp_path: Path) -> None:
    limit = RateLimit(5, period=60, burst=5)
    ledger = opened(tmp_path, limit)
    taken(ledger, boot_clock())

    child = os.fork()
    if not child:  # pragma: no cover
        try:
            assert ledger.needs_opening
            ledger.install(OpenFile(tmp_path))
            now = boot_clock()
            ledger.settle(taken(ledger, now), now)
            taken(ledger, now)
            os._exit(0 if ledger.available(limit, now) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert ledger.available(limit, boot_clock()) == 2
    ledger.close()


def test_more_processes_than_there_are_slots_are_refused(tmp_path: Path) -> None:
    made = [opened(tmp_path, RateLimit(1)) for _ in range(SLOTS)]

    with pytest.raises(UsageError, match="64 processes"):
        opened(tmp_path, RateLimit(1))

    for ledger in made:
        ledger.close()
    opened(tmp_path, RateLimit(1)).close()


def test_the_boot_and_its_clock_are_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_id() == boot_id() != ""
    assert 0 < boot_clock() <= boot_clock()

    def no_file(path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", no_file)
    assert boot_id().startswith("boot ")
