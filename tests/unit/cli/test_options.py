"""What the shared options make: a query with its defaults, and the list of distinct IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, Query, UsageError
from engagement_async.cli.backfill.export import export as export_job
from engagement_async.cli.fetch import fetch
from engagement_async.cli.options import LISTED_REJECTS, make_query, read_distinct
from engagement_async.cli.report import Mode, Reporter
from engagement_async.cli.series.export import export as export_series


def query(endpoint: Any = TOTALS, **options: Any) -> Query:
    return make_query(endpoint, **{"metrics": (), "group_by": (), "start": None, "end": None} | options)


@pytest.mark.parametrize(
    ("command", "rule"),
    [(fetch, "json on stdout"), (export_job, "needed on stdout"), (export_series, "needed on stdout")],
    ids=["fetch", "backfill", "series"],
)
def test_help_names_the_default_format_on_stdout_where_there_is_one(command: click.Command, rule: str) -> None:
    (option,) = (option for option in command.params if option.name == "format_")
    assert isinstance(option, click.Option)
    assert rule in str(option.help)


def test_by_default_all_metrics_are_asked_in_every_detail() -> None:
    assert query().engagement_types == TOTALS.metrics
    assert query().groupings == {"by_tweet_type": ("tweet.id", "engagement.type")}
    assert query(LAST_28_HOURS).groupings == {
        "by_tweet_type_day_hour": ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
    }


def test_a_bearer_token_asks_public_metrics() -> None:
    assert query(app_only=True).engagement_types == TOTALS.public_metrics
    assert query(app_only=True, metrics=["impressions"]).engagement_types == ("impressions",)


def test_metrics_are_split_and_stripped() -> None:
    assert query(metrics=["favorites, replies", "retweets,"]).engagement_types == ("favorites", "replies", "retweets")


def test_groupings_have_the_name_that_is_given_or_one_of_their_values() -> None:
    found = query(group_by=["mine=tweet.id", "engagement.type, tweet.id"]).groupings

    assert found == {"mine": ("tweet.id",), "by_type_tweet": ("engagement.type", "tweet.id")}


def test_two_groupings_of_a_name_are_refused_with_the_fix() -> None:
    with pytest.raises(UsageError, match=r"name one of them, as --group-by other=tweet.id"):
        query(group_by=["tweet.id", "tweet.id"])


def test_bounds_go_into_the_query() -> None:
    found = query(HISTORICAL, start="2020-01-01", end="2020-01-02")

    assert (found.start, found.end) == ("2020-01-01", "2020-01-02")


def read(*given: str, files: tuple[str, ...] = (), strict: bool = False) -> tuple[list[str], int]:
    return read_distinct(given, files, id_column=None, ids_format=None, strict=strict, reporter=Reporter(Mode.LINES))


def test_ids_of_arguments_and_files_are_distinct_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("300000000\n20\n40\n")

    assert read("20", "20", files=(str(tmp_path / "ids.txt"),)) == (["20", "300000000", "40"], 0)


def test_of_many_bad_lines_the_first_are_shown_and_the_rest_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = LISTED_REJECTS + 3
    (tmp_path / "ids.txt").write_text("20\n" + "x\n" * bad)

    assert read(files=(str(tmp_path / "ids.txt"),)) == (["20"], bad)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == LISTED_REJECTS + 2
    assert shown[-1] == "and 3 more lines are not Tweet IDs"


@pytest.mark.parametrize(
    ("given", "text", "strict", "message"),
    [
        (["12x"], None, False, "'12x' is not a Tweet ID"),
        ([], None, False, "which Tweets"),
        ([], "\n", False, "there is no Tweet ID in"),
        ([], "20\nx\n", True, "'x' is not a Tweet ID"),
    ],
)
def test_what_cannot_be_read_is_refused(
    given: list[str], text: str | None, strict: bool, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "ids.txt"
    if text is not None:
        path.write_text(text)

    with pytest.raises(UsageError, match=message):
        read(*given, files=() if text is None else (str(path),), strict=strict)
