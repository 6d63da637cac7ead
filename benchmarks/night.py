"""A long night for one job: 500 kills, stops and full disks over run, extend, retry-failed and export.

Tweets that the API fails at or refuses come and go, and so do outages; the contract is 80 requests in two seconds. In the
end the tables must be the server's truth, nothing may have been over the contract, and no more may have been paid twice
than docs/backfill.md allows. Run by hand: it takes half an hour. `python -m benchmarks.night`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from engagement_async.backfill import JobStatus
from engagement_async.backfill.directory import JobDirectory
from engagement_async.emulator import Emulator, Entry, random_faults, tweet_ids

__all__ = ["measure"]

NOW = 1_767_225_600.0
LIMIT, PERIOD_S, CONCURRENCY = 80, 2.0, 8
BATCH_IDS = 25
CHUNK_IDS = 5_000
QUERY = ("28hr", "--metrics", "impressions,favorites", "--group-by", "g=tweet.id,engagement.type")
TYPES, GROUPINGS = ("impressions", "favorites"), {"g": ("tweet.id", "engagement.type")}
ALLOWED = {
    "run": {0, 3, 5, 6, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM},
    "export": {0, 5, 6, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM},
}
"""Exit codes that a night may bring; a signal ends Python at once while it still starts. Never 1 (a bug), 11 (a lock that
was left behind) or 13 (damage)."""
LIMITED = (
    "import resource, runpy; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY)); "
    "runpy.run_module('engagement_async', run_name='__main__')"
)
_ENTRY: ContextVar[Entry] = ContextVar("the request that a fault is drawn for")


@dataclass
class Api:
    """The emulator, with Tweets that it fails at, and outages."""

    server: Emulator
    draw: random.Random
    poison: set[str] = field(default_factory=set)
    is_down: bool = False

    def __post_init__(self) -> None:
        check, background = self.server.log.check, random_faults(0.02, 3)

        def remember(entry: Entry) -> None:
            _ENTRY.set(entry)  # each connection has a task of its own
            check(entry)

        def fault(number: int) -> str | None:
            if self.is_down:
                return "503"
            entry = _ENTRY.get(None)
            if entry is not None and not self.poison.isdisjoint(entry.tweet_ids):
                return "500"
            return background(number)

        self.server.log.check = remember  # type: ignore[method-assign]
        self.server.set_faults(fault)

    def spoil(self, ids: list[str]) -> None:
        """Have it fail at one of the Tweets, and refuse another."""
        first, second = self.draw.sample(ids, 2)
        self.poison.add(first)
        self.server.world.rejected.add(second)

    def heal(self, share: float) -> None:
        """Let some of them be answered from now on."""
        for bad in (self.poison, self.server.world.rejected):
            bad.difference_update([i for i in sorted(bad) if self.draw.random() < share])


class Night:
    """One job, and what happened to it."""

    def __init__(self, folder: Path, api: Api, draw: random.Random) -> None:
        self.folder = folder
        self.api = api
        self.draw = draw
        self.job = JobDirectory(folder / "job")
        self.ids: list[str] = []
        self.events: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.partial_exports = 0
        self.most_spoilt = 0

    # --- commands ---

    def start(self, *args: object, file_size: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command, with files of at most that size."""
        start = ["-m", "engagement_async"] if file_size is None else ["-c", LIMITED.format(file_size)]
        return subprocess.Popen(
            [sys.executable, *start, "backfill", *map(str, args), "--quiet"],
            env={**os.environ, **self.api.server.environment, "ENGAGEMENT_CONFIG": "", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def command(self, name: str) -> tuple[object, ...]:
        """Return the arguments of a command."""
        contract = ("--concurrency", CONCURRENCY, "--period", PERIOD_S, "--auth", "oauth1")
        if name == "start":
            return ("run", self.job.path, *QUERY, "--ids", self.folder / "ids.txt", *contract)
        if name == "extend":
            return ("run", self.job.path, "--extend", "--ids", self.folder / "ids.txt", *contract)
        if name == "export":
            suffix = self.draw.choice(["csv", "jsonl", "parquet", "json"])
            return ("export", self.job.path, "--output", self.folder / f"out.{suffix}", "--partial")
        return (name, self.job.path, *contract)

    def call(self, *args: object) -> int:
        """Run a command to its end."""
        process = self.start(*args)
        return self._ended(process, str(args[0]))

    def _ended(self, process: subprocess.Popen[bytes], name: str) -> int:
        _, told = process.communicate()
        code = process.returncode
        self.codes[f"{name} {code}"] += 1
        if code not in ALLOWED["export" if name == "export" else "run"]:
            raise RuntimeError(f"{name}: exit code {code}: {told.decode()[-2000:]}")
        return code

    # --- events ---

    def more_ids(self) -> None:
        """Append a chunk of IDs to the input."""
        new = tweet_ids(CHUNK_IDS, len(self.ids) + 1, newest_at=NOW)
        known = set(self.ids)
        new = [i for i in new if i not in known]
        self.ids += new
        (self.folder / "ids.txt").write_text("\n".join(self.ids))
        self.api.spoil(new)

    def event(self) -> None:
        """One command, and what ends it."""
        name = self._next_command()
        end = self.draw.choices(["kill", "stop", "full"], [7, 2, 1])[0]
        self.events[f"{name}: {end}"] += 1
        self.api.is_down = self.draw.random() < 0.08
        self.most_spoilt = max(self.most_spoilt, len(self.api.poison) + len(self.api.server.world.rejected))
        size = self._small_size(name) if end == "full" else None
        process = self.start(*self.command(name), file_size=size)
        after_s = 0.3 + 3.0 * self.draw.random() ** 2
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            if end == "full" and self.draw.random() < 0.5:  # somebody makes room
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                self._stop_after(process, 2.0)
            elif end == "stop":
                process.send_signal(signal.SIGTERM)
            else:
                process.kill()
        self._ended(process, name)
        self.api.is_down = False
        self._check_status()

    def _next_command(self) -> str:
        if not self.job.is_started:
            return "start"
        status = self.job.status()
        if status.totals.ids < len(self.ids):
            return "extend"
        # A Tweet that the API fails at gets its outcome in a run of a minute or two: none of these lasts as long.
        if status.totals.pending < CHUNK_IDS // 5 and self.draw.random() < 0.7:
            self.more_ids()
            self.api.heal(0.3)
            return "extend"
        weights = {"run": 6 if status.totals.pending else 1, "export": 2, "retry-failed": 2}
        return self.draw.choices(list(weights), list(weights.values()))[0]

    def _small_size(self, name: str) -> int:
        """Return a size at which the journal, or the export, cannot grow much more."""
        if name == "export":
            return self.draw.randrange(4096, 400_000)
        there = self.job.journal_path.stat().st_size if self.job.is_started else 4096
        return max(300_000, there) + self.draw.randrange(4096, 150_000)

    @staticmethod
    def _stop_after(process: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)

    def _check_status(self) -> JobStatus | None:
        """Hold status and a partial export against each other, now and then."""
        if not self.job.is_started:
            return None
        status = self.job.status()
        if self.draw.random() < 0.1:
            self.partial_exports += 1
            outcomes = self.folder / "partial.jsonl"
            self.call(
                "export", self.job.path, "--output", self.folder / "partial.csv", "--outcomes", outcomes, "--partial"
            )
            states = Counter(json.loads(line)["state"] for line in outcomes.read_text().splitlines())
            totals = status.totals
            told = {**totals.outcomes._asdict(), "pending": totals.pending}
            told.pop("answered")
            if {name: states[name] for name in told} != told:
                raise RuntimeError(f"status says {told}, a partial export {dict(states)}")
        return status

    # --- the morning ---

    def finish(self) -> int:
        """Run the job to its end, once more for what failed; return how many runs that took."""
        runs = 0
        while (code := self.call(*self.command("run"))) == 5 or self.job.status().totals.pending:
            runs += 1
            if runs > 20:
                raise RuntimeError(f"the job does not come to its end: exit code {code}, {self.job.status()}")
        self.api.heal(0.5)
        self.call(*self.command("retry-failed"))
        return runs + 1

    def is_true(self) -> bool:
        """Whether the tables are what the server knows."""
        values, outcomes = self.folder / "final.jsonl", self.folder / "final-outcomes.jsonl"
        if self.call("export", self.job.path, "--output", values, "--outcomes", outcomes):
            raise RuntimeError("the export of a finished job failed")
        bad = self.api.poison | self.api.server.world.rejected
        world = self.api.server.world
        gone = {i for i in self.ids if i not in bad and world.is_unavailable(i, NOW)}
        good = [i for i in self.ids if i not in bad and i not in gone]
        truth = self.api.server.expected("28hr", good, TYPES, GROUPINGS)["g"]
        found: dict[str, dict[str, int]] = {}
        for row in map(json.loads, values.read_text().splitlines()):
            found.setdefault(row["tweet_id"], {})[row["engagement_type"]] = row["value"]
        states = {row["tweet_id"]: row["state"] for row in map(json.loads, outcomes.read_text().splitlines())}
        expected_states = dict.fromkeys(gone, "unavailable") | dict.fromkeys(bad & set(self.ids), "failed")
        return found == truth and states == expected_states


def measure(events: int = 500, seed: int = 0) -> dict[str, Any]:
    """Return what happened, and whether all that must hold held."""
    draw = random.Random(seed)
    options: dict[str, Any] = {"now": lambda: NOW, "log_size": None, "latency_s": (0.0, 0.15)}
    with (
        tempfile.TemporaryDirectory() as name,
        Emulator(LIMIT, PERIOD_S, unavailable_fraction=0.01, **options) as server,
    ):
        night = Night(Path(name), Api(server, draw), draw)
        night.more_ids()
        began_at = time.monotonic()
        for number in range(events):
            night.event()
            if number % 25 == 24:
                print(
                    f"{number + 1:>4} events, {time.monotonic() - began_at:,.0f} s, {len(server.log):,} requests",
                    flush=True,
                )
        runs = night.finish()
        is_true = night.is_true()
        night.job.verify()
        return {
            "machine": report.machine(),
            "seed": seed,
            "seconds": time.monotonic() - began_at,
            "events": dict(sorted(night.events.items())),
            "exit_codes": dict(sorted(night.codes.items())),
            "runs_at_the_end": runs,
            "ids": len(night.ids),
            "partial_exports": night.partial_exports,
            "is_true": is_true,
            **_waste(night, server),
        }


def _waste(night: Night, server: Emulator) -> dict[str, Any]:
    """Return what was paid for more than once, and the most that docs/backfill.md allows."""
    times: Counter[str] = Counter()
    for entry in server.log:
        if entry.delivered and entry.status == 200 and len(entry.tweet_ids) > 1:  # a probe asks for one Tweet
            times.update(entry.tweet_ids)
    ended = {end: sum(n for name, n in night.events.items() if name.endswith(end)) for end in ("kill", "full", "stop")}
    asking = sum(n for name, n in night.events.items() if not name.startswith("export"))
    bad = night.most_spoilt
    killed = ended["kill"] + ended["full"]
    return {
        "requests": len(server.log),
        "repeated_ids": sum(times.values()) - len(times),
        "most_repeated_ids": BATCH_IDS * (killed * CONCURRENCY + asking * bad),
        "failing_requests": sum(n for status, n in server.log.statuses.items() if status not in (0, 200)),
        "refused": server.log.statuses[429],
        "peak": server.peak(),
        "limit": LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.events, given.seed)
    if given.events >= 500:
        report.save("night", found)
    for key, value in found.items():
        if key != "machine":
            print(f"{key:<20}{value}")
    few = found["repeated_ids"] <= found["most_repeated_ids"]
    kept = not found["refused"] and found["peak"] <= found["limit"]
    sys.exit(0 if found["is_true"] and few and kept else 1)


if __name__ == "__main__":
    main()
