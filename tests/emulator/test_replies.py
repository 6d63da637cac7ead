"""What is answered: windows, nesting, sums, kinds of Tweets, and each interpretation of the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.emulator import Interpretation, Refusal, World, tweet_ids
from engagement_async.emulator.metrics import life, value
from engagement_async.emulator.replies import reply_to
from engagement_async.emulator.request_rules import Request
from tests.support.emulator_requests import NOW

IDS = tweet_ids(6, newest_at=NOW, oldest_at=NOW - 40 * 3600)
OLD = tweet_ids(2, 1, newest_at=NOW - 91 * 86400, oldest_at=NOW - 200 * 86400)
OLD_TEXT = "Impressions & engagements for tweets older than 90 days (2026-08-23T22:26:40Z) are not supported"


def answer(
    endpoint: str,
    ids: list[str],
    types: list[str],
    groupings: dict[str, list[str]],
    *,
    world: World | None = None,
    interpretation: Interpretation | None = None,
    now: float = NOW,
    start: int | None = None,
    end: int | None = None,
    app_only: bool = False,
    user_id: str | None = None,
) -> tuple[int, dict[str, Any]]:
    request = Request(
        ENDPOINTS[endpoint],
        tuple(ids),
        tuple(types),
        {name: tuple(values) for name, values in groupings.items()},
        start,
        end,
    )
    reply = reply_to(
        request,
        world or World(unavailable_fraction=0),
        interpretation or Interpretation(),
        now,
        app_only=app_only,
        user_id=user_id,
    )
    return reply.status, reply.body


def flat(nested: dict[str, Any], levels: list[str]) -> dict[frozenset[tuple[str, str]], int]:
    """Every leaf by its keys, whatever the order of nesting."""
    if not levels:
        raise AssertionError("a grouping has levels")
    found = {}
    for key, inner in nested.items():
        if len(levels) == 1:
            found[frozenset({(levels[0], key)})] = inner
        else:
            found |= {keys | {(levels[0], key)}: leaf for keys, leaf in flat(inner, levels[1:]).items()}
    return found


def test_the_window_of_the_reference_example() -> None:
    now = datetime(2015, 9, 15, 21, 40, tzinfo=UTC).timestamp()

    _, body = answer(
        "28hr",
        ["123456789"],
        ["impressions", "engagements"],
        {"hourly-time-series": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
        now=now,
    )

    days = {
        "2015-09-14": [f"{hour:02d}" for hour in range(17, 24)],
        "2015-09-15": [f"{hour:02d}" for hour in range(22)],
    }
    series = {day: dict.fromkeys(hours, 0) for day, hours in days.items()}
    assert body == {
        "start": "2015-09-14T17:00:00Z",
        "end": "2015-09-15T22:00:00Z",
        "hourly-time-series": {"123456789": {"engagements": series, "impressions": series}},
    }


def test_the_window_moves_on_at_the_full_hour() -> None:
    hour = NOW // 3600 * 3600
    windows = {
        now: answer("28hr", IDS, ["favorites"], {"g": ["tweet.id"]}, now=now)[1]["start"]
        for now in (hour, hour + 3599.9, hour + 3600)
    }

    assert windows[hour] == windows[hour + 3599.9] != windows[hour + 3600]


def test_a_window_of_28_hours() -> None:
    _, body = answer(
        "28hr", IDS, ["favorites"], {"g": ["engagement.hour"]}, interpretation=Interpretation(window_hours=28)
    )

    assert sum(len(hours) for hours in body["g"].values()) == 28


def test_the_window_of_the_second_reference_example() -> None:
    """2015-11-17T22:00 to 2015-11-19T02:00, recorded at 02:27:50: whole hours, the current one left out."""
    now = datetime(2015, 11, 19, 2, 27, 50, tzinfo=UTC).timestamp()

    _, body = answer(
        "28hr",
        ["323456789"],
        ["favorites"],
        {"group1": ["engagement.hour"]},
        interpretation=Interpretation.named("window-28-past"),
        now=now,
    )

    assert (body["start"], body["end"]) == ("2015-11-17T22:00:00Z", "2015-11-19T02:00:00Z")
    assert sum(len(hours) for hours in body["group1"].values()) == 28


@pytest.mark.parametrize(
    ("endpoint", "start"), [("historical", "2016-01-12T20:00:00Z"), ("28hr", "2016-02-08T15:00:00Z")]
)
def test_end_may_be_the_instant_of_the_answer(endpoint: str, start: str) -> None:
    """As recorded on historical: 2016-01-12T20:00 to 2016-02-09T19:43."""
    now = datetime(2016, 2, 9, 19, 43, tzinfo=UTC).timestamp()
    by_hour = {"g": ["engagement.day", "engagement.hour"]}
    seconds = Interpretation.named("end-now")

    _, body = answer(endpoint, IDS, ["favorites"], by_hour, interpretation=seconds, now=now + 0.7)
    _, usual = answer(endpoint, IDS, ["favorites"], by_hour, now=now)

    assert (body["start"], body["end"]) == (start, "2016-02-09T19:43:00Z")
    assert usual["end"] == "2016-02-09T20:00:00Z"
    assert body | {"end": ""} == usual | {"end": ""}


def test_an_end_in_the_past_is_a_full_hour_all_the_same() -> None:
    end = int(NOW // 3600) - 5
    seconds = Interpretation.named("end-now")

    _, body = answer(
        "historical", IDS, ["favorites"], {"g": ["tweet.id"]}, interpretation=seconds, start=end - 9, end=end
    )

    assert body["end"] == "2026-11-21T17:00:00Z"


def test_totals_are_the_hours_of_a_young_tweet() -> None:
    young = tweet_ids(5, newest_at=NOW, oldest_at=NOW - 24 * 3600)
    by_tweet = {"g": ["tweet.id", "engagement.type"]}
    types = ["impressions", "engagements", "favorites", "video_views"]

    assert answer("totals", young, types, by_tweet)[1]["g"] == answer("28hr", young, types, by_tweet)[1]["g"]


def test_totals_are_the_whole_life_of_a_grown_tweet() -> None:
    grown = tweet_ids(5, newest_at=NOW - 30 * 86400, oldest_at=NOW - 60 * 86400)
    _, body = answer("totals", grown, ["impressions"], {"g": ["tweet.id"]})

    assert body["g"] == {tweet_id: life(0, int(tweet_id)).impressions for tweet_id in grown}


orders = [list(order) for size in (1, 2, 3, 4) for order in permutations(ENDPOINTS["28hr"].group_by, size)]


@given(
    st.sampled_from(orders),
    st.sampled_from(["dated", "bare"]),
    st.lists(st.sampled_from(IDS), min_size=1, unique=True),
    st.lists(st.sampled_from(["impressions", "favorites", "url_clicks"]), min_size=1, unique=True),
    st.integers(1, 60),
    st.integers(-50, 3),
)
def test_every_grouping_is_the_sum_of_its_hours(
    order: list[str], hours: Any, ids: list[str], types: list[str], span: int, shift: int
) -> None:
    start = int(NOW // 3600) + shift
    _, body = answer(
        "historical",
        ids,
        types,
        {"g": order},
        interpretation=Interpretation(hours=hours),
        start=start,
        end=start + span,
    )

    levels = list(order)
    if "engagement.hour" in order and "engagement.day" not in order and hours == "dated":
        levels.insert(levels.index("engagement.hour"), "engagement.day")
    wanted: dict[frozenset[tuple[str, str]], int] = {}
    for tweet_id in ids:
        for metric in types:
            for hour in range(start, start + span):
                moment = datetime.fromtimestamp(hour * 3600, UTC)
                keys = {
                    "tweet.id": tweet_id,
                    "engagement.type": metric,
                    "engagement.day": f"{moment:%Y-%m-%d}",
                    "engagement.hour": f"{moment:%H}",
                }
                counted = value(0, tweet_id, metric, hour) if hour <= NOW // 3600 else 0
                key = frozenset((level, keys[level]) for level in levels)
                wanted[key] = wanted.get(key, 0) + counted

    assert flat(body["g"], levels) == wanted


def test_history_counts_favorites_replies_and_retweets_since_2015_09_15() -> None:
    newest = datetime(2015, 9, 14, 12, tzinfo=UTC).timestamp()
    ids = tweet_ids(25, newest_at=newest, oldest_at=newest - 5 * 86400)
    types = ["impressions", "favorites", "replies", "retweets", "url_clicks"]
    start, end = int(newest // 3600) - 120, int(newest // 3600) + 120
    change = int(datetime(2015, 9, 15, tzinfo=UTC).timestamp()) // 3600

    _, body = answer("historical", ids, types, {"g": ["engagement.type", "engagement.day"]}, start=start, end=end)

    for metric, days in body["g"].items():
        by_day: dict[str, int] = {}
        for hour in range(start, end):
            if metric in ("favorites", "replies", "retweets") and hour < change:
                continue
            day = datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%d")
            by_day[day] = by_day.get(day, 0) + sum(value(0, tweet_id, metric, hour) for tweet_id in ids)
        assert {day: count for day, count in days.items() if count} == {d: c for d, c in by_day.items() if c}
    assert not any(body["g"]["favorites"][f"2015-09-{day}"] for day in (10, 11, 12, 13, 14))
    assert body["g"]["favorites"]["2015-09-15"] > 0
    assert body["g"]["url_clicks"]["2015-09-13"] > 0


def test_media_clicks_are_media_engagements() -> None:
    many = tweet_ids(25, newest_at=NOW, oldest_at=NOW - 40 * 3600)
    _, body = answer("28hr", many, ["media_clicks", "media_engagements"], {"g": ["tweet.id", "engagement.type"]})

    assert any(metrics["media_clicks"] for metrics in body["g"].values())
    assert all(metrics["media_clicks"] == metrics["media_engagements"] for metrics in body["g"].values())


def test_bounds_of_four_weeks_when_none_are_given() -> None:
    _, body = answer("historical", IDS, ["favorites"], {"g": ["engagement.hour"]})

    assert sum(len(hours) for hours in body["g"].values()) == 28 * 24


def test_unavailable_tweets_stand_beside_the_data() -> None:
    world = World(unavailable={IDS[0], IDS[1]}, unavailable_fraction=0)

    status, body = answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world)

    assert status == 200
    assert body["unavailable_tweet_ids"] == sorted(IDS[:2])
    assert body["errors"] == ["2 Tweet ID(s) are unavailable"]
    assert set(body["g"]) == set(IDS[2:])


def test_the_documented_text_of_one_unavailable_tweet() -> None:
    world = World(unavailable={IDS[0]}, unavailable_fraction=0)

    assert answer("28hr", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world)[1]["errors"] == [
        "1 Tweet ID(s) are unavailable"
    ]


@pytest.mark.parametrize(("reading", "status"), [("200", 200), ("400-when-none-left", 400), ("400", 400)])
def test_no_tweet_left(reading: Any, status: int) -> None:
    world = World(unavailable=set(IDS), unavailable_fraction=0)

    found, body = answer(
        "totals",
        IDS,
        ["favorites"],
        {"g": ["tweet.id"]},
        world=world,
        interpretation=Interpretation(unavailable=reading),
    )

    assert found == status
    assert body == {"unavailable_tweet_ids": sorted(IDS), "errors": ["6 Tweet ID(s) are unavailable"]}


def test_unavailable_tweets_may_be_a_400_without_a_list() -> None:
    world = World(unavailable={IDS[0]}, unavailable_fraction=0)
    unlisted = Interpretation.named("unavailable-unlisted")

    with pytest.raises(Refusal) as caught:
        answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world, interpretation=unlisted)

    assert (caught.value.status, caught.value.texts) == (400, ("Tweet ID(s) are unavailable",))
    assert answer("totals", IDS[1:], ["favorites"], {"g": ["tweet.id"]}, world=world, interpretation=unlisted)[0] == 200


def test_a_tweet_of_the_future_is_unavailable() -> None:
    future = tweet_ids(1, newest_at=NOW + 1000, oldest_at=NOW + 10)

    assert answer("totals", future, ["favorites"], {"g": ["tweet.id"]})[1]["unavailable_tweet_ids"] == future


def test_fractions_are_kept_and_pure() -> None:
    many = tweet_ids(4000, newest_at=NOW)
    world = World(seed=5, unavailable_fraction=0.1, forbidden_fraction=0.2)
    gone = [tweet_id for tweet_id in many if world.is_unavailable(tweet_id, NOW)]
    forbidden = [tweet_id for tweet_id in many if world.author_of_forbidden(tweet_id)]

    assert 300 < len(gone) < 500
    assert 650 < len(forbidden) < 950
    assert gone == [tweet_id for tweet_id in many if world.is_unavailable(tweet_id, NOW)]


def test_no_metric_is_shown_in_old_tweets_where_it_has_no_value() -> None:
    status, body = answer("totals", [*IDS, *OLD], ["impressions", "favorites"], {"g": ["tweet.id", "engagement.type"]})

    assert status == 200
    assert body["unsupported_for_impressions_engagements_tweet_ids"] == sorted(OLD)
    assert body["errors"] == [OLD_TEXT]
    assert [set(body["g"][tweet_id]) for tweet_id in OLD] == [{"favorites"}, {"favorites"}]
    assert all(set(body["g"][tweet_id]) == {"favorites", "impressions"} for tweet_id in IDS)


@pytest.mark.parametrize(
    ("reading", "mixed", "alone"), [("200", 200, 200), ("400-when-none-left", 200, 400), ("400", 400, 400)]
)
def test_statuses_beside_old_tweets(reading: Any, mixed: int, alone: int) -> None:
    def status(ids: list[str]) -> int:
        interpretation = Interpretation(unsupported=reading)
        return answer("totals", ids, ["impressions"], {"g": ["tweet.id"]}, interpretation=interpretation)[0]

    assert (status([*IDS, *OLD]), status(OLD)) == (mixed, alone)


def test_the_rule_of_90_days_is_of_totals_alone() -> None:
    assert "errors" not in answer("28hr", OLD, ["impressions"], {"g": ["tweet.id"]})[1]


def test_tweets_over_1800_days_old_show_a_fake_zero() -> None:
    videos = [
        tweet_id
        for tweet_id in tweet_ids(60, newest_at=NOW - 1801 * 86400)
        if life(0, int(tweet_id)).total("video_views")
    ]
    status, body = answer(
        "totals", [*videos, *OLD], ["video_views", "favorites"], {"g": ["tweet.id", "engagement.type"]}
    )

    assert videos
    assert status == 200
    assert body["unsupported_for_video_views_tweet_ids"] == sorted(videos)
    assert "errors" not in body
    assert {body["g"][tweet_id]["video_views"] for tweet_id in videos} == {0}


def test_forbidden_tweets_refuse_the_request_whole() -> None:
    world = World(unavailable_fraction=0, forbidden={IDS[1]: "18435372", IDS[0]: "18435372", IDS[2]: "7"})

    with pytest.raises(Refusal) as caught:
        answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world)

    assert caught.value.status == 403
    assert caught.value.texts == (f"Forbidden to access tweets: {','.join(sorted(IDS[:3]))}",)


def test_forbidden_tweets_by_author() -> None:
    world = World(unavailable_fraction=0, forbidden={IDS[1]: "18435372", IDS[0]: "18435372", IDS[2]: "7"})

    with pytest.raises(Refusal) as caught:
        answer(
            "totals",
            IDS,
            ["favorites"],
            {"g": ["tweet.id"]},
            world=world,
            interpretation=Interpretation(forbidden="authors"),
        )

    assert caught.value.texts == (
        f"Forbidden to access tweets for author id 18435372: {', '.join(sorted(IDS[:2]))}",
        f"Forbidden to access tweets for author id 7: {IDS[2]}",
    )


def test_public_metrics_of_others_with_bearer() -> None:
    world = World(unavailable_fraction=0, forbidden={IDS[0]: "1"})

    assert answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world, app_only=True)[0] == 200


def test_a_deleted_tweet_is_nobodys() -> None:
    world = World(unavailable={IDS[0]}, unavailable_fraction=0, forbidden={IDS[0]: "1"})

    assert answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world)[0] == 200


def test_a_rejected_tweet_is_not_named() -> None:
    world = World(unavailable_fraction=0, rejected={IDS[0]})

    with pytest.raises(Refusal) as caught:
        answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world)

    assert (caught.value.status, caught.value.texts) == (400, ("The request could not be processed.",))
