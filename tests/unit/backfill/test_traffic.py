"""What the journal keeps of the requests of a run: slots, latencies, and documents that are written until they are full."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from engagement_async import TOTALS, Query, RateLimit
from engagement_async._core.events import Received, Sent, Waited
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.request import Request
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
from engagement_async.errors import AttemptError, NotSentError
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
    with job.directory.looked_at() as look:
        return look.traffic


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


def request(attempts: int = 1) -> Request:
    query = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
    return Request(("20",), ResponseParser(query), 0, attempts=attempts)


def test_each_request_is_counted_where_it_was() -> None:
    clock = Clock()
    recorder = clock.recorder()
    sent = [request(attempts) for attempts in (1, 1, 1, 2, 2)]
    for each in sent:
        recorder.hear(Sent(each))
    clock.passed_s = 2.0
    for each, status in zip(sent, (200, 429, 503), strict=False):
        recorder.hear(Received(each, 2.0, status, None))
    recorder.hear(Received(sent[3], 1.0, None, AttemptError("cut")))
    recorder.hear(Received(sent[4], 1.0, None, NotSentError("refused")))
    recorder.hear(Waited(3.0))

    first, second = through_json(recorder)
    assert (first.at, first.sent, first.retries, first.answered) == (1_780_000_003, 4, 1, 0)
    assert (second.at, second.answered, second.unanswered) == (1_780_000_005, 3, 1)
    assert (second.limited, second.refused) == (1, 1)
    assert [round(seconds_of(bucket), 1) for bucket in second.latencies.elements()] == [2.0, 2.0, 2.0]


def test_slots_do_not_overlap_where_their_length_changes() -> None:
    clock = Clock()
    recorder = clock.recorder()
    for tenths in range(30_000):
        clock.passed_s = tenths / 10
        recorder.hear(Sent(request()))

    slots = through_json(recorder)

    assert all(slot.at + slot.length_s == after.at for slot, after in pairwise(slots))
    assert sum(slot.sent for slot in slots) == 30_000
    assert all(slot.sent <= 10 * slot.length_s for slot in slots)
    assert {slot.length_s for slot in slots} >= {1, 10, 60}


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Clock()
    recorder = clock.recorder()
    recorder.hear(Sent(request()))
    clock.set_back_s = 3600
    recorder.hear(Sent(request()))

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

    early = request()
    recorder.hear(Sent(early))
    for second in range(45):
        clock.passed_s = second
        recorder.hear(Sent(request()))
    assert commit() == [f"{PREFIX}000003 {part:05}" for part in range(3)]
    recorder.hear(Sent(request()))
    assert commit() == [f"{PREFIX}000003 00002"]
    recorder.hear(Received(early, 0.1, None, NotSentError("refused")))
    assert commit() == [f"{PREFIX}000003 {part:05}" for part in range(3)]

    assert sum(slot.sent for slot in read_traffic(journal.values()).slots) == 46


def test_documents_of_a_later_format_are_as_none() -> None:
    recorder = Clock().recorder()
    recorder.hear(Sent(request()))
    (document,) = recorder.documents(0)[0].values()

    assert read_traffic([{"format": 2, "slots": "others"}, document]) == read_traffic([document])


def test_a_commit_that_fails_is_made_up_for() -> None:
    clock = Clock()
    recorder = clock.recorder()
    for second in range(45):
        clock.passed_s = second
        recorder.hear(Sent(request()))

    first, _ = recorder.documents(0)

    assert recorder.documents(0)[0] == first


def test_a_request_taken_back_is_so_in_the_journal_after_commits_that_fail() -> None:
    clock = Clock()
    recorder = clock.recorder()
    early, late = request(), request()
    recorder.hear(Sent(early))
    for second in range(1, 45):
        clock.passed_s = second
        recorder.hear(Sent(late if second == 25 else request()))
    journal, mark = recorder.documents(0)
    recorder.acknowledge(mark)
    recorder.hear(Received(early, 0.1, None, NotSentError("refused")))

    recorder.documents(0)  # the disk was full
    documents, mark = recorder.documents(0)
    journal |= documents
    recorder.hear(Received(late, 0.1, None, NotSentError("refused")))  # while it was written
    recorder.acknowledge(mark)
    journal |= recorder.documents(0)[0]

    assert sum(slot.sent for slot in read_traffic(journal.values()).slots) == 43


async def test_a_job_keeps_the_traffic_of_each_of_its_runs(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url, max_requests=4)
        server.set_faults({"429": 5, "503": 7})
        await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url)

        traffic = await asyncio.to_thread(traffic_of, job)
        found = await job.status()

    slots = traffic.slots
    assert traffic.contracts == (FAST,)
    assert sum(slot.sent for slot in slots) == found.requests == len(server.log)
    assert sum(slot.answered for slot in slots) == found.requests
    assert sum(sum(slot.latencies.values()) for slot in slots) == found.requests
    assert sum(slot.retries for slot in slots) == found.requests - 20
    statuses = Counter(entry.status for entry in server.log)
    assert sum(slot.limited for slot in slots) == statuses[429] == found.requests - 20 - statuses[503]
    assert sum(slot.refused for slot in slots) == statuses[503] > 0


async def test_a_journal_without_traffic_is_as_good_as_before(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(500))
        assert await asyncio.to_thread(traffic_of, job) == Traffic()

        assert (await job.run(bearer(server), rate_limit=FAST, base_url=server.base_url)).outcome == "done"
