"""Charts: what a panel says of its axes, and `EngagementResult.plot` as a notebook and a file have it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, Answer, EngagementResult, Merger, Query, UsageError
from engagement_async._core.answer import Window
from engagement_async._core.charts import plot
from engagement_async._core.plots import Axis, PlotData, Point

START = datetime(2026, 5, 1, 9, tzinfo=UTC)
HOURS = {"2026-05-01": {"09": 1, "10": 2, "11": 3}}
GROUPINGS = {
    "by_hour": ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    "by_tweet": ("tweet.id", "engagement.type"),
    "by_metric": ("engagement.type",),
}


def result_of(*, observed_at: datetime = START + timedelta(hours=3)) -> EngagementResult:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["replies", "favorites"], groupings=GROUPINGS))
    groupings: dict[str, Any] = {
        "by_hour": {"17": {"replies": HOURS, "favorites": HOURS}},
        "by_tweet": {"17": {"replies": 6, "favorites": 6}},
        "by_metric": {"replies": 6, "favorites": 6},
    }
    window = Window(START, START + timedelta(hours=3))
    merger.add(Answer(0, ("17",), groupings, windows=(window,), observed_at=observed_at))
    return merger.result()


def test_hours_have_a_panel_a_metric_with_labelled_axes() -> None:
    spec = result_of().plot("by_hour").to_dict()

    assert [panel["title"] for panel in spec["vconcat"]] == ["replies an hour", "favorites an hour"]
    assert [panel["encoding"]["x"]["axis"]["title"] for panel in spec["vconcat"]] == [None, "hour (UTC)"]
    assert spec["vconcat"][0]["encoding"]["x"]["scale"] == {"type": "utc"}
    assert [row["value"] for row in spec["vconcat"][0]["data"]["values"]] == [1, 2, 3]


@pytest.mark.parametrize(("minutes", "partial"), [(180, [False, False, False]), (150, [False, False, True])])
def test_the_hour_that_was_running_when_it_was_seen_is_pale(minutes: int, partial: list[bool]) -> None:
    spec = result_of(observed_at=START + timedelta(minutes=minutes)).plot("by_hour").to_dict()

    assert [row["partial"] for row in spec["vconcat"][0]["data"]["values"]] == partial


def test_metrics_are_chosen_and_ordered() -> None:
    spec = result_of().plot("by_hour", metrics=["favorites"], width=300).to_dict()

    assert [panel["title"] for panel in spec["vconcat"]] == ["favorites an hour"]
    assert spec["vconcat"][0]["width"] == 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"grouping": "by_day"}, "by_hour, by_tweet, by_metric"),
        ({"grouping": "by_hour", "metrics": ["likes"]}, "no metric 'likes' in this result: it has replies, favorites"),
    ],
)
def test_what_cannot_be_plotted_is_an_error(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        result_of().plot(**arguments)


def test_a_result_without_values_says_so() -> None:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["replies"], groupings=GROUPINGS))
    merger.add(Answer(0, ("17",), {name: {} for name in GROUPINGS}, unavailable_tweet_ids=("17",)))

    with pytest.raises(UsageError, match="no value of replies in 'by_hour'"):
        merger.result().plot("by_hour")


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_a_chart_becomes_a_picture(grouping: str, tmp_path: Path) -> None:
    result_of().plot(grouping).save(tmp_path / "chart.svg")

    text = (tmp_path / "chart.svg").read_text()
    assert text.startswith("<svg")
    assert "NaN" not in text


@pytest.mark.parametrize("axis", [Axis.TWEETS, Axis.OWNERS, Axis.METRICS])
def test_a_hostile_name_is_a_label(axis: Axis, tmp_path: Path) -> None:
    data = PlotData(axis, {"</text><script>alert(1)</script>": [Point("<script>alert(2)</script>", 3)]})

    plot(data, width=200).save(tmp_path / "chart.svg")

    assert "<script" not in (tmp_path / "chart.svg").read_text()


def test_more_points_than_bars_are_an_area() -> None:
    points = [Point(START + timedelta(hours=n), n) for n in range(300)]

    spec = plot(PlotData(Axis.HOURS, {"replies": points}), width=200).to_dict()

    assert spec["vconcat"][0]["mark"]["type"] == "area"


def test_without_altair_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['altair'] = None\n"
        "from engagement_async import UsageError\n"
        "try:\n    import engagement_async._core.charts\n"
        "except UsageError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'engagement-async[report]'" in done.stdout
