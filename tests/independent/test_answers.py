"""What answers mean, over real sockets: sums are exact, nothing that was asked for is lost in silence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_async import EngagementClient, FailureKind, OAuth1Credentials, RateLimit, UsageError
from engagement_async._core.outcomes import Failure
from tests.support.raw_http import Exchange, RawServer, plain, zipped

VALUES = {"1": 10, "2": 100, "3": 1000}
BY_TWEET = {"t": ["tweet.id", "engagement.type"]}
WITH_SUM = {**BY_TWEET, "s": ["engagement.type"]}
Respond = Callable[[int, dict[str, Any]], Any]
"""From the number of the request, from 1, and its JSON, to a body, or a status and a body."""


class Server(RawServer):
    """Answers with JSON, and keeps what it was asked."""

    def __init__(self, respond: Respond) -> None:
        super().__init__(self._answer)
        self.respond = respond
        self.asked: list[dict[str, Any]] = []

    async def _answer(self, exchange: Exchange) -> None:
        asked = json.loads(exchange.request.partition(b"\r\n\r\n")[2])
        self.asked.append(asked)
        answer = self.respond(exchange.number, asked)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(body, bytes):
            await exchange.send(plain(body, f"{status} Status"))
        else:
            await exchange.send(zipped(json.dumps(body).encode(), f"{status} Status"))


def client_of(server: Server, **options: Any) -> EngagementClient:
    credentials = OAuth1Credentials("a", "b", "c", "d")
    return EngagementClient(
        credentials, rate_limit=RateLimit(1_000_000, period=1), base_url=server.url, **{"concurrency": 4, **options}
    )


def whole(asked: dict[str, Any]) -> dict[str, Any]:
    ids, metrics = asked["tweet_ids"], asked["engagement_types"]
    return {
        "t": {i: {metric: str(VALUES[i]) for metric in metrics} for i in ids},
        "s": {metric: str(sum(VALUES[i] for i in ids)) for metric in metrics},
    }


def forgetting(times: int) -> Respond:
    """Tweet 2 is left out by Tweet, and is in the sum."""

    def respond(number: int, asked: dict[str, Any]) -> Any:
        body = whole(asked)
        if number <= times:
            body["t"].pop("2", None)
        return body

    return respond


def unsupported(number: int, asked: dict[str, Any]) -> Any:
    body = whole(asked)
    if "2" in asked["tweet_ids"] and "impressions" in asked["engagement_types"]:
        body["unsupported_for_impressions_engagements_tweet_ids"] = ["2"]
        del body["t"]["2"]
        body["s"]["impressions"] = str(sum(VALUES[i] for i in asked["tweet_ids"] if i != "2"))
    return body


@pytest.mark.parametrize(
    ("respond", "metrics", "sums", "failed"),
    [
        (forgetting(1), ["favorites"], {"favorites": 1110}, []),
        (forgetting(99), ["favorites"], {"favorites": 1010}, ["2"]),
        (unsupported, ["impressions", "favorites"], {"impressions": 1010, "favorites": 1110}, []),
    ],
)
async def test_sums_are_those_of_the_answered_tweets(
    respond: Respond, metrics: list[str], sums: dict[str, int], failed: list[str]
) -> None:
    async with Server(respond) as server, client_of(server) as client:
        result = await client.totals(list(VALUES), engagement_types=metrics, groupings=WITH_SUM)

    assert result.groupings["s"] == sums
    assert list(result.failed_tweet_ids) == failed
    by_tweet = result.groupings["t"].values()
    assert {metric: sum(values.get(metric, 0) for values in by_tweet) for metric in metrics} == sums


@pytest.mark.parametrize("times", [1, 99])
async def test_a_tweet_in_one_of_two_groupings_is_asked_once_more(times: int) -> None:
    def respond(number: int, asked: dict[str, Any]) -> Any:
        ids = asked["tweet_ids"]
        left = [i for i in ids if i != "2" or number > times]
        return {"a": {i: {"favorites": "7"} for i in left}, "b": {"favorites": dict.fromkeys(ids, "7")}}

    groupings = {"a": ["tweet.id", "engagement.type"], "b": ["engagement.type", "tweet.id"]}
    async with Server(respond) as server, client_of(server) as client:
        result = await client.totals(["1", "2", "3"], engagement_types=["favorites"], groupings=groupings)

    answered = {"1", "2", "3"} if times == 1 else {"1", "3"}
    assert result.groupings["a"].keys() == result.groupings["b"]["favorites"].keys() == answered
    assert [asked["tweet_ids"] for asked in server.asked] == [["1", "2", "3"], ["2"]]
    for failure in result.failed_tweet_ids.values():
        assert isinstance(failure, Failure)
        assert failure.kind is FailureKind.MISSING


@pytest.mark.parametrize(
    ("groupings", "body", "missing"),
    [
        ({"s": ["engagement.type"]}, {"s": {}}, {"favorites": ["1", "2"], "replies": ["1", "2"]}),
        ({"s": ["engagement.type"]}, {"s": {"favorites": "3"}}, {"replies": ["1", "2"]}),
        (BY_TWEET, {"t": {"1": {"favorites": "1", "replies": "1"}, "2": {"favorites": "1"}}}, {"replies": ["2"]}),
        (
            {"b": ["engagement.type", "tweet.id"]},
            {"b": {"favorites": {"1": "1", "2": "1"}, "replies": {}}},
            {"replies": ["1", "2"]},
        ),
    ],
)
async def test_a_metric_that_stays_away_is_told_and_fails_nobody(
    groupings: dict[str, list[str]], body: Any, missing: dict[str, list[str]]
) -> None:
    async with Server(lambda number, asked: body) as server, client_of(server) as client:
        result = await client.totals(["1", "2"], engagement_types=["favorites", "replies"], groupings=groupings)

    assert result.missing_metrics == missing
    assert result.outcomes["answered"] == 2
    assert len(server.asked) == 2


async def test_a_value_beyond_64_bits_fails_its_tweet_alone() -> None:
    def respond(number: int, asked: dict[str, Any]) -> Any:
        return {"t": {i: {"favorites": str(2**70 if i == "2" else 7)} for i in asked["tweet_ids"]}}

    async with Server(respond) as server, client_of(server) as client:
        result = await client.totals(["1", "2", "3"], engagement_types=["favorites"], groupings=BY_TWEET)

    assert result.to_arrow("t").column("value").to_pylist() == [7, 7]
    failure = result.failed_tweet_ids["2"]
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.UNREPRESENTABLE


def inclusive(number: int, asked: dict[str, Any]) -> Any:
    """Answer as an API that takes `end` in."""
    at, end = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
    days: dict[str, dict[str, str]] = {}
    while at <= end:
        days.setdefault(f"{at:%Y-%m-%d}", {})[f"{at:%H}"] = "1"
        at += timedelta(hours=1)
    return {"start": asked["start"], "end": asked["end"], "g": dict.fromkeys(asked["tweet_ids"], days)}


async def test_no_hour_is_counted_twice_where_a_long_span_is_cut() -> None:
    async with Server(inclusive) as server, client_of(server) as client:
        result = await client.historical(
            ["1"],
            engagement_types=["favorites"],
            groupings={"g": ["tweet.id", "engagement.day", "engagement.hour"]},
            start="2026-01-01T05:00:00Z",
            end="2026-03-01T07:00:00Z",
        )

    rows = list(result.rows("g"))
    first = datetime(2026, 1, 1, 5, tzinfo=UTC)
    assert [row["engagement_hour"] for row in rows] == [first + timedelta(hours=n) for n in range(len(rows))]
    assert len(rows) == 59 * 24 + 2
    assert {row["value"] for row in rows} == {1}


async def test_a_tweet_that_fails_in_one_part_of_a_span_is_in_no_sum() -> None:
    def respond(number: int, asked: dict[str, Any]) -> Any:
        ids = asked["tweet_ids"]
        if asked["start"] > "2026-01-15" and "2" in ids:
            return 400, {"errors": ["Invalid Tweet 2"]}
        values = {"t": {i: {"favorites": "10"} for i in ids}, "s": {"favorites": str(10 * len(ids))}}
        return {"start": asked["start"], "end": asked["end"], **values}

    async with Server(respond) as server, client_of(server) as client:
        result = await client.historical(
            ["1", "2", "3"], engagement_types=["favorites"], groupings=WITH_SUM, start="2026-01-01", end="2026-02-10"
        )

    assert list(result.failed_tweet_ids) == ["2"]
    assert result.groupings == {"t": {"1": {"favorites": 20}, "3": {"favorites": 20}}, "s": {"favorites": 40}}
    assert result.missing_metrics == {}


async def test_an_end_in_the_future_is_asked_until_now() -> None:
    now = datetime.now(UTC)

    def respond(number: int, asked: dict[str, Any]) -> Any:
        if asked["end"] > f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}":
            return 400, {"errors": ["End dates in the future are not supported"]}
        return {"start": asked["start"], "end": asked["end"], "t": {i: {"favorites": "1"} for i in asked["tweet_ids"]}}

    async with Server(respond) as server, client_of(server) as client:
        result = await client.historical(
            range(1, 51),
            engagement_types=["favorites"],
            groupings=BY_TWEET,
            start=now - timedelta(weeks=6),
            end=now + timedelta(days=1),
        )
        with pytest.raises(UsageError, match="Let it start earlier"):
            await client.historical(
                ["1"],
                engagement_types=["favorites"],
                groupings=BY_TWEET,
                start=now + timedelta(days=1),
                end=now + timedelta(days=2),
            )

    assert result.outcomes["answered"] == 50
    assert len(server.asked) == 4
    assert "is in the future" in result.notes[0]
    assert result.end is not None
    assert result.end <= datetime.now(UTC)


async def test_zeros_from_before_the_api_counted_are_no_values() -> None:
    """The span is cut into a part in which favorites were not counted, one in which they began to be, and one after."""

    def respond(number: int, asked: dict[str, Any]) -> Any:
        values = {"favorites": "0" if asked["start"] < "2015-09-15" else "5", "impressions": "7"}
        return {"start": asked["start"], "end": asked["end"], "t": dict.fromkeys(asked["tweet_ids"], values)}

    async with Server(respond) as server, client_of(server) as client:
        one = await client.historical(
            ["1"],
            engagement_types=["favorites", "impressions"],
            groupings=BY_TWEET,
            start="2015-08-01",
            end="2015-08-20",
        )
        both = await client.historical(
            ["1"],
            engagement_types=["favorites", "impressions"],
            groupings=BY_TWEET,
            start="2015-08-01",
            end="2015-10-20",
        )

    assert one.groupings["t"] == {"1": {"impressions": 7}}
    assert (one.unsupported_tweet_ids, one.missing_metrics) == ({"favorites": ["1"]}, {})
    assert both.groupings["t"] == {"1": {"favorites": 5, "impressions": 21}}
    assert (both.unsupported_tweet_ids, both.missing_metrics) == ({}, {"favorites": ["1"]})


async def test_a_protected_tweet_is_unavailable() -> None:
    def respond(number: int, asked: dict[str, Any]) -> Any:
        if "2" in asked["tweet_ids"]:
            return 400, {"errors": ["Tweet ID(s) are unavailable"]}
        return {"t": {i: {"favorites": "1"} for i in asked["tweet_ids"]}}

    async with Server(respond) as server, client_of(server) as client:
        result = await client.totals(["1", "2", "3"], engagement_types=["favorites"], groupings=BY_TWEET)

    assert result.outcomes == {"answered": 2, "unavailable": 1, "unsupported": 0, "forbidden": 0, "failed": 0}


class Progress:
    """Sized and read once, as a progress bar around a generator is."""

    def __iter__(self) -> Iterator[str]:
        return (str(i) for i in range(1, 501))

    def __len__(self) -> int:
        return 500

    def __contains__(self, value: object) -> bool:
        return False


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_source_that_is_read_once_loses_no_id(is_async: bool) -> None:
    async def later() -> AsyncIterator[str]:
        for i in Progress():
            yield i

    def respond(number: int, asked: dict[str, Any]) -> Any:
        return {"t": {i: {"favorites": "1"} for i in asked["tweet_ids"]}}

    async with Server(respond) as server, client_of(server) as client:
        source = later() if is_async else Progress()
        result = await client.totals(source, engagement_types=["favorites"], groupings=BY_TWEET)

    assert result.answered_tweet_ids == [str(i) for i in range(1, 501)]
    assert len(server.asked) == 2


async def test_a_response_that_is_sent_twice_is_counted_once() -> None:
    async def answering(exchange: Exchange) -> None:
        ids = json.loads(exchange.request.partition(b"\r\n\r\n")[2])["tweet_ids"]
        body = zipped(json.dumps({"s": {"favorites": str(sum(map(int, ids)))}}).encode())
        await exchange.send(body + body)

    ids = [str(i) for i in range(1, 2001)]
    async with RawServer(answering) as server:
        credentials = OAuth1Credentials("a", "b", "c", "d")
        async with EngagementClient(
            credentials, rate_limit=RateLimit(1_000_000, period=1), base_url=server.url, concurrency=2
        ) as client:
            result = await client.totals(ids, engagement_types=["favorites"], groupings={"s": ["engagement.type"]})

    assert result.groupings["s"] == {"favorites": sum(map(int, ids))}
    assert server.requests == 8
