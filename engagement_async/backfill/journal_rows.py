"""The rows of the journal: tables, values to rows and back. Every row carries a checksum that covers its place. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

from engagement_async._core.batches import Batch
from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.query import Query
from engagement_async.backfill.codec import EncodedAnswer, checksum, pack_ids, unpack_ids

__all__ = [
    "ANSWER_COLUMNS",
    "APPLICATION_ID",
    "COUNT_COLUMNS",
    "OLDER_SCHEMA",
    "OWNED",
    "SCHEMA",
    "SCHEMA_OWNED",
    "TABLES",
    "WITHOUT_RESPONSES",
    "DamagedRowError",
    "answer_row",
    "batch_row",
    "document_row",
    "query_document",
    "read_answer",
    "read_batch",
    "read_document",
    "read_query",
]

SCHEMA: Final = 4
"""Raised by every change that an older or newer reader would misread."""
SCHEMA_OWNED: Final = 5
"""Of journals whose batches have owners."""
OLDER_SCHEMA: Final = 2
"""Of journals that keep no responses: they are read, and written to as before."""
OLDER_SCHEMA_OWNED: Final = 3
OWNED: Final = frozenset({SCHEMA_OWNED, OLDER_SCHEMA_OWNED})
WITHOUT_RESPONSES: Final = frozenset({OLDER_SCHEMA, OLDER_SCHEMA_OWNED})
APPLICATION_ID: Final = 0x454E4741
"""`ENGA`: what `file` shows of a SQLite database."""

_ANSWER_TABLE = """
CREATE TABLE {} (
    number INTEGER PRIMARY KEY, answered INTEGER NOT NULL, unavailable INTEGER NOT NULL, unsupported INTEGER NOT NULL,
    forbidden INTEGER NOT NULL, failed INTEGER NOT NULL, pending INTEGER NOT NULL, size INTEGER NOT NULL,
    sha256 BLOB NOT NULL, body BLOB NOT NULL{}
);
"""
_TABLES = """
CREATE TABLE document (name TEXT PRIMARY KEY, value BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE document_copy (name TEXT PRIMARY KEY, value BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (number INTEGER PRIMARY KEY, ids BLOB NOT NULL, sha256 BLOB NOT NULL{});
"""
_OWNER = ", owner TEXT NOT NULL"
_RESPONSE = ", response BLOB"
TABLES: Final = {
    schema: _TABLES.format(owner) + _ANSWER_TABLE.format("answer", more) + _ANSWER_TABLE.format("part", more)
    for schema, owner, more in (
        (OLDER_SCHEMA, "", ""),
        (OLDER_SCHEMA_OWNED, _OWNER, ""),
        (SCHEMA, "", _RESPONSE),
        (SCHEMA_OWNED, _OWNER, _RESPONSE),
    )
}
"""By schema. `part` holds the answers to single spans of time of batches that are not complete; `document_copy` what a
journal cannot be repaired without."""
ANSWER_COLUMNS: Final = "number, answered, unavailable, unsupported, forbidden, failed, pending, size, sha256, body"
"""Of all schemas; later ones have `response`, too."""
COUNT_COLUMNS: Final = "number, answered, unavailable, unsupported, forbidden, failed, pending, size"


class DamagedRowError(Exception):
    """A row is not as it was written."""


def document_row(name: str, value: Any) -> tuple[str, bytes, bytes]:
    """Return the row of a small JSON document."""
    raw = orjson.dumps(value, default=tuple)  # Outcomes is a tuple of a class of its own
    return name, raw, checksum(name.encode(), raw)


def read_document(row: tuple[Any, ...]) -> tuple[str, Any]:
    """Return name and value of a document."""
    name, raw, digest = row
    if not isinstance(name, str) or not isinstance(raw, bytes) or checksum(_bytes_of(name), raw) != digest:
        raise DamagedRowError(f"the checksum of {name!r} is wrong")
    return name, orjson.loads(raw)


def batch_row(batch: Batch | tuple[int, Any, str | None]) -> tuple[int | bytes | str, ...]:
    """Return the row of a batch of IDs, with its owner if it has one."""
    number, tweet_ids, owner = batch
    packed = pack_ids(tweet_ids)
    row = number, packed, checksum(_name_of(number, owner), packed)
    return row if owner is None else (*row, owner)


def read_batch(row: tuple[Any, ...]) -> Batch:
    """Return the batch of a row."""
    number, packed, digest, *owners = row
    owner = owners[0] if owners else None
    if not isinstance(packed, bytes) or checksum(_name_of(number, owner), packed) != digest:
        raise DamagedRowError(f"the checksum of batch {number} is wrong")
    return Batch(number, unpack_ids(packed), owner)


def _name_of(number: int, owner: str | None) -> bytes:
    return f"batch {number}".encode() if owner is None else b"batch %d of %s" % (number, _bytes_of(str(owner)))


def answer_row(answer: EncodedAnswer, table: str = "answer") -> tuple[Any, ...]:
    """Return the row of an answer: its `ANSWER_COLUMNS` and its response."""
    counts = answer.number, *answer.outcomes, answer.pending, answer.size
    return (*counts, answer.checksum(table), answer.body, answer.response)


def read_answer(row: tuple[Any, ...], table: str = "answer") -> EncodedAnswer:
    """Return the answer of a row, with its response or of a journal that keeps none."""
    number, answered, unavailable, unsupported, forbidden, failed, pending, size, digest, body, *responses = row
    response = responses[0] if responses else None
    outcomes = Outcomes(answered, unavailable, unsupported, forbidden, failed)
    answer = EncodedAnswer(number, outcomes, pending, size, body, response)
    are_bytes = isinstance(body, bytes) and isinstance(response, bytes | None)
    if not are_bytes or answer.checksum(table) != digest:
        raise DamagedRowError(f"the checksum of {table} {number} is wrong")
    return answer


def query_document(query: Query) -> dict[str, Any]:
    """Return a query as the journal holds it, and as events show it."""
    return {
        "endpoint": query.endpoint.name,
        "engagement_types": query.engagement_types,
        "groupings": query.groupings,
        "start": query.start,
        "end": query.end,
    }


def read_query(value: Any) -> Query:
    """Return the query of a document."""
    if value is None:
        raise DamagedRowError("its query is missing")
    return Query(
        ENDPOINTS[value["endpoint"]],
        engagement_types=value["engagement_types"],
        groupings=value["groupings"],
        start=value["start"],
        end=value["end"],
    )


def _bytes_of(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
