"""What is gathered of data: the grouping that is taken, sums, the top Tweets, and what is not whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engagement_async._core.plots import ALL_METRICS
from engagement_async.reports.tally import MOST_GONE, TOP, Choice, Tally, TweetValues, choose_groupings, values_of

HOURS = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
NEW_YEAR_H = 490_896
"""2026-01-01 00:00 UTC, in hours since the epoch."""


@pytest.mark.parametrize(
    ("levels", "choice"),
    [
        ({"a": HOURS, "b": ("tweet.id", "engagement.type")}, Choice("a", None, None)),
        ({"b": ("tweet.id", "engagement.type"), "c": ("engagement.day", "engagement.hour")}, Choice("b", "c", None)),
        ({"a": ("engagement.type", "engagement.day"), "b": ("engagement.type",)}, Choice(None, "a", None)),
        ({"b": ("engagement.type",)}, Choice(None, None, "b")),
        ({"a": ("tweet.id",), "b": ("engagement.type", "tweet.id")}, Choice("b", None, None)),
        ({"a": ("tweet.id", "engagement.day"), "b": HOURS}, Choice("b", None, None)),
        ({"a": ("owner", "tweet.id", "engagement.type")}, Choice("a", None, None)),
        ({}, Choice(None, None, None)),
    ],
)
def test_of_groupings_that_say_the_same_one_is_taken(levels: dict[str, Sequence[str]], choice: Choice) -> None:
    assert choose_groupings(levels) == choice


@pytest.mark.parametrize(
    ("levels", "grouping", "values"),
    [
        (("tweet.id", "engagement.type"), {"7": {"replies": 3}}, [TweetValues("7", {"replies": 3}, {}, {})]),
        (
            HOURS,
            {"7": {"replies": {"2026-01-01": {"00": 1, "02": 2}}}},
            [TweetValues("7", {"replies": 3}, {"replies": {NEW_YEAR_H: 1, NEW_YEAR_H + 2: 2}}, {})],
        ),
        (
            ("engagement.day", "tweet.id"),
            {"2026-01-02": {"7": 1}, "2026-01-01": {"7": 2}},
            [TweetValues("7", {ALL_METRICS: 3}, {}, {ALL_METRICS: {NEW_YEAR_H + 24: 1, NEW_YEAR_H: 2}})],
        ),
        (("engagement.type",), {"replies": 3}, [TweetValues("", {"replies": 3}, {}, {})]),
        (("tweet.id",), {}, []),
    ],
)
def test_values_come_tweet_by_tweet_whatever_the_nesting(
    levels: Sequence[str], grouping: dict[str, object], values: list[TweetValues]
) -> None:
    assert list(values_of(levels, grouping)) == values


def test_the_top_tweets_are_those_with_the_most() -> None:
    tally = Tally(("replies", "impressions"))
    for number in range(1, TOP + 6):
        tally.add(TweetValues(str(number), {"replies": 100 - number, "impressions": number}, {}, {}))

    assert tally.ranked_by == "impressions"
    assert [tweet.tweet_id for tweet in tally.top] == [str(number) for number in range(TOP + 5, 5, -1)]
    assert tally.sums["impressions"] == sum(range(1, TOP + 6))


def test_tweets_without_engagement_are_no_top_tweets_and_equals_are_in_order_of_time() -> None:
    tally = Tally(("replies",))
    for tweet_id, value in (("9", 5), ("8", 5), ("7", 0)):
        tally.add(TweetValues(tweet_id, {"replies": value}, {}, {}))

    assert [tweet.tweet_id for tweet in tally.top] == ["8", "9"]


@pytest.mark.parametrize(
    ("metrics", "ranked_by"),
    [(("favorites", "engagements"), "engagements"), (("url_clicks", "app_opens"), "url_clicks"), ((), ALL_METRICS)],
)
def test_some_metric_ranks_the_tweets(metrics: tuple[str, ...], ranked_by: str) -> None:
    assert Tally(metrics).ranked_by == ranked_by


def test_hours_that_some_answer_cuts_or_lacks_are_partial() -> None:
    tally = Tally(("replies",))
    tally.add_span(0.0, 5 * 3600)
    tally.add_span(3600.0, 5.5 * 3600)

    assert tally.seen == {0, 1, 2, 3, 4, 5}
    assert tally.partial == {0, 5}


def test_hours_without_a_window_are_whole_unless_they_are_known_to_be_cut() -> None:
    tally = Tally(("replies",))
    tally.add(TweetValues("7", {"replies": 3}, {"replies": {4: 1, 5: 2}}, {}))
    tally.cut.add(5)

    assert tally.seen == {4, 5}
    assert tally.partial == {5}


def test_sums_by_time_do_not_count_twice() -> None:
    tally = Tally(("replies",))
    tally.add(TweetValues("7", {"replies": 3}, {}, {}))
    tally.add_times(TweetValues("", {"replies": 3}, {"replies": {4: 3}}, {}))

    assert tally.sums == {"replies": 3}
    assert tally.by_hour == {"replies": {4: 3}}


def test_the_list_of_gone_ids_is_bounded() -> None:
    tally = Tally(("replies",))
    for number in range(MOST_GONE + 5):
        tally.add_gone(str(number), "a")

    assert len(tally.gone) == MOST_GONE
    assert tally.gone[0] == ("0", "a")
