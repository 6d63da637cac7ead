"""The file that the processes of a machine share: its lock, its life over boots and forks."""

from __future__ import annotations

import errno
import fcntl
import heapq
import math
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import RateLimit, UsageError
from engagement_async._core.shared_block import SLOTS
from engagement_async._core.shared_ledger import SharedToken
from engagement_async.distributed import ledger_file, ledger_folder
from engagement_async.distributed.boot import boot_clock
from engagement_async.distributed.ledger_file import LedgerFile
from engagement_async.distributed.ledger_folder import OpenFile
from tests.contract_suite import peak

QUARANTINE_S = 3.0


@pytest.fixture(autouse=True)
def _nobody_else_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "JOIN_S", 0.0)


def opened(folder: Path, limit: RateLimit, **options: Any) -> LedgerFile:
    ledger = LedgerFile([limit], **options)
    ledger.install(OpenFile(folder))
    return ledger


def taken(ledger: LedgerFile, now: float) -> SharedToken:
    token = ledger.reserve(now)
    assert isinstance(token, SharedToken)
    return token


def test_what_another_ledger_granted_is_counted_and_what_it_granted_itself_is_not(tmp_path: Path) -> None:
    limit, of_totals = RateLimit(10, period=100), RateLimit(10, period=100, endpoint="totals")
    now = boot_clock()
    ledger = LedgerFile([limit, of_totals], clock=lambda: now)
    ledger.count_earlier([now - 200, now - 50, now - 1, now], now, "totals", known_by="another")
    assert ledger.name == ""  # as long as it is not open, nothing says that it knows of them
    ledger.install(OpenFile(tmp_path))

    assert len(ledger.name) == 16
    assert [ledger.available(each, now) for each in ledger.limits] == [7, 7]
    ledger.count_earlier([now] * 3, now, "28hr", known_by=ledger.name)
    assert [ledger.available(each, now) for each in ledger.limits] == [7, 7]
    ledger.count_earlier([now] * 3, now, "28hr")
    assert [ledger.available(each, now) for each in ledger.limits] == [4, 7]
    assert [ledger.available(each, now + 52) for each in ledger.limits] == [5, 8]

    again, elsewhere = LedgerFile([limit]), LedgerFile([limit])
    again.install(OpenFile(tmp_path))
    elsewhere.install(OpenFile(tmp_path / "elsewhere"))
    assert again.name == ledger.name != elsewhere.name
    for each in (ledger, again, elsewhere):
        each.close()


def test_another_boot_is_crossed_by_the_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = RateLimit(2, period=100, burst=2)
    first = opened(tmp_path, limit, clock=lambda: 5_000.0, wall_clock=lambda: 1e9, quarantine_s=5)
    first.settle(taken(first, 5_000.0), 5_000.0)
    taken(first, 5_000.0)
    monkeypatch.setattr(ledger_folder, "boot_id", lambda: "another boot")

    def available(now: float, wall: float) -> int:
        after = opened(tmp_path, limit, clock=lambda: now, wall_clock=lambda: wall, quarantine_s=5)
        try:
            return after.available(limit, now)
        finally:
            after.close()

    assert available(20.0, 1e9 + 60) == 0
    assert available(99.0, 1e9 + 139) == 0  # what the disk may lack
    assert available(101.0, 1e9 + 141) == 2
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
    assert ledger.available(limit, boot_clock()) == 1
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

    assert ledger.available(limit, now) == 0  # what others spent is not known
    assert ledger.available(limit, now + 2 * limit.window_s) == 2  # one is in flight still
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


def test_a_new_ledger_waits_for_those_who_may_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder was deleted while another process spent the contract: the newcomer cannot know."""
    limit = RateLimit(2, period=100, burst=2)
    first = opened(tmp_path / "folder", limit)
    now = boot_clock()
    first.settle(taken(first, now), now)
    shutil.rmtree(tmp_path / "folder")

    monkeypatch.setattr(ledger_file, "JOIN_S", 1.0)
    newcomer = opened(tmp_path / "folder", limit)
    assert newcomer.reserve(now) == pytest.approx(now, abs=5.0)  # for a moment
    first.refresh(now)
    assert first.needs_opening
    first.install(OpenFile(tmp_path / "folder"))

    again_at = newcomer.reserve(now)
    assert isinstance(again_at, float)
    assert again_at >= now + 90
    for ledger in (first, newcomer):
        ledger.close()


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2])
def test_a_folder_that_was_moved_is_missed_before_a_new_one_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(ledger_file, "JOIN_S", 0.25)
    limit = RateLimit(2, period=100, burst=2)
    now = boot_clock()
    first = opened(tmp_path / "folder", limit, clock=lambda: now)
    later = now + 10
    first.refresh(later - seconds)
    (tmp_path / "folder").rename(tmp_path / "away")
    newcomer = opened(tmp_path / "folder", limit, clock=lambda: later)

    first.refresh(later + ledger_file.HEARTBEAT_S)

    assert first.needs_opening
    assert isinstance(newcomer.reserve(later + 0.2), float)
    for ledger in (first, newcomer):
        ledger.close()


def test_a_folder_that_is_moved_while_others_come_to_it_grants_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "JOIN_S", 0.25)
    now = boot_clock()
    ledger = opened(tmp_path / "folder", RateLimit(2, period=100, burst=2), clock=lambda: now)
    ledger.refresh(now + 0.24)
    (tmp_path / "folder").rename(tmp_path / "away")

    assert isinstance(ledger.reserve(now + 0.26), float)
    assert ledger.needs_opening
    ledger.close()


def test_what_was_counted_for_another_ledger_is_not_forgotten_with_the_file(tmp_path: Path) -> None:
    limit = RateLimit(3, period=100, burst=3)
    ledger = opened(tmp_path, limit)
    now = boot_clock()
    ledger.count_earlier([now - 1] * 3, now, None, known_by="another")
    (tmp_path / "ledger").unlink()

    ledger.refresh(now)
    ledger.install(OpenFile(tmp_path))

    assert ledger.available(limit, now) == 0
    assert ledger.available(limit, now + limit.window_s + 1) == 3
    ledger.close()


def test_a_disk_that_is_full_grants_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit(3, period=100, burst=3)
    ledger = opened(tmp_path, limit)
    now = boot_clock()
    tokens = [taken(ledger, now) for _ in range(2)]

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        ledger.settle(tokens[0], now)
        ledger.refund(tokens[1])
        assert isinstance(ledger.reserve(now), float)
        assert ledger.available(limit, now) == 0
        assert ledger.is_active(now)
    assert ledger.available(limit, now) == 2
    assert caplog.text.count("No space left on device): nothing is granted until it can") == 1
    ledger.close()


def test_a_copy_that_replaces_the_file_is_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also one in which this process has its slot."""
    limit = RateLimit(3, period=100, burst=3)
    ledger = opened(tmp_path, limit)
    now = boot_clock()
    (tmp_path / "copy").write_bytes((tmp_path / "ledger").read_bytes())
    ledger.settle(taken(ledger, now), now)
    (tmp_path / "copy").replace(tmp_path / "ledger")

    ledger.refresh(now)
    assert ledger.needs_opening
    ledger.install(OpenFile(tmp_path))

    assert ledger.available(limit, now) == 0
    assert caplog.text.count("was lost") == len(caplog.records) == 1
    ledger.close()


class World:
    """Processes that spend one contract and are killed, files that vanish, and a server that counts what arrives."""

    def __init__(self, folder: Path, limits: list[RateLimit], seed: int) -> None:
        self.folder = folder / "folder"
        self.limits = limits
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.living: list[LedgerFile] = []
        self.arrivals: list[float] = []
        self.pending: list[tuple[float, int, str, LedgerFile, SharedToken]] = []
        self.copy: bytes | None = None

    def start(self) -> None:
        ledger = LedgerFile(self.limits, quarantine_s=QUARANTINE_S, clock=lambda: self.now)
        ledger.install(OpenFile(self.folder))
        self.living.append(ledger)

    def step(self) -> None:
        """Let a moment pass, in which each process looks after the file once, and some ask for more than they get."""
        until = self.now + ledger_file.HEARTBEAT_S
        if self.random.random() < 0.1 and self.path.exists():
            self.copy = self.path.read_bytes()
        for ledger in self.random.sample(self.living, len(self.living)):
            if ledger.needs_opening:
                ledger.install(OpenFile(self.folder))
            ledger.refresh(self.now)
        while self.living and self.random.random() < 0.8:
            ledger = self.random.choice(self.living)
            token = ledger.reserve(self.now)
            if isinstance(token, SharedToken):
                there_s, back_s = (self.random.choice([0, 0.01, QUARANTINE_S * self.random.random()]) for _ in range(2))
                self.at(self.now + there_s, "arrive", ledger, token)
                self.at(self.now + there_s + back_s, "settle", ledger, token)
        while self.pending and self.pending[0][0] <= until:
            self.now, _, event, ledger, token = heapq.heappop(self.pending)
            if event == "arrive":
                self.arrivals.append(self.now)
            elif ledger in self.living:
                ledger.settle(token, self.now)
        self.now = until

    def at(self, at: float, event: str, ledger: LedgerFile, token: SharedToken) -> None:
        heapq.heappush(self.pending, (at, self.random.getrandbits(60), event, ledger, token))

    # --- what may happen ---

    def kill(self) -> None:
        if len(self.living) > 1:
            self.living.pop(self.random.randrange(len(self.living))).start_anew()  # its files are closed, as they are
            for _ in range(round(QUARANTINE_S / ledger_file.HEARTBEAT_S)):
                self.step()  # what it had in flight is in the file alone, which must not be lost meanwhile

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def delete_slots(self) -> None:
        for path in self.folder.glob("slot-*"):
            path.unlink()

    def delete_all(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def move_away(self) -> None:
        if self.folder.exists():
            self.folder.rename(self.folder.with_name(f"away-{self.random.getrandbits(60)}"))

    def move_file_away(self) -> None:
        if self.path.exists():
            self.path.rename(self.path.with_name(f"away-{self.random.getrandbits(60)}"))

    def cut_short(self) -> None:
        if self.path.exists():
            os.truncate(self.path, self.random.choice([0, 1, 5_000]))

    def fill_with_nonsense(self) -> None:
        if self.path.exists():
            self.path.write_bytes(self.random.randbytes(100_000))

    def put_an_older_copy_back(self) -> None:
        if self.copy is not None and self.folder.exists():
            self.path.write_bytes(self.copy)
            self.be_missed()

    def replace_by_a_copy(self) -> None:
        if self.copy is not None and self.folder.exists():
            made = self.folder / "copy"
            made.write_bytes(self.copy)
            made.replace(self.path)
            self.be_missed()

    def be_missed(self) -> None:
        """Let those who live see that the file is not theirs. What else may happen until then is not covered, as
        docs/scheduler.md says.
        """
        for _ in range(3):
            self.step()

    @property
    def path(self) -> Path:
        return self.folder / "ledger"


EVENTS = sorted(name for name, value in vars(World).items() if callable(value) and not name.startswith("_"))
EVENTS = [name for name in EVENTS if name not in ("at", "be_missed", "step")]


@settings(max_examples=5_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 60)
@given(
    st.lists(st.sampled_from(EVENTS), max_size=6),
    st.lists(st.builds(RateLimit, st.integers(2, 12), st.sampled_from([0.7, 1.0, 3.0])), min_size=1, max_size=2),
    st.integers(1, 8),
    st.integers(0, 2**32),
)
def test_whatever_becomes_of_the_files_no_window_sees_more_than_the_contract(
    events: list[str], limits: list[RateLimit], processes: int, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_file, "JOIN_S", 2 * ledger_file.HEARTBEAT_S)
        world = World(Path(folder), limits, seed)
        for _ in range(processes):
            world.start()
        for event in [*events, "step"]:
            world.be_missed()
            for _ in range(world.random.choice([0, 5, 60])):
                world.step()
            getattr(world, event)()
            if world.random.random() < 0.3 or not world.living:
                world.start()
        for _ in range(60):
            world.step()
        before = len(world.arrivals)
        for _ in range(150):  # as long as what is in flight, and what a kill left behind, may hold up
            world.step()
        for ledger in world.living:
            ledger.close()

    assert len(world.arrivals) > before
    for limit in limits:
        assert peak(world.arrivals, limit.period) <= limit.requests
