"""A strict Engagement API over raw sockets, written from its documentation alone: the client's examiner.

It shares no code with the package. It writes down each breach of a documented rule, when each request arrived, and how
often each Tweet was answered; it answers what it is told to, and can break its answers in many ways.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self

from oauthlib.oauth1 import RequestValidator, SignatureOnlyEndpoint

from tests.support.serving import close_server

CONSUMER_KEY = "canary-consumer-key-&%=~"
CONSUMER_SECRET = "canary-consumer-secret-+/="
TOKEN = "18435372-canary-token"
TOKEN_SECRET = "canary-token-secret-'(!)*"
BEARER = "AAAAcanary%2Fbearer"
OWNER = "18435372"

PUBLIC = ("favorites", "retweets", "quote_tweets", "replies", "video_views")
TOTALS = ("impressions", "engagements", *PUBLIC)
OWNED = (
    *("impressions", "engagements", "favorites", "retweets", "replies", "video_views", "media_views"),
    *("media_engagements", "url_clicks", "hashtag_clicks", "detail_expands", "permalink_clicks"),
    *("app_install_attempts", "app_opens", "email_tweet", "user_follows", "user_profile_clicks"),
)
TIMELESS = {"tweet.id", "engagement.type"}
TIMED = TIMELESS | {"engagement.day", "engagement.hour"}
PATHS = {
    "/insights/engagement/totals": ("totals", 250, TOTALS, TIMELESS),
    "/insights/engagement/28hr": ("28hr", 25, OWNED, TIMED),
    "/insights/engagement/historical": ("historical", 25, OWNED, TIMED),
}
FOUR_ITEMS = (
    ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
    ["engagement.type", "tweet.id", "engagement.day", "engagement.hour"],
)
HOUR = timedelta(hours=1)


@dataclass
class Asked:
    """One request that broke no rule."""

    endpoint: str
    tweet_ids: list[str]
    metrics: list[str]
    groupings: dict[str, list[str]]
    start: datetime | None
    end: datetime | None
    at: float
    nth: int = 0
    """Counts requests from 1."""


@dataclass
class Reply:
    """What will be sent, before anybody breaks it."""

    status: int
    content: Any
    """Written as JSON; bytes and None are sent as they are."""
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return b"" if self.content is None else json.dumps(self.content).encode()


Send = Callable[[bytes], Awaitable[None]]
Break = Callable[[Asked, Reply, Send], Awaitable[bool]]
"""Sends whatever it likes; returns whether the connection may be used again."""


@dataclass
class World:
    """What is true of the Tweets. `state` has those that are not simply alive.

    States: gone, foreign, old (no impressions and engagements), ancient (old, and a fake zero of video_views), never
    (the API speaks of it nowhere), once (left out the first time).
    """

    state: dict[str, str] = field(default_factory=dict)
    now: datetime = datetime(2026, 11, 21, 22, 26, 40, tzinfo=UTC)

    def value(self, tweet_id: str, metric: str, hour: datetime | None = None) -> int:
        """Return the truth. Negative now and then, as was seen."""
        mixed = zlib.crc32(f"{tweet_id} {metric} {'' if hour is None else hour.isoformat()}".encode())
        return mixed % 90_000 - 900 if hour is None else mixed % 90 - 3

    def is_old(self, tweet_id: str) -> bool:
        return self.state.get(tweet_id) in ("old", "ancient")


class _Validator(RequestValidator):
    """oauthlib's server side: keys, timestamps and nonces."""

    enforce_ssl = False
    timestamp_lifetime = 10**9  # judged below, by the server's own clock

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.nonces: set[str] = set()

    @property
    def client_key_length(self) -> tuple[int, int]:
        return 1, 200

    @property
    def dummy_client(self) -> str:
        return "nobody"

    def check_client_key(self, client_key: str) -> bool:
        return True

    def check_nonce(self, nonce: str) -> bool:
        return 8 <= len(nonce) <= 64

    def validate_client_key(self, client_key: str, request: Any) -> bool:
        return client_key == CONSUMER_KEY

    def get_client_secret(self, client_key: str, request: Any) -> str:
        return CONSUMER_SECRET

    def get_access_token_secret(self, client_key: str, token: str, request: Any) -> str:
        return TOKEN_SECRET

    def validate_timestamp_and_nonce(
        self,
        client_key: str,
        timestamp: str,
        nonce: str,
        request: Any,
        request_token: str | None = None,
        access_token: str | None = None,
    ) -> bool:
        if nonce in self.nonces:
            self.server.breaches.append(f"nonce {nonce} used twice")
            return False
        self.nonces.add(nonce)
        return abs(int(timestamp) - (time.time() + self.server.clock_ahead_s)) <= 300


class _BreachError(Exception):
    pass


class _NotGrantedError(Exception):
    pass


class Server:
    """The API on 127.0.0.1, port 0. An async context manager."""

    def __init__(
        self,
        world: World | None = None,
        *,
        breaking: Break | None = None,
        unsupported_status: int = 200,
        by_author: bool = False,
        bare_hours: bool = False,
        integers: bool = False,
        extras: bool = False,
        latency: Callable[[], float] = lambda: 0.0,
        limit: tuple[int, float] | None = None,
        respond: Callable[[Asked], Reply | None] | None = None,
    ) -> None:
        self.world = world or World()
        self.breaking = breaking
        self.unsupported_status = unsupported_status
        self.by_author = by_author
        self.bare_hours = bare_hours
        self.integers = integers
        self.extras = extras
        self.latency = latency
        self.limit = limit
        self.respond = respond
        self.clock_ahead_s = 0.0
        self.foreign_arrivals: list[float] = []
        """Requests of somebody else under the same contract: instants of the loop's clock."""
        self.breaches: list[str] = []
        self.arrivals: list[float] = []
        self.asked: list[Asked] = []
        self.times_asked: Counter[str] = Counter()
        self.times_told: Counter[str] = Counter()
        """How often each Tweet was in a whole answer that was sent whole."""
        self.refused_for_rate = 0
        self.unauthorized = 0
        self.open_connections = 0
        self._left_out: set[str] = set()
        self._counted: list[float] = []
        self._validator = _Validator(self)
        self._oauth = SignatureOnlyEndpoint(self._validator)
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await close_server(self._server, self._handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.open_connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.breaches.append(f"the examiner itself is broken: {error!r}")
        finally:
            self.open_connections -= 1
            self._handlers.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        loop = asyncio.get_running_loop()
        at = loop.time()
        line, *lines = head[:-4].split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (text.partition(":") for text in lines)]
        length = next((value for name, value in headers if name == "content-length"), "0")
        body = await reader.readexactly(int(length))
        self.arrivals.append(at)
        latency = self.latency()
        if latency:
            await asyncio.sleep(latency)
        asked: Asked | None = None
        try:
            asked = self._checked(line, headers, body, at)
            asked.nth = len(self.asked) + 1
            self.asked.append(asked)
            self.times_asked.update(asked.tweet_ids)
            reply = self._over_limit(at) or (self.respond and self.respond(asked)) or self.answer(asked)
        except _BreachError as breach:
            self.breaches.append(str(breach))
            reply = Reply(400, {"errors": [str(breach)]})
        except _NotGrantedError as refusal:
            self.unauthorized += 1
            reply = Reply(401, {"errors": [str(refusal)]})
        if self.limit is not None:
            used = self._used(at)
            reply.headers.setdefault("x-per-minute-limit", str(self.limit[0]))
            reply.headers.setdefault("x-per-minute-remaining", str(max(0, self.limit[0] - used)))
        if self.breaking is not None and asked is not None:
            kept: list[bool] = []

            async def noted(data: bytes) -> None:
                kept.append(True)
                await send(data)

            goes_on = await self.breaking(asked, reply, noted)
            if kept or not goes_on:
                if not goes_on:
                    writer.close()
                return goes_on
        await send(self.written(reply))
        if reply.status == 200 and asked is not None:
            self.times_told.update(asked.tweet_ids)
        return True

    def written(self, reply: Reply) -> bytes:
        """Return the reply as honest HTTP/1.1, gzip."""
        body = gzip.compress(reply.body(), 1)
        headers = {
            "Date": formatdate(time.time() + self.clock_ahead_s, usegmt=True),
            "Content-Type": "application/json; charset=utf-8",
            "Content-Encoding": "gzip",
            "Content-Length": str(len(body)),
            **reply.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {reply.status} Whatever\r\n{head}\r\n".encode() + body

    # The contract

    def _used(self, at: float) -> int:
        assert self.limit is not None
        _, period = self.limit
        return sum(at - period < one <= at for one in [*self._counted, *self.foreign_arrivals])

    def _over_limit(self, at: float) -> Reply | None:
        if self.limit is None:
            return None
        if self._used(at) >= self.limit[0]:
            self.refused_for_rate += 1
            return Reply(429, {"errors": ["Too many requests. Please retry later."]})
        self._counted.append(at)
        return None

    # The rules of a request

    def _checked(self, line: str, headers: list[tuple[str, str]], body: bytes, at: float) -> Asked:
        method, path, version = line.split(" ")
        _must(method == "POST", f"method {method}")
        _must(version == "HTTP/1.1", version)
        _must(path in PATHS, f"path {path}")
        endpoint, most, metrics, values = PATHS[path]
        names = Counter(name for name, _ in headers)
        _must(max(names.values()) == 1, f"a header twice: {names}")
        given = dict(headers)
        _must(given.get("accept-encoding") == "gzip", f"accept-encoding {given.get('accept-encoding')!r}")
        _must(given.get("content-type") == "application/json", f"content-type {given.get('content-type')!r}")
        _must("cookie" not in given, "a cookie")
        _must("expect" not in given and "transfer-encoding" not in given, "not a plain body")
        _must(given.get("host") == self.url.removeprefix("http://"), f"host {given.get('host')!r}")
        content = _json(body)
        _must(isinstance(content, dict), "no object")
        keys = {"tweet_ids", "engagement_types", "groupings"}
        if endpoint == "historical" and ("start" in content or "end" in content):
            keys |= {"start", "end"}
        _must(content.keys() == keys, f"keys {sorted(content)}")
        ids = content["tweet_ids"]
        _must(isinstance(ids, list) and 1 <= len(ids) <= most, f"{len(ids)} IDs for {endpoint}")
        for i in ids:
            _must(isinstance(i, str) and re.fullmatch(r"[1-9][0-9]{0,18}", i) is not None, f"ID {i!r}")
            _must(int(i) < 2**63, f"ID {i}")
        _must(len(set(ids)) == len(ids), "an ID twice in one request")
        types = content["engagement_types"]
        _must(isinstance(types, list) and bool(types) and len(set(types)) == len(types), f"types {types}")
        _must(set(types) <= set(metrics), f"types {types}")
        groupings = _groupings(content["groupings"], values)
        start, end = (_bound(content.get(name)) for name in ("start", "end"))
        if start is not None and end is not None:
            start, end = start.replace(minute=0, second=0), _up(end)
            _must(start < end, "start is not before end")
            _must(end - start <= timedelta(weeks=4), f"{end - start} is over 4 weeks")
            _must(start >= datetime(2014, 9, 1, tzinfo=UTC), f"start {start}")
        self._authenticate(given.get("authorization", ""), path, body, given, types, endpoint)
        return Asked(endpoint, ids, types, groupings, start, end, at)

    def _authenticate(
        self, header: str, path: str, body: bytes, headers: dict[str, str], types: list[str], endpoint: str
    ) -> None:
        if header.startswith("Bearer "):
            _must(endpoint == "totals" and set(types) <= set(PUBLIC), "a Bearer token for owned metrics")
            if header != f"Bearer {BEARER}":
                raise _NotGrantedError("Your account could not be authenticated. Reason: Bearer token not found")
            return
        _must(header.startswith("OAuth "), "no Authorization that the API knows")
        _must("oauth_body_hash" not in header, "a body hash, which is not documented")
        _must(f'oauth_token="{TOKEN}"' in header or "wrong" in header, "no oauth_token")
        valid, _ = self._oauth.validate_request(
            self.url + path, "POST", body.decode(), {"Authorization": header, "Content-Type": headers["content-type"]}
        )
        if not valid:
            raise _NotGrantedError("Your account could not be authenticated. Reason: Access token not found")

    # The answers

    def answer(self, asked: Asked) -> Reply:
        state = self.world.state
        foreign = [i for i in asked.tweet_ids if state.get(i) == "foreign"]
        owned = asked.endpoint != "totals" or not set(asked.metrics) <= set(PUBLIC)
        if foreign and owned:
            return Reply(403, {"errors": self._forbidden(foreign)})
        gone = [i for i in asked.tweet_ids if state.get(i) == "gone"]
        left = [i for i in asked.tweet_ids if state.get(i) != "gone"]
        content: dict[str, Any] = {}
        if gone:
            content["unavailable_tweet_ids"] = gone
            content["errors"] = [f"{len(gone)} Tweet ID(s) are unavailable"]
            if not left:
                return Reply(400, content)
        old = [i for i in left if self.world.is_old(i)]
        ancient = [i for i in left if state.get(i) == "ancient"]
        recent_alone = {"impressions", "engagements"} & set(asked.metrics) if asked.endpoint == "totals" else set()
        if old and recent_alone:
            content["unsupported_for_impressions_engagements_tweet_ids"] = old
            content.setdefault("errors", []).append(
                "Impressions & engagements for tweets older than 90 days (TIME_PERIOD) are not supported"
            )
            if self.unsupported_status == 400:
                return Reply(400, content)
        if ancient and "video_views" in asked.metrics and asked.endpoint == "totals":
            content["unsupported_for_video_views_tweet_ids"] = ancient
        told: list[str] = []
        for i in left:
            if state.get(i) == "never" or (state.get(i) == "once" and i not in self._left_out):
                self._left_out.add(i)
                continue
            told.append(i)
        hours = self.hours_of(asked)
        if hours:
            content["start"], content["end"] = (f"{at:%Y-%m-%dT%H:00:00Z}" for at in (hours[0], hours[-1] + HOUR))
        if self.extras:
            content["x_new_field"] = {"nobody": ["knows", 1, None]}
        for name, group_by in asked.groupings.items():
            nested: dict[str, Any] = {}
            for i in [*told, "999999999999999"] if self.extras else told:
                for metric in asked.metrics:
                    if self.world.is_old(i) and metric in recent_alone:
                        continue
                    for hour in hours:
                        self._put(nested, group_by, i, metric, hour)
                    if not hours:
                        self._put(nested, group_by, i, metric, None)
            content[name] = self._leaves(nested)
        return Reply(200, content)

    def _put(self, nested: dict[str, Any], group_by: list[str], i: str, metric: str, hour: datetime | None) -> None:
        value = self.world.value(i, metric, hour)
        if metric == "video_views" and hour is None and self.world.state.get(i) == "ancient":
            value = 0
        path: list[str] = []
        for level in group_by:
            if level == "tweet.id":
                path.append(i)
            elif level == "engagement.type":
                path.append(metric)
            elif hour is not None and level == "engagement.day":
                path.append(f"{hour:%Y-%m-%d}")
            elif hour is not None:
                if "engagement.day" not in group_by and not self.bare_hours:
                    path.append(f"{hour:%Y-%m-%d}")
                path.append(f"{hour:%H}")
        for key in path[:-1]:
            nested = nested.setdefault(key, {})
        nested[path[-1]] = nested.get(path[-1], 0) + value

    def _leaves(self, nested: dict[str, Any]) -> dict[str, Any]:
        return {
            key: self._leaves(value)
            if isinstance(value, dict)
            else value
            if self.integers and value % 3
            else str(value)
            for key, value in nested.items()
        }

    def hours_of(self, asked: Asked) -> list[datetime]:
        if asked.endpoint == "totals":
            return []
        end = asked.end or _up(self.world.now)
        start = asked.start or (end - (29 * HOUR if asked.endpoint == "28hr" else timedelta(weeks=4)))
        return [start + n * HOUR for n in range(int((end - start) / HOUR))]

    def _forbidden(self, ids: list[str]) -> list[str]:
        if not self.by_author:
            return [f"Forbidden to access tweets: {','.join(ids)}"]
        authors: dict[str, list[str]] = {}
        for i in ids:
            authors.setdefault(f"1843537{i[-1]}", []).append(i)
        return [
            f"Forbidden to access tweets for author id {author}: {', '.join(those)}"
            for author, those in authors.items()
        ]


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise _BreachError(what)


def _json(body: bytes) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _must(len({key for key, _ in pairs}) == len(pairs), "a key twice")
        return dict(pairs)

    try:
        return json.loads(body, object_pairs_hook=distinct)
    except ValueError:
        raise _BreachError("no JSON") from None


def _groupings(given: Any, values: set[str]) -> dict[str, list[str]]:
    _must(isinstance(given, dict) and 1 <= len(given) <= 3, "groupings")
    groupings: dict[str, list[str]] = {}
    for name, inner in given.items():
        _must(isinstance(inner, dict) and inner.keys() == {"group_by"}, f"grouping {name}: {inner}")
        by = inner["group_by"]
        _must(isinstance(by, list) and bool(by) and set(by) <= values and len(set(by)) == len(by), f"group_by {by}")
        _must(len(by) < 4 or by in FOUR_ITEMS, f"group_by {by}")
        groupings[name] = by
    _must(sum(len(by) == 4 for by in groupings.values()) <= 1, "two groupings of four items")
    return groupings


def _bound(text: Any) -> datetime | None:
    if text is None:
        return None
    _must(
        isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", text) is not None,
        f"bound {text!r}",
    )
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def _up(at: datetime) -> datetime:
    down = at.replace(minute=0, second=0, microsecond=0)
    return down if down == at else down + HOUR


def most_in_a_window(arrivals: Iterable[float], period: float) -> int:
    """Return the most arrivals in any window [x, x + period), wherever it begins. Fixed windows are among them."""
    ordered = sorted(arrivals)
    most = first = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - period:
            first += 1
        most = max(most, last - first + 1)
    return most
