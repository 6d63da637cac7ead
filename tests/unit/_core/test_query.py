"""Every documented rule of a request, checked before it is made."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise, permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, BearerCredentials, OAuth1Credentials, Query, UsageError
from engagement_async._core.endpoints import ENDPOINTS, Endpoint
from engagement_async._core.query import FULL_ORDERS, fake_zeros_in
from engagement_async.client import check_query

BY_TWEET = {"by_tweet": ["tweet.id", "engagement.type"]}


def test_the_endpoints_are_the_documented_ones() -> None:
    table = {e.name: (e.path, e.ids_per_request, len(e.metrics), len(e.group_by)) for e in ENDPOINTS.values()}

    assert table == {
        "totals": ("/insights/engagement/totals", 250, 7, 2),
        "28hr": ("/insights/engagement/28hr", 25, 17, 4),
        "historical": ("/insights/engagement/historical", 25, 17, 4),
    }


def test_the_body_is_the_documented_one() -> None:
    query = Query(TOTALS, engagement_types=["favorites", "retweets"], groupings=BY_TWEET)

    assert orjson.loads(query.body(["123", "456"])) == {
        "tweet_ids": ["123", "456"],
        "engagement_types": ["favorites", "retweets"],
        "groupings": {"by_tweet": {"group_by": ["tweet.id", "engagement.type"]}},
    }


def test_a_span_is_sent_as_it_was_given() -> None:
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings=BY_TWEET,
        start="2015-08-01",
        end=datetime(2015, 8, 15, 14, 24, tzinfo=timezone(timedelta(hours=2))),
    )

    body = orjson.loads(query.body(["1"]))

    assert (body["start"], body["end"]) == ("2015-08-01", "2015-08-15T12:24:00Z")


@pytest.mark.parametrize(
    ("endpoint", "change", "told"),
    [
        (TOTALS, {"engagement_types": []}, "engagement_types is empty: name at least one of impressions"),
        (TOTALS, {"engagement_types": "favorites"}, r"one string: write \['favorites'\]"),
        (
            TOTALS,
            {"engagement_types": ["likes"]},
            r"totals has no metric 'likes' \(did you mean 'favorites'\?\): take engagement_types from",
        ),
        (TOTALS, {"engagement_types": ["url_clicks"]}, "totals has no metric 'url_clicks'"),
        (LAST_28_HOURS, {"engagement_types": ["quote_tweets"]}, "28hr has no metric 'quote_tweets'"),
        (TOTALS, {"engagement_types": ["favorites", "favorites"]}, "names favorites twice"),
        (TOTALS, {"groupings": {}}, "1 to 3 groupings, not 0"),
        (TOTALS, {"groupings": {n: ["tweet.id"] for n in "abcd"}}, "1 to 3 groupings, not 4"),
        (TOTALS, {"groupings": [["tweet.id"]]}, "a dict of name to group_by list"),
        (TOTALS, {"groupings": {"": ["tweet.id"]}}, "non-empty string"),
        (TOTALS, {"groupings": {"errors": ["tweet.id"]}}, "a key of the API's own answers: choose another"),
        (TOTALS, {"groupings": {"a": []}}, "grouping 'a' is empty"),
        (TOTALS, {"groupings": {"a": "tweet.id"}}, "takes a list of values"),
        (TOTALS, {"groupings": {"a": {"group_by": ["tweet.id"]}}}, "takes a list of values"),
        (TOTALS, {"groupings": {"a": ["engagement.day"]}}, "totals cannot group by 'engagement.day'"),
        (TOTALS, {"groupings": {"a": ["tweet.id", "tweet.id"]}}, "names tweet.id twice"),
        (LAST_28_HOURS, {"groupings": {n: list(FULL_ORDERS[0]) for n in "ab"}}, "only one grouping may have four"),
        (LAST_28_HOURS, {"start": "2020-01-01", "end": "2020-01-02"}, "takes no start and end: ask historical"),
        (HISTORICAL, {"start": "2020-01-01"}, "start and end go together"),
        (HISTORICAL, {"end": "2020-01-01"}, "start and end go together"),
        (HISTORICAL, {"start": "2014-08-31", "end": "2020-01-01"}, "before 2014-09-01"),
        (HISTORICAL, {"start": "2020-01-02", "end": "2020-01-02"}, "is not after start"),
        (HISTORICAL, {"start": "2020-01-01T00:00", "end": "2020-01-02"}, "write 2015-08-01 or"),
        (HISTORICAL, {"start": "2020-02-30", "end": "2020-03-02"}, "no day or time of the calendar"),
        (HISTORICAL, {"start": datetime(2020, 1, 1), "end": "2020-03-02"}, "has no time zone"),
        (HISTORICAL, {"start": 20200101, "end": "2020-03-02"}, "is no bound in time"),
    ],
)
def test_each_breach_is_told_with_its_mend(endpoint: Endpoint, change: dict[str, Any], told: str) -> None:
    options: dict[str, Any] = {"engagement_types": ["favorites"], "groupings": {"a": ["tweet.id"]}, **change}

    with pytest.raises(UsageError, match=told) as error:
        Query(endpoint, **options)

    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("order", list(permutations(FULL_ORDERS[0])))
def test_four_items_are_taken_in_two_orders_alone(order: tuple[str, ...]) -> None:
    options: dict[str, Any] = {"engagement_types": ["favorites"], "groupings": {"all": order}}

    if order in FULL_ORDERS:
        assert Query(LAST_28_HOURS, **options).groupings == {"all": order}
    else:
        with pytest.raises(UsageError, match="two orders alone"):
            Query(LAST_28_HOURS, **options)


def test_bearer_may_ask_public_metrics_of_totals_alone() -> None:
    bearer, owner = BearerCredentials("token"), OAuth1Credentials("a", "b", "c", "d")
    public = Query(TOTALS, engagement_types=list(TOTALS.public_metrics), groupings=BY_TWEET)
    private = Query(TOTALS, engagement_types=["favorites", "impressions"], groupings=BY_TWEET)
    last = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings=BY_TWEET)

    for query in (public, private, last):
        check_query(query, owner)
    check_query(public, bearer)
    with pytest.raises(UsageError, match="public metrics only, not impressions"):
        check_query(private, bearer)
    with pytest.raises(UsageError, match="28hr needs OAuth"):
        check_query(last, bearer)


hours = st.integers(0, 24 * 365 * 10).map(lambda n: datetime(2014, 9, 1, tzinfo=UTC) + timedelta(hours=n))
seconds = st.integers(0, 3599).map(lambda n: timedelta(seconds=n))


@given(hours, seconds, st.integers(1, 24 * 400), seconds)
def test_a_long_span_is_split_without_gap_or_overlap(
    hour: datetime, late: timedelta, length: int, later: timedelta
) -> None:
    start, end = hour + late, hour + timedelta(hours=length) + later
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET, start=start, end=end)
    widened_end = hour + timedelta(hours=length + (1 if later else 0))

    parts = query.spans()

    bounds = [tuple(datetime.fromisoformat(str(at)) for at in (part.start, part.end)) for part in parts]
    if widened_end - hour <= timedelta(weeks=4):
        assert parts == (query,)
        return
    assert (bounds[0][0], bounds[-1][1]) == (hour, widened_end)
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    assert all(timedelta(0) < end - start <= timedelta(weeks=4) for start, end in bounds)
    assert len(parts) == -((hour - widened_end) // timedelta(weeks=4)), "as few as can be"


@given(hours, st.integers(24 * 28 + 1, 24 * 27 * 8))
def test_a_long_span_is_cut_at_midnight_where_that_costs_nothing(hour: datetime, length: int) -> None:
    end = hour + timedelta(hours=length)
    parts = Query(HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET, start=hour, end=end).spans()
    slack = len(parts) * timedelta(weeks=4) - timedelta(hours=length)

    at_midnight = [str(part.end).endswith("T00:00:00Z") for part in parts[:-1]]

    assert all(at_midnight) or slack < timedelta(hours=hour.hour)


def test_a_date_means_its_first_hour() -> None:
    query = Query(
        HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET, start=date(2020, 1, 1), end=date(2020, 2, 1)
    )

    assert [(part.start, part.end) for part in query.spans()] == [
        ("2020-01-01T00:00:00Z", "2020-01-29T00:00:00Z"),
        ("2020-01-29T00:00:00Z", "2020-02-01T00:00:00Z"),
    ]


NOW = datetime(2026, 11, 25, 18, 20, tzinfo=UTC)


def over(start: Any, end: Any) -> Query:
    return Query(HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET, start=start, end=end)


@pytest.mark.parametrize("end", ["2026-11-25", "2026-11-25T17:30:00Z", "2026-11-25T18:00:00Z"])
def test_a_span_of_the_past_is_left_as_it_is(end: str) -> None:
    query = over("2026-11-20", end)

    assert query.clipped_to(NOW) is query


@pytest.mark.parametrize("end", ["2026-11-25T18:00:01Z", "2026-11-25T18:20:00Z", "2026-11-26", "2030-01-01"])
def test_an_end_in_the_future_is_cut_to_the_full_hour(end: str) -> None:
    query = over("2026-11-20", end).clipped_to(NOW.astimezone(timezone(timedelta(hours=5))))

    assert query == over("2026-11-20", "2026-11-25T18:00:00Z")


@pytest.mark.parametrize("start", ["2026-11-25T18:00:00Z", "2026-11-25T18:10:00Z", "2026-11-26"])
def test_a_span_without_a_full_hour_of_the_past_is_refused(start: str) -> None:
    with pytest.raises(UsageError, match="Let it start earlier"):
        over(start, "2030-01-01").clipped_to(NOW)


def test_without_bounds_there_is_nothing_to_cut() -> None:
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET)

    assert query.clipped_to(NOW) is query


@pytest.mark.parametrize(
    ("span", "types", "fake"),
    [
        (("2015-09-01", "2015-09-15"), ["favorites", "impressions"], (("favorites",), True)),
        (("2015-09-14", "2015-09-15T00:01:00Z"), ["retweets"], (("retweets",), False)),
        (("2015-09-15", "2015-10-01"), ["favorites"], None),
        (("2015-09-01", "2015-09-15"), ["impressions"], None),
    ],
)
def test_metrics_were_not_counted_from_the_first_day_on(span: Any, types: list[str], fake: Any) -> None:
    query = Query(HISTORICAL, engagement_types=types, groupings=BY_TWEET, start=span[0], end=span[1])

    found = fake_zeros_in(query)

    assert (found and (found.metrics, found.covers_span)) == fake
    assert fake_zeros_in(Query(TOTALS, engagement_types=["favorites"], groupings=BY_TWEET)) is None
