"""Progress: what a run has done so far, as numbers, as a line and as an event. Pure; `report` shows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from engagement_async._core.answer import Answer
from engagement_async._core.rate_limit import RateLimit
from engagement_async._progress import WaitReason

__all__ = ["Meter", "Snapshot", "count", "duration"]

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    ids_done: int
    ids_total: int
    requests: int
    elapsed_s: float
    requests_last_minute: int
    """Counted, as the contract counts; a rate over a shorter time would show the pacer's first steps as a breach."""
    contract_per_minute: float
    eta_s: float | None
    """At this run's own rate so far; None until an ID is done."""
    unavailable: int
    failed: int
    waiting_s: float
    waiting_for: WaitReason | None

    def line(self) -> str:
        """For people, without a terminal."""
        parts = [
            f"{self.ids_done:,} of {self.ids_total:,} IDs",
            count(self.requests, "request"),
            self.rate(),
            f"{duration(self.eta_s)} left" if self.eta_s is not None else "",
            f"{self.unavailable:,} gone" if self.unavailable else "",
            f"{self.failed:,} failed" if self.failed else "",
            self.waiting(),
        ]
        return " · ".join(part for part in parts if part)

    def rate(self) -> str:
        """Requests, against the contract."""
        return f"{self.requests_last_minute:,} of {self.contract_per_minute:,.0f} in the last minute"

    def waiting(self) -> str:
        """What the run waits for, or nothing."""
        if not self.waiting_for:
            return ""
        return f"waiting {duration(self.waiting_s)} for {self.waiting_for.text}" if self.waiting_s >= 1 else ""

    def event(self) -> dict[str, object]:
        """For machines; seconds and rates to a tenth."""
        return {key: round(value, 1) if isinstance(value, float) else value for key, value in asdict(self).items()}


class Meter:
    """Outcomes answers, and makes snapshots of them. The clock is passed in: seconds, and never back."""

    def __init__(self, ids_total: int, limit: RateLimit, clock: Callable[[], float]) -> None:
        self.ids_total = ids_total
        self.ids_done = 0
        self.unavailable = 0
        self.failed = 0
        self._contract_per_minute = limit.requests * 60 / limit.period
        self._clock = clock
        self._began_at = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began_at, 0)])  # instants, and requests until then

    def add(self, answer: Answer) -> None:
        """Count one batch's answer."""
        self.ids_done += len(answer.tweet_ids)
        self.unavailable += len(answer.unavailable_tweet_ids)
        self.failed += len(answer.failed_tweet_ids)

    def snapshot(self, requests: int, waiting_s: float = 0.0, waiting_for: WaitReason | None = None) -> Snapshot:
        """The run now. `requests` is how many were sent since it began. Made once a second, so that a minute is known."""
        now = self._clock()
        self._samples.append((now, requests))
        while self._samples[0][0] < now - _MINUTE_S:
            self._samples.popleft()
        elapsed = now - self._began_at
        left = self.ids_total - self.ids_done
        return Snapshot(
            ids_done=self.ids_done,
            ids_total=self.ids_total,
            requests=requests,
            elapsed_s=elapsed,
            requests_last_minute=requests - self._samples[0][1],
            contract_per_minute=self._contract_per_minute,
            eta_s=left * elapsed / self.ids_done if self.ids_done else None,
            unavailable=self.unavailable,
            failed=self.failed,
            waiting_s=waiting_s,
            waiting_for=waiting_for,
        )


def count(number: int, what: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`8 s`, `1 min 32 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02} h"
