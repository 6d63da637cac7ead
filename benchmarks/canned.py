"""The canned server and what is asked of it: precomputed gzip answers, as cheap to serve as can be, in a process of its own.

It reads each request to the end of its Content-Length, and answers by the first Tweet ID of the body; Tweets that are not
of a load are all given the same numbers, at the cost of building that answer. It checks nothing else: what is measured
is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random

import orjson

from benchmarks import children

__all__ = ["HOURS", "LOADS", "LOOSE_LIMIT", "Load", "serving"]

LOOSE_LIMIT = 10_000_000
"""Requests a minute that the answers' headers tell of: a contract that never makes anybody wait."""
ORIGIN_HOUR = 494_000  # epoch hours: 2026-05-10T08:00Z
HOURS = 29


@dataclass(frozen=True)
class Load:
    """What is asked: `batches` full requests of one endpoint, with IDs that no other load has."""

    name: str
    path: str
    ids_per_request: int
    batches: int
    engagement_types: tuple[str, ...]
    group_by: tuple[str, ...]
    first_id: int

    @cached_property
    def tweet_ids(self) -> list[str]:
        """All distinct IDs, in the order of the requests."""
        draw = Random(self.first_id)
        tweet_id = self.first_id
        ids = []
        for _ in range(self.batches * self.ids_per_request):
            tweet_id += draw.randrange(1, 10**9)
            ids.append(str(tweet_id))
        return ids

    def chunks(self) -> list[list[str]]:
        """Return the IDs of each request."""
        size = self.ids_per_request
        return [self.tweet_ids[at : at + size] for at in range(0, len(self.tweet_ids), size)]

    def request(self, tweet_ids: list[str]) -> dict[str, object]:
        """Return the documented request, before it is JSON."""
        return {
            "tweet_ids": tweet_ids,
            "engagement_types": self.engagement_types,
            "groupings": {"by_tweet": {"group_by": self.group_by}},
        }

    def answer(self, tweet_ids: list[str]) -> bytes:
        """Return the body of the answer for these IDs, as JSON."""
        draw = Random(tweet_ids[0])
        body: dict[str, object] = {}
        if "engagement.hour" in self.group_by:
            body["start"], body["end"] = "2026-05-10T08:00:00Z", "2026-05-11T13:00:00Z"
            body["by_tweet"] = {
                i: {metric: _hours(draw, rank) for rank, metric in enumerate(self.engagement_types)} for i in tweet_ids
            }
        else:
            body["by_tweet"] = {
                i: {metric: _count(draw, 4e5 / 9**rank) for rank, metric in enumerate(self.engagement_types)}
                for i in tweet_ids
            }
        return orjson.dumps(body)


def _hours(draw: Random, rank: int) -> dict[str, dict[str, str]]:
    days: dict[str, dict[str, str]] = {"2026-05-10": {}, "2026-05-11": {}}
    for hour in range(8, 8 + HOURS):
        day = "2026-05-10" if hour < 24 else "2026-05-11"
        days[day][f"{hour % 24:02}"] = _count(draw, 2000 / 3**rank)
    return days


def _count(draw: Random, scale: float) -> str:
    """Return a number with a long tail, as counts of engagements have."""
    return str(int(scale * 0.02 * draw.paretovariate(1.1)))


LOADS = {
    load.name: load
    for load in (
        Load(
            name="totals",
            path="/insights/engagement/totals",
            ids_per_request=250,
            batches=400,
            engagement_types=(
                "impressions",
                "engagements",
                "favorites",
                "retweets",
                "quote_tweets",
                "replies",
                "video_views",
            ),
            group_by=("tweet.id", "engagement.type"),
            first_id=1_800_000_000_000_000_000,
        ),
        Load(
            name="public totals",
            path="/insights/engagement/totals",
            ids_per_request=250,
            batches=400,
            engagement_types=("favorites", "retweets", "quote_tweets", "replies", "video_views"),
            group_by=("tweet.id", "engagement.type"),
            first_id=1_700_000_000_000_000_000,
        ),
        Load(
            name="28hr",
            path="/insights/engagement/28hr",
            ids_per_request=25,
            batches=100,
            engagement_types=(
                "impressions",
                "engagements",
                "favorites",
                "retweets",
                "replies",
                "video_views",
                "media_views",
                "url_clicks",
                "detail_expands",
                "user_profile_clicks",
            ),
            group_by=("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
            first_id=1_900_000_000_000_000_000,
        ),
    )
}
"""What the throughput is measured with: 250 Tweets by 7 metrics (or the 5 public ones), and 25 by 10 by 29 hours."""


def _response(body: bytes, level: int = 6) -> bytes:
    packed = gzip.compress(body, level, mtime=0)
    head = (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json;charset=utf-8\r\n"
        "Content-Encoding: gzip\r\n"
        f"x-per-minute-limit: {LOOSE_LIMIT}\r\n"
        f"x-per-minute-remaining: {LOOSE_LIMIT}\r\n"
        f"Content-Length: {len(packed)}\r\n\r\n"
    )
    return head.encode("ascii") + packed


_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_FIRST_ID = re.compile(rb'"tweet_ids": ?\["(\d+)"')
_JOINED_IDS = re.compile(rb'"tweet_ids": ?\["([\d", ]+)"\]')
_SAME = b'":' + orjson.dumps(dict.fromkeys(LOADS["totals"].engagement_types, "4711")) + b',"'
_SAME_HOURS = b'":' + orjson.dumps({m: _hours(Random(7), 0) for m in LOADS["28hr"].engagement_types}) + b',"'
_WINDOW = b'"start":"2026-05-10T08:00:00Z","end":"2026-05-11T13:00:00Z",'
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def _built(request: bytes) -> bytes:
    """Return an answer of totals, or by the hour, for whatever Tweets were asked."""
    ids = _JOINED_IDS.search(request)
    if not ids:
        return _NOT_FOUND
    same, window = (_SAME_HOURS, _WINDOW) if b'"engagement.hour"' in request else (_SAME, b"")
    return _response(
        b'{%b"by_tweet":{"%b%b}}' % (window, ids[1].replace(b" ", b"").replace(b'","', same), same[:-2]), 1
    )


class _Canned(asyncio.Protocol):
    """One connection: requests in, the answers that were rendered before out."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._unread = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's has no such base

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data if self._unread else data
        while (head_end := unread.find(b"\r\n\r\n")) >= 0:
            length = _CONTENT_LENGTH.search(unread, 0, head_end)
            stop = head_end + 4 + (int(length[1]) if length else 0)
            if len(unread) < stop:
                break
            first = _FIRST_ID.search(unread, head_end, stop)
            answer = self._answers.get(first[1]) if first else _NOT_FOUND
            assert self._transport is not None
            self._transport.write(answer or _built(unread[head_end:stop]))
            unread = unread[stop:]
        self._unread = unread


async def _serve(names: list[str]) -> None:
    answers = {ids[0].encode(): _response(LOADS[name].answer(ids)) for name in names for ids in LOADS[name].chunks()}
    server = await asyncio.get_running_loop().create_server(lambda: _Canned(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def serving(names: list[str], core: int | None = None) -> Iterator[str]:
    """Return the base URL of a canned server in a process of its own, on that core, for as long as the block lasts."""
    command = [sys.executable, "-m", "benchmarks.canned", *names]
    if core is not None:
        command += ["--core", str(core)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the canned server did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve canned answers on a free port of 127.0.0.1, and print the port."
    )
    parser.add_argument("names", nargs="+", choices=list(LOADS))
    parser.add_argument("--core", type=int)
    given = parser.parse_args()
    children.stay_on(given.core)
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(_serve(given.names))
        return
    asyncio.run(_serve(given.names))


if __name__ == "__main__":
    main()
