"""Tables of IDs, and tables of answers: their types, their order, and that their schema never changes."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Answer, Failure, FailureKind, Query, UsageError
from engagement_async._core.columnar import to_columns
from engagement_async.distributed.arrow_tables import answers_table, grouping_of, ids_of, owners_of, schema_of

BY_TWEET = {"by_tweet": ["tweet.id", "engagement.type"]}
QUERY = Query(TOTALS, engagement_types=["favorites", "retweets"], groupings=BY_TWEET)
IDS = ["2124689301193932433", "20"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IDS),
        pa.array(IDS, pa.large_string()),
        pa.array(IDS, pa.string_view()),
        pa.array(IDS).dictionary_encode(),
        pa.array(map(int, IDS), pa.int64()),
        pa.array(map(int, IDS), pa.uint64()),
        pa.array(map(int, IDS), pa.int64()).dictionary_encode(),
        pa.array(map(Decimal, IDS), pa.decimal128(20, 0)),
        pa.chunked_array([IDS[:1], IDS[1:]]),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("name", ["id", "tweet_id"])
def test_ids_of_every_type_are_the_same(column: pa.Array, name: str) -> None:
    assert ids_of(pa.table({"other": [1, 2], name: column})) == IDS


def test_batches_and_empty_columns_are_tables_too() -> None:
    assert ids_of(pa.RecordBatch.from_pydict({"id": IDS})) == IDS
    for kind in (pa.int64(), pa.string(), pa.null(), pa.dictionary(pa.int32(), pa.string())):
        assert ids_of(pa.table({"id": pa.array([], kind)})) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": IDS}, "no column id: it has ids"),
        ({"id": [1.7e18]}, "column id is double, and floats lose the last digits"),
        ({"id": [b"20"]}, "column id is binary"),
        ({"id": [True]}, "column id is bool"),
        ({"id": [20, None]}, r"tweet_ids\[1\] is .*a value is missing"),
        ({"id": [None]}, "a value is missing"),
        ({"id": pa.array([2**63], pa.uint64())}, "no Tweet ID"),
        ({"id": ["20", " 21"]}, r"tweet_ids\[1\].* no Tweet ID"),
        ({"id": [0]}, "no Tweet ID"),
    ],
)
def test_what_is_no_id_is_an_error(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ids_of(pa.table(given))


def test_what_is_no_table_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"pyarrow\.Table, not a list"):
        ids_of([20])


@pytest.mark.parametrize("name", ["id", "tweet_id", "owner"])
def test_of_columns_with_one_name_nobody_knows_which_is_meant(name: str) -> None:
    names = [name, name, "id" if name == "owner" else "other"]
    table = pa.Table.from_arrays([pa.array(IDS), pa.array(IDS), pa.array(IDS)], names=names)

    with pytest.raises(UsageError, match=f"2 columns {name}: which one is meant"):
        owners_of(table) if name == "owner" else ids_of(table)


def test_owners_are_text_one_a_row() -> None:
    assert owners_of(pa.table({"id": IDS})) is None
    assert owners_of(pa.table({"id": IDS, "owner": pa.nulls(2, pa.string())})) is None
    assert owners_of(pa.table({"id": IDS, "owner": pa.array(["a", "b"]).dictionary_encode()})) == ["a", "b"]
    with pytest.raises(UsageError, match="owner is int64"):
        owners_of(pa.table({"id": IDS, "owner": [1, 2]}))
    with pytest.raises(UsageError, match="owner has 1 nulls"):
        owners_of(pa.table({"id": IDS, "owner": ["a", None]}))


@pytest.mark.parametrize(
    ("groupings", "message"),
    [
        ({"a": ["tweet.id"], "b": ["engagement.type"]}, "one grouping, not 2"),
        ({"all": ["engagement.type"]}, "'all' is no grouping by Tweet"),
    ],
)
def test_a_query_has_one_grouping_by_tweet(groupings: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        grouping_of(Query(TOTALS, engagement_types=["favorites"], groupings=groupings))


@pytest.mark.parametrize(
    ("group_by", "wide", "columns"),
    [
        (["tweet.id", "engagement.type"], False, "owner tweet_id engagement_type value"),
        (["engagement.type", "tweet.id"], True, "owner tweet_id favorites retweets"),
        (["tweet.id"], False, "owner tweet_id value"),
        (["owner", "tweet.id", "engagement.type"], False, "owner tweet_id engagement_type value"),
        (
            ["tweet.id", "engagement.type", "engagement.day"],
            False,
            "owner tweet_id engagement_type engagement_day value",
        ),
        (["tweet.id", "engagement.hour"], False, "owner tweet_id engagement_hour engagement_hour_of_day value"),
        (
            ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
            True,
            "owner tweet_id engagement_hour favorites retweets",
        ),
    ],
)
def test_the_columns_of_a_query(group_by: list[str], wide: bool, columns: str) -> None:
    endpoint = LAST_28_HOURS if "engagement.hour" in group_by or "engagement.day" in group_by else TOTALS
    query = Query(endpoint, engagement_types=["favorites", "retweets"], groupings={"it": group_by})

    assert " ".join(schema_of(query, wide=wide).names) == columns + " observed_at state detail"


def test_a_wide_table_needs_metrics() -> None:
    query = Query(TOTALS, engagement_types=["favorites"], groupings={"it": ["tweet.id"]})

    with pytest.raises(UsageError, match="wide table"):
        schema_of(query, wide=True)


def table_of(answers: list[Answer], ids: list[str], *, wide: bool, query: Query = QUERY) -> pa.Table:
    return answers_table([to_columns(answer, query) for answer in answers], query, ids, wide=wide)


@pytest.mark.parametrize("wide", [False, True])
def test_each_id_has_its_place_whatever_came_of_it(wide: bool) -> None:
    values = {"1": {"favorites": 1, "retweets": 2}, "6": {"favorites": 3, "retweets": 4}, "2": {"favorites": 5}}
    answers = [
        Answer(1, ("3", "4", "2"), {"by_tweet": {"2": values["2"]}}, missing_metrics={"retweets": ("2",)}),
        Answer(
            0,
            ("1", "6", "5", "7"),
            {"by_tweet": {"6": values["6"], "1": values["1"]}},
            observed_at=datetime(2026, 11, 1, tzinfo=UTC),
            owner="acme",
            failed_tweet_ids={
                "5": Failure("HTTP 500", kind=FailureKind.SERVER),
                "7": Failure("nobody", kind=FailureKind.OUTAGE),
            },
        ),
    ]
    answers[0] = replace(answers[0], unavailable_tweet_ids=("3",), forbidden_tweet_ids=("4",))
    ids = list("1234567")
    random.Random(1).shuffle(ids)

    table = table_of(answers, ids, wide=wide)

    assert table.schema == schema_of(QUERY, wide=wide)
    assert list(dict.fromkeys(table["tweet_id"].to_pylist())) == ids
    at = {row["tweet_id"]: (row["owner"], row["observed_at"]) for row in table.to_pylist()}
    assert at["1"] == at["6"] == ("acme", datetime(2026, 11, 1, tzinfo=UTC))
    assert at["5"] == ("acme", None)
    assert at["3"] == (None, None)
    found = {row["tweet_id"]: (row["state"], row["detail"]) for row in table.to_pylist()}
    assert found == {
        "1": ("answered", None),
        "2": ("answered", "no retweets"),
        "3": ("unavailable", None),
        "4": ("forbidden", None),
        "5": ("failed", "HTTP 500"),
        "6": ("answered", None),
        "7": ("pending", None),
    }
    if wide:
        assert table.num_rows == len(ids)
        numbers = {row["tweet_id"]: (row["favorites"], row["retweets"]) for row in table.to_pylist()}
        assert numbers == {**dict.fromkeys("3457", (None, None)), "1": (1, 2), "6": (3, 4), "2": (5, None)}
    else:
        numbers = {(row["tweet_id"], row["engagement_type"]): row["value"] for row in table.to_pylist()}
        expected: dict[Any, Any] = {(i, kind): value for i, kinds in values.items() for kind, value in kinds.items()}
        expected |= dict.fromkeys([(i, None) for i in "3457"])
        assert numbers == expected


@pytest.mark.parametrize("wide", [False, True])
def test_the_schema_is_the_same_when_nobody_has_a_value(wide: bool) -> None:
    answer = Answer(0, ("1", "2"), {"by_tweet": {}}, unavailable_tweet_ids=("1", "2"))

    table = table_of([answer], ["2", "1"], wide=wide)

    assert table.schema == schema_of(QUERY, wide=wide)
    assert table.select(["tweet_id", "state"]).to_pydict() == {"tweet_id": ["2", "1"], "state": ["unavailable"] * 2}


@pytest.mark.parametrize("has_days", [False, True])
def test_hours_stand_under_their_day_where_the_api_gives_it(has_days: bool) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"it": ["tweet.id", "engagement.hour"]})
    hours = {"07": 3, "08": 4}
    nested = Answer(0, ("1",), {"it": {"1": {"2026-01-02": hours} if has_days else hours}})

    table = table_of([nested], ["1"], wide=False, query=query)

    assert table.schema == schema_of(query, wide=False)
    assert table["value"].to_pylist() == [3, 4]
    assert table["engagement_hour_of_day"].null_count == (2 if has_days else 0)
    assert table["engagement_hour"].null_count == (0 if has_days else 2)
