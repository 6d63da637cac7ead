"""`engagement demo`: a local API, two fetches through the real client, a job that is killed and goes on. Ends by itself.

The demonstration is a list of steps, each a method of `Demo`; another one is another entry of `STEPS`.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engagement_async._core.endpoints import LAST_28_HOURS, TOTALS
from engagement_async._core.merging import Merger
from engagement_async._core.outcomes import count_outcomes
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.result import EngagementResult
from engagement_async._export.files import atomic_file, check_outside_jobs
from engagement_async._export.rows import write_csv
from engagement_async._progress import Progress, ProgressMeter, contract_per_minute
from engagement_async.cli.app import Session
from engagement_async.cli.exit_codes import OK
from engagement_async.cli.parameters import NamedPath
from engagement_async.cli.progress import count
from engagement_async.cli.report import Reporter
from engagement_async.cli.signals import run_async
from engagement_async.client import EngagementClient
from engagement_async.credentials import OAuth1Credentials
from engagement_async.emulator import Emulator, tweet_ids
from engagement_async.reports.report import write_report

__all__ = ["demo"]

LIMIT: Final = RateLimit(20, period=2.0)
"""600 a minute, told in a period so short that the contract is met and felt within a demonstration."""
FRESH, OLD, LATEST, SHOWN = 9_400, 600, 500, 10
HALF_WAY = 22
"""Of the job's 40 requests and more."""
OK_STATUS = 200
DAY_S: Final = 86_400.0

_SNOWFLAKE_EPOCH_S: Final = 1288834974.657
_WIDE: Final = 105
"""Columns of a terminal that has room for all metrics."""
_BARS: Final = "▁▂▃▄▅▆▇█"


@click.command()
@click.option(
    "--output",
    "-o",
    default="demo-output",
    show_default=True,
    metavar="DIR",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Directory for the results.",
)
@click.pass_obj
def demo(session: Session, output: Path) -> int:
    """Start a local API, fetch the totals of 10,000 Tweets and the last 28 hours of 500, kill a job and resume it.

    Needs no credentials and no network, and takes about half a minute.
    """
    check_outside_jobs(output)
    output.mkdir(parents=True, exist_ok=True)
    run_async(lambda: _run(output, Reporter.of(session, as_json=False, quiet=False)))
    return OK


async def _run(folder: Path, reporter: Reporter) -> None:
    now = time.time()
    emulator = Emulator(
        requests_per_minute=LIMIT.requests,
        period=LIMIT.period,
        now=lambda: now,  # so that every answer can be compared with the truth afterwards
        latency_s=(0.04, 0.16),
        unavailable_fraction=0.012,
        forbidden_fraction=0.0005,
        log_size=None,
    )
    async with emulator:
        credentials = OAuth1Credentials(
            emulator.consumer_key, emulator.consumer_secret, emulator.access_token, emulator.access_token_secret
        )
        async with EngagementClient(credentials, rate_limit=LIMIT, base_url=emulator.base_url) as client:
            shown = Demo(emulator, client, now, folder, reporter)
            for step in STEPS:
                await step(shown)


class Demo:
    """What the steps hand on to each other."""

    def __init__(
        self, emulator: Emulator, client: EngagementClient, now: float, folder: Path, reporter: Reporter
    ) -> None:
        self.emulator = emulator
        self.client = client
        self.now = now
        self.folder = folder
        self.reporter = reporter
        self.console = Console(highlight=False)
        self.tweet_ids = [
            *tweet_ids(FRESH, newest_at=now),
            *tweet_ids(OLD, 1, newest_at=now - 100 * DAY_S, oldest_at=now - 3000 * DAY_S),
        ]
        self.results: dict[str, EngagementResult] = {}
        self.reports: dict[Path, str] = {}

    async def begin(self) -> None:
        """Says what is about to happen."""
        self.console.print(
            Panel(
                f"A local Engagement API listens on [bold]{self.emulator.base_url}[/].\n"
                f"Its contract: [bold]{LIMIT.requests} requests in any {LIMIT.period:g} seconds[/]. "
                "It refuses what goes over,\nchecks every OAuth signature, and takes 40 to 160 ms for an answer.",
                title="engagement demo",
                border_style="cyan",
                expand=False,
            )
        )

    async def totals(self) -> None:
        """10,000 Tweets, 250 a request."""
        ids = len(self.tweet_ids)
        await self._fetch(
            f"1  Totals of {ids:,} Tweets: all 7 metrics, {TOTALS.ids_per_request} Tweets a request",
            "totals",
            Query(TOTALS, engagement_types=TOTALS.metrics, groupings={"by_tweet": ["tweet.id", "engagement.type"]}),
            self.tweet_ids,
        )

    async def last_28_hours(self) -> None:
        """Fetch the last hours of those Tweets that were engaged with most."""
        await self._fetch(
            f"2  The last 28 hours of the top {LATEST}, hour by hour: {LAST_28_HOURS.ids_per_request} Tweets a request",
            "last-28-hours",
            Query(
                LAST_28_HOURS,
                engagement_types=["impressions", "engagements", "favorites", "url_clicks"],
                groupings={"by_hour": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
            ),
            self._top(LATEST),
        )

    async def pictures(self) -> None:
        """Print the table of the top Tweets, and where every ID ended up."""
        totals = self.results["totals"].groupings["by_tweet"]
        hours = self.results["last-28-hours"].groupings["by_hour"]
        metrics = ["impressions", "favorites"]
        if self.console.width >= _WIDE:
            metrics += ["retweets", "engagements"]
        table = _table(f"Top {SHOWN} of {len(self.tweet_ids):,} Tweets")
        table.add_column("Tweet", no_wrap=True)
        table.add_column("posted", no_wrap=True)
        for metric in metrics:
            table.add_column(metric, justify="right", no_wrap=True)
        table.add_column("impressions, last 28 hours", no_wrap=True, style="green")
        for tweet_id in self._top(SHOWN):
            table.add_row(
                tweet_id,
                f"{_born(tweet_id):%d %b}",
                *(f"{totals[tweet_id][metric]:,}" for metric in metrics),
                _sparkline(hours.get(tweet_id, {}).get("impressions", {})),
            )
        self.console.print()
        self.console.print(table)

        outcomes = _table("Every ID is accounted for")
        outcomes.add_column("")
        for name in self.results:
            outcomes.add_column(name, justify="right")
        styles = {"answered": "green", "unavailable": "yellow", "failed": "red", "forbidden": "yellow"}
        for state in self.results["totals"].outcomes:
            numbers = [result.outcomes[state] for result in self.results.values()]
            outcomes.add_row(Text(state, styles.get(state, "")), *(f"{number:,}" for number in numbers))
        outcomes.add_row(
            "given", *(f"{sum(result.outcomes.values()):,}" for result in self.results.values()), style="bold"
        )
        self.console.print()
        self.console.print(outcomes)
        too_old: dict[int, list[str]] = {}
        for metric, ids in self.results["totals"].unsupported_tweet_ids.items():
            too_old.setdefault(len(ids), []).append(metric)
        for number, names in too_old.items():
            self.console.print(f"{number:,} Tweets are too old for {', '.join(names)}: no value, and no zero")

    async def proof(self) -> None:
        """Compare every value with the emulator's own, and the requests with the contract."""
        values = differ = 0
        for result in self.results.values():
            query = result.query
            truth = self.emulator.expected(
                query.endpoint.name,
                result.answered_tweet_ids,
                query.engagement_types,
                query.groupings,
            )
            no_values = {(i, metric) for metric, ids in result.unsupported_tweet_ids.items() for i in ids}
            for name in query.groupings:
                expected, got = _leaves(truth[name]), _leaves(result.groupings[name])
                # The API shows a zero where it has no value; the result leaves it out.
                expected = {path: value for path, value in expected.items() if path[:2] not in no_values}
                values += len(expected)
                differ += sum(1 for key in expected.keys() | got.keys() if expected.get(key) != got.get(key))
        peak = self.emulator.peak()
        self.console.print(
            f"\n{_tick(not differ)} {values:,} values compared with the emulator's own: {differ or 'none'} differ\n"
            f"{_tick(peak <= LIMIT.requests)} {count(self.client.status().requests, 'request')}, "
            f"of which at most {peak} arrived in any {LIMIT.period:g} s (contract: {LIMIT.requests})"
        )

    async def killed_job(self) -> None:
        """Run a backfill in a process of its own, kill it without a warning, and start it again."""
        self.console.print(f"\n[bold]3  The same {len(self.tweet_ids):,} Tweets as a durable job, killed half way[/]")
        await asyncio.sleep(LIMIT.period)  # another process: the requests of this one must be out of the window
        first = len(self.emulator.log.entries)
        with tempfile.TemporaryDirectory() as folder:
            job, ids, table = Path(folder, "job"), Path(folder, "ids.txt"), self.folder / "backfill.csv"
            with atomic_file(ids) as file:
                file.write("\n".join(self.tweet_ids).encode())
            contract = ("--requests-per-minute", str(LIMIT.requests), "--period", f"{LIMIT.period:g}")
            run = ("run", str(job), "totals", "--ids", str(ids), *contract, "--quiet")

            process = await self._backfill(*run)
            # The other process knows no event of this one: its requests are seen in the emulator's log alone.
            while process.returncode is None and len(self.emulator.log.entries) - first < HALF_WAY:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            process.kill()
            await process.wait()
            at_kill = len(self.emulator.log.entries) - first
            self.console.print(f"   after {count(at_kill, 'request')}: [red]SIGKILL[/]")

            process = await self._backfill(*run)
            finished = await process.wait() == OK
            export = await self._backfill("export", str(job), "--output", str(table), "--quiet")
            finished = await export.wait() == OK and finished
            await self._report("report", job, "A job that was killed")
        entries = list(self.emulator.log.entries)[first:]
        asked = Counter(entry.tweet_ids for entry in entries if entry.status == OK_STATUS)
        twice = sum(times - 1 for times in asked.values())
        self.console.print(f"   started again: it went on, and repeated {count(twice, 'answered request')}")
        with table.open(newline="") as file:
            exported = {(row["tweet_id"], row["engagement_type"]): int(row["value"]) for row in csv.DictReader(file)}
        same = finished and exported == _leaves(self.results["totals"].groupings["by_tweet"])
        peak = self.emulator.peak()
        self.console.print(
            f"{_tick(same)} {len(exported):,} exported values {'equal' if same else 'differ from'} those of step 1\n"
            f"{_tick(peak <= LIMIT.requests)} still at most {peak} requests arrived in any {LIMIT.period:g} s, "
            "across the kill too"
        )

    async def _backfill(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "engagement_async",
            "backfill",
            *arguments,
            env={**os.environ, **self.emulator.environment},
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def files(self) -> None:
        """Write the merged results, as JSON in the API's own shape and as CSV."""
        self.console.print()
        for name, result in self.results.items():
            grouping = next(iter(result.query.groupings))
            with atomic_file(self.folder / f"{name}.json") as file:
                file.write(orjson.dumps(result.to_response(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            with atomic_file(self.folder / f"{name}.csv") as file:
                write_csv(file, result.rows(grouping), result.columns(grouping))
            for suffix in ("json", "csv"):
                self._wrote(self.folder / f"{name}.{suffix}")
        self._wrote(self.folder / "backfill.csv")

    async def pages(self) -> None:
        """Write the report of the hours, and name the pages that there are: the last words of the demonstration."""
        await self._report("last-28-hours", self.results["last-28-hours"], "The last 28 hours")
        if not self.reports:
            self.console.print("  for a page with pictures: pip install 'engagement-async[report]'", markup=False)
            return
        self.console.print("\n[bold]Open in a browser[/]")
        for page, title in self.reports.items():
            self.console.print(f"  [bold]{page}[/]: {title.lower()}")

    async def _report(self, name: str, source: Path | EngagementResult, title: str) -> None:
        """Write a report of a job or of a result, where the libraries that draw are installed."""
        if find_spec("altair") is None or find_spec("vl_convert") is None:
            return
        page = self.folder / f"{name}.html"
        await asyncio.to_thread(write_report, source, page, title=title)
        self.reports[page] = title

    def _wrote(self, path: Path) -> None:
        self.console.print(f"  wrote [bold]{path}[/] ({path.stat().st_size / 1000:,.0f} kB)")

    async def _fetch(self, title: str, name: str, query: Query, ids: Sequence[str]) -> None:
        self.console.print(f"\n[bold]{title}[/]")
        merger = Merger(query)
        meter = ProgressMeter(len(ids), contract_per_minute([LIMIT]), time.monotonic)
        before = self.client.status().requests

        def progress() -> Progress:
            status = self.client.status()
            return meter.progress(status.requests - before, status.waiting_s, status.waiting_for)

        async with self.reporter.watching(progress), self.client.stream(query, ids) as answers:
            async for answer in answers:
                meter.add(count_outcomes(answer, query.engagement_types))
                merger.add(answer)
        self.results[name] = merger.result()
        done = progress()
        self.console.print(
            f"   {done.ids_done:,} IDs · {count(done.requests, 'request')} · {done.elapsed_s:.1f} s "
            f"· {done.requests / done.elapsed_s:.1f} requests a second (contract: {LIMIT.requests / LIMIT.period:g})"
        )

    def _top(self, number: int) -> list[str]:
        totals = self.results["totals"].groupings["by_tweet"]
        return sorted(totals, key=lambda tweet_id: -int(totals[tweet_id].get("impressions", 0)))[:number]


STEPS: Sequence[Callable[[Demo], Awaitable[None]]] = (
    Demo.begin,
    Demo.totals,
    Demo.last_28_hours,
    Demo.pictures,
    Demo.proof,
    Demo.killed_job,
    Demo.files,
    Demo.pages,
)


def _table(title: str) -> Table:
    return Table(
        title=f"{title}\n",
        title_style="bold",
        title_justify="left",
        header_style="cyan",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _tick(good: bool) -> str:
    return "[green]✓[/]" if good else "[red]✗[/]"


def _born(tweet_id: str) -> datetime:
    """Return when a Tweet was made: its ID holds that instant, in milliseconds above its lowest 22 bits."""
    return datetime.fromtimestamp((int(tweet_id) >> 22) / 1000 + _SNOWFLAKE_EPOCH_S, UTC)


def _sparkline(days: Mapping[str, Mapping[str, int]]) -> str:
    values = [value for _, hours in sorted(days.items()) for _, value in sorted(hours.items())]
    most = max(values, default=0) or 1
    return "".join(_BARS[value * (len(_BARS) - 1) // most] for value in values)


def _leaves(nested: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, (*path, key))
        else:
            found[*path, key] = int(value)
    return found
