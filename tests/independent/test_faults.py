"""Bad days: the server of another hand breaks its answers in every way it knows. All Tweets come home, and once."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from engagement_async import (
    APIError,
    AuthError,
    EngagementClient,
    EngagementError,
    RateLimit,
    RequestRefusedError,
    ServerRefusedError,
    Timeouts,
)
from tests.independent.server import Asked, Reply, Send, Server, World
from tests.support.independent_requests import (
    APP_ONLY,
    BY_TWEET,
    OAUTH,
    account_adds_up,
    client_of,
    mixed_world,
    random_ids,
)

SHORT = Timeouts(connect_s=1, read_s=2, total_s=5)
Broken = Callable[[Server, Reply, Send], Awaitable[bool]]


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode()


def plain(status: int, body: bytes, **headers: str) -> bytes:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(status, {"Content-Length": str(len(body)), **given}) + body


def zipped(body: bytes, status: int = 200, **headers: str) -> bytes:
    return plain(status, gzip.compress(body), Content_Encoding="gzip", **headers)


async def close_at_once(server: Server, reply: Reply, send: Send) -> bool:
    return False


async def close_in_the_headers(server: Server, reply: Reply, send: Send) -> bool:
    await send(server.written(reply)[:40])
    return False


async def close_in_the_body(server: Server, reply: Reply, send: Send) -> bool:
    await send(server.written(reply)[:-30])
    return False


async def cut_within_its_length(server: Server, reply: Reply, send: Send) -> bool:
    body = gzip.compress(reply.body())
    await send(plain(reply.status, body[: len(body) // 2], Content_Encoding="gzip"))
    return True


async def no_trailer(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(reply.status, gzip.compress(reply.body())[:-8], Content_Encoding="gzip"))
    return True


async def a_bit_flipped(server: Server, reply: Reply, send: Send) -> bool:
    body = bytearray(gzip.compress(reply.body()))
    body[len(body) // 2] ^= 4
    await send(plain(200, bytes(body), Content_Encoding="gzip"))
    return True


async def garbage_after_the_end(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(200, gzip.compress(reply.body()) + b"\x00trailing", Content_Encoding="gzip"))
    return True


async def a_chunk_cut(server: Server, reply: Reply, send: Send) -> bool:
    body = gzip.compress(reply.body())
    await send(head(200, {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}))
    await send(b"%x\r\n" % len(body) + body[: len(body) // 2])
    return False


async def a_chunk_length_that_is_none(server: Server, reply: Reply, send: Send) -> bool:
    await send(head(200, {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}) + b"zz\r\nabc\r\n0\r\n\r\n")
    return False


async def brotli(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(200, b"\x0b\x02\x80", Content_Encoding="br"))
    return True


async def internal_error(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b'{"errors": ["internal server error"]}', 500))
    return True


async def internal_error_beside_200(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b'{"errors": ["internal server error"]}'))
    return True


async def bad_gateway_as_html(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(502, b"<html><body>Bad gateway 1234567890123456789</body></html>", Content_Type="text/html"))
    return True


async def unavailable_for_a_second(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(503, b"", Retry_After="1"))
    return True


async def html(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b"<!doctype html><title>Welcome</title>", Content_Type="text/html"))
    return True


async def nothing(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(200, b""))
    return True


async def half_of_the_json(server: Server, reply: Reply, send: Send) -> bool:
    body = reply.body()
    await send(zipped(body[: len(body) // 2]))
    return True


async def an_array(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b"[" + reply.body() + b"]"))
    return True


async def other_leaves(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(json.dumps({"by_tweet": {"20": {"favorites": "many"}}}).encode()))
    return True


async def no_grouping(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b"{}"))
    return True


async def silence(server: Server, reply: Reply, send: Send) -> bool:
    await asyncio.sleep(100)
    return False


async def silence_in_the_body(server: Server, reply: Reply, send: Send) -> bool:
    await send(server.written(reply)[:-20])
    await asyncio.sleep(100)
    return False


async def a_drip(server: Server, reply: Reply, send: Send) -> bool:
    for byte in server.written(reply)[:40]:
        await send(bytes([byte]))
        await asyncio.sleep(1)
    return False


async def no_http(server: Server, reply: Reply, send: Send) -> bool:
    await send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    return False


async def too_many(server: Server, reply: Reply, send: Send) -> bool:
    await send(plain(429, b"<html>slow down", Retry_After="1"))
    return True


async def rate_limit_beside_200(server: Server, reply: Reply, send: Send) -> bool:
    await send(zipped(b'{"errors": [{"message": "Rate limit exceeded", "code": 88}]}'))
    return True


async def honest_but_then_closed(server: Server, reply: Reply, send: Send) -> bool:
    """Closes a connection that it said nothing of closing."""
    await send(server.written(reply))
    server.times_told.update(server.asked[-1].tweet_ids if reply.status == 200 else ())
    return False


FAULTS: list[Broken] = [
    close_at_once,
    close_in_the_headers,
    close_in_the_body,
    cut_within_its_length,
    no_trailer,
    a_bit_flipped,
    garbage_after_the_end,
    a_chunk_cut,
    a_chunk_length_that_is_none,
    brotli,
    internal_error,
    internal_error_beside_200,
    bad_gateway_as_html,
    unavailable_for_a_second,
    html,
    nothing,
    half_of_the_json,
    an_array,
    other_leaves,
    no_grouping,
    silence,
    silence_in_the_body,
    a_drip,
    no_http,
    too_many,
    rate_limit_beside_200,
    honest_but_then_closed,
]


class BadDay:
    """Breaks a share of a server's answers, in all ways by turns."""

    def __init__(self, server: Server, share: float, seed: int) -> None:
        self.server = server
        self.share = share
        self.draw = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def __call__(self, asked: Asked, reply: Reply, send: Send) -> bool:
        if self.draw.random() >= self.share:
            return True
        fault = FAULTS[self.done.total() % len(FAULTS)]
        self.done[fault.__name__] += 1
        return await fault(self.server, reply, send)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.virtual_time
async def test_20000_tweets_on_a_day_on_which_a_third_of_the_answers_is_broken(seed: int) -> None:
    ids = random_ids(20_000, seed)
    world = mixed_world(ids, seed, bad_share=0.1, states=("gone", "foreign", "once", "never"))
    async with Server(world) as server, client_of(server, timeouts=SHORT, concurrency=10) as client:
        server.breaking = day = BadDay(server, 1 / 3, seed)
        result = await client.totals(
            ids, engagement_types=["favorites", "impressions"], groupings={**BY_TWEET, "sum": ["engagement.type"]}
        )
    account_adds_up(result, ids)
    assert server.breaches == []
    assert len(day.done) == len(FAULTS)
    assert result.unavailable_tweet_ids == [i for i in ids if world.state.get(i) == "gone"]
    assert result.forbidden_tweet_ids == [i for i in ids if world.state.get(i) == "foreign"]
    assert list(result.failed_tweet_ids) == [i for i in ids if world.state.get(i) == "never"]
    told = [i for i in ids if world.state.get(i, "once") == "once"]
    metrics = ("favorites", "impressions")
    expected = {i: {metric: world.value(i, metric) for metric in metrics} for i in told}
    assert result.groupings["by_tweet"] == expected
    assert result.groupings["sum"] == {m: sum(world.value(i, m) for i in told) for m in metrics}


@pytest.mark.virtual_time
async def test_28_hours_on_such_a_day() -> None:
    ids = random_ids(5_000, 7)
    async with Server() as server, client_of(server, timeouts=SHORT, concurrency=16) as client:
        server.breaking = BadDay(server, 1 / 3, 7)
        result = await client.last_28_hours(
            ids, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
        )
    account_adds_up(result, ids)
    assert result.outcomes["answered"] == len(ids)
    hours = server.hours_of(server.asked[0])
    expected = {i: {"favorites": sum(server.world.value(i, "favorites", hour) for hour in hours)} for i in ids}
    assert result.groupings["by_tweet"] == expected


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.virtual_time
async def test_each_fault_alone_is_survived_and_tells_no_secret(
    fault: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    ids = random_ids(600, 1)

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        return await fault(server, reply, send) if asked.nth in (1, 2, 4, 5) else True

    async with (
        Server(breaking=breaking) as server,
        client_of(server, timeouts=SHORT, concurrency=2) as client,
    ):
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.groupings["by_tweet"] == {i: {"favorites": server.world.value(i, "favorites")} for i in ids}
    account_adds_up(result, ids)
    assert server.breaches == []

    caplog.set_level("DEBUG")
    assert "canary" not in caplog.text


@pytest.mark.virtual_time
async def test_an_answer_cut_anywhere_or_with_any_bit_flipped_is_never_taken_for_another() -> None:
    ids = [str(10**18 + n) for n in range(25 * 400)]
    draw = random.Random(11)

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        if asked.nth % 2 == 0:
            return True
        data = bytearray(server.written(reply))
        line = data.index(b"\r\n") + 2  # the status is not signed by anything: another status is another answer
        if asked.nth % 4 == 1:
            await send(bytes(data[: asked.nth % len(data)]))
            return False
        for _ in range(draw.choice((1, 1, 2, 5))):
            data[draw.randrange(line, len(data))] ^= 1 << draw.randrange(8)
        await send(bytes(data))
        return False

    async with (
        Server(breaking=breaking) as server,
        client_of(server, timeouts=SHORT, concurrency=1) as client,
    ):
        result = await client.last_28_hours(ids, engagement_types=["favorites"], groupings={"g": ["tweet.id"]})
    account_adds_up(result, ids)
    hours = server.hours_of(server.asked[0])
    assert result.groupings["g"] == {i: sum(server.world.value(i, "favorites", h) for h in hours) for i in ids}


@pytest.mark.virtual_time
async def test_an_api_that_is_down_for_good_is_given_up_at_the_deadline_and_says_why() -> None:
    ids = random_ids(2_000, 1)

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        return await internal_error(server, reply, send)

    async with Server(breaking=breaking) as server, client_of(server, outage_timeout_s=300) as client:
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    account_adds_up(result, ids)
    assert len(result.failed_tweet_ids) == len(ids)
    assert all("internal server error" in reason for reason in result.failed_tweet_ids.values())
    assert len(server.arrivals) < 60


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(404, b"not here"), ServerRefusedError, "base_url"),
        (Reply(404, {"errors": [{"message": "no such page", "code": 34}]}), ServerRefusedError, "base_url"),
        (Reply(406, {"errors": ["This request requires gzip compression."]}), ServerRefusedError, "gzip"),
        (Reply(301, None, {"Location": "https://example.com/"}), ServerRefusedError, "redirect"),
        (Reply(307, None, {"Location": "/elsewhere"}), ServerRefusedError, "redirect"),
        (Reply(401, {"errors": ["Your account could not be authenticated. Reason: token"]}), AuthError, "token"),
        (Reply(403, {"errors": ["your application id is not authorized."]}), AuthError, "not authorized"),
        (Reply(403, {"errors": ["Forbidden to access metrics: retweets"]}), RequestRefusedError, "retweets"),
        (
            Reply(400, {"errors": ["One or more of the groupBys you have specified are not supported: (engagement.hour)."]}),
            RequestRefusedError,
            "groupBys",
        ),
        (Reply(405, b""), RequestRefusedError, "405"),
        (Reply(413, b"too large"), RequestRefusedError, "413"),
    ],
)  # fmt: skip
async def test_what_no_retry_can_mend_stops_the_run_at_once(reply: Reply, error: type[APIError], says: str) -> None:
    ids = random_ids(20_000, 1)
    async with Server(respond=lambda asked: reply) as server, client_of(server, concurrency=5) as client:
        with pytest.raises(error, match=says) as caught:
            await client.totals(ids, engagement_types=["retweets"], groupings=BY_TWEET)
    assert type(caught.value) is error
    assert caught.value.status == reply.status
    assert len(server.arrivals) <= 5
    assert all(asked.endpoint == "totals" for asked in server.asked)


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_a_wrong_request_stops_early(concurrency: int) -> None:
    ids = random_ids(20_000, 1)
    refusal = Reply(400, {"errors": ["There were errors processing your request: something is wrong"]})
    async with Server(respond=lambda asked: refusal) as server, client_of(server, concurrency=concurrency) as client:
        with pytest.raises(RequestRefusedError, match="something is wrong"):
            await client.totals(ids, engagement_types=["retweets"], groupings=BY_TWEET)
    assert len(server.arrivals) <= concurrency + 16


@pytest.mark.parametrize("position", range(0, 250, 7))
@pytest.mark.parametrize("batches", [1, 3])
async def test_one_bad_tweet_of_250_that_is_not_named_costs_at_most_16_requests(position: int, batches: int) -> None:
    ids = random_ids(250 * batches, 5)
    bad = ids[position]

    def respond(asked: Asked) -> Reply | None:
        return Reply(400, {"errors": ["Bad request"]}) if bad in asked.tweet_ids else None

    async with Server(respond=respond) as server, client_of(server, concurrency=1) as client:
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    account_adds_up(result, ids)
    assert list(result.failed_tweet_ids) == [bad]
    assert "Bad request" in result.failed_tweet_ids[bad]
    assert len(server.arrivals) <= batches + 16


async def test_several_bad_tweets_in_every_batch_are_found() -> None:
    ids = random_ids(2_000, 6)
    bad = set(ids[::90])

    def respond(asked: Asked) -> Reply | None:
        return Reply(400, {"errors": ["Bad request"]}) if bad & set(asked.tweet_ids) else None

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.totals(
            ids, engagement_types=["favorites"], groupings={**BY_TWEET, "n": ["engagement.type"]}
        )
    account_adds_up(result, ids)
    assert set(result.failed_tweet_ids) == bad
    assert result.groupings["n"] == {"favorites": sum(server.world.value(i, "favorites") for i in ids if i not in bad)}


async def test_a_bad_tweet_that_is_named_costs_one_request() -> None:
    ids = random_ids(250, 8)

    def respond(asked: Asked) -> Reply | None:
        return Reply(400, {"errors": [f"Tweet ID {ids[99]} is not valid"]}) if ids[99] in asked.tweet_ids else None

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    assert list(result.failed_tweet_ids) == [ids[99]]
    assert len(server.arrivals) == 2


@pytest.mark.parametrize("credentials", [OAUTH, APP_ONLY])
async def test_a_token_that_is_revoked_in_the_middle_stops_the_run(credentials: object) -> None:
    ids = random_ids(10_000, 8)

    def respond(asked: Asked) -> Reply | None:
        return Reply(401, {"errors": ["Your account could not be authenticated."]}) if asked.nth > 10 else None

    async with (
        Server(respond=respond) as server,
        client_of(server, concurrency=4, credentials=credentials) as client,
    ):
        with pytest.raises(AuthError):
            await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    assert len(server.arrivals) <= 10 + 4


@pytest.mark.parametrize("ahead_s", [-3600.0, -600.0, 600.0, 86_400.0])
async def test_a_clock_that_is_wrong_is_put_right_by_the_servers_date(ahead_s: float) -> None:
    ids = random_ids(500, 8)
    async with Server() as server, client_of(server, concurrency=1) as client:
        server.clock_ahead_s = ahead_s
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.outcomes["answered"] == 500
    assert server.unauthorized == 1


@pytest.mark.virtual_time
async def test_refused_connections_are_waited_out() -> None:
    ids = random_ids(600, 1)
    async with Server() as server:
        url = server.url
    port = int(url.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    late = Server(World())

    async def come_back() -> None:
        await asyncio.sleep(90)
        late._server = await asyncio.start_server(late._serve, "127.0.0.1", port, limit=2**20)
        late.url = url

    async with EngagementClient(OAUTH, rate_limit=RateLimit(10, period=60), base_url=url) as client:
        returning = loop.create_task(come_back())
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
        await returning
    await late.__aexit__(None, None, None)
    assert result.outcomes["answered"] == 600
    assert len(late.arrivals) == 3  # what was never sent costs nothing of the contract


async def test_errors_are_all_of_the_tree_and_pickle() -> None:
    async with Server(respond=lambda asked: Reply(404, None)) as server, client_of(server) as client:
        with pytest.raises(EngagementError) as caught:
            await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.status == 404
