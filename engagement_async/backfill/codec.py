"""What the journal holds, as bytes and back: IDs, answers, small documents, each with its checksum. Pure.

An answer is JSON under zlib, so that a journal can be read with nothing but SQLite and Python.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from engagement_async._core.answer import Answer, Window

try:
    from isal import isal_zlib as _zlib
except ImportError:  # pragma: no cover - the same format, slower
    import zlib as _zlib  # type: ignore[no-redef]

_Broken: Any = _zlib.error  # isal's stubs make an instance of it

__all__ = [
    "Outcomes",
    "StoredAnswer",
    "checksum",
    "counts_of",
    "decode_answer",
    "encode_answer",
    "pack_ids",
    "unpack_ids",
]

_LEVEL = 1
"""The journal is written at the rate of the network: a third of the bytes at a fifth of the time of level 6."""


class Outcomes(NamedTuple):
    """How many IDs ended where; they add up to the batch's IDs."""

    answered: int = 0
    unavailable: int = 0
    unsupported: int = 0
    """Without a value of any metric that was asked."""
    forbidden: int = 0
    failed: int = 0

    def __add__(self, other: tuple[int, ...]) -> Outcomes:  # type: ignore[override]
        return Outcomes(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __sub__(self, other: tuple[int, ...]) -> Outcomes:
        return Outcomes(*(mine - its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it lies in the journal."""

    number: int
    counts: Outcomes
    size: int
    """Of its JSON, in bytes."""
    body: bytes
    """The JSON, compressed."""

    @property
    def checksum(self) -> bytes:
        """Of all of it: an answer in another's place is as wrong as one with a flipped bit."""
        return checksum(f"answer {self.number} {tuple(self.counts)} {self.size}".encode(), self.body)


def checksum(name: bytes, value: bytes) -> bytes:
    """SHA-256 of a value under its name."""
    return sha256(name + b"\0" + value).digest()


def pack_ids(tweet_ids: Iterable[str] | Iterable[int]) -> bytes:
    """8 bytes each, the lowest first."""
    ids = tweet_ids if isinstance(tweet_ids, array) else array("q", map(int, tweet_ids))
    return _little(ids).tobytes()


def unpack_ids(packed: bytes) -> tuple[str, ...]:
    """The IDs as strings."""
    ids = array("q")
    ids.frombytes(packed)
    return tuple(map(str, _little(ids)))


def _little(ids: array[int]) -> array[int]:
    if sys.byteorder != "little":  # pragma: no cover - a journal may move to another machine
        ids = ids[:]
        ids.byteswap()
    return ids


def counts_of(answer: Answer, engagement_types: Iterable[str]) -> Outcomes:
    """The outcomes of one answer."""
    unsupported = 0
    if answer.unsupported_tweet_ids:
        lists = [frozenset(answer.unsupported_tweet_ids.get(metric, ())) for metric in engagement_types]
        out = frozenset((*answer.unavailable_tweet_ids, *answer.forbidden_tweet_ids, *answer.failed_tweet_ids))
        unsupported = len(frozenset.intersection(*lists) - out)
    unavailable = len(answer.unavailable_tweet_ids)
    forbidden = len(answer.forbidden_tweet_ids)
    failed = len(answer.failed_tweet_ids)
    answered = len(answer.tweet_ids) - unavailable - forbidden - failed - unsupported
    return Outcomes(answered, unavailable, unsupported, forbidden, failed)


def encode_answer(answer: Answer, engagement_types: Iterable[str]) -> StoredAnswer:
    """The answer without its IDs, which the batch holds."""
    value: dict[str, Any] = {"groupings": answer.groupings}
    if answer.windows:
        value["windows"] = answer.windows
    if answer.unavailable_tweet_ids:
        value["unavailable"] = answer.unavailable_tweet_ids
    if answer.forbidden_tweet_ids:
        value["forbidden"] = answer.forbidden_tweet_ids
    if answer.unsupported_tweet_ids:
        value["unsupported"] = answer.unsupported_tweet_ids
    if answer.failed_tweet_ids:
        value["failed"] = answer.failed_tweet_ids
    if answer.notes:
        value["notes"] = answer.notes
    try:
        raw = orjson.dumps(value, default=tuple)  # a Window is a tuple of a class of its own
    except TypeError:  # a number beyond 64 bits: JSON readers would round it, and no Tweet counts that far
        reason = "a value does not fit into 64 bits"
        failed = Answer(answer.batch_number, answer.tweet_ids, failed_tweet_ids=dict.fromkeys(answer.tweet_ids, reason))
        return encode_answer(failed, engagement_types)
    return StoredAnswer(answer.batch_number, counts_of(answer, engagement_types), len(raw), _zlib.compress(raw, _LEVEL))


def decode_answer(stored: StoredAnswer, tweet_ids: tuple[str, ...]) -> Answer:
    """The answer again. `ValueError` when the bytes are none."""
    try:
        value = orjson.loads(_zlib.decompress(stored.body))
        return Answer(
            stored.number,
            tweet_ids,
            value["groupings"],
            windows=tuple(Window(_at(start), _at(end)) for start, end in value.get("windows", ())),
            unavailable_tweet_ids=tuple(value.get("unavailable", ())),
            forbidden_tweet_ids=tuple(value.get("forbidden", ())),
            unsupported_tweet_ids={metric: tuple(ids) for metric, ids in value.get("unsupported", {}).items()},
            failed_tweet_ids=value.get("failed", {}),
            notes=tuple(value.get("notes", ())),
        )
    except (_Broken, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an answer: {type(error).__name__}") from None


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
