"""Tables of structs are those of the dicts with the same values."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.arrow import shaped_table
from engagement_async._core.struct_tables import LEVELS, struct_table
from engagement_async._core.tables import LONG, TableShape

METRICS = ("favorites", "replies", "video_views")
Types = msgspec.defstruct("Types", [(metric, int) for metric in METRICS], gc=False)
VALUES = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("shape", [LONG, TableShape(METRICS), TableShape(METRICS[::-1])])
@given(rows=st.dictionaries(st.from_regex(r"[1-9]\d{0,18}", fullmatch=True), st.tuples(VALUES, VALUES, VALUES)))
def test_they_are_equal(shape: TableShape, rows: dict[str, tuple[int, ...]]) -> None:
    grouping = {tweet_id: dict(zip(METRICS, values, strict=True)) for tweet_id, values in rows.items()}
    table = struct_table(list(rows), [Types(*values) for values in rows.values()], METRICS, shape)

    if rows:
        assert table.equals(shaped_table(grouping, LEVELS, shape, None))
    assert table.num_rows == len(rows) * (1 if shape.metrics else len(METRICS))
