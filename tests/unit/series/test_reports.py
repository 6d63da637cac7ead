"""What a series says of itself in a notebook: bounded, escaped, and never an error or a wait."""

from __future__ import annotations

from datetime import timedelta
from html import unescape
from pathlib import Path
from re import sub
from unittest.mock import patch

from engagement_async import Failure, FailureKind
from engagement_async.series import EngagementSeries, Gap, PullReport, SeriesStatus
from engagement_async.series.database import Database, opened
from engagement_async.series.reports import gap_text, series_facts
from engagement_async.series.spans import HOUR
from tests.support.series import METRICS, ZERO, commit, pulled

IDS = ("101", "102", "103")
DAY = timedelta(days=1)


def texts(html: str) -> list[str]:
    """Return the texts between the tags."""
    return [unescape(text) for text in sub(r"<[^>]*>", "\n", html).split("\n") if text]


def series_at(path: Path, *days: int) -> EngagementSeries:
    """Return a series that was pulled on these days."""
    series = EngagementSeries(path, now=lambda: ZERO + 10 * DAY)
    for day in days:
        commit(series, pulled(IDS, ZERO + day * DAY))
    return series


def test_a_series_in_a_notebook(tmp_path: Path) -> None:
    series = series_at(tmp_path / "tweets.duckdb", 0, 1)

    shown = texts(series._repr_html_())

    assert shown[0] == f"EngagementSeries {series.path}"
    assert f"28hr: {', '.join(METRICS)}" in shown
    assert {"3 answered", "2, the last one at 2026-03-02 00:00 UTC", "none between pulls"} <= set(shown)
    assert any(text.endswith(" rows") for text in shown)


def test_a_missed_day_is_seen(tmp_path: Path) -> None:
    series = series_at(tmp_path / "tweets.duckdb", 0, 5)

    assert "in the hours of 3 Tweets: fill closes them" in texts(series._repr_html_())
    shown = texts(series.status()._repr_html_())
    (gap,) = series.gaps()
    assert f"1, of {3 * gap.hours} hours over all Tweets" in shown
    assert gap_text(gap) in shown


def test_a_look_at_a_series_reads_no_hour(tmp_path: Path) -> None:
    series = series_at(tmp_path / "tweets.duckdb", 0, 5)
    statements: list[str] = []
    execute = Database.execute

    def noted(self: Database, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        statements.append(sql)
        return execute(self, sql, *parameters)

    with patch.object(Database, "execute", noted):
        series._repr_html_()

    assert [sql for sql in statements if "hours" in sql] == [
        "SELECT count(*) FROM hours"
    ]  # which is known without a look


def test_what_is_wrong_is_said_instead(tmp_path: Path) -> None:
    hostile = tmp_path / "<b onclick=x>.duckdb"
    html = EngagementSeries(hostile)._repr_html_()

    assert texts(html)[0] == f"EngagementSeries {hostile}"
    assert "there is no series here" in texts(html)[1]
    assert "<b onclick" not in html

    hostile.write_text("something else")
    assert "is no DuckDB file" in EngagementSeries(hostile)._repr_html_()


def test_a_store_that_is_being_written_is_not_waited_for(tmp_path: Path) -> None:
    series = series_at(tmp_path / "tweets.duckdb", 0)

    with opened(series.path, read_only=False, wait_s=0):
        assert "another program has it open" in series._repr_html_()


def test_many_gaps_are_cut() -> None:
    gaps = tuple(Gap(ZERO + n * DAY, ZERO + n * DAY + HOUR, (("", "101"),)) for n in range(12))
    status = SeriesStatus(
        metrics={"28hr": METRICS, "totals": METRICS},
        tweets={"answered": 0, "failed": 2},
        hours=7,
        partial_hours=1,
        totals=3,
        corrections=1,
        left_out=2,
        pulls=13,
        last_pull_at=None,
        starts_at=None,
        ends_at=None,
        gaps=gaps,
    )

    shown = texts(status._repr_html_())

    assert gap_text(gaps[-1]) in shown
    assert gap_text(gaps[1]) not in shown
    assert "and 2 older ones" in shown
    assert dict(series_facts(status)) == {
        "metrics": f"totals: {', '.join(METRICS)}",
        "Tweets": "2 failed",
        "hours": "7 rows, 1 of them partial",
        "totals": "3 rows",
        "corrections": "1 value that the API lowered: table corrections",
        "left out": "2 metrics of Tweets that the API gave no values of: table left_out",
        "pulls": "13, the last one at never UTC",
    }


def test_a_pull_in_a_notebook() -> None:
    failed = {str(n): Failure("<HTTP 500>", kind=FailureKind.SERVER) for n in range(20)}
    report = PullReport("28hr", ZERO, ZERO + DAY, 3, 40, 1, 0, 0, failed)

    shown = texts(report._repr_html_())

    assert shown[:3] == ["PullReport", "endpoint", "28hr"]
    assert "2026-03-01 00:00 to 2026-03-02 00:00 UTC" in shown
    assert shown[shown.index("unavailable") + 1] == "1"
    assert "forbidden" not in shown
    assert len([text for text in shown if text.endswith("<HTTP 500>")]) == 10
    assert texts(PullReport("totals", None, None, 0, 0, 0, 0, 0)._repr_html_())[2:] == ["totals", "requests", "0"]
