"""What the tests of reports share: the same hours of the same Tweets as a result, a job, and files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engagement_async import LAST_28_HOURS, Answer, EngagementResult, Merger, Query, Window
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.backfill.traffic import PREFIX, Slot, bucket_of
from engagement_async.emulator import tweet_ids

METRICS = ("impressions", "favorites", "url_clicks")
HOURLY = Query(
    LAST_28_HOURS,
    engagement_types=METRICS,
    groupings={
        "by_type": ["engagement.type"],
        "by_hour": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
    },
)
START = datetime(2025, 12, 30, 20, tzinfo=UTC)
HOURS = 28
END = START + timedelta(hours=HOURS)
GONE = 2
"""Of each batch."""


def value_of(tweet_id: str, metric: str, hour: int) -> int:
    """Return a value that follows from its keys; clicks are never any."""
    return 0 if metric == "url_clicks" else int(tweet_id[-7:]) % (7 + hour + len(metric))


def answer_of(number: int, ids: tuple[str, ...]) -> Answer:
    there = ids[: len(ids) - GONE]
    times = [START + timedelta(hours=hour) for hour in range(HOURS)]
    hours: dict[str, Any] = {}
    for i in there:
        for metric in METRICS:
            days = hours.setdefault(i, {}).setdefault(metric, {})
            for hour, at in enumerate(times):
                days.setdefault(f"{at:%Y-%m-%d}", {})[f"{at:%H}"] = value_of(i, metric, hour)
    sums = {metric: sum(value_of(i, metric, hour) for i in there for hour in range(HOURS)) for metric in METRICS}
    return Answer(
        number,
        ids,
        {"by_type": sums, "by_hour": hours},
        windows=(Window(START, END),),
        unavailable_tweet_ids=ids[len(ids) - GONE :],
        observed_at=END,
    )


def answered_job(path: Path, count: int = 60) -> JobDirectory:
    """Return a job of which each batch is answered."""
    begin = START.timestamp()
    old = tweet_ids(count - count // 3, newest_at=begin, oldest_at=begin - 30 * 86_400)
    young = tweet_ids(count // 3, 1, newest_at=begin + 3 * 3600, oldest_at=begin)  # their first day is known
    folder = JobDirectory(path)
    CreateJob(folder, HOURLY, GivenSource([*old, *young]))()
    with folder.open_journal() as journal:
        for batch in list(journal.batches()):
            journal.write([encode_answer(answer_of(batch.number, batch.tweet_ids), METRICS)], {})
    return folder


def add_run(folder: JobDirectory, *, slots: list[Slot] | None = None, requests: int = 30, number: int = 0) -> None:
    """Write a run into the journal of a job, and what it sent over time if that is known."""
    began_at = slots[0].at if slots else 1_780_000_000
    run = {
        "began_at": began_at,
        "seen_at": began_at + 90,
        "requests": requests,
        "in_flight": 0,
        "ids": 60,
        "outcome": "done",
        "now": {},
    }
    documents: dict[str, Any] = {f"run {number:06}": run}
    if slots is not None:
        traffic = {"format": 1, "contract": [20, 2.0], "slots": [slot.to_json() for slot in slots]}
        documents[f"{PREFIX}{number:06} 00000"] = traffic
    with folder.open_journal() as journal:
        journal.write([], documents)


def busy_slots() -> list[Slot]:
    """Return half a minute in which everything happened."""
    made = []
    for second in range(30):
        slot = Slot(1_780_000_000 + second, 1, sent=10, retries=second % 3, answered=10, limited=second % 7 == 0)
        slot.unanswered = second % 5 == 0
        slot.latencies.update({bucket_of(0.1): 8, bucket_of(0.5): 2})
        made.append(slot)
    return made


def result_of(folder: JobDirectory) -> EngagementResult:
    """Return the answers of a job as one result."""
    with folder.open_journal() as journal:
        merger = Merger(journal.query)
        for batch, encoded in journal.answers(journal.snapshot()):
            assert encoded is not None
            merger.add(journal.decode(encoded, batch))
        return merger.result()
