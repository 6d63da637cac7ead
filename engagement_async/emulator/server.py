"""`Emulator`: a local Engagement API, as an async or a plain context manager.

Options, start and stop, and what a test may ask of a running one are here.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from engagement_async._core.endpoints import ENDPOINTS

from .app import Latency, Service, make_app
from .auth import Authority
from .faults import FaultPlan, Faults, FaultSettings
from .hashing import mix
from .interpretation import Interpretation
from .limit import Limit, WindowKind
from .log import RequestLog
from .owners import EmulatorCredentials
from .replies import reply_to
from .request_rules import Request, hour_of
from .thread import ServerThread
from .world import World

__all__ = ["Emulator"]

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  named, not bound


class Emulator:
    """A local Engagement API that keeps to the documentation.

    ::

        async with Emulator(requests_per_minute=300) as emulator:
            os.environ.update(emulator.environment)

    With a plain `with` it runs in a thread of its own, for code that is not async.

    `requests_per_minute`, `period` (seconds), `window`, `requests_per_second`: its rate limit, None for no such limit.
    `seed`: of the values and of the kinds of Tweets. `credentials`: random when None.
    `host`, `port`: where it listens; port 0 is any free one. `public_host`: the name in `base_url`, when clients use
    another one than `host`.
    `now`: epoch seconds, which day it is in the world of Tweets. `clock_skew_s`: how far its clock (`Date`, OAuth
    timestamps, resets) is ahead of the machine's.
    `latency_s`: seconds, a range of them, or a function of the request's number; a part passes before the arrival is
    counted. `unavailable`, `forbidden` (ID to author), `rejected` and the fractions: see `World`.
    `interpretation`: how it reads what the documentation leaves open. `faults`: `{name: every}` or a function of the
    request's number, see `FAULTS`.
    `log_size`: requests kept in full, None for all; `count_ids`: count how often each ID was answered.
    `tls`: a server's context, then the address is https.
    """

    def __init__(
        self,
        requests_per_minute: int | None = 300,
        period: float = 60.0,
        window: WindowKind = "sliding",
        *,
        requests_per_second: int | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        public_host: str | None = None,
        credentials: EmulatorCredentials | None = None,
        now: Callable[[], float] = time.time,
        clock_skew_s: float = 0.0,
        latency_s: float | tuple[float, float] | Callable[[int], float] = 0.0,
        unavailable: Iterable[str] = (),
        unavailable_fraction: float = 0.01,
        forbidden: Mapping[str, str] | None = None,
        forbidden_fraction: float = 0.0,
        rejected: Iterable[str] = (),
        interpretation: Interpretation | None = None,
        faults: Faults = None,
        fault_settings: FaultSettings | None = None,
        log_size: int | None = 1000,
        count_ids: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests_per_minute = requests_per_minute
        self.period = period
        self.host = host
        self.port = port
        self.public_host = public_host or _WILDCARDS.get(host, host)
        self.credentials = credentials or EmulatorCredentials.new()
        self.log = RequestLog(period, log_size, count_ids=count_ids)
        authority = Authority(self.credentials)
        self.world = World(
            seed,
            set(unavailable),
            unavailable_fraction,
            dict(forbidden or {}),
            forbidden_fraction,
            set(rejected),
            tuple(owner.user_id for owner in authority.owners.values()),
        )
        self._tls = tls
        self._service = Service(
            authority=authority,
            limits=_limits(requests_per_minute, period, window, requests_per_second),
            world=self.world,
            interpretation=interpretation or Interpretation(),
            log=self.log,
            faults=FaultPlan(faults, fault_settings),
            latency=_latency(latency_s, seed),
            now=now,
            wall_clock=lambda: time.time() + clock_skew_s,
            sends_date=clock_skew_s != 0,
        )
        self._runner: web.AppRunner | None = None
        self._thread: ServerThread | None = None

    # --- what a client needs to know ---

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:40123`; known once it runs."""
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def consumer_key(self) -> str:
        return self.credentials.consumer_key

    @property
    def consumer_secret(self) -> str:
        return self.credentials.consumer_secret

    @property
    def access_token(self) -> str:
        return self.credentials.access_token

    @property
    def access_token_secret(self) -> str:
        return self.credentials.access_token_secret

    @property
    def bearer_token(self) -> str:
        return self.credentials.bearer_token

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point a client here, such as for `os.environ` or a subprocess."""
        environment = {
            "ENGAGEMENT_BASE_URL": self.base_url,
            "ENGAGEMENT_CONSUMER_KEY": self.consumer_key,
            "ENGAGEMENT_CONSUMER_SECRET": self.consumer_secret,
            "ENGAGEMENT_ACCESS_TOKEN": self.access_token,
            "ENGAGEMENT_ACCESS_TOKEN_SECRET": self.access_token_secret,
            "ENGAGEMENT_BEARER_TOKEN": self.bearer_token,
        }
        if self.requests_per_minute is not None:
            environment["ENGAGEMENT_REQUESTS_PER_MINUTE"] = str(self.requests_per_minute)
        return environment

    # --- what a test may do to it, and ask of it ---

    def set_faults(self, faults: Faults) -> None:
        """Replace the faults of a running emulator; None ends them."""
        self._service.faults = FaultPlan(faults, self._service.faults.settings)

    def set_interpretation(self, interpretation: Interpretation) -> None:
        """Replace how a running emulator reads what the documentation leaves open."""
        self._service.interpretation = interpretation

    def revoke(self) -> None:
        """Refuse its credentials from now on, as when users take the access back."""
        self._service.authority.revoke()

    def peak(self, window_s: float | None = None) -> int:
        """Return the most requests that arrived in any sliding window of `period` seconds, refused ones included.

        With `window_s`: in any window of that length, among those that the log keeps in full.
        """
        return self.log.peak if window_s is None else self.log.peak_in(window_s)

    def expected(
        self,
        endpoint: str,
        tweet_ids: Iterable[str | int],
        engagement_types: Iterable[str],
        groupings: Mapping[str, Iterable[str]],
        *,
        start: str | None = None,
        end: str | None = None,
        app_only: bool = False,
        at: float | None = None,
    ) -> dict[str, Any]:
        """Return the true answer for any number of IDs, as one object in the API's shape, its leaves integers.

        `at`: epoch seconds, the emulator's `now` when None. Raise `Refusal` when Tweets are forbidden.
        """
        request = Request(
            ENDPOINTS[endpoint],
            tuple(str(tweet_id) for tweet_id in tweet_ids),
            tuple(engagement_types),
            {name: tuple(group_by) for name, group_by in groupings.items()},
            None if start is None else hour_of(start),
            None if end is None else hour_of(end, up=True),
        )
        now = self._service.now() if at is None else at
        return reply_to(request, self.world, self._service.interpretation, now, app_only=app_only).body

    # --- start and stop ---

    async def __aenter__(self) -> Self:
        runner = web.AppRunner(
            make_app(self._service), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port, ssl_context=self._tls, backlog=1024)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]
        self._service.started_at = asyncio.get_running_loop().time()
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def __enter__(self) -> Self:
        self._thread = ServerThread(self)
        self._thread.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.end()


def _limits(
    requests_per_minute: int | None, period: float, window: WindowKind, requests_per_second: int | None
) -> list[Limit]:
    """Return the limits whose headers every answer has, both families where there is any limit.

    Recorded answers have `x-per-minute-*` and `x-per-second-*` together. Where the second has no limit of its own, its
    headers show what the minute allows, and it refuses nothing.
    """
    limits = []
    if requests_per_minute is not None:
        limits.append(Limit(requests_per_minute, period, window))
    if requests_per_second is not None:
        limits.append(Limit(requests_per_second, 1.0, window, "second"))
    elif requests_per_minute is not None:
        limits.append(Limit(requests_per_minute, 1.0, window, "second", is_enforced=False))
    return limits


def _latency(latency_s: float | tuple[float, float] | Callable[[int], float], seed: int) -> Latency:
    """Turn any form of `latency_s` into a function: a request's number to the seconds before and after its arrival."""

    def split(number: int) -> tuple[float, float]:
        bits = mix(mix(seed) + number)
        share, part = (bits & 0xFFFF) / 0x10000, (bits >> 16 & 0xFFFF) / 0x10000
        if callable(latency_s):
            seconds = latency_s(number)
        elif isinstance(latency_s, tuple):
            seconds = latency_s[0] + (latency_s[1] - latency_s[0]) * part
        else:
            seconds = latency_s
        return seconds * share, seconds * (1 - share)

    return split
