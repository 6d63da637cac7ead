"""Spans of time and rates as people write them: `1h30m`, `20/s`, `28hr=100/min`. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.rate_limit import RateLimit
from engagement_async.errors import UsageError

__all__ = ["parse_limit", "parse_seconds", "seconds"]

_UNITS: Final = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]+)")
_LONGEST_S = 366 * 86400.0


def parse_seconds(text: str) -> float | None:
    """Return the seconds of `90`, `90s`, `30m`, `2h`, `1d` or `1h30m`; None if it is no such time above 0."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text)
    else:
        spans = _SPAN.findall(text)
        if not re.fullmatch(rf"(?:{_SPAN.pattern} ?)+", text) or any(unit not in _UNITS for _, unit in spans):
            return None
        total = sum(float(number) * _UNITS[unit] for number, unit in spans)
    return total if 0 < total <= _LONGEST_S else None


def seconds(_ctx: click.Context, _param: click.Parameter, value: Any) -> float | None:
    """Return the seconds that an option names; a callback of click."""
    if value is None:
        return None
    found = parse_seconds(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time: write 90, 90s, 30m, 2h, 1h30m or 1d, at most a year")
    return found


def parse_limit(text: str) -> RateLimit:
    """Return the rate limit of `20/s`, `300/min`, `1000/15min` or, of one endpoint, `28hr=100/min`.

    Raise `UsageError` for any other text.
    """
    endpoint, equals, rate = text.strip().rpartition("=")
    if equals and endpoint.strip() not in ENDPOINTS:
        raise UsageError(f"the limit {text!r} names no endpoint: it is one of {', '.join(ENDPOINTS)}")
    match = re.fullmatch(r"(\d{1,9}) ?/ ?(\d+(?:\.\d+)?)? ?([a-z]+)", rate.strip().lower())
    if match is None or match[3] not in _UNITS or not int(match[1]) or (match[2] and not float(match[2])):
        raise UsageError(f"{text!r} is no limit: write 20/s, 300/min or 1000/15min, for one endpoint 28hr=100/min")
    period_s = float(match[2] or 1) * _UNITS[match[3]]
    return RateLimit(int(match[1]), period=period_s, endpoint=endpoint.strip() if equals else None)
