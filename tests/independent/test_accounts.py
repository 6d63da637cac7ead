"""Odd inputs, streams that are left early, cancelled calls, secrets: nothing is dropped, leaked or left behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import random
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engagement_async import (
    TOTALS,
    AnswerStream,
    AuthError,
    BearerCredentials,
    EngagementClient,
    EngagementError,
    LocalScheduler,
    OAuth1Credentials,
    Query,
    RateLimit,
    ServerRefusedError,
    UsageError,
)
from tests.independent.server import Asked, Reply, Send, Server
from tests.independent.test_faults import SHORT, BadDay
from tests.support.independent_requests import (
    AMPLE,
    APP_ONLY,
    BY_TWEET,
    OAUTH,
    account_adds_up,
    client_of,
    mixed_world,
    random_ids,
)
from tests.support.raw_http import Exchange, RawServer, plain

FAVORITES = Query(TOTALS, engagement_types=["favorites"], groupings=BY_TWEET)
MOST = 2**63 - 1


# Inputs


@pytest.mark.parametrize(
    "bad",
    [
        True, False, 1.0, 1.7e18, float("nan"), b"123", None, Fraction(5), ("1",), ["1"], {}, Exception,
        0, -1, 2**63, 10**5000, "", " ", "0", "007", " 123", "123 ", "123\n", "\ufeff123", "1_000", "+5", "-5", "1,2", "12a",
        "１２３", "١٢٣", "1e5", "9223372036854775808", "9" * 5000, "null", "123\x00", "1.0",
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) or value < 10**20 else "huge",
)  # fmt: skip
async def test_what_is_no_tweet_id_is_refused_with_its_place_before_any_request(bad: Any) -> None:
    async with Server() as server, client_of(server) as client:
        with pytest.raises(UsageError, match=r"tweet_ids\[3\]") as caught:
            await client.totals(["1", 2, "3", bad], engagement_types=["favorites"], groupings=BY_TWEET)
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) < 400
    assert server.arrivals == []


@pytest.mark.parametrize("bad", ["123456", b"123", 123, None, 1.5, Exception], ids=repr)
async def test_what_is_no_list_of_ids_is_refused(bad: Any) -> None:
    async with Server() as server, client_of(server) as client:
        with pytest.raises(UsageError, match="tweet_ids"):
            await client.totals(bad, engagement_types=["favorites"], groupings=BY_TWEET)
    assert server.arrivals == []


def forms_of_input(ids: list[str]) -> list[Any]:
    async def one_by_one() -> AsyncIterator[str]:
        for i in ids:
            await asyncio.sleep(0)
            yield i

    class Sequencelike:
        def __len__(self) -> int:
            return len(ids)

        def __getitem__(self, at: int) -> str:
            return ids[at]

        def __iter__(self) -> Iterator[str]:
            return iter(ids)

    return [
        list(ids),
        tuple(ids),
        dict.fromkeys(ids),
        dict.fromkeys(ids).keys(),
        iter(ids),
        (i for i in ids),
        map(int, ids),
        one_by_one(),
        Sequencelike(),
        [*ids, *map(int, reversed(ids))],
    ]


@pytest.mark.parametrize("count", [1, 249, 250, 251, 777])
@pytest.mark.parametrize("form", range(10))
async def test_every_form_of_input_gives_the_same_result(count: int, form: int) -> None:
    ids = [*random_ids(count - 1, count), str(MOST)]
    async with Server() as server, client_of(server, concurrency=3) as client:
        given = forms_of_input(ids)[form]
        result = await client.totals(given, engagement_types=["favorites"], groupings=BY_TWEET)
    account_adds_up(result, ids)
    assert result.groupings["by_tweet"] == {i: {"favorites": server.world.value(i, "favorites")} for i in ids}
    assert [len(asked.tweet_ids) for asked in server.asked].count(250) >= count // 250
    assert len(server.arrivals) == -(-count // 250)


@pytest.mark.parametrize(
    "empty", [[], (), set(), iter([]), {}, iter(dict[str, int]())], ids=lambda value: type(value).__name__
)
async def test_no_ids_are_no_request_and_an_empty_result(empty: Any) -> None:
    async with Server() as server, client_of(server) as client:
        result = await client.totals(empty, engagement_types=["favorites"], groupings=BY_TWEET)
    assert server.arrivals == []
    assert result.groupings == {"by_tweet": {}}
    assert result.to_response() == {"by_tweet": {}}
    assert sum(result.outcomes.values()) == 0
    assert [*result.rows("by_tweet")] == []
    assert result.to_arrow("by_tweet").num_rows == 0
    assert (result.start, result.end, result.windows) == (None, None, ())


class SourceBrokeError(Exception):
    pass


@pytest.mark.parametrize(
    "error", [SourceBrokeError("disk gone"), asyncio.CancelledError(), KeyError("x"), GeneratorExit()]
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("good", [0, 10, 250, 260, 3000])
async def test_a_source_that_breaks_is_never_taken_for_its_end(error: BaseException, is_async: bool, good: int) -> None:
    ids = random_ids(good, 1)

    def breaking() -> Iterator[str]:
        yield from ids
        raise error

    async def breaking_async() -> AsyncIterator[str]:
        for i in ids:
            yield i
        raise error

    before = asyncio.all_tasks()
    async with Server() as server, client_of(server, concurrency=4) as client:
        with pytest.raises((type(error), EngagementError)):
            await client.totals(
                breaking_async() if is_async else breaking(), engagement_types=["favorites"], groupings=BY_TWEET
            )
        assert client.status().in_flight == 0
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    assert {task for task in asyncio.all_tasks() - before if "_serve" not in repr(task)} == set()


async def test_a_bad_id_in_the_middle_of_a_generator_is_an_error_with_its_place() -> None:
    async with Server() as server, client_of(server) as client:
        with pytest.raises(UsageError, match=r"tweet_ids\[600\]"):
            await client.totals(
                (str(n + 1) if n != 600 else "x" for n in range(2000)),
                engagement_types=["favorites"],
                groupings=BY_TWEET,
            )


async def test_a_source_is_read_lazily() -> None:
    taken = 0

    def counting() -> Iterator[int]:
        nonlocal taken
        for number in range(1, 1_000_001):
            taken = number
            yield number

    async with Server() as server, client_of(server, concurrency=2) as client:
        async with client.stream(FAVORITES, counting()) as answers:
            async for _ in answers:
                break
        assert taken <= 250 * 12


# Streams


async def test_a_stream_gives_each_batch_once_with_all_of_its_ids() -> None:
    ids = random_ids(5_000, 3)
    world = mixed_world(ids, 3)
    numbers: list[int] = []
    told: list[str] = []
    async with Server(world) as server, client_of(server) as client:
        query = Query(TOTALS, engagement_types=["favorites", "impressions"], groupings=BY_TWEET)
        async with client.stream(query, ids) as answers:
            async for answer in answers:
                numbers.append(answer.batch_number)
                told += answer.tweet_ids
                assert answer.tweet_ids == tuple(ids[answer.batch_number * 250 : answer.batch_number * 250 + 250])
    assert sorted(numbers) == list(range(20))
    assert sorted(told) == sorted(ids)


async def break_within(stream: AnswerStream) -> None:
    async with stream as answers:
        async for _ in answers:
            raise SourceBrokeError


@pytest.mark.virtual_time
async def test_a_stream_left_early_leaves_nothing_behind() -> None:
    limit = RateLimit(50, period=10)
    scheduler = LocalScheduler(limit)
    before = asyncio.all_tasks()
    draw = random.Random(2)
    async with Server(latency=lambda: draw.random()) as server:
        async with client_of(server, rate_limit=None, scheduler=scheduler, concurrency=6, timeouts=SHORT) as client:
            for wanted in (1, 2, 5, 9):
                taken = 0
                async with client.stream(FAVORITES, iter(random_ids(5_000, wanted))) as answers:
                    async for _ in answers:
                        taken += 1
                        if taken == wanted:
                            break
                assert taken == wanted
                assert client.status().in_flight == 0
            with pytest.raises(SourceBrokeError):
                await break_within(client.stream(FAVORITES, random_ids(2_000, 1)))
            await asyncio.sleep(30)
            assert scheduler.available(limit) == 50
            assert len(asyncio.all_tasks() - before) <= 1 + server.open_connections
        await asyncio.sleep(1)
        assert server.open_connections == 0
    assert asyncio.all_tasks() == before


async def test_a_source_is_closed_when_its_stream_is_left() -> None:
    closed: list[str] = []

    async def ids() -> AsyncIterator[int]:
        try:
            for n in range(1, 10**6):
                yield n
        finally:
            closed.append("async")

    async with Server() as server, client_of(server) as client:
        async with client.stream(FAVORITES, ids()) as answers:
            async for _ in answers:
                break
        gc.collect()
        await asyncio.sleep(0.01)
    assert closed == ["async"]


@pytest.mark.virtual_time
async def test_a_slow_consumer_holds_the_workers_back() -> None:
    async with (
        Server() as server,
        client_of(server, concurrency=4) as client,
        client.stream(FAVORITES, iter(range(1, 10**6))) as answers,
    ):
        async for _ in answers:
            await asyncio.sleep(100)
            break
    assert len(server.arrivals) <= 4 * 3


# Cancellation


@pytest.mark.virtual_time
async def test_a_call_cancelled_at_any_step_leaves_no_task_no_connection_and_no_token() -> None:
    limit = RateLimit(100_000, period=5)
    scheduler = LocalScheduler(limit)
    ids = random_ids(3_000, 1)
    world = mixed_world(ids, 1, bad_share=0.02)
    draw = random.Random(3)
    before = asyncio.all_tasks()
    async with Server(world, latency=lambda: 0.01 * draw.random()) as server:
        server.breaking = BadDay(server, 0.2, 1)
        async with client_of(server, rate_limit=None, scheduler=scheduler, concurrency=5, timeouts=SHORT) as client:
            for steps in range(400):
                call = asyncio.create_task(
                    client.totals(ids, engagement_types=["favorites", "impressions"], groupings=BY_TWEET)
                )
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                if steps % 3 == 0:  # somebody who is impatient
                    await asyncio.sleep(0)
                    call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            for _ in range(3):
                await asyncio.sleep(0)
            assert client.status().in_flight == 0
            await asyncio.sleep(600)
            server.breaking = None
            result = await client.totals(ids, engagement_types=["favorites"], groupings={"g": ["tweet.id"]})
            account_adds_up(result, ids)
            await asyncio.sleep(60)
            assert scheduler.available(limit) == limit.requests
        await asyncio.sleep(1)
        assert server.open_connections == 0
    assert asyncio.all_tasks() == before


async def test_a_timeout_around_a_call_is_a_timeout() -> None:
    async with Server(latency=lambda: 5.0) as server, client_of(server) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
        assert client.status().in_flight == 0


# Secrets


def told_by(error: BaseException) -> str:
    """Everything that a curious logger prints of an error: locals of all frames, causes and contexts."""
    parts: list[str] = []
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += traceback.TracebackException.from_exception(one, capture_locals=True).format()
        parts += [repr(one), str(one), repr(one.args), repr(vars(one))]
        todo += [one.__cause__, one.__context__]
    return "".join(parts)


def self_signed(folder: Path, *, host: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS context with a certificate that only who holds its file trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(IPv4Address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


async def one_favorite(exchange: Exchange) -> None:
    await exchange.send(plain(b'{"by_tweet":{"20":{"favorites":"7"}}}'))


@pytest.mark.parametrize("credentials", [OAUTH, APP_ONLY], ids=["oauth", "bearer"])
@pytest.mark.parametrize("host", ["localhost", "elsewhere.test"])
async def test_a_certificate_that_is_not_trusted_is_a_clear_error_and_tells_no_secret(
    host: str, credentials: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server_side, path = self_signed(tmp_path, host=host)
    trusting = ssl.create_default_context(cafile=str(path)) if host != "localhost" else None  # the host is wrong still
    async with (
        RawServer(one_favorite, tls=server_side) as server,
        EngagementClient(credentials, rate_limit=AMPLE, base_url=server.url, tls=trusting) as client,
    ):
        with pytest.raises(ServerRefusedError, match="certificate") as caught:
            await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
    assert server.requests == 0
    told = told_by(caught.value) + caplog.text
    assert "canary" not in told


async def test_a_certificate_of_ones_own_ca_is_taken(tmp_path: Path) -> None:
    server_side, path = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(path))
    async with (
        RawServer(one_favorite, tls=server_side) as server,
        EngagementClient(OAUTH, rate_limit=AMPLE, base_url=server.url, tls=trusting) as client,
    ):
        result = await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.groupings == {"by_tweet": {"20": {"favorites": 7}}}


REFUSALS: list[Reply] = [
    Reply(401, {"errors": ["Your account could not be authenticated. Reason: Access token not found"]}),
    Reply(404, None),
    Reply(302, None, {"Location": "https://example.com"}),
    Reply(406, None),
    Reply(400, {"errors": ["no"]}),
    Reply(403, {"errors": ["Forbidden to access metrics: retweets"]}),
    Reply(418, None),
]


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.status)
@pytest.mark.parametrize("credentials", [OAUTH, APP_ONLY], ids=["oauth", "bearer"])
async def test_no_error_log_or_object_tells_a_secret(
    reply: Reply, credentials: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    ids = random_ids(2_000, 1)
    async with Server(respond=lambda asked: reply) as server, client_of(server, credentials=credentials) as client:
        answers = client.stream(FAVORITES, ids)
        with pytest.raises(EngagementError) as caught:
            await break_within(answers)
        objects: list[Any] = [client, answers, credentials, client.status()]
        for thing in list(objects):
            objects += list(getattr(thing, "__dict__", {}).values())
        told = told_by(caught.value) + caplog.text + "".join(capsys.readouterr())
        told += "".join(f"{thing!r}{thing}{getattr(thing, '__dict__', '')}" for thing in objects)
    assert "canary" not in told


@pytest.mark.parametrize("credentials", [OAUTH, APP_ONLY], ids=["oauth", "bearer"])
@pytest.mark.virtual_time
async def test_the_reason_of_a_failed_tweet_tells_no_secret(credentials: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def echoing(asked: Asked, reply: Reply, send: Send) -> bool:
        return False  # closes

    async with (
        Server(breaking=echoing) as server,
        client_of(server, credentials=credentials, outage_timeout_s=30, timeouts=SHORT) as client,
    ):
        result = await client.totals(random_ids(600, 1), engagement_types=["favorites"], groupings=BY_TWEET)
        assert len(result.failed_tweet_ids) == 600
        assert "canary" not in json.dumps(result.failed_tweet_ids) + repr(result) + repr(vars(result))

    assert "canary" not in caplog.text


@pytest.mark.parametrize("credentials", [OAUTH, APP_ONLY], ids=["oauth", "bearer"])
def test_credentials_are_neither_shown_nor_pickled_nor_copied(credentials: Any) -> None:
    for shown in (repr(credentials), str(credentials), f"{credentials}", f"{credentials!r:>80}", repr([credentials])):
        assert "canary" not in shown
    assert "canary" not in repr(credentials.signer("https://data-api.twitter.com/insights/engagement/totals"))
    for way in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as caught:
            way(credentials)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OAuth1Credentials("", "b", "c", "d"),
        lambda: OAuth1Credentials("a", "b\n", "c", "d"),
        lambda: OAuth1Credentials("a", "b", "ü", "d"),
        lambda: OAuth1Credentials("a", "b", None, "d"),  # type: ignore[arg-type]
        lambda: BearerCredentials("Bearer\tx"),
        lambda: BearerCredentials(" "),
    ],
)
def test_unusable_credentials_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        make()


# Set-up


@pytest.mark.parametrize(
    "options",
    [
        {"rate_limit": 300},
        {"rate_limit": "300"},
        {"rate_limit": None},
        {"rate_limit": []},
        {"rate_limit": [300]},
        {"rate_limit": {"requests": 300}},
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"concurrency": "16"},
        {"outage_timeout_s": 0},
        {"outage_timeout_s": float("nan")},
        {"base_url": "http://data-api.twitter.com"},
        {"base_url": "https://user:secret@data-api.twitter.com"},
        {"base_url": "data-api.twitter.com"},
        {"base_url": "ftp://data-api.twitter.com"},
        {"base_url": "https://data-api.twitter.com/?x=1"},
        {"base_url": ""},
        {"base_url": None},
        {"base_url": "https://[::1"},
        {"credentials": "a token"},
        {"credentials": None},
    ],
    ids=str,
)
def test_a_wrong_set_up_is_a_usage_error_when_the_client_is_made(options: dict[str, Any]) -> None:
    given = {"credentials": OAUTH, "rate_limit": AMPLE, **options}
    with pytest.raises(UsageError) as caught:
        EngagementClient(given.pop("credentials"), **given)
    assert "secret@" not in str(caught.value)


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    client = EngagementClient(OAUTH, rate_limit=AMPLE)
    for _ in range(2):
        with pytest.raises(UsageError, match="async with"):
            await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
        async with Server() as server, client_of(server) as client:
            pass


async def test_wrong_credentials_cost_at_most_one_request_a_worker() -> None:
    wrong = OAuth1Credentials("canary-wrong", "b", "wrong", "d")
    async with Server() as server, client_of(server, credentials=wrong, concurrency=7) as client:
        with pytest.raises(AuthError, match="Access token not found"):
            await client.totals(random_ids(20_000, 1), engagement_types=["favorites"], groupings=BY_TWEET)
    assert 1 <= len(server.arrivals) <= 7
