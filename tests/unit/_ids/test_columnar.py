"""Parquet and Arrow: every type that holds IDs, and files that are damaged."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement_async._ids.columnar import columnar_ids
from engagement_async._ids.formats import Format
from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async.errors import UsageError

A, B, C = "1070059276213702656", "1021817816134156288", "9223372036854775807"
NUMBERS = [int(A), int(B), int(C)]
COLUMNS = [
    pa.array([A, B, C]),
    pa.array([A, B, C], pa.large_string()),
    pa.array([A, B, C], pa.string_view()),
    pa.array([A, B, C]).dictionary_encode(),
    pa.array(NUMBERS, pa.int64()),
    pa.array(NUMBERS, pa.uint64()),
    pa.array(NUMBERS).dictionary_encode(),
    pa.array([Decimal(n) for n in NUMBERS], pa.decimal128(20, 0)),
    pa.array([Decimal(n) for n in NUMBERS], pa.decimal128(22, 2)),
    pa.array([Decimal(n) for n in NUMBERS], pa.decimal256(40, 0)),
    pa.array([A.encode(), B.encode(), C.encode()], pa.binary()),
    pa.array([A.encode(), B.encode(), C.encode()], pa.large_binary()),
    pa.array([A.encode(), B.encode(), C.encode()], pa.binary(19)),
]


def packed(table: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "parquet":
        try:
            pq.write_table(table, sink)
        except pa.ArrowNotImplementedError as error:  # an older pyarrow
            pytest.skip(str(error))
    elif kind == "file":
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def read(data: bytes, kind: str, id_column: str | None = None) -> tuple[list[str], list[tuple[int, str]], InputReport]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    format_ = Format.PARQUET if kind == "parquet" else Format.ARROW
    chunks = columnar_ids(io.BytesIO(data), intake, kind=format_, id_column=id_column)
    ids = [tweet_id for chunk in chunks for tweet_id in chunk]
    return ids, [(reject.line, reject.reason) for reject in rejects], intake.report


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_types_that_hold_ids(column: pa.Array, kind: str) -> None:
    table = pa.table({"other": [1.5, 2.5, 3.5], "Tweet id": column})
    ids, rejects, report = read(packed(table, kind), kind)

    assert (ids, rejects, report.column) == ([A, B, C], [], "Tweet id")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32()], ids=str)
def test_small_integers(kind: pa.DataType) -> None:
    assert read(packed(pa.table({"id": pa.array([20, 30], kind)}), "parquet"), "parquet")[0] == ["20", "30"]


def test_nulls_and_bad_values_are_rejected_with_their_row() -> None:
    for column in (pa.array([A, None, "-5"]), pa.array([int(A), None, -5])):
        _, rejects, _ = read(packed(pa.table({"tweet_id": column}), "parquet"), "parquet")
        assert rejects == [(2, "is empty"), (3, "is negative")]
    assert read(packed(pa.table({"id": pa.nulls(1)}), "parquet"), "parquet")[1] == [(1, "is empty")]


@pytest.mark.parametrize(
    ("columns", "id_column", "message"),
    [
        ({"tweet_id": [1.7e18]}, None, "column 'tweet_id' is a float: its last digits are lost"),
        ({"tweet_id": [[A]]}, None, "IDs are strings or integers"),
        ({"tweet_id": [True]}, None, "is bool: IDs are strings or integers"),
        ({"a": [A], "b": [B]}, None, "which column holds the IDs"),
        ({"a": [A], "b": [B]}, "c", "has no column 'c', but 'a', 'b'"),
    ],
)
def test_what_cannot_hold_ids_is_refused(columns: dict[str, Any], id_column: str | None, message: str) -> None:
    for kind in ("parquet", "file"):
        with pytest.raises(UsageError, match=message):
            read(packed(pa.table(columns), kind), kind, id_column)


def test_the_better_of_two_columns() -> None:
    table = pa.table({"id": [1, 2], "status_id": [A, B], "x": [A, A]})

    assert read(packed(table, "parquet"), "parquet")[0] == [A, B]
    assert read(packed(table, "parquet"), "parquet", "3")[0] == [A, A]
    assert read(packed(pa.table({"id": [1.7e18], "id_str": [A]}), "file"), "file")[0] == [A]


@pytest.mark.parametrize("kind", ["parquet", "file"])
def test_a_file_that_is_cut_is_refused_with_its_name(kind: str) -> None:
    data = packed(pa.table({"tweet_id": [A, B, C]}), kind)

    with pytest.raises(UsageError, match=f"a: is not a whole {'Parquet' if kind == 'parquet' else 'Arrow'} file: "):
        read(data[:-9], kind)


def test_a_damaged_page_is_refused_with_the_name() -> None:
    data = packed(pa.table({"tweet_id": [A, B, C]}), "parquet")

    with pytest.raises(UsageError, match="a: is not a whole Parquet file: "):
        read(data[:20] + bytes(40) + data[60:], "parquet")
