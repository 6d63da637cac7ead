"""What the journal holds, as bytes and back: IDs, answers, small documents, each with its checksum. Pure.

An answer is JSON under zlib, so that a journal can be read with nothing but SQLite and Python. One that was read from a
single response keeps that as it came, as gzip; if the response holds its values and no others, they are there alone.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Final

import orjson

from engagement_async._core.answer import Answer, ReceivedAnswer, Window
from engagement_async._core.groupings import Grouping
from engagement_async._core.outcomes import Failure, FailureKind, Outcomes, count_outcomes, is_outage

try:
    from isal import isal_zlib as _zlib
except ImportError:  # pragma: no cover - the same format, slower
    import zlib as _zlib  # type: ignore[no-redef]

_Broken: Any = _zlib.error  # isal's stubs make an instance of it

__all__ = [
    "NOT_ASKED",
    "VALUE_BYTES",
    "EncodedAnswer",
    "checksum",
    "decode_answer",
    "encode_answer",
    "pack_ids",
    "pending_ids",
    "unpack_ids",
]

NOT_ASKED = Failure("is still to be asked", kind=FailureKind.OUTAGE)
"""Of IDs without an outcome, in an answer to others of their batch."""
VALUE_BYTES: Final = 16
"""What a value takes as JSON, with its share of the keys: between 8 of hours and 21 of totals."""
_LEVEL = 1
"""The journal is written at the rate of the network: a third of the bytes at a fifth of the time of level 6."""


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """An answer as it lies in the journal, to a batch or to one span of time of a batch."""

    number: int
    """Of the batch; of a span, see `unit_of`."""
    outcomes: Outcomes
    pending: int
    """IDs that are still to be asked: those that failed because the API answered nobody."""
    size: int
    """Of its values as JSON, roughly: `VALUE_BYTES` each. Exports are cut by it, so it must not depend on when a run was
    killed, nor on how the answer is kept. Versions that kept no responses wrote the bytes of the whole JSON."""
    body: bytes
    """The JSON, compressed; without the values, if those are in the response."""
    response: bytes | None = None
    """The body of the one response that it was read from, as it came: gzip."""
    window_starts: tuple[float, float] | None = field(default=None, compare=False)
    """Epoch seconds of the full hours at which the first and the last of its windows begin; known when it is encoded."""

    def checksum(self, table: str = "answer") -> bytes:
        """Of all of it: an answer in another's place is as wrong as one with a flipped bit."""
        place = f"{table} {self.number} {tuple(self.outcomes)} {self.pending} {self.size}"
        if self.response is None:
            return checksum(place.encode(), self.body)
        return checksum(f"{place} {len(self.body)}".encode(), self.body + self.response)


def checksum(name: bytes, value: bytes) -> bytes:
    """Return the SHA-256 of a value under its name."""
    return sha256(name + b"\0" + value).digest()


def pack_ids(tweet_ids: Iterable[str] | Iterable[int]) -> bytes:
    """Return the IDs in 8 bytes each, the lowest byte first."""
    ids = tweet_ids if isinstance(tweet_ids, array) else array("q", map(int, tweet_ids))
    return _little_endian(ids).tobytes()


def unpack_ids(packed: bytes) -> tuple[str, ...]:
    """Return packed IDs as strings."""
    ids = array("q")
    ids.frombytes(packed)
    return tuple(map(str, _little_endian(ids)))


def _little_endian(ids: array[int]) -> array[int]:
    if sys.byteorder != "little":  # pragma: no cover - a journal may move to another machine
        ids = ids[:]
        ids.byteswap()
    return ids


def encode_answer(
    answer: Answer,
    engagement_types: Iterable[str],
    *,
    batch_ids: tuple[str, ...] | None = None,
    keep_response: bool = False,
) -> EncodedAnswer:
    """Return the answer without its IDs, which the batch holds, unless `batch_ids`, those of its batch, are others.

    With `keep_response` it has the response that it was read from, if there is one.
    """
    response, values = None, None
    if keep_response and isinstance(answer, ReceivedAnswer):
        response, values = answer.response, answer.values
    value: dict[str, Any] = {} if values is not None else {"groupings": answer.groupings}
    if batch_ids is not None and batch_ids != answer.tweet_ids:
        value["ids"] = answer.tweet_ids
    if answer.windows:
        value["windows"] = answer.windows
    if answer.unavailable_tweet_ids:
        value["unavailable"] = answer.unavailable_tweet_ids
    if answer.forbidden_tweet_ids:
        value["forbidden"] = answer.forbidden_tweet_ids
    if answer.unsupported_tweet_ids:
        value["unsupported"] = answer.unsupported_tweet_ids
    if answer.missing_metrics:
        value["missing"] = answer.missing_metrics
    if answer.failed_tweet_ids:
        value["failed"] = {i: [_kind_of(failure), str(failure)] for i, failure in answer.failed_tweet_ids.items()}
    if answer.notes:
        value["notes"] = answer.notes
    try:
        raw = orjson.dumps(value, default=tuple)  # a Window is a tuple of a class of its own
    except TypeError:  # a number beyond 64 bits: JSON readers would round it, and no Tweet counts that far
        failure = Failure("a value does not fit into 64 bits", kind=FailureKind.UNREPRESENTABLE)
        failed = Answer(
            answer.batch_number, answer.tweet_ids, failed_tweet_ids=dict.fromkeys(answer.tweet_ids, failure)
        )
        return encode_answer(failed, engagement_types, batch_ids=batch_ids)
    pending = len(pending_ids(answer))
    outcomes = count_outcomes(answer, engagement_types) - Outcomes(failed=pending)
    starts = [window.start.replace(minute=0, second=0, microsecond=0).timestamp() for window in answer.windows]
    return EncodedAnswer(
        answer.batch_number,
        outcomes,
        pending,
        VALUE_BYTES * (_count_values(answer.groupings) if values is None else values),
        _zlib.compress(_with_instants(raw, answer), _LEVEL),
        response,
        (min(starts), max(starts)) if starts else None,
    )


def _count_values(grouping: Any) -> int:
    """Return how many leaves nested dicts have."""
    if not isinstance(grouping, dict):
        return 1
    if dict not in set(map(type, grouping.values())):
        return len(grouping)
    return sum(map(_count_values, grouping.values()))


def _with_instants(raw: bytes, answer: Answer) -> bytes:
    """Return the JSON object with when it was answered: `observed`, and `observed_later` with the IDs of each instant."""
    if answer.observed_at is None:
        return raw
    value: dict[str, Any] = {"observed": answer.observed_at}
    if answer.observed_later:
        later: dict[str, list[str]] = {}
        for i, at in answer.observed_later.items():
            later.setdefault(at.isoformat(), []).append(i)
        value["observed_later"] = later
    return raw[:-1] + (b"," if len(raw) > 2 else b"") + orjson.dumps(value)[1:]


def pending_ids(answer: Answer) -> tuple[str, ...]:
    """Return the IDs that got no outcome, because the API answered nobody."""
    return tuple(i for i, failure in answer.failed_tweet_ids.items() if is_outage(failure))


def _kind_of(failure: str) -> str:
    return failure.kind if isinstance(failure, Failure) else FailureKind.SERVER


def decode_answer(
    encoded: EncodedAnswer,
    tweet_ids: tuple[str, ...],
    read_response: Callable[[bytes], dict[str, Grouping]] | None = None,
) -> Answer:
    """Return the answer to these IDs again. Raise `ValueError` when the bytes are none.

    `read_response` returns the groupings of a response that holds the values: when they are wanted.
    """
    try:
        value = orjson.loads(_zlib.decompress(encoded.body))
        response = encoded.response
        answer = (Answer if response is None else ReceivedAnswer)(
            encoded.number,
            tuple(value["ids"]) if "ids" in value else tweet_ids,
            value["groupings"] if response is None else value.get("groupings", {}),
            windows=tuple(Window(_instant(start), _instant(end)) for start, end in value.get("windows", ())),
            unavailable_tweet_ids=tuple(value.get("unavailable", ())),
            forbidden_tweet_ids=tuple(value.get("forbidden", ())),
            unsupported_tweet_ids={metric: tuple(ids) for metric, ids in value.get("unsupported", {}).items()},
            failed_tweet_ids={
                i: Failure(text, kind=FailureKind(kind)) for i, (kind, text) in value.get("failed", {}).items()
            },
            missing_metrics={metric: tuple(ids) for metric, ids in value.get("missing", {}).items()},
            notes=tuple(value.get("notes", ())),
            observed_at=_instant(value["observed"]) if "observed" in value else None,
            observed_later={i: _instant(at) for at, ids in value.get("observed_later", {}).items() for i in ids},
        )
        if isinstance(answer, ReceivedAnswer) and response is not None:
            answer.response = response
            if "groupings" not in value:
                assert read_response is not None  # noqa: S101 - whoever has such answers gives it
                answer.keep(response, encoded.size // VALUE_BYTES, partial(read_response, response))
        return answer
    except (_Broken, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an answer: {type(error).__name__}") from None


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
