"""Broken gzip bodies by the thousand, and the count of those that a decoder took for data.

Accepted means: the decoder returned other bytes than were compressed. Mutations that leave the data as they were (a bit of
the time stamp in gzip's header) and are taken as just these data are counted as harmless.
"""

from __future__ import annotations

import gzip
import importlib.util
import random
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import orjson

from engagement_async._engine import body
from engagement_async._engine.body import BodyDecoder
from engagement_async.config import SizeLimits
from engagement_async.errors import BodyError

__all__ = ["DATA", "LIBRARIES", "Count", "bodies", "count", "decoded"]

Decoder = Callable[[str | None, SizeLimits], BodyDecoder]
DATA = orjson.dumps(
    {
        "by_tweet": {
            str(1_070_059_276_213_702_656 + 7919 * n): {"favorites": str(n * n), "replies": str(n)} for n in range(40)
        }
    }
)


def _without_isal() -> Any:
    """The transport as it is where the extra [speed] is not installed: a second copy of the module, on zlib."""
    spec = importlib.util.spec_from_file_location("body_without_isal", body.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"isal": None, spec.name: module}):
        spec.loader.exec_module(module)
    assert "isal_zlib" not in vars(module)
    return module


def _libraries() -> dict[str, Decoder]:
    found: dict[str, Decoder] = {"zlib": _without_isal().BodyDecoder}
    if "isal_zlib" in vars(body):
        found["isal"] = body.BodyDecoder
    return found


LIBRARIES = _libraries()
"""The decoder on each library that can be underneath it; isal's is missing where the extra [speed] is."""


def bodies() -> dict[str, bytes]:
    """The same data, as different servers would compress it."""
    named = gzip.compress(DATA[:1], mtime=0)[:3] + b"\x08" + bytes(6) + b"answer.json\x00"
    raw = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return {
        "fast": gzip.compress(DATA, 1, mtime=0),
        "small": gzip.compress(DATA, 9, mtime=1_700_000_000),
        "stored": gzip.compress(DATA, 0, mtime=0),
        "with a name": named + raw.compress(DATA) + raw.flush() + gzip.compress(DATA, mtime=0)[-8:],
    }


class Count(NamedTuple):
    """How many mutations were tried, taken for other data, and without effect on the data."""

    tried: int
    accepted: int
    harmless: int


def mutations(body: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut at every offset; every bit flipped; bytes lost, doubled, swapped, zeroed; garbage after the end."""
    for at in range(len(body)):
        yield body[:at]
    for at in range(len(body)):
        for bit in range(8):
            yield body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]
    for at in range(0, len(body), 3):
        yield body[:at] + body[at + 1 :]
        yield body[:at] + body[at : at + 1] + body[at:]
        yield body[:at] + body[at + 1 : at + 2] + body[at : at + 1] + body[at + 2 :]
        yield body[:at] + bytes(8) + body[at + 8 :]
    for _ in range(200):
        yield body + chance.randbytes(chance.randrange(1, 40))
        start, end = sorted(chance.choices(range(len(body) + 1), k=2))
        yield body[:start] + chance.randbytes(end - start) + body[end:]


def decoded(
    decoder: Decoder, body: bytes, chance: random.Random | None = None, size_limits: SizeLimits | None = None
) -> bytes:
    """The body's data: fed in whole, or in pieces of random sizes."""
    stream = decoder("gzip", size_limits or SizeLimits())
    at = 0
    while at < len(body):
        size = chance.choice((1, 2, 7, 64, 1024)) if chance else len(body)
        stream.feed(body[at : at + size])
        at += size
    return stream.finish()


def count(decoder: Decoder, body: bytes, seed: int, *, whole: bool = True, pieces: bool = True) -> Count:
    """Tries every mutation, in whole and in pieces."""
    chance = random.Random(seed)
    tried = accepted = harmless = 0
    for broken in mutations(body, chance):
        if broken == body:
            continue
        for chunking in [None] * whole + [chance] * pieces:
            tried += 1
            try:
                data = decoded(decoder, broken, chunking)
            except BodyError:
                continue
            accepted += data != DATA
            harmless += data == DATA
    return Count(tried, accepted, harmless)
