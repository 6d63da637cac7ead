"""Where the time of one request goes: each pure stage timed alone in a loop. The transport's share is the client "wire".

Microseconds of CPU a request, the median of interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import msgspec
import orjson

from benchmarks import children
from benchmarks.canned import LOADS, LOOSE_LIMIT, Load

__all__ = ["STAGES", "pure_stages"]

STAGES = {
    "chunk": "IDs checked, distinct, a batch made",
    "body": "the request's JSON, by joining",
    "sign": "OAuth 1.0a: nonce, base string, HMAC-SHA1, header",
    "token": "acquire and settle, nobody waiting",
    "inflate": "gunzip, caps, end of stream and checksum",
    "decode": "typed JSON: integers, shape",
    "outcomes": "every ID in its place",
    "merge": "into the one result, and its share of the end",
}
ROUNDS = 9
BATCHES = 40


def pure_stages(load: Load, *, isal: bool) -> dict[str, float]:
    """Seconds a request of every pure stage."""
    if not isal:
        children.without_isal()
    from engagement_async import (
        LAST_28_HOURS,
        TOTALS,
        LocalScheduler,
        Merger,
        OAuth1Credentials,
        Query,
        RateLimit,
        SizeLimits,
    )
    from engagement_async._core.batches import chunk
    from engagement_async._core.parsing import ResponseParser
    from engagement_async._engine.body import BodyDecoder

    endpoint = LAST_28_HOURS if load.path.endswith("28hr") else TOTALS
    query = Query(endpoint, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    batches = [tuple(ids) for ids in load.chunks()[:BATCHES]]
    given = [i for ids in batches for i in ids]
    plain = [load.answer(list(ids)) for ids in batches]
    packed = [gzip.compress(body, 6) for body in plain]
    headers = {"content-encoding": "gzip", "x-per-minute-remaining": str(LOOSE_LIMIT)}
    reader = ResponseParser(query)
    signer = OAuth1Credentials("key", "secret", "token", "token-secret").signer(
        "https://data-api.twitter.com" + load.path
    )
    caps = SizeLimits()
    decoder = _typed_decoder(load)

    def inflate() -> None:
        for body in packed:
            whole = BodyDecoder("gzip", caps)
            whole.feed(body)
            whole.finish()

    def read() -> list[Any]:
        return [
            reader.parse(number, ids, 200, headers, body).answer
            for number, (ids, body) in enumerate(zip(batches, plain, strict=True))
        ]

    answers = read()

    def merge() -> None:
        merger = Merger(query)
        for answer in answers:
            merger.add(answer)
        merger.result()

    def drop_each(decode: Callable[[bytes], object]) -> None:
        for body in plain:
            decode(body)

    def read_each() -> None:
        for number, (ids, body) in enumerate(zip(batches, plain, strict=True)):
            reader.parse(number, ids, 200, headers, body)

    def tokens() -> None:
        asyncio.run(_tokens(LocalScheduler(RateLimit(LOOSE_LIMIT))))

    stages: dict[str, Callable[[], object]] = {
        "chunk": lambda: sum(1 for _ in chunk(given, endpoint.ids_per_request)),  # type: ignore[misc, union-attr]
        "body": lambda: [query.body(ids) for ids in batches],
        "sign": lambda: [signer.authorization(1_790_000_000) for _ in batches],
        "inflate": inflate,
        "decode": lambda: drop_each(decoder.decode),
        "outcomes": read_each,  # less decode, below
        "merge": merge,
        "orjson.loads": lambda: drop_each(orjson.loads),
    }
    spent: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(ROUNDS):
        for name, stage in stages.items():
            began = time.process_time()
            stage()
            spent[name].append((time.process_time() - began) / len(batches))
    found = {name: median(each) for name, each in spent.items()}
    found["outcomes"] -= found["decode"]
    tokens()
    began = time.process_time()
    tokens()
    found["token"] = (time.process_time() - began) / _TOKENS
    return found


_TOKENS = 20_000


async def _tokens(scheduler: Any) -> None:
    lane = scheduler.lane("totals")
    for _ in range(_TOKENS):
        scheduler.settle(await scheduler.acquire(lane))


def _typed_decoder(load: Load) -> msgspec.json.Decoder[Any]:
    """Return the decoder that a reader of this load holds."""
    kind: Any = int
    for _ in load.group_by:
        kind = dict[str, kind]
    fields: list[tuple[str, Any, Any]] = [(name, str | None, None) for name in ("start", "end")]
    return msgspec.json.Decoder(msgspec.defstruct("Typed", [*fields, ("by_tweet", kind, None)], gc=False), strict=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds a request by stage, as JSON.")
    parser.add_argument("load", choices=list(LOADS))
    parser.add_argument("--core", type=int)
    parser.add_argument("--fast", action="store_true", help="isal instead of zlib")
    given = parser.parse_args()
    children.stay_on(given.core)
    print(orjson.dumps(pure_stages(LOADS[given.load], isal=given.fast)).decode())


if __name__ == "__main__":
    main()
