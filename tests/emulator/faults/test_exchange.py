"""What a fault works on: the honest answer, and places to break it that follow from the seed."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
from aiohttp.test_utils import make_mocked_request

from engagement_async.emulator import FaultSettings
from engagement_async.emulator.encoding import EncodedReply
from engagement_async.emulator.faults import Exchange

BODY = {"start": "x", "g": {"1": {"favorites": "3", "replies": "4"}}, "h": {"1": "7"}}


def exchange(number: int = 1, seed: int = 0, **headers: str) -> Exchange:
    reply = EncodedReply(200, BODY, {"x-per-minute-limit": "9", **headers}, ("g", "h"))
    request = make_mocked_request("POST", "/")
    return Exchange(request, reply, ("1",), 1.7e9, number, FaultSettings(seed=seed), lambda ids: reply)


def sent(response: Any) -> Any:
    return orjson.loads(gzip.decompress(response.body))


def test_the_honest_body() -> None:
    assert orjson.loads(exchange().json) == BODY
    assert gzip.decompress(exchange().gzip) == exchange().json


def test_where_a_body_breaks_follows_from_seed_and_number() -> None:
    assert exchange(3, 4).random == exchange(3, 4).random
    assert len({exchange(number, seed).random for number in range(5) for seed in range(5)}) == 25


def test_leaves_are_changed_by_position() -> None:
    response = exchange().respond_with_leaves(lambda position, leaf: [position, leaf])

    assert sent(response) == {
        "start": "x",
        "g": {"1": {"favorites": [0, "3"], "replies": [1, "4"]}},
        "h": {"1": [2, "7"]},
    }


def test_errors_keep_the_honest_headers_or_the_date_alone() -> None:
    kept = exchange(Date="today").respond_with_errors(503, "a", "b")
    replaced = exchange(Date="today").respond_with_errors(429, "a", headers={"Retry-After": "1"})

    assert (kept.status, sent(kept)) == (503, {"errors": ["a", "b"]})
    assert kept.headers["x-per-minute-limit"] == "9"
    assert (replaced.headers["Date"], replaced.headers["Retry-After"]) == ("today", "1")
    assert "x-per-minute-limit" not in replaced.headers


def test_without_a_connection_nothing_is_written() -> None:
    assert exchange().transport is None
    assert exchange().write_and_close(b"x").status == 200
