"""Which column: names of all tools, and what is in the columns."""

from __future__ import annotations

import pytest

from engagement_async._ids.columns import best_column, column_number, is_known_name, named_column, rank, strong_share
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "1021817816134156288"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "tweet_id",
            "Tweet id",
            "Tweet ID",
            "TweetID",
            "tweetId",
            "tweet-id",
            "tweet.id",
            "tweetid",
            "Post id",
            "PostId",
        ),
        *("status_id", "ID", "id", "id_str", "ID_STR", "\ufefftweet_id", '"tweet_id"', "rest_id"),
    ],
)
def test_known_names(name: str) -> None:
    assert is_known_name(name)


@pytest.mark.parametrize(
    "name", ["user_id", "author_id", "in_reply_to_status_id", "conversation_id", "text", "", "tweet"]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_known_name(name)


def test_better_names_rank_first() -> None:
    names = ["tweet_id", "status_id", "Post id", "id_str", "id", "permalink"]
    ranks = [rank(name) for name in names]

    assert None not in ranks
    assert ranks == sorted(ranks, key=lambda place: place or 0)


@pytest.mark.parametrize(
    ("names", "samples", "expected"),
    [
        (["id", "tweet_id"], {}, 1),
        (["id", "status_id"], {0: ["1", "2"], 1: [A, B]}, 1),
        (["tweet_id", "id_str"], {0: ["1.07E+18", "1.02E+18"], 1: [A, B]}, 1),
        (["id", "Tweet permalink"], {0: ["1", "2"], 1: [f"https://x.com/a/status/{A}"]}, 1),
        (["id", "tweet"], {0: ["20", "30"], 1: ["hello", "you"]}, 0),
        (["whatever"], {}, 0),
        (["tweet_id", "Tweet id"], {0: [A], 1: [A]}, 0),
    ],
)
def test_the_best_column(names: list[str], samples: dict[int, list[str]], expected: int) -> None:
    assert best_column(names, samples, "a.csv") == expected


@pytest.mark.parametrize(
    ("names", "samples", "message"),
    [
        (["a", "b"], {}, "a.csv: which column holds the IDs. Name it with --id-column: 'a', 'b'"),
        (["tweet_id", "Tweet id"], {0: [A], 1: [B]}, "choose one by its number, --id-column 1 or --id-column 2"),
        (
            ["id", "number"],
            {0: ["1", "2"], 1: [A, B]},
            "'id' holds no IDs, but row numbers or the like, and 'number' may",
        ),
    ],
)
def test_an_unclear_column_is_refused_with_the_fix(
    names: list[str], samples: dict[int, list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        best_column(names, samples, "a.csv")


@pytest.mark.parametrize(
    ("id_column", "expected"), [("b", 1), ("Tweet Id", 2), ("tweet_id", 2), ("1", 0), ("3", 2), ("A", 0)]
)
def test_a_column_by_name_or_number(id_column: str, expected: int) -> None:
    assert named_column(["a", "b", "tweet id"], id_column, "a.csv") == expected


@pytest.mark.parametrize(
    ("id_column", "message"),
    [
        ("c", "has no column 'c', but 'a', 'a'"),
        ("a", "several columns are called 'a'"),
        ("3", "has no column 3, but 2"),
    ],
)
def test_a_column_that_is_not_there(id_column: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        named_column(["a", "a"], id_column, "a.csv")


def test_numbers_and_shares() -> None:
    assert [column_number(text) for text in ("1", "0", "12", "x", A)] == [1, None, 12, None, None]
    assert strong_share(["", A, "7", " "]) == 0.5
    assert strong_share([]) == 0
