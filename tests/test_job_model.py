"""Durable jobs against a model API under virtual time: whatever happens to their runs, with finitely many more every ID
gets its outcome, tables are the server's truth, the contract is kept, and little is paid for twice.

A kill is what a journal was at that moment: the folder is copied between two commits, and the copy goes on.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, Query, RateLimit
from engagement_async._engine.contracts import forget_contracts
from engagement_async.backfill import BackfillJob, Progress, runner
from engagement_async.backfill.clocks import Instant
from engagement_async.backfill.journal import Journal
from engagement_async.errors import EngagementError, JobDiskError
from tests.support.model_server import ModelServer, Rule, Status, World, during, flaky, poison, refuses
from tests.support.model_truth import Asked, expected_groupings, pruned
from tests.support.oracle import OAUTH, make_ids, play
from tests.support.virtual_loop import VirtualLoop

BY_TWEET = ("tweet.id", "engagement.type")
QUERIES = {
    "totals": Query(TOTALS, engagement_types=["favorites", "replies"], groupings={"t": BY_TWEET}),
    "sums": Query(
        TOTALS, engagement_types=["favorites", "replies"], groupings={"t": BY_TWEET, "all": ("engagement.type",)}
    ),
    "28hr": Query(
        LAST_28_HOURS, engagement_types=["favorites"], groupings={"h": (*BY_TWEET, "engagement.day", "engagement.hour")}
    ),
    "spans": Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"d": ("tweet.id", "engagement.day"), "all": ("engagement.day",)},
        start="2026-01-01",
        end="2026-03-20",
    ),
}
LIMIT = RateLimit(20)
WINDOW_S = LIMIT.window_s


@dataclass(frozen=True)
class Life:
    """One run: how it ends, if it does not end by itself, and after how many seconds; what the clock does before it."""

    end: str
    after_s: float
    budget: int | None = None
    failed_only: bool = False
    step_s: float = 0.0
    is_rebooted: bool = False
    pause_s: float = 0.0


@dataclass
class Machine:
    """What the runs live on: a disk that may be full for a time, and a wall clock that may be set."""

    disk_is_full: list[tuple[float, float]] = field(default_factory=list)
    wall_is_ahead_s: float = 0.0
    furthest_behind_s: float = 0.0
    boots: int = 0
    booted_at: float = 0.0

    def now(self) -> Instant:
        """Return this moment by the machine's clocks, as long as a loop runs."""
        at = asyncio.get_running_loop().time()
        return Instant(f"boot {self.boots}", at - self.booted_at, at + self.wall_is_ahead_s)

    def between_runs(self, life: Life) -> None:
        """Set the clock, and start anew. After a start there is the wall clock alone: that must not have gone forward."""
        self.wall_is_ahead_s += life.step_s
        if life.is_rebooted:
            self.wall_is_ahead_s = min(self.wall_is_ahead_s, self.furthest_behind_s)
            self.boots += 1
            self.booted_at = asyncio.get_running_loop().time()
        self.furthest_behind_s = min(self.wall_is_ahead_s, self.furthest_behind_s)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let jobs live on this machine."""
        loop = asyncio.get_running_loop()
        write = Journal.write

        def limited(journal: Journal, *args: Any, **options: Any) -> None:
            if any(start <= loop.time() < end for start, end in self.disk_is_full):
                raise JobDiskError("no space is left")
            write(journal, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "write", limited)
            patch.setattr(runner, "instant_now", self.now)
            yield


async def live(server: ModelServer, folder: Path, life: Life, concurrency: int) -> Progress | None:
    """One run of the job, in a process of its own; None if it was killed or ended with an error."""
    forget_contracts()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    job = BackfillJob(folder)
    running = asyncio.ensure_future(
        job.run(
            OAUTH,
            rate_limit=LIMIT,
            base_url=server.url,
            concurrency=concurrency,
            max_requests=life.budget,
            failed_only=life.failed_only,
        )
    )
    await asyncio.wait({running}, timeout=life.after_s)
    if not running.done() and life.end == "stop":
        job.stop()
    elif not running.done():
        while loop.is_in_thread:
            await asyncio.sleep(0)
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        running.cancel()
        with suppress(asyncio.CancelledError, EngagementError):
            await running
        shutil.rmtree(folder)
        copy.rename(folder)
        return None
    try:
        return await running
    except JobDiskError:
        return None


def outcomes_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Return the outcome of every ID without all its values, by an export."""
    lines = (folder / "outcomes.jsonl").read_text().splitlines()
    return {row["tweet_id"]: (row["state"], row["detail"]) for row in map(json.loads, lines)}


def check_tables(world: World, query: Query, ids: list[str], bad: frozenset[str], folder: Path) -> None:
    """Hold the exported tables against the server's truth."""
    out = outcomes_of(folder)
    expected_out = dict.fromkeys(bad, "failed") | dict.fromkeys(world.unavailable, "unavailable")
    assert {i: state for i, (state, _) in out.items()} == expected_out
    answered = [i for i in ids if i not in expected_out]
    found = json.loads((folder / "out.json").read_text())
    for name, group_by in query.groupings.items():
        expected: dict[str, Any] = {}
        for span in query.spans():
            start, end = span.span or (None, None)
            asked = Asked(0, 0.0, query.endpoint.name, (), query.engagement_types, {name: group_by}, start, end)
            _add(expected, expected_groupings(asked, dict.fromkeys(answered, query.engagement_types))[name])
        got = _numbers(found[name])
        assert pruned(got, zeros=True) == pruned(expected, zeros=True), name


def _add(into: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _add(into.setdefault(key, {}), value)
        else:
            into[key] = into.get(key, 0) + value


def _numbers(value: Any) -> Any:
    return {key: _numbers(inner) for key, inner in value.items()} if isinstance(value, dict) else int(value)


def repeated_ids(server: ModelServer) -> int:
    """Return how many answers to a Tweet, for a span of time, were paid for again; those to single Tweets may be probes."""
    answers = Counter(
        (i, record.asked.start)
        for record in server.records
        if record.cause == "answer" and len(record.asked.tweet_ids) > 1
        for i in record.asked.tweet_ids
    )
    return sum(times - 1 for times in answers.values())


LIVES = st.lists(
    st.builds(
        Life,
        end=st.sampled_from(["kill", "kill", "stop"]),
        after_s=st.floats(0.1, 150),
        budget=st.sampled_from([None, None, 1, 2, 5, 20]),
        failed_only=st.booleans(),
        step_s=st.sampled_from([0.0, 0.0, -3600.0, 3600.0]),
        is_rebooted=st.sampled_from([False, False, True]),
        pause_s=st.floats(0, 30),
    ),
    max_size=8,
)


@given(
    name=st.sampled_from(list(QUERIES)),
    count=st.integers(1, 2_500),
    concurrency=st.sampled_from([1, 3, 16]),
    lives=LIVES,
    rules=st.lists(st.sampled_from(["poison", "refused", "outage", "flaky"]), unique=True),
    outage=st.tuples(st.floats(0, 200), st.sampled_from([5.0, 60.0, 2_000.0])),
    full=st.lists(st.tuples(st.floats(0, 300), st.floats(1, 60)), max_size=2),
    seed=st.integers(0, 2**16),
)
@settings(
    max_examples=settings().max_examples // 4,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@example(  # what is left of each batch is the Tweet that the API fails at, and no batch has all of its spans
    name="spans",
    count=150,
    concurrency=1,
    lives=[Life("stop", 60.0)] * 5,
    rules=["poison"],
    outage=(0.0, 5.0),
    full=[],
    seed=1813,
)
def test_a_job_gets_to_its_end_whatever_happens(
    name: str,
    count: int,
    concurrency: int,
    lives: list[Life],
    rules: list[str],
    outage: tuple[float, float],
    full: list[tuple[float, float]],
    seed: int,
) -> None:
    query = QUERIES[name]
    ids = make_ids(min(count, (6 if name == "spans" else 40) * query.endpoint.ids_per_request), seed % 7)
    chosen = [i for n, i in enumerate(ids) if (n * 7919 + seed) % 97 == 3][:4]
    poisoned, refused = frozenset(chosen[:2]), frozenset(chosen[2:4])
    made: dict[str, Callable[[], Rule]] = {
        "poison": lambda: poison(poisoned),
        "refused": lambda: refuses(refused),
        "outage": lambda: during(outage[0], outage[0] + outage[1]),
        "flaky": lambda: flaky(0.1, [Status(503)], seed, end=2_000.0),
    }
    bad = (poisoned if "poison" in rules else frozenset()) | (refused if "refused" in rules else frozenset())
    world = World(
        [made[rule]() for rule in ("outage", "poison", "refused", "flaky") if rule in rules],
        unavailable=frozenset(ids[5::50]) - bad,
        seed=seed,
    )
    machine = Machine([(start, start + length) for start, length in full])
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    async def main(server: ModelServer) -> None:
        with machine.installed():
            await BackfillJob(folder / "job").start(query, ids)
            kills = stops = 0
            for life in lives:
                machine.between_runs(life)
                ended = await live(server, folder / "job", life, concurrency)
                kills += ended is None
                stops += ended is not None
                await asyncio.sleep(life.pause_s)
            for runs in range(40):  # noqa: B007 - told by the assertion
                progress = await live(server, folder / "job", Life("stop", 10**6), concurrency)
                if progress is not None and progress.outcome == "done":
                    break
                kills += progress is None
                stops += progress is not None
                await asyncio.sleep(30)
            else:
                raise AssertionError(f"not done after {runs} more runs: {progress}")
            status = await BackfillJob(folder / "job").status()
            assert status.totals == await BackfillJob(folder / "job").verify()
            assert sum(status.totals.outcomes) == len(ids)
            await BackfillJob(folder / "job").export(folder / "out.json", outcomes=folder / "outcomes.jsonl")
            check_tables(world, query, ids, bad, folder)
        event(f"kills {kills}")
        event(f"runs more than one at the end: {runs > 0}")
        event(f"committed parts: {name == 'spans'}")
        event(f"failed {status.totals.outcomes.failed}")
        event(f"peak of the contract: {server.peak(LIMIT.period) // 10 * 10}")
        assert server.peak(LIMIT.period) <= LIMIT.requests
        repeated = repeated_ids(server)
        bound = query.endpoint.ids_per_request * (kills * concurrency + (kills + stops) * len(bad))
        event(f"paid twice, of what may be: {repeated * 10 // bound if bound else repeated}/10")
        assert repeated <= bound

    try:
        play(world, main)
    finally:
        shutil.rmtree(folder)
