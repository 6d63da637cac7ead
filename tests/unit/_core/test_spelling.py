"""What a misspelt name may have meant."""

from __future__ import annotations

import pytest

from engagement_async._core.spelling import did_you_mean


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("favourites", " (did you mean 'favorites'?)"),
        ("FAVORITES", " (did you mean 'favorites'?)"),
        ("likes", " (did you mean 'favorites'?)"),
        ("replys", " (did you mean 'replies'?)"),
        ("xyz", ""),
        (3, ""),
        (None, ""),
    ],
)
def test_a_name_like_a_known_one_is_told(name: object, said: str) -> None:
    assert did_you_mean(name, ("favorites", "replies"), also_called={"likes": "favorites"}) == said


def test_another_word_counts_only_where_the_name_is_known() -> None:
    assert did_you_mean("likes", ("impressions",), also_called={"likes": "favorites"}) == ""
