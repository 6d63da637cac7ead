"""What is answered: windows, nesting, sums, kinds of Tweets, and each reading of what the documentation leaves open."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.emulator import Readings, Refusal, World, tweet_ids
from engagement_async.emulator.metrics import life, value
from engagement_async.emulator.replies import reply_to
from engagement_async.emulator.request_rules import Request
from tests.support.emulator_requests import NOW

IDS = tweet_ids(6, newest_at=NOW, oldest_at=NOW - 40 * 3600)
OLD = tweet_ids(2, 1, newest_at=NOW - 91 * 86400, oldest_at=NOW - 200 * 86400)
ANCIENT = tweet_ids(2, 2, newest_at=NOW - 1801 * 86400, oldest_at=NOW - 2000 * 86400)
OLD_TEXT = "Impressions & engagements for tweets older than 90 days (TIME_PERIOD) are not supported"


def answer(
    endpoint: str,
    ids: list[str],
    types: list[str],
    groupings: dict[str, list[str]],
    *,
    world: World | None = None,
    readings: Readings | None = None,
    now: float = NOW,
    start: int | None = None,
    end: int | None = None,
    app_only: bool = False,
) -> tuple[int, dict[str, Any]]:
    request = Request(
        ENDPOINTS[endpoint],
        tuple(ids),
        tuple(types),
        {name: tuple(values) for name, values in groupings.items()},
        start,
        end,
    )
    reply = reply_to(request, world or World(unavailable_fraction=0), readings or Readings(), now, app_only=app_only)
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
    _, body = answer("28hr", IDS, ["favorites"], {"g": ["engagement.hour"]}, readings=Readings(window_hours=28))

    assert sum(len(hours) for hours in body["g"].values()) == 28


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
        "historical", ids, types, {"g": order}, readings=Readings(hours=hours), start=start, end=start + span
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
        "totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world, readings=Readings(unavailable=reading)
    )

    assert found == status
    assert body == {"unavailable_tweet_ids": sorted(IDS), "errors": ["6 Tweet ID(s) are unavailable"]}


def test_a_tweet_of_the_future_is_unavailable() -> None:
    future = tweet_ids(1, newest_at=NOW + 1000, oldest_at=NOW + 10)

    assert answer("totals", future, ["favorites"], {"g": ["tweet.id"]})[1]["unavailable_tweet_ids"] == future


def test_fractions_are_kept_and_pure() -> None:
    many = tweet_ids(4000, newest_at=NOW)
    world = World(seed=5, unavailable_fraction=0.1, forbidden_fraction=0.2)
    gone = [tweet_id for tweet_id in many if world.is_unavailable(tweet_id, NOW)]
    foreign = [tweet_id for tweet_id in many if world.author_of_forbidden(tweet_id)]

    assert 300 < len(gone) < 500
    assert 650 < len(foreign) < 950
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
        readings = Readings(unsupported=reading)
        return answer("totals", ids, ["impressions"], {"g": ["tweet.id"]}, readings=readings)[0]

    assert (status([*IDS, *OLD]), status(OLD)) == (mixed, alone)


def test_the_rule_of_90_days_is_of_totals_alone() -> None:
    assert "errors" not in answer("28hr", OLD, ["impressions"], {"g": ["tweet.id"]})[1]


def test_ancient_tweets_show_a_fake_zero() -> None:
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
        answer("totals", IDS, ["favorites"], {"g": ["tweet.id"]}, world=world, readings=Readings(forbidden="authors"))

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
