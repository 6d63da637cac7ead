"""What a job says of itself, in words and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest

from engagement_async import BearerCredentials, RateLimit
from engagement_async._core.outcomes import Outcomes
from engagement_async._progress import ProgressMeter, RunOutcome
from engagement_async.backfill import BackfillJob, JobState, JobStatus, JobTotals, OwnerStatus, RunReport
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal_file import JournalFile
from engagement_async.backfill.status import job_facts, owner_lines
from tests.support.jobs import BY_TWEET, emulator, fill, started

HOSTILE = "<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The texts and the tags of some HTML. Fails for an attribute that would load or run something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert name in ("style", "scope", "colspan", "value", "max", "aria-label"), name
            style = (value or "").replace("color:inherit", "")
            assert not any(word in style for word in ("color", "background", "url")), value

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_facts_of_a_job_at_work() -> None:
    totals = JobTotals(batches=4, ids=1000, answers=2, outcomes=Outcomes(answered=490, failed=10), rejected=3, parts=1)
    now = {
        "requests_last_minute": 120,
        "contract_per_minute": 300.0,
        "eta_s": 92.0,
        "waiting_s": 34.0,
        "waiting_for": "contract",
        "trouble": "HTTP 500",
    }
    status = JobStatus(BY_TWEET, totals, True, (), now, {"ann": OwnerStatus(10, Outcomes(failed=10), None)})

    assert job_facts(status) == [
        ("query", "totals: favorites, replies"),
        ("grouping", "by_tweet: tweet.id, engagement.type"),
        ("state", "running"),
        ("IDs", "500 of 1,000 done (50.0%)"),
        ("", "         490 answered"),
        ("", "          10 failed"),
        ("", "         500 pending"),
        ("requests", "0 in 0 runs"),
        ("parts", "1 answer to single spans of batches that are not complete"),
        ("rejected", "3 lines of the input"),
        ("owners", "1 of 1 done"),
        ("", owner_lines(status.owners)[1]),
        ("rate", "120 of 300 in the last minute"),
        ("left", "1 min 32 s"),
        ("waiting", "34 s for the contract"),
        ("trouble", "HTTP 500"),
    ]


def test_a_job_without_ids_is_done() -> None:
    assert ("IDs", "0 of 0 done (100.0%)") in job_facts(JobStatus(BY_TWEET, JobTotals(), False, ()))


@pytest.mark.parametrize(
    ("outcomes", "pending", "is_running", "state"),
    [
        ([], 3, False, JobState.STOPPED),
        ([], 0, False, JobState.COMPLETE),
        (["outage"], 3, False, JobState.STOPPED),
        (["outage", "credentials"], 3, False, JobState.CREDENTIALS),
        (["credentials"], 3, True, JobState.RUNNING),
        (["credentials", None], 3, False, JobState.STOPPED),  # it was begun again, and killed
        (["credentials", "done"], 0, False, JobState.COMPLETE),
    ],
)
def test_its_state(outcomes: list[str | None], pending: int, is_running: bool, state: JobState) -> None:
    totals = JobTotals(ids=10, outcomes=Outcomes(answered=10 - pending))
    runs = tuple(RunReport(0.0, 1.0, 1, 1, outcome) for outcome in outcomes)
    status = JobStatus(BY_TWEET, totals, is_running, runs)

    assert status.state is state
    assert ("state", state.text) in job_facts(status)


def test_owners_with_trouble_are_listed_and_no_more_than_ten() -> None:
    owners = {f"owner{n}": OwnerStatus(1, Outcomes(failed=1), None) for n in range(13)}
    lines = owner_lines({**owners, "fine": OwnerStatus(1, Outcomes(answered=1), None)})

    assert (lines[0], len(lines), lines[-1]) == ("14 of 14 done", 12, "and 3 more with failed or forbidden Tweets")
    assert owner_lines({}) == []


def test_a_long_name_of_an_owner_is_cut_and_known_by_its_beginning() -> None:
    long = "acme" * 2_500
    owners = {
        long: OwnerStatus(1, Outcomes(), f"owner {long}: the credential store has no credentials for it"),
        f"{long}2": OwnerStatus(1, Outcomes(failed=1), None),
    }
    _, refused, failed = owner_lines(owners)

    shown = "acme" * 14 + "acm…"
    assert refused == f"owner {shown}: 1 pending; 0 requests: the credential store has no credentials for it"
    assert failed == f"owner {shown}: 1 failed; 0 requests"


def test_a_job_in_a_notebook(tmp_path: Path) -> None:
    folder = started(tmp_path / "may", 1000)
    fill(folder, 2)

    page = Page(BackfillJob(folder.path)._repr_html_())

    assert page.tags == {"table", "caption", "strong", "tbody", "tr", "th", "td", "progress"}
    assert page.texts[0] == f"BackfillJob {folder.path}"
    assert "500 of 1,000 done (50.0%)" in page.texts
    assert {"stopped", "0 in 0 runs"} <= set(page.texts)
    status = folder.status()
    assert Page(status._repr_html_()).texts[1:] == page.texts[1:]
    assert (folder.glance().totals, folder.glance().query) == (status.totals, status.query)


def test_a_look_at_a_job_reads_none_of_its_rows(tmp_path: Path) -> None:
    folder = started(tmp_path / "may", 1000)

    def forbidden(*_: object) -> None:
        raise AssertionError

    with patch.object(JournalFile, "counts", forbidden), patch.object(JournalFile, "batch_range", forbidden):
        assert "0 of 1,000 done" in BackfillJob(folder.path)._repr_html_()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    folder = started(tmp_path / "broken", 300)
    folder.journal_path.write_bytes(b"\0" * 4096)
    return folder.path


def test_what_is_wrong_is_said_instead(tmp_path: Path, broken: Path) -> None:
    (tmp_path / HOSTILE).mkdir()
    for path, says in ((tmp_path / HOSTILE, "no job was started here"), (broken, "")):
        page = Page(BackfillJob(path)._repr_html_())
        assert page.tags == {"p", "strong", "br"}
        assert page.texts[0] == f"BackfillJob {path}"
        assert says in page.texts[1]


def test_a_name_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    folder = JobDirectory(tmp_path / "caf\udce9")

    BackfillJob(folder.path)._repr_html_().encode()


async def test_how_a_run_ended_in_a_notebook(tmp_path: Path) -> None:
    async with emulator(unavailable_fraction=0.0) as server:
        job = BackfillJob(tmp_path / "may")
        await job.start(BY_TWEET, [str(n) for n in range(1, 301)])
        progress = await job.run(
            BearerCredentials(server.bearer_token), rate_limit=RateLimit(60_000), base_url=server.base_url
        )

    page = Page(progress._repr_html_())
    assert page.texts[0] == "Progress of a run"
    assert {"done", "300 of 300 done", "requests", "2"} <= set(page.texts)


def test_a_run_that_stopped_says_what_is_left() -> None:
    meter = ProgressMeter(1000, 300, lambda: 0.0)
    meter.add(Outcomes(answered=240, failed=10))
    meter.rejected = 2

    page = Page(meter.progress(1, outcome=RunOutcome.MAX_REQUESTS)._repr_html_())

    assert {"max requests", "240", "10", "pending", "750", "rejected lines"} <= set(page.texts)
    assert "at work" in Page(meter.progress(1)._repr_html_()).texts
