"""A model Engagement API over real sockets, for whole runs under virtual time: it knows the truth of every Tweet, and what
goes wrong when is scripted. Written from the API's reference pages; it imports nothing of the package.

A `World` says what is true of the Tweets. Its `rules` say what the server does instead of answering: the first rule with
something to say decides. `refused` are spans of time in which nobody can connect. Everything that arrived is on the record.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self

from tests.support.model_truth import EPOCH, Asked, expected_groupings
from tests.support.raw_http import Exchange, RawServer, plain

__all__ = [
    "Cut",
    "Disconnect",
    "Hang",
    "ModelServer",
    "Omission",
    "Record",
    "Rule",
    "Slow",
    "Status",
    "World",
    "after_requests",
    "during",
    "flaky",
    "poison",
    "refuses",
]

IDS_PER_REQUEST = {"totals": 250, "28hr": 25, "historical": 25}
UNSUPPORTED = {
    "unsupported_for_impressions_engagements_tweet_ids": ("impressions", "engagements"),
    "unsupported_for_video_views_tweet_ids": ("video_views",),
}
HTML = b"<html><head><title>Access denied</title></head><body>Access to this page is denied.</body></html>"


# --- what the server may do instead of answering ---


@dataclass(frozen=True, slots=True)
class Status:
    """An error: `texts` as the API's `errors`, or `content` as it is (bytes: of that `content_type`)."""

    status: int = 503
    texts: tuple[str, ...] = ()
    content: Any = None
    headers: Mapping[str, str | int] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    @classmethod
    def html(cls, status: int) -> Status:
        return cls(status, content=HTML, content_type="text/html")

    def body(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return json.dumps(self.content if self.content is not None else {"errors": list(self.texts)}).encode()


@dataclass(frozen=True, slots=True)
class Hang:
    """No byte of an answer ever comes."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection is reset before an answer."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The good answer, cut in the middle of its body."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The good answer: its headers at once, its body so many seconds later."""

    seconds: float


Act = Status | Hang | Disconnect | Cut | Slow


@dataclass(frozen=True, slots=True)
class Rule:
    """`decide` gives what the server does to a request, or None. `cause` is its name on the record, `what` for people."""

    cause: str
    decide: Callable[[Asked], Act | None] = field(repr=False)
    what: str = ""


def during(start: float, end: float, act: Act | None = None, *, endpoint: str | None = None, cause: str = "") -> Rule:
    """Everything that arrives in [start, end), of one endpoint or of all, gets that: a 503 unless it says another."""
    act = act or Status(503)

    def decide(asked: Asked) -> Act | None:
        return act if start <= asked.at < end and endpoint in (None, asked.endpoint) else None

    return Rule(cause or "outage", decide, f"{act} from {start} to {end} s, {endpoint or 'all'}")


def after_requests(count: int, lasts_s: float, act: Act | None = None, *, cause: str = "") -> Rule:
    """Do the same for that many seconds from the arrival of request number `count` on, whenever that is."""
    act = act or Status(503)
    began_at = math.inf

    def decide(asked: Asked) -> Act | None:
        nonlocal began_at
        if asked.number >= count:
            began_at = min(began_at, asked.at)
        return act if began_at <= asked.at < began_at + lasts_s else None

    return Rule(cause or "outage", decide, f"{act} from request {count} on, for {lasts_s} s")


def poison(
    tweet_ids: Iterable[str], act: Act | None = None, *, start: float = 0.0, end: float = math.inf, since: str = ""
) -> Rule:
    """Every request with one of these Tweets in it gets that, a 500 unless it says another.

    `since`: of a split span, only the requests for what begins then or later (as 2026-01-31).
    """
    act = act or Status(500, ("internal server error",))
    bad = frozenset(tweet_ids)

    def decide(asked: Asked) -> Act | None:
        if since and (asked.start is None or f"{asked.start:%Y-%m-%d}" < since):
            return None
        return act if start <= asked.at < end and not bad.isdisjoint(asked.tweet_ids) else None

    return Rule(
        "poison", decide, f"{act} with {sorted(bad)[:3]} from {start} to {end} s, spans since {since or 'ever'}"
    )


def refuses(
    tweet_ids: Iterable[str],
    text: str = "Invalid Tweet",
    *,
    status: int = 400,
    is_named: bool = False,
    has_request_id: bool = False,
) -> Rule:
    """Refuse requests with one of these Tweets; the text names them, or nobody; it may hold an ID of the request."""
    bad = frozenset(tweet_ids)

    def decide(asked: Asked) -> Act | None:
        found = [i for i in asked.tweet_ids if i in bad]
        if not found:
            return None
        words = f"{text}: {', '.join(found)}" if is_named else text
        return Status(status, (words + (f" (request {asked.number * 7919:012x})" if has_request_id else ""),))

    return Rule("refused", decide, f"{status} with {sorted(bad)[:3]}, named: {is_named}")


def flaky(rate: float, acts: Sequence[Act], seed: int, *, start: float = 0.0, end: float = math.inf) -> Rule:
    """Give that share of all requests in [start, end) one of the acts, by lot."""
    lots = random.Random(seed)

    def decide(asked: Asked) -> Act | None:
        is_hit = lots.random() < rate
        act = lots.choice(acts)
        return act if is_hit and start <= asked.at < end else None

    return Rule("flaky", decide, f"{rate} of all from {start} to {end} s, seed {seed}: {acts}")


# --- what is true of the Tweets ---


@dataclass(frozen=True, slots=True)
class Omission:
    """Good answers that leave Tweets out of groupings by Tweet: all of their values, or those of one metric.

    `times`: so many times for each Tweet, then no more. `of`: only out of the groupings of these names. `in_sums`: whether
    groupings without `tweet.id` hold their values nevertheless.
    """

    tweet_ids: AbstractSet[str]
    times: float = math.inf
    of: Collection[str] | None = None
    metric: str | None = None
    in_sums: bool = True


@dataclass(slots=True)
class World:
    """What is true of the Tweets, and what goes wrong when. Whatever is not named here is fine."""

    rules: Sequence[Rule] = ()
    refused: Sequence[tuple[float, float]] = ()
    """Spans in which nothing listens."""
    unavailable: AbstractSet[str] = frozenset()
    forbidden: AbstractSet[str] = frozenset()
    unsupported: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    """Key of the answer (see `UNSUPPORTED`) to Tweets; for video views they show a zero."""
    unsupported_status: int = 200
    omissions: Sequence[Omission] = ()
    days_above_hours: bool = True
    latency_s: tuple[float, float] = (0.02, 0.1)
    """The longest time that a request is on its way, and its answer (each by lot)."""
    limit: tuple[int, float] | None = None
    """What `x-per-minute-*` headers speak of: requests and seconds. None: there are none."""
    seed: int = 0

    def metrics_of(self, tweet_id: str, metrics: Iterable[str]) -> tuple[str, ...]:
        """Those of the metrics that the API has a value of."""
        none = {m for key, ids in self.unsupported.items() if tweet_id in ids for m in UNSUPPORTED[key]}
        return tuple(metric for metric in metrics if metric not in none)


@dataclass(slots=True)
class Record:
    """What became of one request. `cause` is "answer", "refusal" (of IDs, by the world itself) or that of a rule."""

    asked: Asked
    cause: str = "on its way"
    left_out: frozenset[str] = frozenset()
    """Tweets that a good answer left out of a grouping, wholly."""
    texts: tuple[str, ...] = ()
    """Of a rule's error."""
    answered_at: float = math.inf
    may_be_unread: bool = False
    """Whether the client was suspended while it was on its way: it may have timed out before it read the answer."""

    @property
    def is_useful(self) -> bool:
        """Whether it shows that the API is there and reads requests."""
        return self.cause in ("answer", "refusal", "refused")


class ModelServer:
    """The API on 127.0.0.1. An async context manager; `url` is its address."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.records: list[Record] = []
        self.breaches: list[str] = []
        """Rules of the API that requests broke."""
        self._lots = random.Random(world.seed)
        self._numbers = itertools.count(1)
        self._left_out: Counter[tuple[int, str]] = Counter()
        self._http = RawServer(self._serve)
        self._switching: asyncio.Task[None] | None = None

    def note_suspension(self) -> None:
        """Note that the client is suspended now: what is on its way may never be read."""
        for record in self.records:
            record.may_be_unread |= record.answered_at == math.inf

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        if self.world.refused:
            self._switching = asyncio.create_task(self._switch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._switching is not None:
            self._switching.cancel()
            with suppress(asyncio.CancelledError):
                await self._switching
        await self._http.__aexit__(kind, error, trace)

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def requests(self) -> int:
        return len(self.records)

    # --- what the record says ---

    def arrivals(self, endpoint: str | None = None) -> list[float]:
        return sorted(r.asked.at for r in self.records if endpoint in (None, r.asked.endpoint))

    def peak(self, period: float, endpoint: str | None = None) -> int:
        """Return the most requests that arrived in any window [x, x + period)."""
        arrivals = self.arrivals(endpoint)
        return max((bisect_left(arrivals, at + period) - n for n, at in enumerate(arrivals)), default=0)

    def of(self, tweet_id: str, *causes: str) -> list[Record]:
        """Return the requests with that Tweet, in order of arrival; of those causes, if any are named."""
        return [r for r in self.records if tweet_id in r.asked.tweet_ids and (not causes or r.cause in causes)]

    def causes(self, endpoint: str | None = None) -> Counter[str]:
        return Counter(r.cause for r in self.records if endpoint in (None, r.asked.endpoint))

    # --- serving ---

    async def _switch(self) -> None:
        loop = asyncio.get_running_loop()
        for start, end in self.world.refused:
            await asyncio.sleep(start - loop.time())
            self._http.refuse()
            await asyncio.sleep(end - loop.time())
            await self._http.listen_again()

    async def _serve(self, exchange: Exchange) -> None:
        on_its_way_s, _ = self.world.latency_s
        await asyncio.sleep(on_its_way_s * self._lots.random())
        asked = self._read(exchange.request)
        if asked is None:
            await exchange.send(plain(b'{"errors": ["a rule of the API is broken"]}', "400 Bad Request"))
            return
        record = Record(asked)
        self.records.append(record)
        rule, act = self._decide(asked)
        if rule is not None:
            record.cause = rule.cause
            record.texts = act.texts if isinstance(act, Status) else ()
        await asyncio.sleep(self.world.latency_s[1] * self._lots.random())
        match act:
            case Hang():
                await asyncio.Event().wait()
            case Disconnect():
                exchange.reset()
            case Status():
                await exchange.send(self._written(act.status, act.body(), asked, act.headers, act.content_type))
            case Cut():
                data = self._written(200, self._answer(record)[1], asked)
                head = data.index(b"\r\n\r\n") + 4
                await exchange.send(data[: head + (len(data) - head) // 2])
                exchange.close()
            case Slow() | None:
                await self._answer_well(exchange, record, act.seconds if isinstance(act, Slow) else 0.0)
        record.answered_at = asyncio.get_running_loop().time()

    async def _answer_well(self, exchange: Exchange, record: Record, body_delay_s: float) -> None:
        status, body = self._answer(record)
        record.cause = "answer" if status == 200 else "refusal"
        data = self._written(status, body, record.asked)
        if body_delay_s:
            head = data.index(b"\r\n\r\n") + 4
            await exchange.send(data[:head])
            await asyncio.sleep(body_delay_s)
            data = data[head:]
        await exchange.send(data)

    def _decide(self, asked: Asked) -> tuple[Rule | None, Act | None]:
        for rule in self.world.rules:
            act = rule.decide(asked)
            if act is not None:
                return rule, act
        return None, None

    def _written(
        self,
        status: int,
        body: bytes,
        asked: Asked,
        headers: Mapping[str, str | int] | None = None,
        content_type: str = "application/json; charset=utf-8",
    ) -> bytes:
        now = asyncio.get_running_loop().time()
        given: dict[str, str | int] = {"Date": formatdate(EPOCH + now, usegmt=True), "Content-Type": content_type}
        if self.world.limit is not None:
            most, period = self.world.limit
            arrivals = self.arrivals()
            given["x-per-minute-limit"] = most
            given["x-per-minute-remaining"] = max(0, most - (len(arrivals) - bisect_left(arrivals, now - period)))
            given["x-per-minute-reset"] = math.ceil(EPOCH + now + period)
        given["Content-Encoding"] = "gzip"
        return plain(gzip.compress(body, 1, mtime=0), f"{status} Whatever", **{**given, **(headers or {})})

    # --- the rules of a request ---

    def _read(self, request: bytes) -> Asked | None:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.decode("ascii").lower().split("\r\n")
        endpoint = lines[0].split(" ")[1].rpartition("/")[2]
        given: dict[str, Any] = json.loads(body)
        ids = given.get("tweet_ids", [])
        broken = [
            what
            for what, is_kept in {
                "the path": lines[0] == f"post /insights/engagement/{endpoint} http/1.1"
                and endpoint in IDS_PER_REQUEST,
                "gzip": "accept-encoding: gzip" in lines,
                "authorization": any(line.startswith("authorization: ") for line in lines),
                "the number of IDs": 1 <= len(ids) <= IDS_PER_REQUEST.get(endpoint, 0),
                "IDs twice": len(set(ids)) == len(ids),
                "IDs that are digits": all(isinstance(i, str) and i.isdigit() for i in ids),
                "the keys": given.keys() - {"start", "end"} == {"tweet_ids", "engagement_types", "groupings"},
            }.items()
            if not is_kept
        ]
        start, end = (_bound(given.get(name)) for name in ("start", "end"))
        if start is not None and end is not None and not timedelta(0) < end - start <= timedelta(weeks=4):
            broken.append("the span")
        if broken:
            self.breaches += broken
            return None
        return Asked(
            next(self._numbers),
            asyncio.get_running_loop().time(),
            endpoint,
            tuple(ids),
            tuple(given["engagement_types"]),
            {name: tuple(inner["group_by"]) for name, inner in given["groupings"].items()},
            start,
            end,
        )

    # --- answers ---

    def _answer(self, record: Record) -> tuple[int, bytes]:
        """Return the good answer: what is true, and who is out. 403 where Tweets are forbidden."""
        asked, world = record.asked, self.world
        foreign = [i for i in asked.tweet_ids if i in world.forbidden]
        if foreign:
            return 403, json.dumps({"errors": [f"Forbidden to access tweets: {','.join(foreign)}"]}).encode()
        content: dict[str, Any] = {}
        gone = [i for i in asked.tweet_ids if i in world.unavailable]
        left = [i for i in asked.tweet_ids if i not in world.unavailable]
        if gone:
            content["unavailable_tweet_ids"] = gone
            content["errors"] = [f"{len(gone)} Tweet ID(s) are unavailable"]
            if not left:
                return 400, json.dumps(content).encode()
        for key, metrics in UNSUPPORTED.items():
            old = [i for i in left if i in world.unsupported.get(key, ())]
            if old and not set(metrics).isdisjoint(asked.metrics):
                content[key] = old
                content.setdefault("errors", []).append("Tweets older than 90 days (TIME_PERIOD) are not supported")
        if content.keys() & UNSUPPORTED.keys() and world.unsupported_status == 400:
            return 400, json.dumps(content).encode()
        if asked.endpoint != "totals":
            content |= _window(asked)
        content |= self._groupings(record, {i: world.metrics_of(i, asked.metrics) for i in left})
        return 200, json.dumps(content).encode()

    def _groupings(self, record: Record, values: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
        asked = record.asked
        by_tweet = [name for name, group_by in asked.groupings.items() if "tweet.id" in group_by]
        active = self._active(asked, by_tweet, values)
        in_sums: dict[str, Iterable[str]] = dict(values)
        for omission, ids in active:
            for i in ids if not omission.in_sums else ():
                in_sums[i] = [m for m in in_sums[i] if omission.metric not in (None, m)]
        found: dict[str, Any] = {}
        for name, group_by in asked.groupings.items():
            shown: dict[str, Iterable[str]] = dict(values)
            for omission, ids in active:
                if "tweet.id" not in group_by or (omission.of is not None and name not in omission.of):
                    continue
                for i in ids:
                    if omission.metric is None:
                        shown.pop(i, None)
                        record.left_out |= {i}
                    elif "engagement.type" in group_by:
                        shown[i] = [m for m in shown.get(i, ()) if m != omission.metric]
            one = replace(asked, groupings={name: group_by})
            found |= expected_groupings(one, shown, sums=in_sums, days_above_hours=self.world.days_above_hours)
            self._add_fake_zeros(asked, found[name], group_by, shown)
        return {name: _texts(grouping) for name, grouping in found.items()}

    def _active(
        self, asked: Asked, by_tweet: Collection[str], values: Collection[str]
    ) -> list[tuple[Omission, list[str]]]:
        """Which omissions strike now, and whom: each is counted by Tweet."""
        active = []
        for number, omission in enumerate(self.world.omissions):
            struck_in = [
                name
                for name in by_tweet
                if (omission.of is None or name in omission.of)
                and (omission.metric is None or "engagement.type" in asked.groupings[name])
            ]
            if not struck_in or omission.metric not in (None, *asked.metrics):
                continue  # nobody could see that anything is missing
            struck = []
            for i in values:
                if i in omission.tweet_ids and self._left_out[number, i] < omission.times:
                    self._left_out[number, i] += 1
                    struck.append(i)
            active.append((omission, struck))
        return active

    def _add_fake_zeros(
        self, asked: Asked, grouping: dict[str, Any], group_by: Sequence[str], shown: Mapping[str, Iterable[str]]
    ) -> None:
        """Tweets too old for video views show a zero, which is no value."""
        ancient = self.world.unsupported.get("unsupported_for_video_views_tweet_ids", frozenset())
        if "video_views" not in asked.metrics or tuple(group_by) != ("tweet.id", "engagement.type"):
            return
        for i in shown:
            if i in ancient:
                grouping.setdefault(i, {})["video_views"] = 0


def _bound(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def _window(asked: Asked) -> dict[str, str]:
    now = datetime.fromtimestamp(EPOCH, UTC)
    end = asked.end or now
    start = asked.start or end - (timedelta(hours=28) if asked.endpoint == "28hr" else timedelta(weeks=4))
    return {"start": f"{start:%Y-%m-%dT%H:00:00Z}", "end": f"{end:%Y-%m-%dT%H:00:00Z}"}


def _texts(grouping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _texts(v) if isinstance(v, Mapping) else str(v) for k, v in grouping.items()}
