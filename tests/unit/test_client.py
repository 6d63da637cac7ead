"""The client: time limits of calls, closing, proxies, other event loops, addresses that are dead."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    TOTALS,
    AnswerStream,
    BearerCredentials,
    CredentialFile,
    EngagementClient,
    FailedTweetsError,
    Failure,
    FailureKind,
    OAuth1Credentials,
    Proxy,
    ProxyError,
    Query,
    RateLimit,
    ServerRefusedError,
    Timeouts,
    UsageError,
)
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.certificates import server_context, trusting_client
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_http import Exchange, RawServer

HOST = "data-api.invalid"
TYPES, GROUPINGS = ["favorites"], {"by_tweet": ["tweet.id", "engagement.type"]}
IDS = tweet_ids(600, newest_at=1_764_000_000)
MANY = tweet_ids(16 * 250, newest_at=1_764_000_000)
TOKEN = BearerCredentials("token")
SHORT = Timeouts(connect_s=5, read_s=5, total_s=5)
LONG = Timeouts(connect_s=3600, read_s=3600, total_s=3600)
OK_BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"


def credentials_of(emulator: Emulator) -> OAuth1Credentials:
    given = emulator.credentials
    return OAuth1Credentials(given.consumer_key, given.consumer_secret, given.access_token, given.access_token_secret)


def client_of(emulator: Emulator, **options: object) -> EngagementClient:
    return EngagementClient(
        credentials_of(emulator),
        base_url=emulator.base_url,
        rate_limit=RateLimit(60_000),
        **options,  # type: ignore[arg-type]
    )


# --- a call that ends in time ---


async def test_a_call_whose_time_is_over_returns_what_came() -> None:
    async with (
        Emulator(requests_per_minute=None, faults={"hang-before-headers": 2}) as emulator,
        client_of(emulator, concurrency=1) as client,
    ):
        result = await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS, timeout=1.0)

    failed = result.failed_tweet_ids
    assert list(failed) in (IDS[250:], IDS)  # on a busy machine nothing may come in time
    assert {reason.kind for reason in failed.values() if isinstance(reason, Failure)} == {FailureKind.TIMEOUT}
    assert sum(result.outcomes.values()) == len(IDS)
    assert set(result.groupings.get("by_tweet", {})) <= set(IDS).difference(failed)
    assert next(iter(failed.values())) == "no answer within 1 s"
    said = f"^{len(failed)} of 600 IDs failed: {len(failed)} x no answer within 1 s$"
    with pytest.raises(FailedTweetsError, match=said) as caught:
        result.raise_for_failed()
    assert caught.value.failed_tweet_ids == failed


async def test_a_call_in_time_is_as_without_a_limit() -> None:
    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
        result = await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS, timeout=60)

    assert result.raise_for_failed() is result
    assert result.notes == ()


async def test_a_source_that_was_not_read_to_its_end_is_told() -> None:
    async def source() -> AsyncIterator[str]:
        for tweet_id in IDS[:250]:
            yield tweet_id
        await asyncio.Event().wait()

    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
        result = await client.totals(source(), engagement_types=TYPES, groupings=GROUPINGS, timeout=1.0)

    assert result.tweet_ids in (IDS[:250], [])
    assert result.notes[-1].startswith("the time was over before tweet_ids was read to its end")


async def test_an_error_of_the_source_stays_its_own() -> None:
    async def source() -> AsyncIterator[str]:
        yield IDS[0]
        raise TimeoutError("of the source")

    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
        with pytest.raises(TimeoutError, match="of the source"):
            await client.totals(source(), engagement_types=TYPES, groupings=GROUPINGS, timeout=60)


async def test_calls_that_share_requests_end_in_time_too() -> None:
    async with (
        Emulator(requests_per_minute=None, faults={"hang-before-headers": 1}) as emulator,
        client_of(emulator, coalesce=0.01) as client,
    ):
        result = await client.totals(IDS[:3], engagement_types=TYPES, groupings=GROUPINGS, timeout=0.5)

    assert list(result.failed_tweet_ids) == IDS[:3]


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("inf")])
async def test_a_time_that_is_none_is_refused(timeout: float) -> None:
    async with EngagementClient(TOKEN, rate_limit=RateLimit(1), base_url="http://127.0.0.1:1") as client:
        with pytest.raises(UsageError, match="timeout is a number of seconds above 0"):
            await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS, timeout=timeout)


# --- closing, and other loops ---


async def test_a_client_is_closed_by_hand_and_a_second_time_for_nothing() -> None:
    async with Emulator(requests_per_minute=None) as emulator:
        client = client_of(emulator)
        await client.aclose()
        await client.__aenter__()
        await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)
        await client.aclose()
        await client.aclose()
        with pytest.raises(UsageError, match="the client is not open"):
            client.status()


@pytest.mark.parametrize("begun", [b"", OK_BEGUN, OK_BEGUN.replace(b"200 OK", b"503 Service Unavailable")])
@pytest.mark.parametrize(("coalesce", "ids", "requests"), [(None, MANY, 16), (None, IDS[:3], 1), (0.01, IDS[:3], 1)])
async def test_a_client_that_is_closed_during_a_call_is_no_outage(
    begun: bytes, coalesce: float | None, ids: list[str], requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    all_began = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(begun)
        if exchange.number == requests:
            all_began.set()
        await asyncio.Event().wait()

    async with RawServer(answer) as server:
        client = EngagementClient(
            TOKEN, rate_limit=RateLimit(60_000), base_url=server.url, coalesce=coalesce, timeouts=LONG
        )
        await client.__aenter__()
        call = asyncio.create_task(client.totals(ids, engagement_types=TYPES, groupings=GROUPINGS))
        await all_began.wait()
        while begun and not client._opened._has_heard:
            await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(UsageError, match="the client was closed while a call was running"):
            await call

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def never() -> AsyncIterator[str]:
    await asyncio.Event().wait()
    yield "1"


@pytest.mark.parametrize("waits_for", ["contract", "ids", "outage"])
async def test_whatever_a_call_waits_for_it_ends_when_its_client_is_closed(waits_for: str) -> None:
    async with Emulator(None, faults=(lambda _: "503") if waits_for == "outage" else None) as emulator:
        limit = RateLimit(2, period=3600) if waits_for == "contract" else RateLimit(60_000)
        client = EngagementClient(
            BearerCredentials(emulator.bearer_token), rate_limit=limit, base_url=emulator.base_url, timeouts=LONG
        )
        await client.__aenter__()
        given: Any = never() if waits_for == "ids" else IDS
        call = asyncio.create_task(client.totals(given, engagement_types=TYPES, groupings=GROUPINGS))
        while waits_for != "ids" and client.status().waiting_for is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(UsageError, match="the client was closed while a call was running"):
            await call


async def test_what_came_before_a_client_was_closed_is_handed_out() -> None:
    query = Query(TOTALS, engagement_types=TYPES, groupings=GROUPINGS)
    came = 0

    async def take(answers: AnswerStream) -> None:
        nonlocal came
        async for answer in answers:
            came += len(answer.tweet_ids)

    async with (
        Emulator(None) as emulator,
        client_of(emulator, concurrency=4) as client,
        client.stream(query, IDS) as whole,
        client.stream(query, MANY) as cut,
    ):
        while whole._workers.are_running or len(cut._delivered) < 4:
            await asyncio.sleep(0)
        await client.aclose()
        await take(whole)
        assert came == len(IDS)
        with pytest.raises(UsageError, match="the client was closed while a call was running"):
            await take(cut)

    assert len(IDS) + 4 * 250 <= came < len(IDS) + len(MANY)


@pytest.mark.parametrize("coalesce", [None, 0.01])
async def test_a_client_of_another_loop_says_so(coalesce: float | None) -> None:
    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator, coalesce=coalesce) as client:
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS))
            except UsageError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "was opened in another event loop" in str(errors[0])
        await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)


# --- where nothing answers ---


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def first_warning(client: EngagementClient, caplog: pytest.LogCaptureFixture) -> tuple[str, str | None]:
    """Return the first warning of a call that goes on, and what the client's status says then."""
    task = asyncio.ensure_future(client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS))
    while not warnings_of(caplog):
        await asyncio.sleep(0.01)
    trouble = client.status().trouble
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return warnings_of(caplog)[0], trouble


async def test_a_name_that_is_not_found_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with EngagementClient(TOKEN, rate_limit=RateLimit(60), base_url="https://data-api.invalid") as client:
        said, trouble = await first_warning(client, caplog)

    assert said.startswith("the name data-api.invalid was not found (")
    assert said.endswith(": still trying")
    assert trouble is not None
    assert said.startswith(trouble)


async def test_a_port_where_nobody_listens_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with EngagementClient(TOKEN, rate_limit=RateLimit(60), base_url=f"http://127.0.0.1:{port}") as client:
        said, _ = await first_warning(client, caplog)

    assert said == f"no connection to 127.0.0.1:{port}: Connection refused: still trying"


async def test_a_firewall_that_drops_everything_is_told_before_the_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """A listener whose backlog is full answers no more."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            address = f"http://127.0.0.1:{port}"
            timeouts = Timeouts(connect_s=100, total_s=200)
            async with EngagementClient(TOKEN, rate_limit=RateLimit(60), base_url=address, timeouts=timeouts) as client:
                said, trouble = await first_warning(client, caplog)
        finally:
            for each in waiting:
                each.close()

    assert trouble == f"no connection to 127.0.0.1:{port} after 1.5 s"
    assert said.startswith(f"{trouble}: still trying")


async def test_an_api_that_answers_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
        await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)
        assert client.status().trouble is None
    assert not warnings_of(caplog)


# --- proxies ---


@pytest.mark.parametrize("has_tls", [False, True], ids=["http", "https"])
async def test_a_proxy_is_gone_through(has_tls: bool) -> None:
    tls = trusting_client(HOST)
    tls.load_verify_locations(cadata=_pem("127.0.0.1"))
    async with Emulator(requests_per_minute=None, tls=server_context(HOST), public_host=HOST) as emulator:
        port = int(emulator.base_url.rpartition(":")[2])
        proxy_tls = server_context("127.0.0.1") if has_tls else None
        with ConnectProxy({HOST: port}, user="me", password="p@ss/ü", tls=proxy_tls) as proxy:
            url = proxy.url.replace("://", "://me:p%40ss%2F%C3%BC@")
            async with client_of(emulator, proxy=url, tls=tls) as client:
                result = await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)

    assert not result.failed_tweet_ids
    assert all(head.startswith(f"CONNECT {HOST}:{port} HTTP/1.1") for head in proxy.heads)
    assert not any("oauth" in head.lower() for head in proxy.heads)
    assert emulator.log.requests == 3


def _pem(host: str) -> str:
    import tempfile

    from tests.support.certificates import write_certificate

    with tempfile.TemporaryDirectory() as folder:
        return write_certificate(host, Path(folder))[0].read_text()


@pytest.mark.parametrize(
    ("refusal", "user", "said"),
    [
        (None, "", r"answered 407 Proxy Authentication Required: it wants credentials\."),
        (None, "you:canary@", r"407 .*: it wants other credentials than those given\."),
        ("403 Forbidden", "", "answered 403 Forbidden: its rules do not allow"),
        ("404 Whatever", "", "answered 404 Not Found: its rules"),
    ],
)
async def test_a_proxy_that_refuses_stops_the_run(refusal: str | None, user: str, said: str) -> None:
    with ConnectProxy({}, user="me", password="canary", refusal=refusal) as proxy:
        url = proxy.url.replace("://", f"://{user}")
        async with EngagementClient(TOKEN, rate_limit=RateLimit(60), base_url=f"https://{HOST}", proxy=url) as client:
            with pytest.raises(ProxyError, match=said) as caught:
                await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)
            assert client.status().requests == 0, "the contract paid for what never reached the API"

    assert caught.value.__context__ is None
    assert "canary" not in f"{caught.value!r} {vars(caught.value)}"
    assert caught.value.status == int((refusal or "407 ").split()[0])


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("502 Bad Gateway", "answered 502 Bad Gateway: it has no connection to the API"),
        ("503 Service Unavailable", "answered 503 Service Unavailable: it has no connection"),
        ("429 Too Many Requests", "answered 429 Too Many Requests: it has no connection"),
        ("", "broke off, or its answer was no HTTP"),
        ("nonsense", "broke off, or its answer was no HTTP|answered"),
    ],
)
async def test_a_proxy_that_fails_is_waited_for(refusal: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with ConnectProxy({}, refusal=refusal) as proxy:
        async with EngagementClient(
            TOKEN, rate_limit=RateLimit(60), base_url=f"https://{HOST}", proxy=Proxy(proxy.url)
        ) as client:
            warning, _ = await first_warning(client, caplog)

    assert f"the proxy {proxy.address} " in warning
    assert any(part in warning for part in said.split("|"))


async def test_a_proxy_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with EngagementClient(
        TOKEN, rate_limit=RateLimit(60), base_url=f"https://{HOST}", proxy="http://127.0.0.1:1"
    ) as client:
        warning, _ = await first_warning(client, caplog)

    assert warning == "no connection to the proxy 127.0.0.1:1: Connection refused: still trying"


@pytest.mark.parametrize("of_proxy", [False, True])
async def test_a_certificate_names_whose_it_is(of_proxy: bool) -> None:
    async with Emulator(requests_per_minute=None, tls=server_context(HOST), public_host=HOST) as emulator:
        port = int(emulator.base_url.rpartition(":")[2])
        # asyncio of Python 3.11 stumbles over a bad certificate within TLS, and says so itself.
        with ConnectProxy({HOST: port}, tls=server_context("127.0.0.1") if of_proxy else None) as proxy:
            tls = trusting_client(HOST if of_proxy else "127.0.0.1")
            async with client_of(emulator, proxy=proxy.url, tls=tls) as client:
                with pytest.raises(ServerRefusedError) as caught:
                    await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)

    whose = "127.0.0.1" if of_proxy else f"({HOST}|the API)"
    assert re.match(f"the certificate of {whose} cannot be trusted: self-signed certificate", str(caught.value))
    assert "SSL_CERT_FILE" in str(caught.value)
    assert emulator.log.requests == 0


def test_a_proxy_is_for_https_alone() -> None:
    with pytest.raises(UsageError, match="proxy is for https alone"):
        EngagementClient(TOKEN, rate_limit=RateLimit(1), base_url="http://127.0.0.1:1", proxy="http://proxy:1")


async def test_no_variable_of_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy({}) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with (
            Emulator(requests_per_minute=None, tls=server_context("127.0.0.1")) as emulator,
            client_of(emulator, tls=trusting_client("127.0.0.1")) as client,
        ):
            await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)
    assert proxy.heads == []


async def test_no_netrc_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password canary\nmachine {HOST} login me password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ConnectProxy({}, refusal="403 Forbidden") as proxy:
        async with EngagementClient(
            TOKEN, rate_limit=RateLimit(60), base_url=f"https://{HOST}", proxy=proxy.url
        ) as client:
            with pytest.raises(ProxyError):
                await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)

    assert len(proxy.heads) == 1
    assert "authorization" not in proxy.heads[0].lower()


# --- plain http ---


@pytest.mark.parametrize("allowed", ["emulator", ["other", "emulator"], ("emulator",)])
def test_http_to_a_named_host_is_allowed_by_name(allowed: str | list[str]) -> None:
    EngagementClient(TOKEN, rate_limit=RateLimit(1), base_url="http://emulator:8080", allow_http_to=allowed)


@pytest.mark.parametrize("allowed", [(), "other", "*", ["http://emulator"], [3], [""]])
def test_http_to_another_host_is_refused(allowed: str) -> None:
    with pytest.raises(UsageError, match="allow_http_to"):
        EngagementClient(TOKEN, rate_limit=RateLimit(1), base_url="http://emulator:8080", allow_http_to=allowed)


# --- too few files ---


async def test_requests_wait_for_each_other_where_no_more_files_may_be_opened(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import aiohappyeyeballs

    connect: Callable[..., Awaitable[socket.socket]] = aiohappyeyeballs.start_connection
    refused = 2

    async def start_connection(*args: object, **kwargs: object) -> socket.socket:
        nonlocal refused
        if refused:
            refused -= 1
            raise OSError(24, "Too many open files")
        return await connect(*args, **kwargs)

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_connection)
    async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
        result = await client.totals(IDS[:1], engagement_types=TYPES, groupings=GROUPINGS)

    assert not result.failed_tweet_ids
    (warning,) = warnings_of(caplog)
    assert warning.startswith("this process may open no more files (see ulimit -n)")


# --- the log of requests ---


async def test_each_request_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="engagement_async.requests")
    answers = [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"]

    async def answer(exchange: Exchange) -> None:
        await exchange.send(answers[exchange.number - 1])

    async with (
        RawServer(answer) as server,
        EngagementClient(
            BearerCredentials("canary"), rate_limit=RateLimit(60_000), base_url=server.url, timeouts=SHORT
        ) as client,
    ):
        with pytest.raises(ServerRefusedError):
            await client.totals(IDS[:2], engagement_types=TYPES, groupings=GROUPINGS)

    lines = [record.getMessage() for record in caplog.records if record.name == "engagement_async.requests"]
    assert [line.rpartition(" seconds=")[0] for line in lines] == [
        "request endpoint=totals batch=0 attempt=1 ids=2 status=503",
        "request endpoint=totals batch=0 attempt=2 ids=2 status=404",
    ]
    assert "canary" not in caplog.text


async def test_tweets_of_many_owners_keep_their_owner_when_the_time_is_over() -> None:
    async with Emulator(
        requests_per_minute=None, owners=3, unavailable_fraction=0, faults={"hang-before-headers": 1}
    ) as emulator:
        given = emulator.credentials
        store = {
            owner.handle: OAuth1Credentials(
                given.consumer_key, given.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in emulator.owners
        }
        tweets = {owner.handle: emulator.tweet_ids(owner.handle, 300) for owner in emulator.owners}
        async with EngagementClient(
            store, base_url=emulator.base_url, rate_limit=RateLimit(60_000), concurrency=2
        ) as client:
            result = await client.totals(tweets, engagement_types=TYPES, groupings=GROUPINGS, timeout=0.5)

    assert result.outcomes["failed"] == 900
    assert result.tweet_owners == {tweet_id: owner for owner, ids in tweets.items() for tweet_id in ids}


async def test_a_client_that_could_not_be_opened_can_be_opened_later(tmp_path: Path) -> None:
    path = tmp_path / "owners.csv"
    client = EngagementClient(
        CredentialFile(path, consumer_key="key", consumer_secret="secret"), rate_limit=RateLimit(300)
    )
    with pytest.raises(UsageError, match=r"owners\.csv"):
        async with client:
            pass

    path.write_text("owner,access_token,access_token_secret\nacme,token,secret\n")

    async with client:
        assert client.status().requests == 0
