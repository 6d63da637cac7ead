"""The running application over real sockets: the order of the checks, each refusal, the documented examples by curl."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import shutil
import subprocess
import time
import zlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
import pytest
from multidict import CIMultiDict

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.emulator import EmulatorCredentials, Interpretation
from tests.support.emulator_requests import (
    BY_TWEET,
    IDS,
    make_emulator,
    request_body,
    send,
    sign,
    sign_by_hand,
)

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_answer_is_the_expected_one_in_strings(session: aiohttp.ClientSession, endpoint: str) -> None:
    groupings = {"a": ["tweet.id", "engagement.type"], "b": ["engagement.type"]}
    async with make_emulator(unavailable=IDS[:1], unavailable_fraction=0) as emulator:
        status, body, headers = await send(
            session, emulator, endpoint, request_body(IDS, ["favorites", "replies"], groupings)
        )
        expected = emulator.expected(endpoint, IDS, ["favorites", "replies"], groupings)

    assert status == 200
    assert headers["content-type"] == "application/json;charset=utf-8"
    assert body["unavailable_tweet_ids"] == IDS[:1]
    assert body == texts(expected)


def texts(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: texts(value) for key, value in node.items()}
    return str(node) if isinstance(node, int) else node


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "deflate, br", "gzip; q=0.000"])
async def test_406_without_gzip(session: aiohttp.ClientSession, accepted: str) -> None:
    async with make_emulator() as emulator:
        status, body, headers = await send(session, emulator, "totals", GOOD, headers={"Accept-Encoding": accepted})

    assert status == 406
    assert body == {
        "errors": [
            "This request requires gzip compression. "
            "Retry the request after setting 'Accept-Encoding' header in the request to 'gzip'."
        ]
    }
    assert "content-encoding" not in headers


@pytest.mark.parametrize("accepted", ["gzip", "GZIP", "deflate, gzip;q=0.5"])
async def test_gzip_in_any_form_passes(session: aiohttp.ClientSession, accepted: str) -> None:
    async with make_emulator() as emulator:
        assert (await send(session, emulator, "totals", GOOD, headers={"Accept-Encoding": accepted}))[0] == 200


async def test_404_has_the_documented_shape(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, _ = await send(session, emulator, "total", GOOD)

    assert (status, body) == (404, {"errors": [{"message": "Sorry, that page does not exist", "code": 34}]})


async def test_only_post_is_taken(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, headers = await send(session, emulator, "totals", GOOD, method="PUT")

    assert (status, headers["allow"]) == (405, "POST")
    assert body == {"errors": ["PUT is not supported, use POST."]}


async def test_401_of_an_unknown_token(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, headers = await send(
            session, emulator, "totals", GOOD, headers={"Authorization": "Bearer somebody"}
        )

    assert status == 401
    assert body == {"errors": ["Your account could not be authenticated. Reason: Access token not found"]}
    assert "x-per-minute-limit" not in headers


@pytest.mark.parametrize("endpoint", ["28hr", "historical"])
async def test_bearer_is_for_totals_alone(session: aiohttp.ClientSession, endpoint: str) -> None:
    async with make_emulator() as emulator:
        status, body, _ = await send(
            session, emulator, endpoint, request_body(IDS, ["favorites"], BY_TWEET), bearer=True
        )

    assert status == 401
    assert body == {"errors": ["Your account could not be authenticated. Reason: OAuth 1.0a user context is required"]}


async def test_owner_metrics_with_bearer(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, _ = await send(session, emulator, "totals", GOOD, bearer=True)

    assert (status, body) == (403, {"errors": ["Forbidden to access metrics: impressions"]})


async def test_a_breach_of_the_contract_is_counted(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, _ = await send(session, emulator, "totals", request_body(IDS * 26, ["favorites"], BY_TWEET))

        assert status == 400
        assert body == {"errors": ["tweet_ids must hold 1 to 250 Tweet IDs, not 260."]}
        assert emulator.log.refusals == {body["errors"][0]: 1}
        assert emulator.log.statuses == {400: 1}


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"\x1f\x8bxxxx"),
        ("gzip", b"{}"),
        ("deflate", b"not deflated"),
    ],
)
async def test_a_compressed_body_that_is_none_is_refused(
    session: aiohttp.ClientSession, encoding: str, data: bytes
) -> None:
    async with make_emulator(None) as emulator:
        encoded = {"Content-Encoding": encoding}
        status, body, headers = await send(session, emulator, "totals", data, bearer=True, headers=encoded)
        again, _, _ = await send(session, emulator, "totals", GOOD)

        assert (status, body) == (400, {"errors": ["The request body is not what its Content-Encoding says."]})
        assert headers["content-type"] == "application/json;charset=utf-8"
        assert headers["connection"] == "close"
        assert [entry.status for entry in emulator.log] == [400, 200]
        assert again == 200


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read(session: aiohttp.ClientSession, encoding: str, encode: Any) -> None:
    async with make_emulator() as emulator:
        data = encode(orjson.dumps(GOOD))
        status, body, _ = await send(session, emulator, "totals", data, headers={"Content-Encoding": encoding})

    assert status == 200
    assert "by_tweet" in body


async def test_a_huge_body_is_refused(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        status, body, _ = await send(session, emulator, "totals", b" " * (1 << 19))

    assert (status, body) == (413, {"errors": ["The request body is too large."]})


async def test_a_body_is_signed_for_its_own_nonce(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        header = sign(f"{emulator.base_url}/insights/engagement/totals", emulator.credentials)
        first, _, _ = await send(session, emulator, "totals", GOOD, headers={"Authorization": header})
        second, body, _ = await send(session, emulator, "totals", GOOD, headers={"Authorization": header})

        assert (first, second) == (200, 401)
        assert body["errors"] == ["Your account could not be authenticated. Reason: Nonce already used"]
        assert [entry.nonce for entry in emulator.log] == [next(iter(emulator.log)).nonce, None]


async def test_the_body_hash_is_checked(session: aiohttp.ClientSession) -> None:
    data = orjson.dumps(GOOD)
    digest = base64.b64encode(hashlib.sha1(data).digest()).decode()
    async with make_emulator(credentials=EmulatorCredentials.new(3)) as emulator:
        statuses = {}
        for given in (digest, digest.swapcase()):
            header = sign_by_hand(
                f"{emulator.base_url}/insights/engagement/totals",
                emulator.credentials,
                token=emulator.access_token,
                token_secret=emulator.access_token_secret,
                timestamp=str(int(time.time())),
                nonce=given,
                body_hash=given,
            )
            status, body, _ = await send(session, emulator, "totals", data, headers={"Authorization": header})
            statuses[status] = body.get("errors")

    assert statuses == {200: None, 401: ["Your account could not be authenticated. Reason: Invalid body hash"]}


async def test_a_query_string_is_signed(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        url = f"{emulator.base_url}/insights/engagement/totals"
        statuses = []
        for signed in (f"{url}?a=b&c=%2B", url):
            header = sign(signed, emulator.credentials)
            status, _, _ = await send(session, emulator, "totals?a=b&c=%2B", GOOD, headers={"Authorization": header})
            statuses.append(status)

    assert statuses == [200, 401]


@pytest.mark.parametrize("bearer", [True, False])
async def test_a_target_in_absolute_form(bearer: bool) -> None:
    """As a client sends it that has this server as its proxy; the Host header counts for nothing then."""
    data = orjson.dumps(request_body(IDS, ["favorites"], BY_TWEET))
    async with make_emulator() as emulator:
        url = "http://data-api.example/insights/engagement/totals"
        authorization = f"Bearer {emulator.bearer_token}" if bearer else sign(url, emulator.credentials)
        reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
        writer.write(
            f"POST {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\nAccept-Encoding: gzip\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
            + data
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_two_authorization_headers_are_refused(session: aiohttp.ClientSession) -> None:
    async with make_emulator() as emulator:
        url = f"{emulator.base_url}/insights/engagement/totals"
        bearer = ("Authorization", f"Bearer {emulator.bearer_token}")
        headers = CIMultiDict([bearer, bearer, ("Content-Type", "application/json")])
        async with session.post(url, data=orjson.dumps(GOOD), headers=headers) as response:
            # aiohttp's C parser refuses them by itself, with a page of its own.
            assert response.status in (400, 401)


@pytest.mark.parametrize(
    ("endpoint", "metric", "status", "text"),
    [
        ("totals", "favorites", 200, None),
        ("totals", "impressions", 403, "Forbidden to access metrics: impressions"),
        (
            "28hr",
            "favorites",
            401,
            "Your account could not be authenticated. Reason: OAuth 1.0a user context is required",
        ),
    ],
)
async def test_consumer_key_and_secret_alone(
    session: aiohttp.ClientSession, endpoint: str, metric: str, status: int, text: str | None
) -> None:
    async with make_emulator(unavailable_fraction=0, forbidden_fraction=1) as emulator:
        url = f"{emulator.base_url}/insights/engagement/{endpoint}"
        header = sign(url, emulator.credentials, resource_owner_key=None, resource_owner_secret="")
        found, body, _ = await send(
            session, emulator, endpoint, request_body(IDS, [metric], BY_TWEET), headers={"Authorization": header}
        )

        assert (found, body.get("errors")) == (status, text and [text])
        assert [entry.owner for entry in emulator.log] == [None]


async def test_an_end_in_the_future(session: aiohttp.ClientSession) -> None:
    body = request_body(IDS, ["impressions"], {"g": ["engagement.day"]}, start="2026-11-20", end="2026-12-05")
    async with make_emulator() as emulator:
        strict = await send(session, emulator, "historical", body)
        emulator.set_interpretation(Interpretation.named("future-end"))
        lenient = await send(session, emulator, "historical", body)

    assert strict[:2] == (400, {"errors": ["end must not be in the future."]})
    assert lenient[0] == 200
    assert {lenient[1]["g"][f"2026-11-{day}"] for day in range(22, 31)} == {"0"}


@pytest.mark.parametrize("names", [(), ("older-clients",)])
async def test_what_older_clients_send(session: aiohttp.ClientSession, names: tuple[str, ...]) -> None:
    async with make_emulator(interpretation=Interpretation.named(*names)) as emulator:
        favorites = request_body(IDS, ["favorites"], BY_TWEET)
        url = f"{emulator.base_url}/insights/engagement/totals"
        form = orjson.dumps(GOOD).decode()
        signed_form = {
            "Authorization": sign(url, emulator.credentials, body=urlencode({form: ""})),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        requests: dict[str, tuple[str, Any, dict[str, Any]]] = {
            "number IDs": ("totals", {**GOOD, "tweet_ids": [int(IDS[0])]}, {}),
            "any encoding": ("totals", GOOD, {"headers": {"Accept-Encoding": "*"}}),
            "Bearer on historical": ("historical", favorites, {"bearer": True}),
            "signed form": ("totals", GOOD, {"headers": signed_form}),
        }
        statuses = {}
        for what, (endpoint, body, options) in requests.items():
            statuses[what] = (await send(session, emulator, endpoint, body, **options))[0]

    assert statuses == dict(zip(requests, (200,) * 4 if names else (400, 406, 401, 401), strict=True))


async def test_429_and_its_headers(session: aiohttp.ClientSession) -> None:
    async with make_emulator(requests_per_minute=2) as emulator:
        answers = [await send(session, emulator, "totals", GOOD) for _ in range(3)]

        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert [headers["x-per-minute-remaining"] for _, _, headers in answers] == ["1", "0", "0"]
        assert answers[2][1] == {"errors": ["You have exceeded your rate limit of 2 requests per minute."]}
        reset = int(answers[2][2]["x-per-minute-reset"]) - time.time()
        assert 50 < reset <= 61
        assert emulator.peak() == 3


async def test_a_limit_per_second_beside_it(session: aiohttp.ClientSession) -> None:
    async with make_emulator(requests_per_minute=100, requests_per_second=1) as emulator:
        await send(session, emulator, "totals", GOOD)
        status, body, headers = await send(session, emulator, "totals", GOOD)

    assert headers["x-per-second-limit"] == "1"
    assert headers["x-per-minute-remaining"] in ("98", "99")
    assert (status == 200) or body == {"errors": ["You have exceeded your rate limit of 1 requests per second."]}


async def test_both_families_of_rate_headers_come_by_default(session: aiohttp.ClientSession) -> None:
    async with make_emulator(requests_per_minute=50) as emulator:
        answers = [await send(session, emulator, "totals", GOOD) for _ in range(2)]

    for number, (status, _, headers) in enumerate(answers, 1):
        assert status == 200
        assert headers["x-per-minute-limit"] == headers["x-per-second-limit"] == "50"
        assert headers["x-per-minute-remaining"] == str(50 - number)
        assert 50 - number <= int(headers["x-per-second-remaining"]) <= 49
        assert int(headers["x-per-second-reset"]) <= int(headers["x-per-minute-reset"])


async def test_a_skewed_clock(session: aiohttp.ClientSession) -> None:
    async with make_emulator(clock_skew_s=600) as emulator:
        url = f"{emulator.base_url}/insights/engagement/totals"
        status, body, headers = await send(session, emulator, "totals", GOOD)
        date = parsedate_to_datetime(headers["date"]).timestamp()
        right = sign(url, emulator.credentials, timestamp=str(int(date)))
        corrected, _, _ = await send(session, emulator, "totals", GOOD, headers={"Authorization": right})

    assert (status, body["errors"]) == (
        401,
        ["Your account could not be authenticated. Reason: Timestamp out of bounds"],
    )
    assert 500 < date - time.time() < 700
    assert corrected == 200


PUBLIC = """{
    "tweet_ids": ["1070059276213702656","1021817816134156288","1067094924124872705"],
    "engagement_types": ["favorites","retweets","replies","quote_tweets","video_views"],
    "groupings": {"perTweetMetricsUnowned": {"group_by": ["tweet.id", "engagement.type"]}}
}"""


OWNED = """{
    "tweet_ids": ["1060976163948904448","1045709644067471360"],
    "engagement_types": ["favorites","replies","retweets","video_views","impressions","engagements"],
    "groupings": {"perTweetMetricsOwned": {"group_by": ["tweet.id", "engagement.type"]}}
}"""


TIME_SERIES = """{
    "tweet_ids": ["123456789"],
    "engagement_types": ["impressions", "engagements"],
    "groupings": {"hourly-time-series": {"group_by": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]}}
}"""


def curl(*arguments: str) -> Any:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("no curl on this machine")
    run = subprocess.run([program, "-sS", "--compressed", *arguments], capture_output=True, check=True)
    return orjson.loads(run.stdout)


def test_the_documented_example_of_public_metrics() -> None:
    with make_emulator(now=lambda: 1.55e9, unavailable_fraction=0) as emulator:
        body = curl(
            "--request", "POST",
            "--url", f"{emulator.base_url}/insights/engagement/totals",
            "--header", "accept-encoding: gzip",
            "--header", f"authorization: Bearer {emulator.bearer_token}",
            "--header", "content-type: application/json",
            "--data", PUBLIC,
        )  # fmt: skip

    assert list(body) == ["perTweetMetricsUnowned"]
    assert list(body["perTweetMetricsUnowned"]) == ["1021817816134156288", "1067094924124872705", "1070059276213702656"]
    for metrics in body["perTweetMetricsUnowned"].values():
        assert list(metrics) == ["favorites", "quote_tweets", "replies", "retweets", "video_views"]
        assert all(leaf.isdecimal() for leaf in metrics.values())


def test_the_documented_example_of_owned_metrics() -> None:
    with make_emulator(now=lambda: 1.5405e9, unavailable_fraction=0) as emulator:
        url = f"{emulator.base_url}/insights/engagement/totals"
        body = curl(
            "--request", "POST",
            "--url", url,
            "--header", "accept-encoding: gzip",
            "--header", f"authorization: {sign(url, emulator.credentials)}",
            "--header", "content-type: application/json",
            "--data", OWNED,
        )  # fmt: skip

    assert set(body["perTweetMetricsOwned"]) == {"1045709644067471360"}
    assert body["unavailable_tweet_ids"] == ["1060976163948904448"]  # it was not born yet


def test_the_documented_example_of_28_hours_without_a_content_type() -> None:
    with make_emulator(now=lambda: 1442353200.0, unavailable_fraction=0) as emulator:
        url = f"{emulator.base_url}/insights/engagement/28hr"
        body = curl(
            "-X", "POST", url,
            "-H", "Accept-Encoding: gzip",
            "-H", f"Authorization: {sign(url, emulator.credentials)}",
            "-d", TIME_SERIES,
        )  # fmt: skip

    assert (body["start"], body["end"]) == ("2015-09-14T17:00:00Z", "2015-09-15T22:00:00Z")
    series = body["hourly-time-series"]["123456789"]
    assert sorted(series) == ["engagements", "impressions"]
    assert {day: len(hours) for day, hours in series["impressions"].items()} == {"2015-09-14": 7, "2015-09-15": 22}
