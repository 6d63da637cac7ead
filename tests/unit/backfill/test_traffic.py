"""What the journal keeps of the requests of a run: slots, latencies, and documents that are written until they are full."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from engagement_async import RateLimit
from engagement_async.backfill import BackfillJob
from engagement_async.backfill.traffic import (
    PREFIX,
    Slot,
    Traffic,
    TrafficRecorder,
    bucket_of,
    read_traffic,
    seconds_of,
    slot_length_s,
)
from tests.support.jobs import BY_TWEET, bearer, emulator, make_ids

FAST = RateLimit(1000, period=0.5)
BEGAN = 1_780_000_003.4


class Clock:
    """A wall clock and one that never goes back."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.set_back_s = 0.0

    def recorder(self) -> TrafficRecorder:
        return TrafficRecorder(
            wall_clock=lambda: BEGAN + self.passed_s - self.set_back_s, monotonic=lambda: 5.0 + self.passed_s
        )


def traffic_of(job: BackfillJob) -> Traffic:
    return job.directory.traffic()


def through_json(recorder: TrafficRecorder) -> list[Slot]:
    documents, _ = recorder.documents(0)
    return list(read_traffic(orjson.loads(orjson.dumps(list(documents.values())))).slots)


@pytest.mark.parametrize(
    ("elapsed_s", "length_s"), [(-5, 1), (0, 1), (119.9, 1), (120, 10), (1199, 10), (1200, 60), (1e9, 60)]
)
def test_short_runs_are_seen_closely_and_long_ones_kept_small(elapsed_s: float, length_s: int) -> None:
    assert slot_length_s(elapsed_s) == length_s


@pytest.mark.parametrize("seconds", [0.001, 0.0123, 0.2, 1.0, 7.5, 120.0])
def test_a_latency_comes_back_within_five_percent(seconds: float) -> None:
    assert seconds_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.0001])
def test_less_than_a_millisecond_is_one(seconds: float) -> None:
    assert seconds_of(bucket_of(seconds)) == 0.001


def test_each_request_is_counted_where_it_was() -> None:
    clock = Clock()
    recorder = clock.recorder()
    answered, lost, unsent = object(), object(), object()
    recorder.sent(answered, is_retry=False)
    recorder.sent(lost, is_retry=True)
    recorder.sent(unsent, is_retry=True)
    clock.passed_s = 2.0
    recorder.answered(answered)
    recorder.unanswered(lost)
    recorder.not_sent(unsent)
    recorder.limited()
    for each in (answered, lost, unsent):  # what came to its end is counted once
        recorder.answered(each)
        recorder.unanswered(each)
        recorder.not_sent(each)

    first, second = through_json(recorder)
    assert (first.at, first.sent, first.retries, first.answered) == (1_780_000_003, 2, 1, 0)
    assert (second.at, second.answered, second.unanswered, second.limited) == (1_780_000_005, 1, 1, 1)
    assert [round(seconds_of(bucket), 1) for bucket in second.latencies] == [2.0]


def test_slots_do_not_overlap_where_their_length_changes() -> None:
    clock = Clock()
    recorder = clock.recorder()
    for tenths in range(30_000):
        clock.passed_s = tenths / 10
        recorder.sent(object(), is_retry=False)

    slots = through_json(recorder)

    assert all(slot.at + slot.length_s == after.at for slot, after in pairwise(slots))
    assert sum(slot.sent for slot in slots) == 30_000
    assert all(slot.sent <= 10 * slot.length_s for slot in slots)
    assert {slot.length_s for slot in slots} >= {1, 10, 60}


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Clock()
    recorder = clock.recorder()
    recorder.sent(object(), is_retry=False)
    clock.set_back_s = 3600
    recorder.sent(object(), is_retry=False)

    assert [(slot.at, slot.sent) for slot in through_json(recorder)] == [(1_779_996_403, 1), (1_780_000_003, 1)]


def test_what_is_full_is_not_written_again_unless_it_changes() -> None:
    clock = Clock()
    recorder = clock.recorder()
    journal: dict[str, Any] = {}

    def commit() -> list[str]:
        documents, mark = recorder.documents(3)
        journal.update(documents)
        recorder.acknowledge(mark)
        return list(documents)

    early = object()
    recorder.sent(early, is_retry=False)
    for second in range(45):
        clock.passed_s = second
        recorder.sent(object(), is_retry=False)
    assert commit() == [f"{PREFIX}000003 {part:05}" for part in range(3)]
    recorder.sent(object(), is_retry=False)
    assert commit() == [f"{PREFIX}000003 00002"]
    recorder.not_sent(early)
    assert commit() == [f"{PREFIX}000003 {part:05}" for part in range(3)]

    assert sum(slot.sent for slot in read_traffic(journal.values()).slots) == 46


def test_a_commit_that_fails_is_made_up_for() -> None:
    clock = Clock()
    recorder = clock.recorder()
    for second in range(45):
        clock.passed_s = second
        recorder.sent(object(), is_retry=False)

    first, _ = recorder.documents(0)

    assert recorder.documents(0)[0] == first


async def test_a_job_keeps_the_traffic_of_each_of_its_runs(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url, max_requests=4)
        server.set_faults({"429": 5})
        await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url)

        traffic = await asyncio.to_thread(traffic_of, job)
        found = await job.status()

    slots = traffic.slots
    assert traffic.contracts == (FAST,)
    assert sum(slot.sent for slot in slots) == found.requests == len(server.log)
    assert sum(slot.answered for slot in slots) == found.requests
    assert sum(sum(slot.latencies.values()) for slot in slots) == found.requests
    assert sum(slot.retries for slot in slots) == found.requests - 20
    assert 0 < sum(slot.limited for slot in slots) <= sum(slot.retries for slot in slots)


async def test_a_journal_without_traffic_is_as_good_as_before(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(500))
        assert await asyncio.to_thread(traffic_of, job) == Traffic()

        assert (await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url)).outcome == "done"
