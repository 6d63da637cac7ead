"""Packed groupings are the nested ones: the same dicts again, and the same tables."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import UsageError
from engagement_async._core.arrow import shaped_table
from engagement_async._core.groupings import drop_empty
from engagement_async._core.packed import PackedGrouping, pack, pack_structs
from engagement_async._core.tables import Observed, TableShape
from tests.unit._core.test_groupings import KEYS, ORDERS, nested, ragged

AT = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
OBSERVED: list[Observed] = [None, AT, {"17": AT, "5": AT + timedelta(days=1)}]
METRICS = tuple(KEYS["engagement.type"])

cases = st.sampled_from(ORDERS).flatmap(lambda levels: st.tuples(st.just(levels), ragged(levels)))


def assert_same_tables(packed: PackedGrouping, grouping: Any) -> None:
    levels = packed.levels
    for metrics in [(), METRICS, METRICS[::-1], METRICS[:1]] if "engagement.type" in levels else [()]:
        for observed in OBSERVED if "tweet.id" in levels else OBSERVED[:2]:
            shape = TableShape(metrics, has_observed_at=True)
            expected = shaped_table(grouping, levels, shape, observed)
            actual = packed.table(shape, observed)
            assert actual.to_pylist() == expected.to_pylist()
            assert actual.schema == expected.schema
            assert packed.table(TableShape(metrics), None).to_pylist() == expected.drop(["observed_at"]).to_pylist()


@given(cases)
def test_what_is_packed_is_there_again_and_makes_the_same_tables(case: tuple[tuple[str, ...], Any]) -> None:
    levels, grouping = case
    packed = pack(levels, grouping)

    assert_same_tables(packed, grouping)
    drop_empty(grouping, len(levels) - 1)
    assert packed.grouping() == grouping


@pytest.mark.parametrize("levels", ORDERS, ids=" ".join)
def test_where_every_key_is_there(levels: tuple[str, ...]) -> None:
    packed = pack(levels, nested(levels))

    assert_same_tables(packed, nested(levels))
    assert packed.grouping() == nested(levels)


@pytest.mark.parametrize("levels", [order for order in ORDERS if order[-1] == "engagement.type"], ids=" ".join)
@pytest.mark.parametrize("metrics", [METRICS, METRICS[:1]], ids=str)
def test_where_every_innermost_dict_has_all_metrics(levels: tuple[str, ...], metrics: tuple[str, ...]) -> None:
    grouping = only(deepcopy(nested(levels)), metrics)
    packed = pack_structs(levels, with_structs(grouping, metrics), metrics)

    assert packed.grouping() == grouping
    for wide in ((), metrics, METRICS):
        shape = TableShape(wide, has_observed_at=True)
        assert packed.table(shape, AT).to_pylist() == shaped_table(grouping, levels, shape, AT).to_pylist()


def only(grouping: Any, metrics: tuple[str, ...]) -> Any:
    if all(isinstance(value, int) for value in grouping.values()):
        return {metric: grouping[metric] for metric in metrics}
    return {key: only(inner, metrics) for key, inner in grouping.items()}


def with_structs(grouping: Any, metrics: tuple[str, ...]) -> Any:
    """Return the grouping with structs for its innermost dicts, as the decoder makes them."""
    types = msgspec.defstruct("Types", [(f"metric_{at}", int) for at in range(len(metrics))], gc=False)

    def turned(inner: Any) -> Any:
        if all(isinstance(value, int) for value in inner.values()):
            return types(*(inner[metric] for metric in metrics))
        return {key: turned(each) for key, each in inner.items()}

    return turned(grouping)


def test_it_takes_few_bytes() -> None:
    ids = [str(10**18 + n) for n in range(250)]
    hours = {"2026-03-01": {f"{hour:02}": 10**6 + hour for hour in range(24)}}
    by_hour = {i: dict.fromkeys(METRICS, hours) for i in ids}
    totals = {i: dict.fromkeys(map(str, range(7)), 1) for i in ids}
    metrics = tuple(map(str, range(7)))

    levels = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
    assert pack(levels, by_hour).nbytes <= 13 * 250 * 2 * 24 + 30 * 250
    assert pack_structs(levels[:2], with_structs(totals, metrics), metrics).nbytes <= 250 * (7 * 8 + 19 + 8) + 100


def test_what_fits_into_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match="64 bits"):
        pack(("tweet.id",), {"1": 2**63})
