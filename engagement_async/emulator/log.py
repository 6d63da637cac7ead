"""What the emulator received: the last requests one by one, all of them as counts.

It stays small over millions of requests, unless all of them are to be kept.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Entry", "RequestLog"]

_MAX_TEXTS = 1000  # texts that name IDs differ each time


@dataclass(slots=True)
class Entry:
    """One request. `arrived_at`: seconds of the server's monotonic clock; `start`, `end`: hours since 1970.

    `owner`: whose token it came with, by handle; None for the application alone. `status` is 0 until an answer left; where
    a fault broke the connection, it is what would have been answered.
    """

    number: int
    arrived_at: float
    path: str
    endpoint: str | None = None
    owner: str | None = None
    tweet_ids: tuple[str, ...] = ()
    engagement_types: tuple[str, ...] = ()
    groupings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    start: int | None = None
    end: int | None = None
    nonce: str | None = None
    status: int = 0
    errors: tuple[str, ...] = ()
    fault: str | None = None
    delivered: bool = False
    """Whether what left is an answer that a client can use: no fault was injected, or a harmless one."""


class RequestLog:
    """Counts over all requests, and the last `size` of them in full (None: all).

    `statuses`, `faults`: how often each. `by_owner`: requests with the token of each owner, by handle. `refusals`: the
    texts with which the emulator itself refused requests, faults aside; it is empty when no rule was broken.
    `ids_received`, `duplicates`: IDs in checked requests, and how many of them stood twice in one request. `peak`: the
    most arrivals in any sliding window of `period` seconds. `answered`: with `count_ids`, how often each ID was in a
    request that was answered with data, and whose answer left whole.
    """

    def __init__(self, period: float, size: int | None = 1000, *, count_ids: bool = False) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)
        self.requests = 0
        self.peak = 0
        self.ids_received = 0
        self.duplicates = 0
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.by_owner: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._count_ids = count_ids
        self._period = period
        self._recent: deque[float] = deque()

    def arrive(self, now: float, path: str) -> Entry:
        """Count an arrival."""
        self.requests += 1
        self._recent.append(now)
        while now - self._recent[0] >= self._period:
            self._recent.popleft()
        self.peak = max(self.peak, len(self._recent))
        entry = Entry(self.requests, now, path)
        self.entries.append(entry)
        return entry

    def check(self, entry: Entry) -> None:
        """Count the IDs of a request that kept the rules."""
        self.ids_received += len(entry.tweet_ids)
        self.duplicates += len(entry.tweet_ids) - len(set(entry.tweet_ids))

    def refuse(self, texts: Iterable[str]) -> None:
        """Count the texts of a refusal."""
        for text in texts:
            if text in self.refusals or len(self.refusals) < _MAX_TEXTS:
                self.refusals[text] += 1

    def leave(self, entry: Entry) -> None:
        """Count how a request ended."""
        self.statuses[entry.status] += 1
        if entry.owner is not None:
            self.by_owner[entry.owner] += 1
        if entry.fault is not None:
            self.faults[entry.fault] += 1
        if self._count_ids and entry.status == 200 and entry.delivered:
            self.answered.update(entry.tweet_ids)

    def peak_in(self, window_s: float) -> int:
        """Return the most arrivals in any sliding window of `window_s` seconds, among the requests kept in full."""
        peak, recent = 0, deque[float]()
        for entry in self.entries:
            recent.append(entry.arrived_at)
            while entry.arrived_at - recent[0] >= window_s:
                recent.popleft()
            peak = max(peak, len(recent))
        return peak

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries))

    def __len__(self) -> int:
        return self.requests
