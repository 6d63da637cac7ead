"""What is answered: windows, nesting, sums, kinds of Tweets, and each interpretation of the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from engagement_async.emulator import Interpretation, Refusal, World, tweet_ids
from engagement_async.emulator.metrics import life
from tests.support.emulator_requests import NOW, answer

IDS = tweet_ids(6, newest_at=NOW, oldest_at=NOW - 40 * 3600)


OLD = tweet_ids(2, 1, newest_at=NOW - 91 * 86400, oldest_at=NOW - 200 * 86400)


OLD_TEXT = "Impressions & engagements for tweets older than 90 days (2026-08-23T22:26:40Z) are not supported"


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
