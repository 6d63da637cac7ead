"""The levels of a saved result are seen by its keys."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from engagement_async import UsageError
from engagement_async.reports.levels import groupings_of, levels_of

KEYS = {
    "tweet.id": ["17", "1070059276213702656"],
    "engagement.type": ["replies", "app_opens"],
    "engagement.day": ["2026-03-02", "2026-03-01"],
    "engagement.hour": ["23", "00"],
}


def nested(levels: tuple[str, ...]) -> Any:
    return {key: nested(levels[1:]) for key in KEYS[levels[0]]} if levels else "3"


@pytest.mark.parametrize("levels", [order for n in (1, 2, 3, 4) for order in permutations(KEYS, n)], ids=" ".join)
def test_levels_are_seen_in_any_order(levels: tuple[str, ...]) -> None:
    assert levels_of(nested(levels)) == levels


@pytest.mark.parametrize(
    ("grouping", "levels"),
    [
        ({}, ()),
        ({"17": {}}, ("engagement.hour",)),  # no value says more
        ({"1070059276213702656": {"20": {"replies": 1}}}, ("tweet.id", "engagement.hour", "engagement.type")),
        ({"<b>": {"replies": 1}}, ("owner", "engagement.type")),
        ({"a": {"1070059276213702656": {"replies": 1}}}, ("owner", "tweet.id", "engagement.type")),
    ],
)
def test_what_is_rare_is_seen_too(grouping: dict[str, Any], levels: tuple[str, ...]) -> None:
    assert levels_of(grouping) == levels


def test_a_saved_result_has_groupings_with_integers() -> None:
    document = {
        "start": "2026-03-01T00:00:00Z",
        "end": "2026-03-02T00:00:00Z",
        "unavailable_tweet_ids": ["5"],
        "unsupported_for_impressions_tweet_ids": ["6"],
        "<script>": {"replies": "12"},
    }

    assert groupings_of(document) == {"<script>": (("engagement.type",), {"replies": 12})}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "neither groupings nor IDs"),
        ({"a": 3}, "'a' is no grouping"),
        ({"a": {"replies": "many"}}, "no number of engagements: 'many'"),
        ({"a": {"replies": 1, "favorites": {"2026-03-01": 1}}}, "not equally deep"),
        ({"a": {"x": {"y": 1}}}, "levels that the API does not have"),
    ],
)
def test_another_document_is_refused(document: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        groupings_of(document)
