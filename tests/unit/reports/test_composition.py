"""What a report says: its sections, its pictures, its words, and what it admits not to know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engagement_async import RateLimit
from engagement_async.backfill.traffic import Traffic
from engagement_async.reports.composition import NEEDS, report_of, why_there_is_no
from engagement_async.reports.loaded import Loaded
from engagement_async.reports.page import Report, Section
from engagement_async.reports.picture import OUTCOME_COLOURS, Link
from engagement_async.reports.run_pictures import MOST_OWNERS, owners_picture, traffic_pictures
from engagement_async.reports.sources import load_source
from engagement_async.reports.tally import Tally, TweetValues
from tests.support.reports import METRICS, add_run, answered_job, busy_slots

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = answered_job(tmp_path_factory.mktemp("reports") / "may")
    add_run(folder, slots=busy_slots(), requests=300)
    return report_of(load_source(folder.path), made_at=NOW)


def section(report: Report, name: str) -> Section:
    return next(each for each in report.sections if each.name == name)


def facts(section: Section) -> Mapping[str, tuple[str, str]]:
    return {fact.name: (fact.value, fact.more) for fact in section.facts}


def specification(report: Report, name: str, width: int = 600) -> Any:
    return report.pictures[name].draw(width).to_dict()


def test_a_report_of_a_job_has_all_pictures(report: Report) -> None:
    assert (report.title, report.about) == ("Engagement of may", "Job. Report made 2026-01-02 03:04 UTC")
    assert list(report.pictures) == [
        *("hours", "top", "week", "half-life"),
        *("outcomes",),
        *("requests", "latency", "retries"),
    ]


def test_the_run_says_how_it_went(report: Report) -> None:
    found = facts(section(report, "run"))

    assert found["Requests"] == ("300", "")
    assert found["Time to response"] == ("97 ms", "median; 99 percent within 490 ms")
    assert found["Sent again"] == ("30", "refused for the rate (429): 5")
    assert not section(report, "run").notes
    assert report.pictures["requests"].says == "At most 600 requests a minute were sent; the contract allows 600."


def test_the_ids_add_up(report: Report) -> None:
    assert facts(section(report, "ids"))["Tweets"][0] == "60"
    assert report.pictures["outcomes"].says == "Of 60 distinct IDs: 54 answered, 6 unavailable."
    ((title, table),) = section(report, "ids").tables
    assert (title, len(table.rows)) == ("IDs that are gone", 6)


def test_tables_lead_to_the_tweets(report: Report) -> None:
    link = report.pictures["top"].table.rows[0][0]

    assert isinstance(link, Link)
    assert link.address == f"https://x.com/i/web/status/{link.text}"


@pytest.mark.parametrize("name", ["hours", "top", "week", "half-life", "outcomes", "requests", "latency", "retries"])
def test_every_picture_has_words_a_table_and_named_axes(report: Report, name: str) -> None:
    picture = report.pictures[name]

    assert picture.says.endswith(".")
    assert picture.about.endswith(".")
    assert picture.table.rows
    assert all(len(row) == len(picture.table.columns) for row in picture.table.rows)
    titles = axis_titles(specification(report, name))
    assert titles
    if name not in ("half-life", "outcomes", "top"):
        assert any("UTC" in title for title in titles)


def axis_titles(value: Any) -> list[str]:
    """Return the titles of all axes in a specification, and of the panels, which name what is counted in them."""
    if isinstance(value, list):
        return [title for each in value for title in axis_titles(each)]
    if not isinstance(value, dict):
        return []
    mine = [value["title"]] if isinstance(value.get("title"), str) else []
    return mine + [title for key, inner in value.items() if key != "datasets" for title in axis_titles(inner)]


def test_metrics_without_engagement_are_named(report: Report) -> None:
    assert "Without any engagement: url_clicks." in report.pictures["hours"].about
    assert list(report.pictures["hours"].table.columns) == ["from (UTC)", "impressions", "favorites"]


@pytest.mark.parametrize(
    ("slots", "requests", "says"),
    [(None, 30, "has no record of when its requests were sent"), (busy_slots(), 400, "300 of its 400 requests")],
)
def test_what_a_job_did_not_record_is_said(slots: Any, requests: int, says: str, tmp_path: Path) -> None:
    folder = answered_job(tmp_path / "job")
    add_run(folder, slots=slots, requests=requests)

    found = section(report_of(load_source(folder.path), made_at=NOW), "run")

    assert says in found.notes[0]


def test_a_run_without_trouble_has_no_picture_of_it(tmp_path: Path) -> None:
    folder = answered_job(tmp_path / "job")
    calm = busy_slots()
    for slot in calm:
        slot.retries = slot.limited = slot.unanswered = 0
    add_run(folder, slots=calm, requests=300)

    assert "retries" not in report_of(load_source(folder.path), made_at=NOW).pictures


def test_of_work_with_long_pauses_the_last_stretch_is_shown(tmp_path: Path) -> None:
    folder = answered_job(tmp_path / "job")
    early = busy_slots()
    for slot in early:
        slot.at -= 86_400
    add_run(folder, slots=early, requests=300)
    add_run(folder, slots=busy_slots()[:10], requests=100, number=1)

    report = report_of(load_source(folder.path), made_at=NOW)

    assert report.pictures["requests"].about.startswith("The last of 2 stretches of work")
    assert len(report.pictures["requests"].table.rows) == 10
    assert facts(section(report, "run"))["Requests"] == ("400", "")


def test_runs_with_several_contracts_are_not_judged_by_one() -> None:
    traffic = Traffic(tuple(busy_slots()), (RateLimit(300), RateLimit(20, period=2)))

    picture = next(traffic_pictures(traffic))

    assert picture.says == "At most 300 requests a minute were sent; the contracts of the runs allow 300, 600."


def test_nothing_is_said_to_be_nothing() -> None:
    report = report_of(Loaded("Result", "empty", Tally(METRICS)), made_at=NOW)

    assert report.pictures == {}
    assert section(report, "data").notes == ["There is no engagement in this data: no value is above 0."]


def test_why_there_is_no_such_picture() -> None:
    tally = Tally(("replies",))
    tally.outcomes.update({"answered": 30})
    report = report_of(Loaded("Result", "x", tally), made_at=NOW)

    assert why_there_is_no("week", report) == (
        "this report has no picture 'week': it has outcomes. That picture needs engagement in single hours that were seen "
        "whole. There is no engagement in this data: no value is above 0."
    )
    assert why_there_is_no("latency", report) == (
        "this report has no picture 'latency': it has outcomes. That picture needs a job with a record of its requests."
    )
    assert why_there_is_no("outcome", report) == (
        "this report has no picture 'outcome' (did you mean 'outcomes'?): it has outcomes"
    )


def test_it_is_known_what_each_picture_needs_and_where_it_is(report: Report) -> None:
    for each in report.sections:
        assert {NEEDS[picture.name][0] for picture in each.pictures} <= {each.name}
    assert set(NEEDS) == {*report.pictures, "owners"}


def test_owners_have_bars_and_a_table_with_the_troubled_ones_first() -> None:
    tally = Tally(("replies",))
    tally.add(TweetValues("7", {"replies": 1}, {}, {}), owner="a")
    tally.by_owner["b"].update({"failed": 3})
    tally.by_owner["a"].update({"answered": 30})
    tally.outcomes.update({"answered": 30, "failed": 3})

    report = report_of(Loaded("Job", "x", tally, errors={"b": "HTTP 401", "a": None}), made_at=NOW, title="Mine")

    assert report.title == "Mine"
    picture = report.pictures["owners"]
    assert picture.says == "2 owners, 1 of them with unusable credentials."
    assert picture.table.columns == ("owner", "answered", "failed", "credentials")
    assert picture.table.rows == [("b", 0, 3, "HTTP 401"), ("a", 30, 0, None)]
    assert specification(report, "owners")["encoding"]["y"]["sort"] == ["a", "b"]


def test_owners_with_trouble_come_first_whatever_the_source() -> None:
    tally = Tally(("replies",))
    for number in range(40):
        tally.by_owner[f"o{number:02}"].update({"answered": 75})
    tally.by_owner["o37"].update({"answered": -3, "failed": 3})
    tally.outcomes.update({"answered": 2997, "failed": 3})

    report = report_of(Loaded("Series", "x", tally), made_at=NOW, title="Mine")

    assert report.pictures["owners"].table.rows[0][0] == "o37"
    assert specification(report, "owners")["encoding"]["y"]["sort"][0] == "o37"  # of as many Tweets as the others


def test_very_many_owners_have_the_largest_bars() -> None:
    owners = {f"o{number:03}": {"answered": number} for number in range(1, 300)}

    picture = owners_picture(owners, {})

    values = picture.draw(600).to_dict()["data"]["values"]
    assert len(values) == MOST_OWNERS
    assert values[0]["IDs"] == 299
    assert (len(picture.table.rows), picture.table.left_out) == (200, 99)


def test_every_outcome_has_a_colour_of_its_own() -> None:
    assert len(set(OUTCOME_COLOURS.values())) == len(OUTCOME_COLOURS)
