"""What is done with nested groupings: levels found, parts taken out, hours clipped, rows made."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import InvalidAnswerError
from engagement_async._core import groupings as g

LEVELS = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
KEYS = {
    "tweet.id": ["17", "5", "6"],
    "engagement.type": ["replies", "favorites"],
    "engagement.day": ["2026-03-02", "2026-03-01"],
    "engagement.hour": ["23", "00"],
}
ORDERS = [order for count in (1, 2, 3, 4) for order in permutations(LEVELS, count)]


def nested(levels: tuple[str, ...], path: tuple[str, ...] = ()) -> Any:
    if len(path) == len(levels):
        return sum(map(ord, "".join(path)))
    return {key: nested(levels, (*path, key)) for key in KEYS[levels[len(path)]]}


def paths(grouping: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Every leaf by the keys that lead to it, the plainest form of a grouping."""
    if isinstance(grouping, int):
        return {path: grouping}
    found: dict[tuple[str, ...], int] = {}
    for key, inner in grouping.items():
        found |= paths(inner, (*path, key))
    return found


def has_no_empty_dict(grouping: Any) -> bool:
    return isinstance(grouping, int) or (bool(grouping) and all(map(has_no_empty_dict, grouping.values())))


with_ids = pytest.mark.parametrize("levels", [order for order in ORDERS if "tweet.id" in order], ids=" ".join)


@with_ids
def test_ids_are_found_at_any_level(levels: tuple[str, ...]) -> None:
    assert g.keys_at(nested(levels), levels.index("tweet.id")) == set(KEYS["tweet.id"])


@with_ids
@pytest.mark.parametrize("out", [(), ("17",), ("17", "5", "6"), ("99",)], ids=str)
def test_without_and_keep_are_each_others_complement(levels: tuple[str, ...], out: tuple[str, ...]) -> None:
    at = levels.index("tweet.id")
    grouping = nested(levels)
    without = g.without_ids(grouping, levels, out)
    kept = deepcopy(grouping)
    g.keep_ids(kept, at, out)

    assert paths(without) == {path: value for path, value in paths(grouping).items() if path[at] not in out}
    assert paths(kept) == {path: value for path, value in paths(grouping).items() if path[at] in out}
    assert grouping == nested(levels)
    assert all(not each or has_no_empty_dict(each) for each in (without, kept))


@given(
    levels=st.sampled_from(ORDERS),
    chosen=st.fixed_dictionaries({}, optional={level: st.sets(st.sampled_from(KEYS[level])) for level in LEVELS}),
)
def test_remove_takes_out_what_all_keys_name(levels: tuple[str, ...], chosen: dict[str, set[str]]) -> None:
    keys = {level: names for level, names in chosen.items() if level in levels}
    grouping = nested(levels)
    before = paths(grouping)

    g.remove(grouping, levels, keys)

    def is_named(path: tuple[str, ...]) -> bool:
        return all(key in keys.get(level, {key}) for level, key in zip(levels, path, strict=True))

    assert paths(grouping) == {path: value for path, value in before.items() if not is_named(path)}
    assert not grouping or has_no_empty_dict(grouping)


@given(
    levels=st.sampled_from(ORDERS),
    chosen=st.fixed_dictionaries({}, optional={level: st.sampled_from([*KEYS[level], "absent"]) for level in LEVELS}),
)
def test_values_at_are_the_leaves_under_all_keys(levels: tuple[str, ...], chosen: dict[str, str]) -> None:
    grouping = nested(levels)
    expected = [
        value
        for path, value in paths(grouping).items()
        if all(chosen.get(level, key) == key for level, key in zip(levels, path, strict=True))
    ]

    assert list(g.values_at(grouping, levels, chosen)) == expected


@pytest.mark.parametrize("levels", [order for order in ORDERS if order[-2:] == LEVELS[-2:]], ids=" ".join)
def test_hours_are_clipped_by_day(levels: tuple[str, ...]) -> None:
    grouping = nested(levels)
    before = paths(grouping)

    g.clip(grouping, levels, {"2026-03-01": {23}, "2026-03-02": {0, 23}, "2025-01-01": {5}})

    assert paths(grouping) == {path: v for path, v in before.items() if path[-2:] == ("2026-03-01", "00")}
    assert has_no_empty_dict(grouping)


def test_metrics_are_found_by_tweet_whatever_the_nesting() -> None:
    by_tweet = {"17": {"replies": 1}, "5": {"replies": 2, "favorites": 3}}
    by_type = {"replies": {"17": 1, "5": 2}, "favorites": {"5": 3}}
    expected = {"17": {"replies"}, "5": {"replies", "favorites"}}

    for grouping, levels in ((by_tweet, LEVELS[:2]), (by_type, LEVELS[1::-1])):
        found = g.metrics_by_tweet(grouping, levels)
        assert {tweet_id: set(metrics) for tweet_id, metrics in found.items()} == expected
        assert g.metrics_of(grouping, levels) == {"replies", "favorites"}


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_dicts_without_a_leaf_go_down_to_a_level(depth: int) -> None:
    grouping: dict[str, Any] = {"a": {"b": {}}, "c": {"d": {"e": 1}}, "f": {}}

    g.drop_empty(grouping, depth)

    full = {"c": {"d": {"e": 1}}}
    assert grouping == {0: {"a": {"b": {}}, **full, "f": {}}, 1: {"a": {"b": {}}, **full}, 2: full, 3: full}[depth]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("tweet.id",), ("tweet.id",)),
        (("engagement.hour",), ("engagement.day", "engagement.hour")),
        (("engagement.hour", "tweet.id"), ("engagement.day", "engagement.hour", "tweet.id")),
        (("engagement.hour", "engagement.day"), ("engagement.hour", "engagement.day")),
    ],
)
def test_days_are_put_in_above_hours(asked: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert g.levels_with_days(asked) == expected


@pytest.mark.parametrize(
    ("grouping", "shapes"),
    [
        ({"00": 1}, [(("engagement.hour",), {"00": 1})]),
        ({"2026-03-01": {"00": 1}}, [(("engagement.day", "engagement.hour"), {"2026-03-01": {"00": 1}})]),
        (
            {"00": 1, "2026-03-01": {"00": 2}},
            [
                (("engagement.hour",), {"00": 1}),
                (("engagement.day", "engagement.hour"), {"2026-03-01": {"00": 2}}),
            ],
        ),
    ],
)
def test_hours_have_the_levels_that_the_answer_has(grouping: g.Grouping, shapes: list[Any]) -> None:
    assert g.split_by_levels(("engagement.hour",), grouping) == shapes


@pytest.mark.parametrize("levels", [order for order in ORDERS if g.levels_with_days(order) == order], ids=" ".join)
def test_a_row_has_its_columns_and_its_leaf(levels: tuple[str, ...]) -> None:
    rows = list(g.iter_rows(levels, nested(levels)))

    assert [row.pop("value") for row in rows] == list(paths(nested(levels)).values())
    assert all(tuple(row) == g.key_columns(levels) for row in rows)


def ragged(levels: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Draw groupings in which any key of any level may be missing."""
    inner = ragged(levels[1:]) if len(levels) > 1 else st.integers(-5, 5)
    return st.dictionaries(st.sampled_from(KEYS[levels[0]]), inner, max_size=3)


def row_of(levels: tuple[str, ...], path: tuple[str, ...], value: int) -> dict[str, Any]:
    """Return a row as one would write it down by hand."""
    keys = dict(zip(levels, path, strict=True))
    row: dict[str, Any] = {}
    for column in g.key_columns(levels):
        if column == "engagement_hour":
            row[column] = g.hour_at(keys["engagement.day"], keys["engagement.hour"])
        elif column == "engagement_hour_of_day":
            row[column] = int(keys["engagement.hour"])
        elif column == "engagement_day":
            row[column] = g.day_at(keys["engagement.day"])
        else:
            row[column] = keys[column.replace("_", ".")]
    return {**row, "value": value}


@given(st.sampled_from(ORDERS).flatmap(lambda levels: st.tuples(st.just(levels), ragged(levels))))
def test_rows_are_those_of_the_leaves_one_by_one(case: tuple[tuple[str, ...], Any]) -> None:
    levels, grouping = case
    expected = [row_of(levels, path, value) for path, value in paths(grouping).items()]

    assert list(g.iter_rows(levels, grouping)) == expected


def test_rows_are_lazy_and_independent_of_each_other() -> None:
    levels = ("tweet.id", "engagement.day", "engagement.hour")
    rows = g.iter_rows(levels, {"1": {"2026-03-01": {"00": 1, "01": 2}, "no day": {"00": 3}}})

    first, second = next(rows), next(rows)
    assert (first["value"], second["value"]) == (1, 2)
    with pytest.raises(InvalidAnswerError):
        next(rows)


def test_days_and_hours_are_read_strictly() -> None:
    assert g.day_at("2026-03-01") == date(2026, 3, 1)
    assert g.hour_at("2026-03-01", "05") == datetime(2026, 3, 1, 5, tzinfo=UTC)
    for day, hour in (("2026-03-41", "05"), ("2026-03-01", "24"), ("2026-03-01", "noon")):
        with pytest.raises(InvalidAnswerError, match="for a day and an hour"):
            g.hour_at(day, hour)
    with pytest.raises(InvalidAnswerError, match="for a day"):
        g.day_at("March")
    assert [g.hour_of_day(hour) for hour in ("0", "07", "23")] == [0, 7, 23]
    for hour in ("24", "-1", "noon", "9" * 19, ""):
        with pytest.raises(InvalidAnswerError, match="for an hour"):
            g.hour_of_day(hour)
