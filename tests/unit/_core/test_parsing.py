"""What replies mean: documented answers, every shape that was seen, and those that must be refused."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Query
from engagement_async._core.answer import Answer
from engagement_async._core.merging import Merger
from engagement_async._core.parsing import ParsedResponse, ResponseParser
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.refusals import RefusedIdsError
from engagement_async._core.result import EngagementResult
from engagement_async.errors import (
    AccessRefusedError,
    APIError,
    AuthError,
    InvalidAnswerError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    ServerRefusedError,
)

SAMPLES = Path(__file__).parents[2] / "samples"
FULL = ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]


def sample(name: str) -> dict[str, Any]:
    return json.loads((SAMPLES / f"{name}.json").read_text())  # type: ignore[no-any-return]


def totals(*types: str, **groupings: list[str]) -> ResponseParser:
    return ResponseParser(
        Query(
            TOTALS,
            engagement_types=types or ["favorites"],
            groupings=groupings or {"g": ["tweet.id", "engagement.type"]},
        )
    )


def read(reader: ResponseParser, ids: list[str], body: Any, status: int = 200) -> ParsedResponse:
    return reader.parse(0, tuple(ids), status, {}, json.dumps(body).encode())


def result_of(reader: ResponseParser, answer: Answer) -> EngagementResult:
    merger = Merger(reader.query)
    merger.add(answer)
    return merger.result()


def stringified(value: Any) -> Any:
    """One documented example has a bare integer among its strings."""
    if isinstance(value, dict):
        return {key: stringified(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, int) else value


@pytest.mark.parametrize(
    ("name", "endpoint", "types", "groupings"),
    [
        ("28hr-example", LAST_28_HOURS, ["impressions", "engagements"], {"hourly-time-series": FULL}),
        (
            "28hr-unavailable",
            LAST_28_HOURS,
            ["favorites", "replies", "retweets"],
            {"group1": ["tweet.id", "engagement.type"]},
        ),
        (
            "totals-public",
            TOTALS,
            list(TOTALS.public_metrics),
            {"perTweetMetricsUnowned": ["tweet.id", "engagement.type"]},
        ),
        ("totals-owner", TOTALS, list(TOTALS.metrics), {"perTweetMetricsOwned": ["tweet.id", "engagement.type"]}),
        (
            "totals-unavailable",
            TOTALS,
            ["favorites", "replies", "retweets", "quote_tweets"],
            {"group1": ["tweet.id", "engagement.type"]},
        ),
    ],
)
def test_documented_answers_come_back_equal(name: str, endpoint: Any, types: Any, groupings: Any) -> None:
    documented = sample(name)
    reader = ResponseParser(Query(endpoint, engagement_types=types, groupings=groupings))
    grouping = next(iter(groupings))
    ids = [*documented[grouping], *documented.get("unavailable_tweet_ids", [])]

    reading = read(reader, ids, documented)

    assert result_of(reader, reading.answer).to_response() == stringified(documented)
    assert reading.missing == ()


def test_leaves_are_integers_whatever_they_were() -> None:
    body = {
        "g": {"1": {"favorites": "12"}, "2": {"favorites": 26}, "3": {"favorites": "-4"}, "4": {"favorites": "9" * 18}}
    }

    answer = read(totals(), ["1", "2", "3", "4"], body).answer

    assert answer.groupings["g"] == {
        "1": {"favorites": 12},
        "2": {"favorites": 26},
        "3": {"favorites": -4},
        "4": {"favorites": int("9" * 18)},
    }


@pytest.mark.parametrize(
    ("grouping", "rows"),
    [
        (
            {"1": {"2016-02-10": {"17": "3"}, "2016-02-11": {"00": "4"}}},
            [
                {"tweet_id": "1", "engagement_hour": datetime(2016, 2, 10, 17, tzinfo=UTC), "value": 3},
                {"tweet_id": "1", "engagement_hour": datetime(2016, 2, 11, 0, tzinfo=UTC), "value": 4},
            ],
        ),
        (
            {"1": {"00": "4", "23": "5"}},
            [
                {"tweet_id": "1", "engagement_hour_of_day": 0, "value": 4},
                {"tweet_id": "1", "engagement_hour_of_day": 23, "value": 5},
            ],
        ),
    ],
)
def test_hours_without_days_are_read_in_both_shapes(grouping: Any, rows: Any) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["tweet.id", "engagement.hour"]})
    reader = ResponseParser(query)

    answer = read(reader, ["1"], {"g": grouping}).answer

    assert list(result_of(reader, answer).rows("g")) == rows
    assert result_of(reader, answer).to_arrow("g").to_pylist() == rows


def test_hours_above_the_tweets_are_read_in_both_shapes() -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["engagement.hour", "tweet.id"]})
    for body in ({"2016-02-10": {"17": {"1": "3", "9": "8"}}}, {"17": {"1": "3", "9": "8"}}):
        reading = read(ResponseParser(query), ["1", "2"], {"g": body})

        assert "9" not in json.dumps(reading.answer.groupings)
        assert reading.missing == ("2",)


def test_what_was_not_asked_is_left_out() -> None:
    body = {
        "g": {"1": {"favorites": "1"}, "666": {"favorites": "9"}},
        "unavailable_tweet_ids": ["2", "667"],
        "something": {"new": [1, 2]},
    }

    reading = read(totals(), ["1", "2"], body)

    assert reading.answer.groupings == {"g": {"1": {"favorites": 1}}}
    assert reading.answer.unavailable_tweet_ids == ("2",)


def test_a_fake_zero_is_no_value() -> None:
    reader = totals("favorites", "video_views", a=["tweet.id", "engagement.type"], b=["engagement.type", "tweet.id"])
    body = {
        "a": {"1": {"favorites": "1", "video_views": "0"}, "2": {"favorites": "2", "video_views": "5"}},
        "b": {"favorites": {"1": "1", "2": "2"}, "video_views": {"1": "0", "2": "5"}},
        "unsupported_for_video_views_tweet_ids": ["1"],
    }

    answer = read(reader, ["1", "2"], body).answer

    assert answer.groupings == {
        "a": {"1": {"favorites": 1}, "2": {"favorites": 2, "video_views": 5}},
        "b": {"favorites": {"1": 1, "2": 2}, "video_views": {"2": 5}},
    }
    assert answer.unsupported_tweet_ids == {"video_views": ("1",)}
    assert result_of(reader, answer).outcomes["answered"] == 2


def test_a_tweet_without_any_supported_metric_is_unsupported() -> None:
    reader = totals("video_views", a=["tweet.id"], b=["tweet.id", "engagement.type"])
    body = {
        "a": {"1": "0", "2": "5"},
        "b": {"1": {"video_views": "0"}, "2": {"video_views": "5"}},
        "unsupported_for_video_views_tweet_ids": ["1"],
    }

    answer = read(reader, ["1", "2"], body).answer
    result = result_of(reader, answer)

    assert answer.groupings == {"a": {"2": 5}, "b": {"2": {"video_views": 5}}}
    assert result.outcomes == {"answered": 1, "unavailable": 0, "unsupported": 1, "forbidden": 0, "failed": 0}


def test_all_ids_gone_needs_no_grouping() -> None:
    for status in (200, 400):
        reading = read(totals(), ["1", "2"], {"unavailable_tweet_ids": ["2", "1"]}, status)

        assert reading.answer.unavailable_tweet_ids == ("1", "2")
        assert (reading.missing, reading.retry_without_metrics) == ((), ())


def test_a_400_that_lists_some_leaves_the_others_to_be_asked() -> None:
    body = {"errors": ["1 Tweet ID(s) are unavailable"], "unavailable_tweet_ids": ["2"]}

    reading = read(totals(), ["1", "2", "3"], body, 400)

    assert reading.answer.tweet_ids == ("2",)
    assert reading.missing == ("1", "3")
    assert reading.from_error_status


def test_forbidden_texts_beside_data_are_taken_at_their_word() -> None:
    body = {"errors": ["Forbidden to access tweets: 2,3"], "g": {"1": {"favorites": "1"}}}

    answer = read(totals(), ["1", "2", "3"], body).answer

    assert answer.forbidden_tweet_ids == ("2", "3")
    assert answer.notes == ()


def test_a_rate_limit_beside_whole_data_is_a_note() -> None:
    body = {"errors": ["You are close to your rate limit"], "g": {"1": {"favorites": "1"}}}

    answer = read(totals(), ["1"], body).answer

    assert answer.groupings == {"g": {"1": {"favorites": 1}}}
    assert answer.notes == ("You are close to your rate limit",)


def test_other_texts_beside_data_are_kept_as_notes() -> None:
    body = {"errors": ["A new kind of remark"], "g": {"1": {"favorites": "1"}}}

    assert read(totals(), ["1"], body).answer.notes == ("A new kind of remark",)


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    "text",
    [
        "Forbidden to access tweets: 1,3",
        "Forbidden to access tweets:1,3;",
        "Forbidden to access tweets 1,3",
        "forbidden to access Tweets : 1 , 3 .",
        "Forbidden to access tweets: [1, 3]",
        "Forbidden to access tweets: '1', \"3\"",
        "Forbidden to access tweets with ids 1 and 3. Ask for 2 things",
        "Forbidden to access tweets for author id 2: 1, 3",
        "Forbidden to access tweets for author id 2: 1; for author id 9: 3",
    ],
)
def test_a_refusal_that_names_forbidden_ids_leaves_the_others_to_be_asked(status: int, text: str) -> None:
    reading = read(totals(), ["1", "2", "3"], {"errors": [text]}, status)

    assert reading.answer.forbidden_tweet_ids == ("1", "3")
    assert reading.missing == ("2",)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Tweet ID(s) are unavailable", ["1"]),
        ("1 Tweet ID(s) are unavailable", ["1"]),
        ("3 Tweet ID(s) are unavailable", ["1", "2", "3"]),
    ],
)
def test_ids_that_are_unavailable_without_a_list_are_so_when_no_doubt_is_left(text: str, ids: list[str]) -> None:
    """As for protected Tweets."""
    reading = read(totals(), ids, {"errors": [text]}, 400)

    assert reading.answer.unavailable_tweet_ids == reading.answer.tweet_ids == tuple(ids)
    assert reading.missing == ()
    assert reading.from_error_status


def test_data_beside_an_error_status_is_no_answer() -> None:
    body = {"errors": ["1 Tweet ID(s) are unavailable"], "unavailable_tweet_ids": ["2"], "g": {"1": {"favorites": "1"}}}

    reading = read(totals(), ["1", "2"], body, 400)

    assert reading.answer.groupings == {}
    assert reading.missing == ("1",)


ACCESS = [
    b"",
    b"<html><h1>403 Forbidden</h1></html>",
    b"Access denied",
    {"title": "Client Forbidden", "detail": "This request must be made using an approved developer account."},
    {
        "title": "UsageCapExceeded",
        "detail": "Usage cap exceeded: Monthly product cap",
        "type": "https://x/usage-capped",
    },
    {
        "errors": [
            {"message": "If you need access to this endpoint, you may need a different access level", "code": 453}
        ]
    },
    {"errors": [{"title": "Forbidden", "detail": "Your client app is not configured for this", "code": 87}]},
    {"errors": ["You may need a different access level"]},
    {"error": "This application has been suspended"},
    {"message": "Your account does not have any credits", "code": 1},
]


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("body", ACCESS, ids=repr)
def test_a_refusal_that_is_not_about_ids_says_so_in_the_api_s_own_words(status: int, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    with pytest.raises(AccessRefusedError) as error:
        totals().parse(0, ("1", "2"), status, {}, raw)

    assert error.value.status == status
    for text in error.value.texts:
        assert text in str(error.value)
    if not isinstance(body, bytes):
        assert error.value.texts


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"errors": ["no"]},
        {"errors": ["no"], "title": "Invalid Request"},
        {"title": "Invalid Request", "detail": "One or more parameters to your request was invalid.", "type": "x"},
        {"errors": [{"message": "Tweet 2 is strange", "code": 144}]},
        {"error": {"message": "bad"}},
    ],
    ids=repr,
)
def test_a_refusal_that_may_be_about_ids_is_looked_into(body: Any) -> None:
    with pytest.raises(RefusedIdsError):
        read(totals(), ["1", "2"], body, 400)


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Tweet 3 is strange", ("3",)),
        ("Bad request", ()),
        ("Forbidden to access tweets: 17,18", ()),
        ("Forbidden to access tweets for author id 2: 11", ()),
        ("2 Tweet ID(s) are malformed", ()),
        ("1 Tweet ID(s) are unavailable", ()),
    ],
)
def test_other_refusals_name_ids_or_do_not(status: int, text: str, named: tuple[str, ...]) -> None:
    with pytest.raises(RefusedIdsError) as error:
        read(totals(), ["1", "2", "3"], {"errors": [text]}, status)

    assert error.value.named == named
    assert error.value.status == status


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"errors": ["Your account could not be authenticated. Reason: Access token not found"]}, AuthError),
        (403, {"errors": ["your application id is not authorized."]}, AuthError),
        (200, {"errors": ["Your account could not be authenticated."]}, AuthError),
        (403, {"errors": ["Forbidden to access metrics: retweets"]}, RequestRefusedError),
        (
            400,
            {"errors": ["One or more of the groupBys you have specified are not supported: (x)."]},
            RequestRefusedError,
        ),
        (405, {}, RequestRefusedError),
        (402, {"title": "CreditsDepleted", "detail": "no credits"}, AccessRefusedError),
        (403, {"errors": [{"message": "over", "code": 88}]}, RateLimitedError),
        (403, {"errors": [{"message": "no", "code": 89}]}, AuthError),
        (400, {"errors": [{"message": "busy", "code": 130}]}, ServerError),
        (404, {"errors": [{"message": "Sorry, that page does not exist", "code": 34}]}, ServerRefusedError),
        (406, {"errors": ["This request requires gzip compression."]}, ServerRefusedError),
        (302, {}, ServerRefusedError),
        (429, {}, RateLimitedError),
        (200, {"errors": ["Rate limit exceeded"]}, RateLimitedError),
        (200, {"errors": ["Rate limit exceeded"], "g": {"2": {"favorites": "1"}}}, RateLimitedError),
        (200, {"title": "UsageCapExceeded", "detail": "rate limit"}, RateLimitedError),
        (420, {"errors": ["Too Many Requests"]}, RateLimitedError),
        (500, {}, ServerError),
        (503, {}, ServerError),
        (408, {}, ServerError),
        (520, {}, ServerError),
        (200, {"errors": ["internal server error"]}, ServerError),
        (204, {}, InvalidAnswerError),
        (200, {}, InvalidAnswerError),
        (200, [], InvalidAnswerError),
        (200, {"g": []}, InvalidAnswerError),
        (200, {"g": {"1": "5"}}, InvalidAnswerError),
        (200, {"g": {"1": {"favorites": True}}}, InvalidAnswerError),
        (200, {"g": {"1": {"favorites": [1]}}}, InvalidAnswerError),
        (200, {"g": {"1": {"favorites": "many"}}}, InvalidAnswerError),
        (200, {"g": {"1": {"favorites": 1.5}}}, InvalidAnswerError),
        (200, {"g": {"1": {"favorites": "1"}}, "unavailable_tweet_ids": "1"}, InvalidAnswerError),
    ],
)
def test_each_status_and_text_has_its_error(status: int, body: Any, kind: type[APIError]) -> None:
    with pytest.raises(kind):
        read(totals(), ["1"], body, status)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"g": {', b"\xff\xfe", b'{"g": {}} x', b'{"g":' + b"[" * 10**5])
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        totals().parse(0, ("1",), 200, {}, body)


def test_a_null_makes_its_tweet_missing_and_no_other() -> None:
    reader = totals("favorites", "replies", a=["tweet.id", "engagement.type"], b=["engagement.type", "tweet.id"])
    body = {
        "a": {"1": {"favorites": "1", "replies": "2"}, "2": {"favorites": None, "replies": "2"}},
        "b": {"favorites": {"1": "1", "2": None}, "replies": {"1": "2", "2": "2"}},
    }

    reading = read(reader, ["1", "2"], body)

    assert reading.missing == ("2",)
    assert reading.answer.groupings == {
        "a": {"1": {"favorites": 1, "replies": 2}},
        "b": {"favorites": {"1": 1}, "replies": {"1": 2}},
    }


def test_a_null_among_sums_is_no_answer() -> None:
    reader = totals("favorites", by_tweet=["tweet.id"], total=["engagement.type"])

    with pytest.raises(InvalidAnswerError, match="null among its sums"):
        read(reader, ["1"], {"by_tweet": {"1": "5"}, "total": {"favorites": None}})


def test_a_tweet_without_any_value_is_missing() -> None:
    reading = read(totals(), ["1", "2"], {"g": {"1": {"favorites": "1"}, "2": {}}})

    assert reading.missing == ("2",)
    assert reading.answer.groupings == {"g": {"1": {"favorites": 1}}}


def test_a_summed_grouping_that_is_left_out_is_no_zero() -> None:
    reader = totals("favorites", by_tweet=["tweet.id"], total=["engagement.type"])

    with pytest.raises(InvalidAnswerError, match="leaves out the grouping 'total'"):
        read(reader, ["1", "2"], {"by_tweet": {"1": "5"}, "unavailable_tweet_ids": ["2"]})


DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, RateHeaders()),
        ({"retry-after": "12"}, RateHeaders(retry_after_s=12.0)),
        ({"retry-after": "1.5"}, RateHeaders(retry_after_s=1.5)),
        ({"retry-after": "-1"}, RateHeaders()),
        ({"retry-after": "nan"}, RateHeaders()),
        ({"retry-after": "1e9"}, RateHeaders()),
        ({"retry-after": "soon"}, RateHeaders()),
        (
            {"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT", "date": DATE},
            RateHeaders(retry_after_s=60.0, date=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        (
            {"x-per-minute-remaining": "7", "x-per-second-remaining": "0"},
            RateHeaders(minute_remaining=7, second_remaining=0),
        ),
        ({"x-per-minute-remaining": "-7"}, RateHeaders()),
        ({"x-per-minute-remaining": "٣"}, RateHeaders()),
        (
            {"x-per-minute-reset": "1767225630", "date": DATE},
            RateHeaders(minute_reset_s=30.0, date=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        ({"x-per-minute-reset": "1767225630"}, RateHeaders()),  # never against the local clock
        ({"date": "yesterday"}, RateHeaders()),
    ],
)
def test_rate_headers_parse_themselves_and_ignore_nonsense(headers: dict[str, str], expected: RateHeaders) -> None:
    actual = RateHeaders.from_headers(headers)

    assert actual == expected


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_huge_errors_field_is_not_built(status: int) -> None:
    body = b'{"errors":[' + b"[]," * 1_000_000 + b"[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(APIError):
            totals().parse(0, ("1",), status, {}, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * len(body)
