"""The future, simulated: the real engine asks for 100 million Tweets under virtual time, of a modelled server on bad days.

Real are the engine, its workers, scheduler and ledger, retries, signing, request bodies, the decoding of every answer and
the outcomes of every ID. Modelled are the network and the server: delays, outages, refusals, its own count of the
contract. Left out: sockets, HTTP and gzip; searching the input for duplicates (batches are made as they are asked for);
all metrics but one, which a Tweet's ID decides.

The same seed gives the same report, byte for byte: it tells of virtual time alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from random import Random
from typing import Any

import orjson
from yarl import URL

from benchmarks import report
from engagement_async import TOTALS, AnswerStream, Batch, LocalScheduler, OAuth1Credentials, Query, RateLimit
from engagement_async._engine.sender import Sender
from engagement_async._engine.transport import OnHeaders, Response
from engagement_async.errors import AttemptTimeoutError, DisconnectedError, NotSentError
from tests.support.virtual_loop import run_virtual

__all__ = ["measure", "simulate", "tables"]

TWEETS = 100_000_000
REQUESTS_PER_MINUTE = 1_000
SIZE = TOTALS.ids_per_request
PERIOD_S = 60.0
TIMEOUT_S = 60.0
EPOCH_S = 1_790_000_000
FIRST_ID = 1_500_000_000_000_000_000
LEAST_DELAY_S, MEAN_JITTER_S = 0.05, 0.085


@dataclass(frozen=True)
class Episode:
    """A time in which something is wrong."""

    kind: str
    """refused: no connection; storm: 503; hang: no answer; shared: somebody else spends `foreign` requests a minute."""
    starts_at: float
    ends_at: float
    foreign: int = 0


RATES = {"503": 4e-4, "disconnected": 3e-4, "hang": 5e-5, "429": 1e-5}
"""How often a single request fails on a good day."""
EPISODES = (("refused", 90, 4), ("storm", 600, 1), ("storm", 45, 4), ("hang", 300, 1), ("shared", 1800, 1))
"""Kind, seconds, how many of them."""


def _episodes(draw: Random, horizon_s: float) -> list[Episode]:
    found: list[Episode] = []
    for kind, seconds, count in EPISODES:
        while count:
            starts_at = draw.uniform(0.02, 0.9) * horizon_s
            episode = Episode(kind, starts_at, starts_at + seconds, foreign=300 if kind == "shared" else 0)
            if all(episode.ends_at + 120 < e.starts_at or e.ends_at + 120 < episode.starts_at for e in found):
                found.append(episode)
                count -= 1
    return sorted(found, key=lambda episode: episode.starts_at)


class ModelServer:
    """An API that answers under virtual time, and counts what arrives. A `Poster`."""

    def __init__(self, draw: Random, episodes: list[Episode], now: Callable[[], float]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.peak = 0
        self._draw = draw
        self._episodes = deque(episodes)
        self._now = now
        self._window: deque[float] = deque()
        self._foreign: deque[float] = deque()
        self._next_foreign_at = 0.0

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
        """One request of 250 Tweets, through whatever happens at this moment."""
        draw = self._draw
        await asyncio.sleep(LEAST_DELAY_S + draw.expovariate(1 / MEAN_JITTER_S))
        now = self._now()
        trouble = self._trouble(now)
        if trouble == "refused":
            self.outcomes["refused"] += 1
            raise NotSentError("no connection: refused")
        remaining = self._count(now)
        if trouble is None:
            trouble = "over the contract" if remaining < 0 else self._accident()
        self.outcomes[trouble or "answered"] += 1
        if trouble == "hang":
            await asyncio.sleep(TIMEOUT_S)
            raise AttemptTimeoutError("no answer in time")
        await asyncio.sleep(LEAST_DELAY_S + draw.expovariate(1 / MEAN_JITTER_S))
        if trouble == "disconnected":
            raise DisconnectedError("the server closed the connection before its answer")
        response = self._response(now, trouble, remaining, body)
        on_headers(response.status, response.headers)
        return response

    def _response(self, now: float, trouble: str | None, remaining: int, body: bytes) -> Response:
        told = {
            "x-per-minute-limit": str(REQUESTS_PER_MINUTE),
            "x-per-minute-remaining": str(max(0, remaining)),
        }
        if trouble == "503" or trouble == "storm":
            return Response(503, told, b"")
        if trouble == "429" or trouble == "over the contract":
            told["date"] = formatdate(EPOCH_S + now, usegmt=True)
            told["x-per-minute-reset"] = str(int(EPOCH_S + self._window[0] + PERIOD_S) + 1)
            return Response(429, told, b'{"errors":["Rate limit exceeded"]}')
        return Response(200, told, _answer(body))

    def _trouble(self, now: float) -> str | None:
        while self._episodes and self._episodes[0].ends_at <= now:
            self._episodes.popleft()
        if self._episodes and self._episodes[0].starts_at <= now:
            episode = self._episodes[0]
            if episode.kind != "shared":
                return episode.kind
            self._spend_foreign(now, episode)
        return None

    def _spend_foreign(self, now: float, episode: Episode) -> None:
        at = max(self._next_foreign_at, episode.starts_at)
        while at <= now:
            self._foreign.append(at)
            at += PERIOD_S / episode.foreign
        self._next_foreign_at = at

    def _count(self, now: float) -> int:
        """Takes the arrival in; how many requests are left in the minute, below 0 when it is one too many."""
        for window in (self._window, self._foreign):
            while window and window[0] <= now - PERIOD_S:
                window.popleft()
        self._window.append(now)
        self.peak = max(self.peak, len(self._window))
        return REQUESTS_PER_MINUTE - len(self._window) - len(self._foreign)

    def _accident(self) -> str | None:
        drawn = self._draw.random()
        for kind, rate in RATES.items():
            if drawn < rate:
                return kind
            drawn -= rate
        return None


_HEAD = b'{"tweet_ids":["'


def _answer(body: bytes) -> bytes:
    """Every Tweet has 7 favorites."""
    ids = body[len(_HEAD) : body.index(b'"]')]
    return b'{"by_tweet":{"%b":{"favorites":"7"}}}' % ids.replace(b'","', b'":{"favorites":"7"},"')


def _batches(tweets: int) -> Iterator[Batch]:
    for number, at in enumerate(range(FIRST_ID, FIRST_ID + tweets, SIZE)):
        yield Batch(number, tuple(map(str, range(at, min(at + SIZE, FIRST_ID + tweets)))))


async def _run(tweets: int, seed: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    draw = Random(seed)
    batches = -(-tweets // SIZE)
    horizon_s = batches / REQUESTS_PER_MINUTE * 60
    episodes = _episodes(draw, horizon_s) if horizon_s > 4 * 3600 else []
    server = ModelServer(draw, episodes, loop.time)
    scheduler = LocalScheduler(RateLimit(REQUESTS_PER_MINUTE))
    engine = Sender(
        transport=server,
        scheduler=scheduler,
        credentials=OAuth1Credentials("consumer-key", "consumer-secret", "token", "token-secret"),
        base_url=URL("https://data-api.twitter.com"),
        concurrency=16,
        outage_timeout_s=15 * 60.0,
        user_agent="simulation",
        jitter=draw.random,
        wall_clock=lambda: EPOCH_S + loop.time(),
    )
    query = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
    answered = failed = favorites = 0
    async with AnswerStream(engine, query, _batches(tweets)) as answers:
        async for answer in answers:
            by_tweet = answer.groupings["by_tweet"]
            answered += len(by_tweet)
            failed += len(answer.failed_tweet_ids)
            favorites += sum(metrics["favorites"] for metrics in by_tweet.values())
    took_s = loop.time()
    troubled_s = sum(episode.ends_at - episode.starts_at for episode in episodes if episode.kind != "shared")
    foreign = sum(
        (episode.ends_at - episode.starts_at) / PERIOD_S * episode.foreign
        for episode in episodes
        if episode.kind == "shared"
    )
    allowed = REQUESTS_PER_MINUTE * took_s / PERIOD_S
    arrived = sum(count for kind, count in server.outcomes.items() if kind != "refused")
    return {
        "seed": seed,
        "tweets": tweets,
        "answered": answered,
        "failed": failed,
        "favorites": favorites,
        "requests_needed": batches,
        "requests_arrived": arrived,
        "requests_wasted": arrived - server.outcomes["answered"],
        "outcomes": dict(sorted(server.outcomes.items())),
        "peak_per_minute": server.peak,
        "hours": round(took_s / 3600, 4),
        "hours_at_least": round(batches / REQUESTS_PER_MINUTE / 60, 4),
        "outage_hours": round(troubled_s / 3600, 4),
        "contract_used": round(arrived / allowed, 5),
        "contract_used_of_what_was_there": round(
            arrived / (allowed - REQUESTS_PER_MINUTE * troubled_s / PERIOD_S - foreign), 5
        ),
        "episodes": [
            {
                "kind": e.kind,
                "starts_h": round(e.starts_at / 3600, 4),
                "minutes": round((e.ends_at - e.starts_at) / 60, 2),
            }
            for e in episodes
        ],
    }


def simulate(tweets: int = TWEETS, seed: int = 28) -> dict[str, Any]:
    """The report of one run."""
    logging.getLogger("engagement_async").setLevel(logging.CRITICAL)  # outages are announced, here by the hundred
    return run_virtual(_run(tweets, seed), has_sockets=False)


def measure() -> dict[str, Any]:
    began = time.perf_counter()
    found = simulate()
    return {"machine": report.machine(), "report": found, "real_s": time.perf_counter() - began}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The page's section."""
    found = results["report"]
    rows: list[tuple[object, ...]] = [
        ("Tweets requested", f"{found['tweets']:,}"),
        ("answered, each once", f"{found['answered']:,}"),
        ("requests needed", f"{found['requests_needed']:,}"),
        ("requests that arrived", f"{found['requests_arrived']:,}"),
        (
            "of these wasted",
            f"{found['requests_wasted']:,} ({found['requests_wasted'] / found['requests_needed']:.2%})",
        ),
        *(
            (f"— {kind}", f"{count:,}")
            for kind, count in found["outcomes"].items()
            if kind not in ("answered", "refused")
        ),
        ("refused connections, which cost no request", f"{found['outcomes'].get('refused', 0):,}"),
        ("most requests in any minute, at the server", f"{found['peak_per_minute']:,}"),
        ("hours taken", f"{found['hours']:.2f}"),
        ("hours at full use of the limit", f"{found['hours_at_least']:.2f}"),
        ("hours of outages", f"{found['outage_hours']:.2f}"),
        ("limit used", f"{found['contract_used']:.1%}"),
        ("limit used, of what outages and others left", f"{found['contract_used_of_what_was_there']:.1%}"),
        ("real time of this run", f"{results['real_s']:.0f} s"),
    ]
    return {"simulation": report.table((f"at {REQUESTS_PER_MINUTE:,} requests per minute", ""), rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tweets", type=int, default=TWEETS)
    parser.add_argument("--seed", type=int, default=28)
    parser.add_argument("--save", action="store_true", help="keep the result for docs/performance.md")
    given = parser.parse_args()
    if given.save:
        report.save("simulate", measure())
        return
    print(orjson.dumps(simulate(given.tweets, given.seed), option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
