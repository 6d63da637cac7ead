"""The public API as a type checker sees it. Nothing here runs: mypy and pyright read it (`make check`).

`assert_type` says what an expression is; a line with an ignore comment must be wrong, or the unneeded comment is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, assert_type

from engagement_async import (
    HISTORICAL,
    TOTALS,
    Answer,
    APIError,
    AuthError,
    BearerCredentials,
    CallProgress,
    ClientStatus,
    ColumnarAnswer,
    ColumnarStream,
    EngagementClient,
    EngagementError,
    EngagementResult,
    LocalScheduler,
    Merger,
    OAuth1Credentials,
    Query,
    RateLimit,
    Scheduler,
    Timeouts,
    UsageError,
    WaitReason,
)
from engagement_async.backfill import BackfillJob, JobStatus, Progress
from engagement_async.emulator import Emulator
from engagement_async.reports import write_report

OAUTH = OAuth1Credentials("key", "secret", "token", "token secret")
CONTRACT = RateLimit(300, period=60)


async def a_client_and_its_calls() -> None:
    async with EngagementClient(OAUTH, rate_limit=CONTRACT, concurrency=16) as client:
        assert_type(client, EngagementClient)
        assert_type(client.status(), ClientStatus)
        result = await client.totals(
            ["20", 1460323737035677698], engagement_types=["favorites"], groupings={"g": ["tweet.id"]}
        )
        assert_type(result, EngagementResult)
        await client.last_28_hours(
            range(9), engagement_types=("favorites",), groupings={"g": ("tweet.id", "engagement.hour")}
        )
        await client.historical(
            iter(["20"]),
            engagement_types=["favorites"],
            groupings={"g": ["tweet.id"]},
            start="2020-01-01",
            end=date.max,
        )
        await client.historical(
            numbers(),
            engagement_types=["favorites"],
            groupings={"g": ["tweet.id"]},
            start=datetime(2020, 1, 1, tzinfo=UTC),
            end=datetime(2020, 2, 1, tzinfo=UTC),
        )
        async with client.stream(
            Query(TOTALS, engagement_types=["favorites"], groupings={}), ["20"], columnar=True
        ) as columns:
            assert_type(columns, ColumnarStream)
            async for each in columns:
                assert_type(each, ColumnarAnswer)
                Merger(Query(TOTALS, engagement_types=["favorites"], groupings={})).add(each)
        await client.totals(["20"], engagement_types=["favorites"], groupings={}, progress=True)
        await client.totals(["20"], engagement_types=["favorites"], groupings={}, progress=shows)
        async with client.stream(Query(TOTALS, engagement_types=["favorites"], groupings={}), ["20"]) as answers:
            async for answer in answers:
                assert_type(answer, Answer)
    BearerCredentials("token")
    EngagementClient(OAUTH, scheduler=LocalScheduler(CONTRACT), timeouts=Timeouts(connect_s=5))
    EngagementClient(OAUTH, rate_limit=[CONTRACT, RateLimit(10, period=1, endpoint="totals")])


async def names_from_elsewhere(metrics: list[str], groupings: Mapping[str, list[str]]) -> None:
    """Metrics and `group_by` values that come from a file or an option need no cast."""
    async with EngagementClient(OAUTH, rate_limit=CONTRACT) as client:
        await client.totals(["20"], engagement_types=metrics, groupings=groupings)
    Query(HISTORICAL, engagement_types=set(metrics), groupings=dict(groupings))


async def shows(now: CallProgress) -> None:
    """Take progress, which a function that is async may do as well."""
    assert_type(now.ids_done, int)
    assert_type(now.ids_total, int | None)
    assert_type(now.eta_s, float | None)
    assert_type(now.waiting_for, WaitReason | None)


async def numbers() -> AsyncIterator[int]:
    yield 20


def results(result: EngagementResult) -> None:
    assert_type(result.outcomes, dict[str, int])
    assert_type(result.unavailable_tweet_ids, list[str])
    assert_type(result.unsupported_tweet_ids, dict[str, list[str]])
    assert_type(result.start, datetime | None)
    assert_type(result.to_response(), dict[str, Any])
    assert_type(result.rows("g"), Iterator[dict[str, Any]])
    assert_type(result.failed_tweet_ids, dict[str, str])
    assert_type(Merger(result.query).result(), EngagementResult)


def waiting(status: ClientStatus, scheduler: Scheduler) -> None:
    assert_type(status.requests, int)
    reason: str = WaitReason.OUTAGE
    del reason
    assert_type(scheduler.waiting_s, float)
    scheduler = LocalScheduler([CONTRACT])
    del scheduler


def errors(error: EngagementError) -> None:
    if isinstance(error, UsageError):
        caught: ValueError = error
        del caught
    if isinstance(error, AuthError):
        assert_type(error.status, int | None)
        assert_type(error.texts, tuple[str, ...])
        evidence: APIError = error
        del evidence


async def a_job() -> None:
    job = BackfillJob("folder")
    await job.start(Query(TOTALS, engagement_types=["favorites"], groupings={"g": ["tweet.id"]}), ["20"])
    assert_type(await job.run(OAUTH, rate_limit=CONTRACT), Progress)
    await job.start(owner_weights={"acme": 3})
    await job.run({"acme": OAUTH}, rate_limit=CONTRACT, failed_credentials="pending")
    assert_type(await job.run(OAUTH, rate_limit=CONTRACT, progress=shows), Progress)
    assert_type(await job.status(), JobStatus)


def a_report(result: EngagementResult) -> None:
    write_report(result, "report.html", title="Mine", now=lambda: datetime.now(UTC))
    write_report("jobs/may", "top.svg", picture="top", is_dark=True)
    write_report(3, "report.html")  # type: ignore[arg-type]
    result.plot("by_hour", metrics=["favorites"], width=400)


async def an_emulator() -> None:
    async with Emulator(300) as emulator:
        assert_type(emulator.base_url, str)
    with Emulator(300) as emulator:
        assert_type(emulator.environment, dict[str, str])


async def what_is_wrong() -> None:
    """Mistakes that a type checker finds before anybody runs the code."""
    EngagementClient("key", rate_limit=CONTRACT)  # type: ignore[arg-type]
    EngagementClient(OAUTH, CONTRACT)  # type: ignore[call-arg]
    async with EngagementClient(OAUTH, rate_limit=CONTRACT) as client:
        await client.totals(["20"], engagement_types=[1], groupings={})  # type: ignore[list-item]
        await client.totals(["20"], engagement_types=["favorites"], groupings={"g": [1]})  # type: ignore[list-item]
        await client.totals(["20"])  # type: ignore[call-arg]
        await client.totals(["20"], engagement_types=["favorites"], groupings={}, progress="bar")  # type: ignore[arg-type]
        await client.totals([2.0], engagement_types=["favorites"], groupings={})  # type: ignore[list-item]
        client.stream(TOTALS, ["20"])  # type: ignore[call-overload]
