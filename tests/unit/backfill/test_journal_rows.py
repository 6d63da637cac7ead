"""Rows: what was written comes back, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import Batch
from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.codec import EncodedAnswer
from engagement_async.backfill.journal_rows import (
    DamagedRowError,
    answer_row,
    batch_row,
    document_row,
    query_document,
    read_answer,
    read_batch,
    read_document,
    read_query,
)
from tests.support.jobs import MIXED


def test_rows_come_back() -> None:
    answer = EncodedAnswer(3, Outcomes(1, 2, 3, 4, 5), 6, 7, b"body")
    assert read_batch(batch_row(Batch(7, ("1", "2")))) == Batch(7, ("1", "2"))
    assert read_answer(answer_row(answer)) == answer
    assert read_answer(answer_row(answer, "part"), "part") == answer
    assert read_answer(answer_row(answer)[:-1]) == answer  # of a journal that keeps no responses
    received = EncodedAnswer(3, Outcomes(1, 2, 3, 4, 5), 6, 7, b"body", b"response")
    assert read_answer(answer_row(received)) == received
    assert read_document(document_row("name", {"a": [1, "b"]})) == ("name", {"a": [1, "b"]})
    assert read_query(read_document(document_row("query", query_document(MIXED)))[1]) == MIXED


@given(st.integers(0, 2), st.integers(0, 10), st.integers(0, 7), st.integers(0, 10**6))
def test_whatever_is_changed_is_found(kind: int, column: int, bit: int, byte: int) -> None:
    answer = EncodedAnswer(3, Outcomes(1, 2, 3, 4, 5), 6, 7, b"body", b"response")
    rows: list[tuple[Any, ...]] = [batch_row(Batch(7, ("1", "2"))), document_row("name", [1]), answer_row(answer)]
    readers: list[Any] = [read_batch, read_document, read_answer]
    row = list(rows[kind])
    column %= len(row)
    value = row[column]
    if isinstance(value, int):
        row[column] = value ^ 1 << bit
    else:
        raw = bytearray(value.encode() if isinstance(value, str) else value)
        raw[byte % len(raw)] ^= 1 << bit
        row[column] = raw.decode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(raw)

    with pytest.raises(DamagedRowError):
        readers[kind](tuple(row))


def test_an_answer_is_none_to_a_part() -> None:
    answer = EncodedAnswer(3, Outcomes(1), 0, 7, b"body")
    with pytest.raises(DamagedRowError, match="part 3"):
        read_answer(answer_row(answer), "part")


@pytest.mark.parametrize("row", [(1, "text", b""), (1, 5, b""), (1, None, None)])
def test_a_value_of_another_type_is_damage(row: tuple[Any, ...]) -> None:
    for read in (read_batch, read_document):
        with pytest.raises(DamagedRowError):
            read(row)
    with pytest.raises(DamagedRowError, match="query is missing"):
        read_query(None)
