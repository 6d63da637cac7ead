"""How long to wait, in seconds. tenacity gives the curve; jitter is passed in."""

from __future__ import annotations

from collections.abc import Iterable

from tenacity import wait_exponential

from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.rate_limit import RateLimit
from engagement_async.errors import DisconnectedError

__all__ = ["LONGEST_DELAY_S", "backoff_s", "exponential_s", "hold_s"]

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 20.0
LONGEST_HOLD_S = 60.0
"""The longest that repeated 429s lengthen a hold to, where the API itself asks for less."""
_WAIT = wait_exponential(multiplier=FIRST_DELAY_S, max=LONGEST_DELAY_S)
_WAIT_FOR_RATE = wait_exponential(multiplier=1.0, max=LONGEST_HOLD_S)


class _Attempt:
    """What tenacity's wait strategies read of their `RetryCallState`."""

    __slots__ = ("attempt_number",)

    def __init__(self, attempt_number: int) -> None:
        self.attempt_number = attempt_number


def exponential_s(failures: int) -> float:
    """Return `min(20, 0.5 * 2 ** (failures - 1))` seconds: the upper bound of the backoff after that many failures."""
    return _WAIT(_Attempt(max(failures, 1)))  # type: ignore[arg-type]


def backoff_s(failures: int, error: BaseException | None, jitter: float) -> float:
    """Return the seconds to wait after that many failures of one request: `jitter * min(20, 0.5 * 2 ** (failures - 1))`.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. The first disconnect is retried
    at once: a keep-alive connection that the server had closed looks like that.
    """
    if failures == 1 and isinstance(error, DisconnectedError):
        return 0.0
    return jitter * exponential_s(failures)


def hold_s(headers: RateHeaders, limits: Iterable[RateLimit], jitter: float, *, holds: int = 1) -> float:
    """Return the seconds for which a 429 holds the whole contract: the longer of `Retry-After` and reset, plus up to 1 s.

    Where the server gives neither, or nonsense, that is one window. When `holds` in a row did not help, it is at least 1, 2,
    4, ... 60 s, whatever the server says.
    """
    only_second = headers.second_remaining == 0 and (headers.minute_remaining or 0) > 0
    reset_s = headers.second_reset_s if only_second else headers.minute_reset_s
    given = [seconds for seconds in (headers.retry_after_s, reset_s) if seconds is not None]
    wait_s = max(given) if given else max(limit.period for limit in limits)
    at_least_s = _WAIT_FOR_RATE(_Attempt(holds - 1)) if holds > 1 else 0.0  # type: ignore[arg-type]
    return max(wait_s, at_least_s) + 0.1 + 0.9 * jitter
