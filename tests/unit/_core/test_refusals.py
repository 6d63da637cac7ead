"""Texts of the API: which IDs they name, and what an error's body says in any of its shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engagement_async._core.refusals import (
    ErrorReport,
    are_all_unavailable,
    error_for_status,
    error_for_texts,
    ids_forbidden_by,
    ids_named_by,
    read_errors,
    summarize,
)
from engagement_async.errors import AuthError, RateLimitedError, ServerError

TWEET, OTHER, AUTHOR = "640026211712786432", "640026277605339136", "18435372"


@pytest.mark.parametrize(
    "text",
    [
        f"Forbidden to access tweets: {TWEET},{OTHER}",
        f"Forbidden to access tweets for author id {AUTHOR}: {TWEET}, {OTHER}",
        f"Forbidden to access tweets for author id {AUTHOR}: {TWEET}; for author id {AUTHOR}1: {OTHER};",
        f'FORBIDDEN TO ACCESS TWEETS ["{TWEET}","{OTHER}"]',
        f"Forbidden to access tweets: {TWEET}. Forbidden to access tweets: {OTHER}",
        f"Forbidden to access tweets: {TWEET} and {OTHER}. See https://example.com/123 or call 456",
    ],
)
def test_forbidden_ids_are_read_in_any_punctuation(text: str) -> None:
    assert ids_forbidden_by([text]) == {TWEET, OTHER}


@pytest.mark.parametrize("text", ["", "Forbidden to access metrics: 1", "Forbidden", f"Tweet {TWEET} is gone"])
def test_other_texts_forbid_nothing(text: str) -> None:
    assert ids_forbidden_by([text]) == set()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"Tweet {TWEET}: bad", {TWEET}),
        (f"[{TWEET},{OTHER}]", {TWEET, OTHER}),
        (f"tweets:{TWEET}", {TWEET}),
        (f"Forbidden to access tweets for author id {AUTHOR}: {TWEET}", {TWEET}),
        ("2 Tweet ID(s) are malformed", set()),
        ("Tweets older than 90 days (2026-08-27T16:00:00Z) are not supported", set()),
        ("request 3f7a-12-9 failed after 12 seconds, version 1.25", set()),
        ("1234567890123456789012345", set()),
    ],
)
def test_numbers_that_are_no_ids_blame_no_tweet(text: str, named: set[str]) -> None:
    assert ids_named_by([text]) == named


@pytest.mark.parametrize(
    ("text", "count", "all_of_them"),
    [
        ("Tweet ID(s) are unavailable", 1, True),
        ("Tweet ID(s) are unavailable", 2, False),
        ("2 Tweet ID(s) are unavailable", 2, True),
        ("2 Tweet IDs are unavailable", 3, False),
        ("The service is unavailable", 1, False),
    ],
)
def test_a_text_without_a_list_is_of_all_ids_when_no_doubt_is_left(text: str, count: int, all_of_them: bool) -> None:
    assert are_all_unavailable([text], count) is all_of_them


@pytest.mark.parametrize(
    ("body", "report"),
    [
        ({"errors": ["a", "b"]}, ErrorReport(("a", "b"), is_json=True)),
        ({"errors": "a"}, ErrorReport(("a",), is_json=True)),
        ({"errors": [{"message": "a", "code": 34}]}, ErrorReport(("a",), frozenset({34}), is_json=True)),
        ({"errors": [{"title": "a", "detail": "b"}]}, ErrorReport(("a: b",), is_json=True)),
        ({"errors": [None, 3, {}, [], "a"]}, ErrorReport(("a",), frozenset({3}), is_json=True)),
        ({"error": "a"}, ErrorReport(("a",), is_json=True)),
        ({"error": {"message": "a", "code": 9}}, ErrorReport(("a",), frozenset({9}), is_json=True)),
        ({"message": "a", "code": 9}, ErrorReport(("a",), frozenset({9}), is_json=True)),
        ({"title": "a", "detail": "b"}, ErrorReport(("a: b",), is_json=True, is_problem=True)),
        ({"type": "about:blank", "detail": "b"}, ErrorReport(("b",), is_json=True, is_problem=True)),
        ({"title": "Invalid Request", "detail": "b"}, ErrorReport(("Invalid Request: b",), is_json=True)),
        ({"title": "T", "errors": ["a"]}, ErrorReport(("T", "a"), is_json=True, is_problem=True)),
        ({}, ErrorReport(is_json=True)),
        ({"errors": None, "detail": 5}, ErrorReport(is_json=True)),
    ],
)
def test_the_body_of_an_error_is_read_in_every_shape_that_was_seen(body: Any, report: ErrorReport) -> None:
    assert read_errors(json.dumps(body).encode()) == report


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"no"', b"\xff", b"{"])
def test_what_is_no_json_object_says_nothing(body: bytes) -> None:
    assert read_errors(body) == ErrorReport()


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("Rate limit exceeded", None, RateLimitedError),
        ("x", 88, RateLimitedError),
        ("Your account could not be authenticated. Reason: Unknown Authorization Type", None, AuthError),
        ("x", 89, AuthError),
        ("Internal Server Error", None, ServerError),
        ("x", 131, ServerError),
        ("no", 144, type(None)),
    ],
)
def test_some_texts_and_codes_mean_the_same_with_any_status(text: str, code: int | None, kind: type) -> None:
    for status in (200, 400, 403):
        error = error_for_texts(status, (text,), frozenset() if code is None else frozenset({code}))

        assert type(error) is kind


@pytest.mark.parametrize("text", ["Timestamp out of bounds.", "Reason: Unknown Authorization Type;", "no"])
def test_words_that_end_a_sentence_are_not_ended_twice(text: str) -> None:
    error = error_for_status(401, ErrorReport(texts=(text,)))

    assert str(error) == f"the credentials were refused: {text.rstrip('.;')}. Check keys and tokens"
    assert error.texts == (text,)


def test_long_words_are_cut() -> None:
    assert len(summarize(400, ("x" * 10_000,))) == 300
