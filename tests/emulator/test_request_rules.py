"""Every documented rule of a request's body: each breach, its status and its text."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import ENDPOINTS, HISTORICAL, LAST_28_HOURS, TOTALS, Endpoint
from engagement_async.emulator import INTERPRETATIONS, Interpretation
from engagement_async.emulator.request_rules import Refusal, Request, check_request, hour_of, public_metrics
from tests.support.emulator_requests import NOW, request_body

FOUR = ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]
FOUR_TOO = ["engagement.type", "tweet.id", "engagement.day", "engagement.hour"]
GOOD = request_body(["1"], ["favorites"], {"g": ["tweet.id"]})


def check(
    endpoint: Endpoint,
    body: Any,
    *names: str,
    app_only: bool = False,
    kind: str | None = "application/json",
    now: float = NOW,
) -> Request:
    """Check a body under the named interpretations."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    interpretation = Interpretation.named(*names)
    return check_request(endpoint, data, kind, app_only=app_only, now=now, interpretation=interpretation)


def refused(endpoint: Endpoint, body: Any, *names: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        check(endpoint, body, *names, **options)
    (text,) = caught.value.texts
    return caught.value.status, text


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_the_fullest_request_passes(endpoint: Endpoint) -> None:
    ids = [str(2**63 - 1 - number) for number in range(endpoint.ids_per_request)]
    groupings = {"a": list(endpoint.group_by), "b": ["engagement.type"], "c": ["tweet.id"]}

    request = check(endpoint, request_body(ids, list(endpoint.metrics), groupings))

    assert request.tweet_ids == tuple(ids)
    assert request.engagement_types == endpoint.metrics
    assert request.groupings["a"] == endpoint.group_by


@pytest.mark.parametrize("order", [FOUR, FOUR_TOO], ids=["tweet first", "type first"])
def test_both_orders_of_four_pass(order: list[str]) -> None:
    assert check(LAST_28_HOURS, request_body(["1"], ["favorites"], {"g": order})).groupings["g"] == tuple(order)


def test_unsupported_group_by_has_the_documented_text() -> None:
    assert refused(TOTALS, request_body(["1"], ["favorites"], {"g": ["tweet.id", "engagement.hour"]})) == (
        400,
        "One or more of the groupBys you have specified are not supported: (engagement.hour). "
        "Please adjust your request and try again.",
    )


def test_owner_metrics_with_bearer_have_the_documented_text() -> None:
    body = request_body(["1"], ["impressions", "favorites", "engagements"], {"g": ["tweet.id"]})

    assert refused(TOTALS, body, app_only=True) == (403, "Forbidden to access metrics: impressions, engagements")
    assert check(TOTALS, body).engagement_types == ("impressions", "favorites", "engagements")


TOO_MANY = "groupings must be an object of 1 to 3 named groupings."
NOT_STRINGS = "tweet_ids must be an array of strings."
TOGETHER = "start and end must be given together."
TOO_LONG = "start and end must not be more than 4 weeks apart."
NO_TYPES = "engagement_types must be an array of one or more strings."


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "The request body is not valid JSON."),
        (b"", "The request body is not valid JSON."),
        ([GOOD], "The request body must be a JSON object."),
        ({**GOOD, "tweets": []}, "Unknown fields in the request: tweets."),
        ({**GOOD, "start": "2020-01-01", "end": "2020-01-02"}, "Unknown fields in the request: end, start."),
        ({"tweet_ids": ["1"]}, "Missing fields in the request: engagement_types, groupings."),
        ({**GOOD, "tweet_ids": "1"}, NOT_STRINGS),
        ({**GOOD, "tweet_ids": [1]}, NOT_STRINGS),
        ({**GOOD, "tweet_ids": ["1", 2]}, NOT_STRINGS),
        ({**GOOD, "tweet_ids": []}, "tweet_ids must hold 1 to 25 Tweet IDs, not 0."),
        ({**GOOD, "tweet_ids": ["7"] * 26}, "tweet_ids must hold 1 to 25 Tweet IDs, not 26."),
        ({**GOOD, "tweet_ids": ["01"]}, "Not a Tweet ID: '01'."),
        ({**GOOD, "tweet_ids": [" 1"]}, "Not a Tweet ID: ' 1'."),
        ({**GOOD, "tweet_ids": ["-1"]}, "Not a Tweet ID: '-1'."),
        ({**GOOD, "tweet_ids": ["1\n"]}, "Not a Tweet ID: '1\\n'."),
        ({**GOOD, "tweet_ids": ["١"]}, "Not a Tweet ID: '١'."),
        ({**GOOD, "tweet_ids": [str(2**63)]}, "Not a Tweet ID: '9223372036854775808'."),
        ({**GOOD, "engagement_types": []}, NO_TYPES),
        ({**GOOD, "engagement_types": "favorites"}, NO_TYPES),
        ({**GOOD, "engagement_types": [1]}, NO_TYPES),
        (
            {**GOOD, "engagement_types": ["favorites", "quote_tweets", "likes"]},
            "Engagement types not supported on /insights/engagement/28hr: quote_tweets, likes.",
        ),
        ({**GOOD, "engagement_types": ["favorites", "favorites"]}, "An engagement type is given twice."),
        ({**GOOD, "groupings": {}}, TOO_MANY),
        ({**GOOD, "groupings": [["tweet.id"]]}, TOO_MANY),
        ({**GOOD, "groupings": {name: {"group_by": ["tweet.id"]} for name in "abcd"}}, TOO_MANY),
        ({**GOOD, "groupings": {"": {"group_by": ["tweet.id"]}}}, "Not a name for a grouping: ''."),
        ({**GOOD, "groupings": {"end": {"group_by": ["tweet.id"]}}}, "Not a name for a grouping: 'end'."),
        ({**GOOD, "groupings": {"g": ["tweet.id"]}}, "The grouping 'g' must be an object with group_by alone."),
        ({**GOOD, "groupings": {"g": {}}}, "The grouping 'g' must be an object with group_by alone."),
        ({**GOOD, "groupings": {"g": {"group_by": []}}}, "group_by of 'g' must be an array of one or more strings."),
        (
            request_body(["1"], ["favorites"], {"g": ["tweet.id", "tweet.id"]}),
            "group_by of 'g' has a value twice.",
        ),
        (
            request_body(["1"], ["favorites"], {"g": FOUR[::-1]}),
            "group_by of 'g' has 4 items in an order that is not supported.",
        ),
        (
            request_body(["1"], ["favorites"], {"g": FOUR, "h": FOUR_TOO}),
            "Only one grouping with 4 group_by items is allowed per request.",
        ),
    ],
)
def test_a_breach_is_refused_with_its_text(body: Any, text: str) -> None:
    assert refused(LAST_28_HOURS, body) == (400, text)


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_json_and_the_default_of_curl_pass(kind: str) -> None:
    assert check(TOTALS, GOOD, kind=kind).tweet_ids == ("1",)


@pytest.mark.parametrize(("kind", "shown"), [(None, "absent"), ("text/plain", "text/plain")])
def test_other_content_types_are_refused(kind: str | None, shown: str) -> None:
    with pytest.raises(Refusal) as caught:
        check(TOTALS, GOOD, kind=kind)

    assert caught.value.texts == (f"Content-Type must be application/json, not {shown}.",)


def hours_between(start: str, end: str) -> tuple[int, int]:
    request = check(HISTORICAL, {**GOOD, "start": start, "end": end})
    assert request.start is not None
    assert request.end is not None
    return request.start, request.end - request.start


def test_off_hour_bounds_widen() -> None:
    first = hour_of("2015-07-01T12:00:00Z")

    assert hours_between("2015-07-01T12:24:00Z", "2015-07-02T08:37:00Z") == (first, 21)
    assert hours_between("2015-07-01T12:00:00Z", "2015-07-02T09:00:00Z") == (first, 21)
    assert hours_between("2015-07-01", "2015-07-02") == (first - 12, 24)


def test_four_weeks_and_the_first_day_pass() -> None:
    assert hours_between("2014-09-01", "2014-09-29")[1] == 28 * 24


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"start": "2015-07-01"}, TOGETHER),
        ({"end": "2015-07-01"}, TOGETHER),
        ({"start": "2014-08-31T23:59:59Z", "end": "2014-09-02"}, "start must not be before 2014-09-01."),
        ({"start": "2015-07-01", "end": "2015-07-01"}, "end must be after start."),
        ({"start": "2015-07-02", "end": "2015-07-01"}, "end must be after start."),
        ({"start": "2015-07-01", "end": "2015-07-29T00:00:01Z"}, TOO_LONG),
        ({"start": "2015-07-01T00:30:00Z", "end": "2015-07-29T00:30:00Z"}, TOO_LONG),
        *(
            ({"start": bad, "end": "2015-07-02"}, f"Not an instant (2015-08-01 or 2015-07-01T12:24:00Z): {bad!r}.")
            for bad in ("2015-7-1", "2015-13-01", "2015-07-01T12:24Z", "2015-07-01T12:24:00+00:00", "1435708800")
        ),
    ],
)
def test_bad_bounds_are_refused_with_their_text(bounds: dict[str, Any], text: str) -> None:
    assert refused(HISTORICAL, GOOD | bounds) == (400, text)


# --- the future, and how far back ---

# NOW is 2026-11-21T22:26:40Z.
PAST = {"start": "2026-11-20", "end": "2026-11-21"}
FUTURE = "end must not be in the future."


@pytest.mark.parametrize("end", ["2026-11-21", "2026-11-21T22:00:00Z", "2026-11-21T22:26:40Z", "2026-11-21T22:26:41Z"])
def test_an_end_up_to_now_passes(end: str) -> None:
    assert check(HISTORICAL, GOOD | PAST | {"end": end}, now=NOW + 0.5).end


@pytest.mark.parametrize("end", ["2026-11-22", "2026-11-21T23:00:00Z", "2026-11-21T22:26:42Z", "2026-12-05"])
def test_an_end_in_the_future_is_refused(end: str) -> None:
    body = GOOD | PAST | {"end": end}

    assert refused(HISTORICAL, body, now=NOW + 0.5) == (400, FUTURE)
    assert check(HISTORICAL, body, "future-end", now=NOW + 0.5).end


def test_history_may_be_a_year() -> None:
    old, young = ({"start": f"2025-11-{day}", "end": f"2025-11-{day + 1}"} for day in (21, 22))

    assert check(HISTORICAL, GOOD | old)
    assert check(HISTORICAL, GOOD | young, "history-365-days")
    assert refused(HISTORICAL, GOOD | old, "history-365-days") == (400, "start must not be more than 365 days ago.")


# --- what older clients send ---


def test_ids_may_be_numbers() -> None:
    body = {**GOOD, "tweet_ids": [1260294888811347969, "7", 2**63 - 1]}

    assert refused(HISTORICAL, body) == (400, NOT_STRINGS)
    assert check(HISTORICAL, body, "number-ids").tweet_ids == ("1260294888811347969", "7", str(2**63 - 1))
    for bad in (True, 1.5, None, ["1"]):
        assert refused(HISTORICAL, {**GOOD, "tweet_ids": [bad]}, "number-ids") == (400, NOT_STRINGS)
    assert refused(HISTORICAL, {**GOOD, "tweet_ids": [-1]}, "number-ids") == (400, "Not a Tweet ID: '-1'.")


def test_ids_may_be_padded() -> None:
    assert check(HISTORICAL, {**GOOD, "tweet_ids": ["123\n", " 4"]}, "padded-ids").tweet_ids == ("123", "4")


def test_tweet_id_may_have_a_capital() -> None:
    body = request_body(["1"], ["favorites"], {"g": ["Tweet.id", "engagement.type"]})

    assert refused(TOTALS, body)[1].startswith(
        "One or more of the groupBys you have specified are not supported: (Tweet.id)."
    )
    assert check(TOTALS, body, "capital-tweet-id").groupings == {"g": ("tweet.id", "engagement.type")}
    body = request_body(["1"], ["favorites"], {"g": ["Tweet.id", "tweet.id"]})
    assert refused(TOTALS, body, "capital-tweet-id") == (400, "group_by of 'g' has a value twice.")


@pytest.mark.parametrize(("count", "passes"), [(3, True), (5, True), (10, True), (11, False)])
def test_groupings_may_be_ten(count: int, passes: bool) -> None:
    body = request_body(["1"], ["favorites"], {f"g{number}": ["tweet.id"] for number in range(count)})

    if passes:
        assert len(check(TOTALS, body, "ten-groupings").groupings) == count
    else:
        text = "groupings must be an object of 1 to 10 named groupings."
        assert refused(TOTALS, body, "ten-groupings") == (400, text)


def test_a_metric_may_be_repeated() -> None:
    body = {**GOOD, "engagement_types": ["favorites", "replies", "favorites"]}

    assert check(HISTORICAL, body, "repeated-metrics").engagement_types == ("favorites", "replies")


def test_media_clicks_may_be_a_metric() -> None:
    body = {**GOOD, "engagement_types": ["media_clicks"]}
    text = "Engagement types not supported on /insights/engagement/{}: media_clicks."

    assert refused(HISTORICAL, body) == (400, text.format("historical"))
    assert check(HISTORICAL, body, "media-clicks").engagement_types == ("media_clicks",)
    assert refused(TOTALS, body, "media-clicks") == (400, text.format("totals"))


def test_start_may_stand_alone() -> None:
    request = check(HISTORICAL, {**GOOD, "start": "2026-11-21T12:00:00Z"}, "start-alone")

    assert request.start == hour_of("2026-11-21T12:00:00Z")
    assert request.end == hour_of("2026-11-21T23:00:00Z")
    assert refused(HISTORICAL, {**GOOD, "start": "2026-10-01"}, "start-alone") == (400, TOO_LONG)
    assert refused(HISTORICAL, {**GOOD, "end": "2026-10-01"}, "start-alone") == (400, TOGETHER)


def test_four_weeks_may_be_counted_before_widening() -> None:
    body = {**GOOD, "start": "2015-07-01T12:24:00Z", "end": "2015-07-29T12:24:00Z"}

    assert refused(HISTORICAL, body) == (400, TOO_LONG)
    request = check(HISTORICAL, body, "unwidened-span")
    assert request.start is not None
    assert request.end == request.start + 28 * 24 + 1
    late = {**body, "end": "2015-07-29T12:24:01Z"}
    assert refused(HISTORICAL, late, "unwidened-span") == (400, TOO_LONG)


def test_app_only_credentials_may_ask_public_metrics_of_historical() -> None:
    strict, lenient = Interpretation(), Interpretation.named("bearer-historical")

    assert public_metrics(HISTORICAL, strict) == ()
    assert public_metrics(HISTORICAL, lenient) == ("favorites", "retweets", "replies", "video_views")
    assert public_metrics(LAST_28_HOURS, lenient) == ()
    assert public_metrics(TOTALS, lenient) == TOTALS.public_metrics
    body = {**GOOD, "engagement_types": ["favorites", "impressions"]}
    text = "Forbidden to access metrics: impressions"
    assert refused(HISTORICAL, body, "bearer-historical", app_only=True) == (403, text)


def test_a_request_that_keeps_every_rule_means_the_same_under_every_interpretation() -> None:
    body = request_body(["1", "2"], ["favorites", "impressions"], {"g": FOUR, "h": ["tweet.id"]}, **PAST)

    for name in INTERPRETATIONS:
        assert check(HISTORICAL, body, name) == check(HISTORICAL, body), name


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(list(ENDPOINTS.values())),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["tweet_ids", "engagement_types", "groupings", "start", "end"], json_values)
    ),
)
def test_any_json_is_checked_or_refused(endpoint: Endpoint, body: dict[str, Any]) -> None:
    for names in ((), ("older-clients",)):
        with contextlib.suppress(Refusal):
            assert check(endpoint, body, *names).tweet_ids
