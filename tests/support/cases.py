"""How a case is played: one event loop, one emulator or more on real sockets, the real client, and what must hold after.

Most cases run under virtual time: their sockets are real, and hours of waiting pass in milliseconds. A clock that jumps
cannot wait for threads, so cases with a thread in them (DNS, the making of a bomb) run in real time, and one on uvloop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from engagement_async import (
    TOTALS,
    EngagementClient,
    EngagementError,
    EngagementResult,
    Merger,
    OAuth1Credentials,
    Query,
    RateLimit,
)
from engagement_async._core.batches import chunk
from engagement_async.emulator import Emulator, EmulatorCredentials, tweet_ids
from tests.support.leaks import assert_no_tasks, collect_loop_errors, nothing_left
from tests.support.virtual_loop import run_virtual

__all__ = ["CANARIES", "CONCURRENCY", "GROUPINGS", "METRICS", "NOW", "Bench", "Case", "Played", "play"]

NOW = 1_795_300_000.0
"""The world of Tweets stands still at 2026-11-21T22:26:40Z, whatever the day of the machine."""
CANARIES = EmulatorCredentials(
    consumer_key="canary0consumer0key",
    consumer_secret="canary1consumer1secret",
    access_token="1234567-canary2access2token",
    access_token_secret="canary3access3token3secret",
    bearer_token="AAAAcanary4bearer4token",
)
METRICS = ("favorites", "replies", "retweets")
GROUPINGS: dict[str, list[str]] = {"by_tweet": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]}
QUERY = Query(TOTALS, engagement_types=METRICS, groupings=GROUPINGS)
CONCURRENCY = 8
LIMIT = 60
"""Requests a minute: few, so that the contract is in the way of every case."""


@dataclass
class Bench:
    """What a case is given, and what it hands back.

    `size`: how many Tweets to ask about. `tries`: requests that reached the server. `accounted`: IDs that the result has
    in exactly one place. `errors`: what the client raised, for whoever looks for secrets in it.
    """

    seed: int
    size: int
    tries: int = 0
    ids_in: int = 0
    accounted: int = 0
    note: str = ""
    errors: list[BaseException] = field(default_factory=list)

    def ids(self, count: int | None = None, **options: Any) -> list[str]:
        """Distinct Tweet IDs of the last weeks, always the same ones with the same seed."""
        span = {"newest_at": NOW - 3600, "oldest_at": NOW - 60 * 86_400} | options
        return tweet_ids(self.size if count is None else count, seed=self.seed, **span)

    @asynccontextmanager
    async def emulator(self, **options: Any) -> AsyncIterator[Emulator]:
        """An emulator with the canaries as its credentials; its requests are counted as this case's tries."""
        merged = {
            "requests_per_minute": LIMIT,
            "seed": self.seed,
            "credentials": CANARIES,
            "now": lambda: NOW,
            "log_size": None,
            "count_ids": True,
            **options,
        }
        async with Emulator(**merged) as emulator:
            try:
                yield emulator
            finally:
                self.tries += emulator.log.requests

    async def fetch(self, client: EngagementClient, ids: Sequence[str], **options: Any) -> EngagementResult:
        """Asks for totals; keeps the count of what is accounted for."""
        self.ids_in += len(ids)
        asked = {"engagement_types": METRICS, "groupings": GROUPINGS, **options}
        result = await client.totals(ids, **asked)
        self.outcomes(result, ids)
        return result

    async def fetch_by_ten(self, client: EngagementClient, ids: Sequence[str]) -> EngagementResult:
        """The same in requests of ten Tweets, for cases that want many requests."""
        self.ids_in += len(ids)
        merger = Merger(QUERY)
        async with client.stream_batches(QUERY, chunk(iter(ids), 10)) as answers:
            async for answer in answers:
                merger.add(answer)
        result = merger.result()
        self.outcomes(result, ids)
        return result

    def outcomes(self, result: EngagementResult, ids: Sequence[str]) -> None:
        """Every ID is in exactly one place."""
        wholly = set(ids).intersection(
            *(result.unsupported_tweet_ids.get(m, ()) for m in result.query.engagement_types)
        )
        places = [
            *result.answered_tweet_ids,
            *result.unavailable_tweet_ids,
            *result.forbidden_tweet_ids,
            *result.failed_tweet_ids,
            *wholly,
        ]
        assert sorted(places) == sorted(ids), "an ID is in no place, or in two"
        assert sum(result.outcomes.values()) == len(ids)
        assert result.tweet_ids == list(ids)
        self.accounted += len(places)

    async def stops(self, kind: type[EngagementError], asking: Awaitable[Any]) -> EngagementError:
        """The asking must end with that error, and with no other."""
        stopped_with: EngagementError | None = None
        try:
            await asking
        except EngagementError as error:
            stopped_with = error
        assert type(stopped_with) is kind, f"stopped with {stopped_with!r}, not with a {kind.__name__}"
        self.errors.append(stopped_with)
        self.note = f"stops: `{kind.__name__}`"
        return stopped_with


Clock = Literal["virtual", "real", "uvloop"]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the matrix. `stops` says that the right end is an error, raised early."""

    part: str
    name: str
    what: str
    run: Callable[[Bench], Awaitable[None]]
    clock: Clock = "virtual"
    share: float = 1.0
    """How much of the usual number of Tweets it takes: less where each request is costly."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a case went. `problem` is empty when it was survived."""

    case: Case
    bench: Bench
    problem: str
    logged: str


def client_of(emulator: Emulator, **options: Any) -> EngagementClient:
    """The client for that emulator, with the emulator's own limit as its contract.

    Without a burst: a case strikes in the middle of a run, and few requests must not all be sent at once.
    """
    limit = RateLimit(emulator.requests_per_minute or 1_000_000, period=emulator.period, burst=1)
    options = {"rate_limit": limit, "concurrency": CONCURRENCY, "base_url": emulator.base_url, **options}
    if "scheduler" in options:
        del options["rate_limit"]
    return EngagementClient(oauth(), **options)


def oauth() -> OAuth1Credentials:
    return OAuth1Credentials(
        CANARIES.consumer_key, CANARIES.consumer_secret, CANARIES.access_token, CANARIES.access_token_secret
    )


def check_values(
    result: EngagementResult, emulator: Emulator, ids: Iterable[str], metrics: Sequence[str] = METRICS
) -> None:
    """Every value and every list of IDs is what the emulator says is true, for all IDs that did not fail or are foreign."""
    out = {*result.failed_tweet_ids, *result.forbidden_tweet_ids}
    rejected = set(emulator.world.rejected)
    emulator.world.rejected.clear()
    try:
        expected = emulator.expected("totals", [i for i in ids if i not in out], metrics, GROUPINGS)
    finally:
        emulator.world.rejected |= rejected
    assert result.unavailable_tweet_ids == [i for i in ids if i in set(expected.get("unavailable_tweet_ids", ()))]
    for name in GROUPINGS:
        assert result.groupings[name] == expected[name], f"values of {name} are wrong"


def check_contract(emulator: Emulator, *, provoked: tuple[str, ...] = ()) -> None:
    """No rule of the API was broken, and the contract was never exceeded."""
    check_rules(emulator, provoked=provoked)
    if emulator.requests_per_minute is not None:
        assert emulator.peak() <= emulator.requests_per_minute, f"the contract was exceeded: {emulator.peak()}"


def check_rules(emulator: Emulator, *, provoked: tuple[str, ...] = ()) -> None:
    """It refused nothing by itself, but what begins with the texts that the case provokes."""
    breaches = [text for text in emulator.log.refusals if not text.startswith(provoked or ("\0",))]
    assert not breaches, f"rules broken: {breaches[:3]}"


def play(case: Case, seed: int, size: int, *, debug: bool = False) -> Played:
    """Runs a case in a loop of its own, and looks for what it left behind. `debug`: asyncio's own debug mode."""
    bench = Bench(seed, max(501, int(size * case.share)))  # three requests at least, or no fault would be due
    random.seed(seed)  # the jitter of the client
    loop_errors: list[str] = []
    logged = _Kept()
    root = logging.getLogger()
    level = root.level
    root.addHandler(logged)
    root.setLevel(logging.DEBUG)

    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        collect_loop_errors(loop_errors)
        await case.run(bench)
        await assert_no_tasks()

    problem = ""
    factory = _uvloop() if case.clock == "uvloop" else None
    if factory is not None:
        factory().close()  # its first loop opens a pipe for all that follow
    try:
        with nothing_left():
            if case.clock == "virtual":
                run_virtual(main())
            else:
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(main())
        assert not loop_errors, f"errors that nobody took: {loop_errors[:3]}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        root.removeHandler(logged)
        root.setLevel(level)
    return Played(case, bench, problem, "\n".join(logged.lines))


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """asyncio's own loop where the extra [speed] is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Kept(logging.Handler):
    """Keeps all that is logged, in the words that a log file would have."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
