"""What an answer's headers say of the contract. Pure: they parse themselves, and nonsense in them is None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RateHeaders", "per_minute"]

LONGEST_WAIT_S = 15 * 60.0
"""A server that names a longer wait than this, for a limit by the minute, is not believed."""


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What the headers say of the contract. None where absent or nonsense; seconds are from the answer's own `Date`."""

    retry_after_s: float | None = None
    minute_remaining: int | None = None
    minute_reset_s: float | None = None
    second_remaining: int | None = None
    second_reset_s: float | None = None
    date: datetime | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RateHeaders:
        """Read `Retry-After` (seconds or a date) and `x-per-minute-*`, `x-per-second-*` (resets are epoch seconds).

        Resets are taken relative to the answer's own `Date`: the local clock may be wrong.
        """
        date = _http_date(headers.get("date"))
        return cls(
            retry_after_s=_retry_after(headers.get("retry-after"), date),
            minute_remaining=_count(headers.get("x-per-minute-remaining")),
            minute_reset_s=_until(headers.get("x-per-minute-reset"), date),
            second_remaining=_count(headers.get("x-per-second-remaining")),
            second_reset_s=_until(headers.get("x-per-second-reset"), date),
            date=date,
        )


def per_minute(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """`x-per-minute-remaining` and `-limit` alone: looked at in every answer, so nothing else is parsed for it."""
    remaining = headers.get("x-per-minute-remaining")
    return (None, None) if remaining is None else (_count(remaining), _count(headers.get("x-per-minute-limit")))


def _http_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _count(text: str | None) -> int | None:
    if text and text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    return None


def _sane_wait(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST_WAIT_S else None


def _until(text: str | None, date: datetime | None) -> float | None:
    try:
        return _sane_wait(float(text) - date.timestamp()) if text and date else None
    except ValueError:
        return None


def _retry_after(text: str | None, date: datetime | None) -> float | None:
    if not text:
        return None
    try:
        return _sane_wait(float(text))
    except ValueError:
        at = _http_date(text)
        return _sane_wait((at - date).total_seconds()) if at and date else None
