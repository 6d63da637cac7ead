"""Judges what a client made of a model API: every ID in its right place, every number true, and every failure with a reason
that the server's own record bears out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from engagement_async import (
    TOTALS,
    Answer,
    BearerCredentials,
    EngagementClient,
    EngagementResult,
    FailureKind,
    OAuth1Credentials,
    Query,
    RateLimit,
)
from engagement_async._core.call_state import EndpointState
from engagement_async.backfill import BackfillJob, Progress
from tests.support.leaks import assert_no_tasks, collect_loop_errors
from tests.support.model_server import ModelServer, Record, World
from tests.support.model_truth import Asked, expected_groupings, pruned
from tests.support.virtual_loop import run_virtual

__all__ = [
    "AMPLE",
    "QUERY",
    "TOTALS_BY_TWEET",
    "check",
    "check_contract",
    "check_failures",
    "check_places",
    "check_values",
    "client_of",
    "kind_of",
    "kinds",
    "longest_gap_s",
    "make_ids",
    "now",
    "place",
    "play",
    "run_job",
]

T = TypeVar("T")
AMPLE = RateLimit(1_000_000, period=1)
LONGEST_RUN_S = 86_400.0
"""Virtual. A run that does not end is ended, and a failure."""
OAUTH = OAuth1Credentials("consumer-key", "consumer-secret", "1-token", "token-secret")
BEARER = BearerCredentials("bearer")


TOTALS_BY_TWEET: dict[str, Any] = {
    "engagement_types": ["favorites", "replies"],
    "groupings": {"tweets": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]},
}
QUERY = Query(TOTALS, **TOTALS_BY_TWEET)


def make_ids(count: int, call: int = 0) -> list[str]:
    """Distinct IDs; those of other calls are others."""
    return [str(10**18 + call * 10**7 + 7 * n) for n in range(count)]


def place(answer: Answer, call: int = 0) -> int:
    """Where in `make_ids` the first Tweet of an answer stands."""
    return (int(answer.tweet_ids[0]) - 10**18 - call * 10**7) // 7


def client_of(server: ModelServer, **options: Any) -> EngagementClient:
    """Return the client, with a contract that is never in the way unless the test gives one."""
    return EngagementClient(OAUTH, **{"rate_limit": AMPLE, "base_url": server.url, **options})


def play(world: World, main: Callable[[ModelServer], Awaitable[T]]) -> T:
    """Run `main` beside a server of that world, under virtual time. Nothing may be left behind, no rule be broken."""

    async def whole() -> T:
        errors: list[str] = []
        collect_loop_errors(errors)
        async with asyncio.timeout(LONGEST_RUN_S), ModelServer(world) as server:
            outcome = await main(server)
        await assert_no_tasks()
        assert not errors, f"errors that nobody took: {errors[:3]}"
        assert not server.breaches, f"rules of the API broken: {server.breaches[:3]}"
        return outcome

    return run_virtual(whole())


async def run_job(server: ModelServer, folder: Path, ids: list[str], **options: Any) -> Progress:
    """One run of a job over these IDs, started if it was not."""
    job = BackfillJob(folder)
    await job.start(options.pop("query", QUERY), ids)
    return await job.run(OAUTH, **{"rate_limit": AMPLE, "base_url": server.url, **options})


def check(
    server: ModelServer, result: EngagementResult, tweet_ids: Sequence[str], *, outage_timeout_s: float = 900.0
) -> None:
    """All that must hold of a result that a call returned, whatever went wrong."""
    check_places(result, tweet_ids)
    check_values(server.world, result)
    check_failures(
        server, result.failed_tweet_ids, endpoint=result.query.endpoint.name, outage_timeout_s=outage_timeout_s
    )


def check_places(result: EngagementResult, tweet_ids: Sequence[str]) -> None:
    """Every ID is in exactly one place, and every list is in input order."""
    order = {i: n for n, i in enumerate(tweet_ids)}
    unsupported = [frozenset(result.unsupported_tweet_ids.get(m, ())) for m in result.query.engagement_types]
    places = {
        "answered": result.answered_tweet_ids,
        "unavailable": result.unavailable_tweet_ids,
        "forbidden": result.forbidden_tweet_ids,
        "unsupported": sorted(frozenset.intersection(*unsupported), key=lambda i: order[i]),
        "failed": list(result.failed_tweet_ids),
    }
    assert sorted(i for ids in places.values() for i in ids) == sorted(tweet_ids), "an ID is in no place, or in two"
    assert {name: len(ids) for name, ids in places.items()} == result.outcomes
    assert list(result.tweet_ids) == list(tweet_ids)
    for name, ids in places.items():
        assert ids == sorted(ids, key=lambda i: order[i]), f"{name}: not in input order"


def check_values(world: World, result: EngagementResult) -> None:
    """Whoever is answered has the true values, nobody else has any, and sums are those over whoever is answered."""
    query = result.query
    endless = {i for o in world.omissions if o.times > 1 and o.metric for i in o.tweet_ids}
    once_is_enough = len(endless) >= EndpointState.CONFIRMED  # then an answer may be taken at its word
    incomplete = {(i, o.metric) for o in world.omissions if o.times > 1 or once_is_enough for i in o.tweet_ids}
    answered = {i: world.metrics_of(i, query.engagement_types) for i in result.answered_tweet_ids}
    missing: Mapping[str, Iterable[str]] = getattr(result, "missing_metrics", {})
    gaps = {(i, metric) for metric, ids in missing.items() for i in ids}
    assert gaps <= incomplete, f"missing metrics that the API did give: {sorted(gaps - incomplete)[:3]}"
    shown = {i: tuple(m for m in metrics if (i, m) not in gaps) for i, metrics in answered.items()}
    kept_from_sums = {(i, o.metric) for o in world.omissions if not o.in_sums for i in o.tweet_ids} & incomplete
    in_sums = {i: tuple(m for m in ms if (i, m) not in gaps & kept_from_sums) for i, ms in answered.items()}
    for name, group_by in query.groupings.items():
        is_sum = "tweet.id" not in group_by
        by_tweet = shown if "engagement.type" in group_by else answered
        got = pruned(result.groupings[name], zeros=is_sum)
        may_be = [in_sums, shown] if is_sum else [by_tweet]
        wanted = [pruned(_truth(world, query, name, values), zeros=is_sum) for values in may_be]
        assert got in wanted, f"grouping {name}: {_difference(got, wanted[0])}"


def _truth(world: World, query: Query, name: str, values: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    start, end = (_bound(bound) for bound in (query.start, query.end))
    asked = Asked(0, 0.0, query.endpoint.name, (), query.engagement_types, {name: query.groupings[name]}, start, end)
    return expected_groupings(asked, values, days_above_hours=world.days_above_hours)[name]


def _bound(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def _difference(got: Any, wanted: Any, path: str = "") -> str:
    """Return the first leaf that differs."""
    if isinstance(got, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *(key for key in got if key not in wanted)]:
            if got.get(key) != wanted.get(key):
                return _difference(got.get(key), wanted.get(key), f"{path}/{key}")
    return f"{path} is {str(got)[:100]}, not {str(wanted)[:100]}"


def check_contract(server: ModelServer, *limits: RateLimit) -> None:
    """No window of any limit saw more arrivals than it allows."""
    for limit in limits:
        peak = server.peak(limit.period, limit.endpoint)
        assert peak <= limit.requests, f"{peak} requests arrived in {limit.period} s, where {limit} allows fewer"


def kind_of(failure: str) -> FailureKind:
    """Why an ID failed, as programs read it."""
    kind = getattr(failure, "kind", None)
    assert isinstance(kind, FailureKind), f"a failure without a kind: {failure!r}"
    return kind


def kinds(failed: Mapping[str, str]) -> dict[str, FailureKind]:
    return {tweet_id: kind_of(failure) for tweet_id, failure in failed.items()}


def now() -> float:
    """Return the loop's own clock: 0 when a run began."""
    return asyncio.get_running_loop().time()


def check_failures(
    server: ModelServer,
    failed: Mapping[str, str],
    *,
    endpoint: str,
    outage_timeout_s: float,
    since: float = 0.0,
    until: float = math.inf,
) -> None:
    """Every failure of one call, which lasted from `since` until `until`, is borne out by the server's record."""
    gap_s = longest_gap_s(server, endpoint, since=since, until=until) if failed else 0.0
    for tweet_id, failure in failed.items():
        records = server.of(tweet_id)
        why = f"{tweet_id} failed as {failure!r}, and was asked {[(r.cause, len(r.asked.tweet_ids)) for r in records]}"
        match kind_of(failure):
            case FailureKind.MISSING:
                assert sum(tweet_id in r.left_out for r in records) >= 2, why
            case FailureKind.REFUSED:
                assert any(_is_refusal_of(tweet_id, r) for r in records), why
            case FailureKind.SERVER:
                assert _fails_alone(records), f"{why}: not the last two times alone"
            case FailureKind.OUTAGE:
                assert gap_s >= 0.95 * outage_timeout_s, f"{why}; the API was silent for {gap_s:.0f} s at most"
            case other:
                raise AssertionError(f"{why}: no reason for {other}")


def _fails_alone(records: Iterable[Record]) -> bool:
    """Whether the last two requests for this Tweet alone failed, for some part of the span."""
    alone: dict[datetime | None, list[Record]] = {}
    for record in records:
        if len(record.asked.tweet_ids) == 1:
            alone.setdefault(record.asked.start, []).append(record)
    return any(len(each) >= 2 and not any(r.is_useful for r in each[-2:]) for each in alone.values())


def _is_refusal_of(tweet_id: str, record: Record) -> bool:
    is_named = any(tweet_id in text for text in record.texts)
    return record.cause == "refused" and (is_named or record.asked.tweet_ids == (tweet_id,))


def longest_gap_s(server: ModelServer, endpoint: str, *, since: float, until: float) -> float:
    """Return the longest time within [since, until] in which this endpoint gave no useful answer."""
    useful = [
        r.answered_at
        for r in server.records
        if r.is_useful and not r.may_be_unread and r.asked.endpoint == endpoint and since < r.answered_at < until
    ]
    marks = [since, *sorted(useful), until]
    return max(later - earlier for earlier, later in pairwise(marks))
