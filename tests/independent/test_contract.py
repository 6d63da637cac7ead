"""The contract, counted at the server: never more than N arrivals in any window, whatever happens; all of it used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from engagement_async import EngagementClient, LocalScheduler, RateLimit, Timeouts
from tests.independent.server import Asked, Reply, Send, Server, most_in_a_window
from tests.independent.test_faults import BadDay, plain, zipped
from tests.support.independent_requests import BY_TWEET, OAUTH, account_adds_up, client_of, random_ids

QUICK = Timeouts(connect_s=1, read_s=1.5, total_s=4)
HOURLY_SUM = {"g": ["tweet.id"]}


def most_in_fixed_windows(arrivals: list[float], period: float) -> int:
    """The most in windows of a wall clock, at several alignments."""
    most = 0
    for step in range(12):
        counts: dict[int, int] = {}
        for at in arrivals:
            window = int((at + period * step / 12) // period)
            counts[window] = counts.get(window, 0) + 1
        most = max(most, *counts.values())
    return most


def jitter(seed: int, longest_s: float) -> Callable[[], float]:
    draw = random.Random(seed)
    return lambda: draw.random() ** 3 * longest_s


@pytest.mark.parametrize(
    ("requests", "period", "longest_s", "concurrency"),
    [(5, 1.0, 0.9, 16), (60, 60.0, 3.0, 16), (10, 10.0, 1.2, 3), (300, 60.0, 0.3, 64), (1, 0.5, 0.1, 8)],
)
@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.virtual_time
async def test_never_more_arrivals_than_the_contract_says(
    requests: int, period: float, longest_s: float, concurrency: int, share: float
) -> None:
    ids = random_ids(25 * min(requests * 3, 400), requests)
    async with (
        Server(latency=jitter(requests, longest_s)) as server,
        client_of(
            server, rate_limit=RateLimit(requests, period=period), concurrency=concurrency, timeouts=QUICK
        ) as client,
    ):
        server.breaking = BadDay(server, share, requests)
        result = await client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
    account_adds_up(result, ids)
    assert result.outcomes["answered"] == len(ids)
    assert server.breaches == []
    assert most_in_a_window(server.arrivals, period) <= requests
    assert most_in_fixed_windows(server.arrivals, period) <= requests


@pytest.mark.virtual_time
async def test_cancelled_calls_keep_to_the_contract_and_give_back_every_token() -> None:
    limit = RateLimit(20, period=10)
    scheduler = LocalScheduler(limit)
    draw = random.Random(5)
    ids = random_ids(2_500, 1)
    everything = asyncio.all_tasks()
    async with Server(latency=jitter(3, 2.0)) as server:
        client = client_of(server, rate_limit=None, scheduler=scheduler, concurrency=8, timeouts=QUICK)
        async with client:
            for _ in range(60):
                call = asyncio.create_task(
                    client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
                )
                await asyncio.sleep(draw.choice((0, 0, 0.001, 1.0, 4.0)) * draw.random())
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            assert client.status().in_flight == 0
            result = await client.totals(ids[:300], engagement_types=["favorites"], groupings=BY_TWEET)
            assert result.outcomes["answered"] == 300
            await asyncio.sleep(limit.period + QUICK.total_s + 1)
            assert scheduler.available(limit) == limit.requests
        assert most_in_a_window(server.arrivals, limit.period) <= limit.requests
        await asyncio.sleep(5)
        assert server.open_connections == 0
    assert asyncio.all_tasks() == everything


@pytest.mark.virtual_time
async def test_limits_by_the_second_by_the_minute_and_of_one_endpoint_hold_together() -> None:
    limits = [RateLimit(60, period=60), RateLimit(4, period=1), RateLimit(10, period=60, endpoint="28hr")]
    ids = random_ids(25 * 30, 2)
    async with (
        Server(latency=jitter(1, 0.4)) as server,
        client_of(server, rate_limit=limits, concurrency=30) as client,
    ):
        await asyncio.gather(
            client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM),
            client.totals(random_ids(25_000, 3), engagement_types=["favorites"], groupings=HOURLY_SUM),
        )
    assert len(server.arrivals) == 130
    assert most_in_a_window(server.arrivals, 60) <= 60
    assert most_in_a_window(server.arrivals, 1) <= 4
    assert most_in_a_window([asked.at for asked in server.asked if asked.endpoint == "28hr"], 60) <= 10


@pytest.mark.virtual_time
async def test_a_client_that_is_opened_again_remembers_its_last_minute() -> None:
    async with Server(latency=jitter(1, 0.1)) as server:
        client = client_of(server, rate_limit=RateLimit(5, period=60))
        for _ in range(3):
            async with client:
                await client.totals(random_ids(1_000, 3), engagement_types=["favorites"], groupings=HOURLY_SUM)
    assert len(server.arrivals) == 12
    assert most_in_a_window(server.arrivals, 60) <= 5


@pytest.mark.parametrize(
    ("headers", "at_least_s"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:23 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 23.0),
        ({"x-per-minute-reset": "1767225631", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 31.0),
        ({"x-per-minute-reset": "1767225631", "Retry-After": "5", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 31.0),
        ({}, 60.0),
        *(({"Retry-After": text}, 60.0) for text in ("nan", "-5", "1e9", "inf", "soon", "", "1e400")),
        *(({"x-per-minute-reset": text}, 60.0) for text in ("0", "nan", "-1", "99999999999999", "x")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["429", "429 html", "429 cut", "429 empty gzip", "200", "400", "403"])
@pytest.mark.virtual_time
async def test_a_refusal_for_the_rate_holds_every_request_and_costs_no_attempt(
    headers: dict[str, str], at_least_s: float, form: str
) -> None:
    texts = b'{"errors": ["Rate limit exceeded"]}'
    given = {name.replace("-", "_"): value for name, value in headers.items()}
    written = {
        "429": zipped(texts, 429, **given),
        "429 html": plain(429, b"<h1>Too many</h1>", **given),
        "429 cut": plain(429, b"\x1f\x8b\x08", Content_Encoding="gzip", **given),
        "429 empty gzip": plain(429, b"", Content_Encoding="gzip", **given),
        "200": zipped(texts, 200, **given),
        "400": zipped(texts, 400, **given),
        "403": zipped(b'{"errors": [{"code": 88, "message": "Rate limit exceeded"}]}', 403, **given),
    }[form]

    refused_at: list[float] = []

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        if asked.nth in (3, 4, 5, 6, 7, 8, 9):
            refused_at.append(asyncio.get_running_loop().time())
            await send(written)
        return True

    ids = random_ids(25 * 40, 1)
    async with (
        Server(breaking=breaking) as server,
        client_of(server, rate_limit=RateLimit(1000, period=60), concurrency=2) as client,
    ):
        result = await client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
    assert result.outcomes["answered"] == len(ids)
    for at in refused_at:  # what was on its way at that moment may still arrive
        assert sum(at + 0.01 < arrived < at + at_least_s for arrived in server.arrivals) == 0


@pytest.mark.virtual_time
async def test_200_waiting_requests_resume_paced_after_a_reset() -> None:
    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        if asked.nth == 1:
            await send(plain(429, b"", Retry_After="30"))
        return True

    ids = random_ids(25 * 400, 1)
    async with (
        Server(breaking=breaking, latency=lambda: 0.2) as server,
        client_of(server, rate_limit=RateLimit(3000, period=60), concurrency=200) as client,
    ):
        await client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
    resumed = [at for at in server.arrivals if at > server.arrivals[0] + 30]
    first = [at for at in resumed if at < resumed[0] + 2]
    assert most_in_a_window(first, 0.1) <= 15


@pytest.mark.parametrize("tells_remaining", [True, False])
@pytest.mark.virtual_time
async def test_another_consumer_of_the_same_contract_is_yielded_to(
    tells_remaining: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ids = random_ids(25 * 300, 1)

    async with (
        Server(latency=jitter(1, 0.3), limit=(60, 60.0)) as server,
        client_of(server, rate_limit=RateLimit(60, period=60), concurrency=8) as client,
    ):
        server.foreign_arrivals = [2.0 * n for n in range(2_000)]  # half of the contract, evenly
        if not tells_remaining:

            async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
                reply.headers.pop("x-per-minute-remaining")
                return True

            server.breaking = breaking
        result = await client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
    account_adds_up(result, ids)
    assert result.outcomes["answered"] == len(ids)
    assert server.refused_for_rate <= (30 if tells_remaining else 100)
    assert not tells_remaining or "somebody else" in caplog.text


@pytest.mark.virtual_time
async def test_a_server_with_the_same_limit_never_has_to_refuse() -> None:
    ids = random_ids(25 * 200, 1)
    async with (
        Server(latency=jitter(1, 0.8), limit=(30, 20.0)) as server,
        client_of(server, rate_limit=RateLimit(30, period=20), concurrency=16) as client,
    ):
        result = await client.last_28_hours(ids, engagement_types=["favorites"], groupings=HOURLY_SUM)
    assert result.outcomes["answered"] == len(ids)
    assert server.refused_for_rate == 0
    assert len(server.arrivals) == 200


@pytest.mark.virtual_time
async def test_two_clients_with_one_scheduler_share_one_contract() -> None:
    shared = LocalScheduler(RateLimit(10, period=5))
    async with (
        Server() as server,
        EngagementClient(OAUTH, scheduler=shared, base_url=server.url) as one,
        EngagementClient(OAUTH, scheduler=shared, base_url=server.url) as other,
    ):
        await asyncio.gather(
            *(
                client.last_28_hours(random_ids(25 * 12, n), engagement_types=["favorites"], groupings=HOURLY_SUM)
                for n, client in enumerate((one, other))
            )
        )
    assert len(server.arrivals) == 24
    assert most_in_a_window(server.arrivals, 5) <= 10
