"""What the tests of jobs share: IDs, queries, answers that are functions of them, an emulator whose world is fixed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from engagement_async import LAST_28_HOURS, TOTALS, Answer, Batch, BearerCredentials, EngagementResult, Merger, Query
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.backfill.journal import Journal
from engagement_async.emulator import Emulator, tweet_ids

NOW = 1_767_225_600.0
TYPES = ("favorites", "replies")
BY_TWEET = Query(TOTALS, engagement_types=TYPES, groupings={"by_tweet": ["tweet.id", "engagement.type"]})
MIXED = Query(
    TOTALS,
    engagement_types=TYPES,
    groupings={
        "by_tweet": ["tweet.id", "engagement.type"],
        "by_type": ["engagement.type", "tweet.id"],
        "all": ["engagement.type"],
    },
)
HOURLY = Query(
    LAST_28_HOURS,
    engagement_types=["impressions", "favorites"],
    groupings={
        "hours": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
        "days": ["engagement.day"],
    },
)


def make_ids(count: int, seed: int = 0) -> list[str]:
    return tweet_ids(count, seed, newest_at=NOW)


def emulator(**options: object) -> Emulator:
    """Without a limit and with a clock that stands, unless the options say otherwise."""
    return Emulator(**{"requests_per_minute": None, "now": lambda: NOW, "log_size": None, **options})  # type: ignore[arg-type]


def bearer(server: Emulator) -> BearerCredentials:
    return BearerCredentials(server.bearer_token)


def started(path: Path, count: int = 1000, query: Query = BY_TWEET) -> JobDirectory:
    folder = JobDirectory(path)
    CreateJob(folder, query, GivenSource(make_ids(count)))()
    return folder


def answer_to(number: int, ids: tuple[str, ...], **more: object) -> Answer:
    values = {i: {"favorites": int(i) % 97, "replies": int(i) % 7} for i in ids}
    return Answer(number, ids, {"by_tweet": values}, **more)  # type: ignore[arg-type]


def unanswered(journal: Journal, count: int) -> list[Batch]:
    """Return the next batches in which IDs are pending."""
    return [journal.batch(number) for number in journal.unsettled(-1, count)]


def fill(folder: JobDirectory, count: int | None = None) -> None:
    """Answers the next batches, without a network."""
    with folder.open_journal() as journal:
        for batch in unanswered(journal, count or 10**6):
            answer = answer_to(batch.number, batch.tweet_ids)
            journal.write([encode_answer(answer, TYPES)], {})


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


DAYS = ("2026-01-02", "2026-01-01")


HOURS = ("17", "03")


def shuffled(value: Any, draw: random.Random) -> Any:
    """Return the same JSON object with its keys in another order."""
    if not isinstance(value, dict):
        return value
    keys = list(value)
    draw.shuffle(keys)
    return {key: shuffled(value[key], draw) for key in keys}


def answered(query: Query, number: int, ids: tuple[str, ...], draw: random.Random) -> Answer:
    """Return an answer whose values follow from its IDs, and whose order and instants from `draw`."""
    keys: dict[str, tuple[str, ...]] = {
        "tweet.id": ids[1:-1],
        "engagement.type": query.engagement_types,
        "engagement.day": DAYS,
        "engagement.hour": HOURS,
    }

    def nested(levels: tuple[str, ...], seed: int) -> Any:
        if not levels:
            return seed % 1000
        return {
            key: nested(levels[1:], hash((seed, int(ids[0]), len(key), key[-1:] + key[:1])) % 10**9)
            for key in keys[levels[0]]
        }

    groupings = {name: shuffled(nested(group_by, 7), draw) for name, group_by in query.groupings.items()}
    at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=draw.random() * 1e6)
    later = {i: at + timedelta(hours=draw.randrange(1, 99)) for i in draw.sample(ids, draw.randrange(3))}
    return Answer(
        number,
        ids,
        groupings,
        unavailable_tweet_ids=ids[:1],
        failed_tweet_ids={ids[-1]: "missing"},
        observed_at=at,
        observed_later=later,
    )


def merged(folder: JobDirectory) -> EngagementResult:
    with folder.open_journal() as journal:
        merger = Merger(journal.query)
        for batch, encoded in journal.answers(journal.snapshot()):
            assert encoded is not None
            merger.add(journal.decode(encoded, batch))
        return merger.result()
