"""`Emulator`: a local Engagement API on 127.0.0.1, as an async or a plain context manager.

What belongs here: options, start and stop, and what a test may ask of a running one.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from engagement_async._core.endpoints import ENDPOINTS

from .app import Latency, Service, make_app
from .auth import Authority, Credentials
from .faults import FaultPlan, Faults, FaultSettings
from .limit import Limit, WindowKind
from .log import RequestLog
from .metrics import mix
from .replies import Readings, World, reply_to
from .request_rules import Request, hour_of

__all__ = ["Emulator"]

_LOOPBACK = ("127.0.0.1", "localhost")


class Emulator:
    """A local Engagement API that keeps to the documentation.

    ::

        async with Emulator(requests_per_minute=300) as emulator:
            os.environ.update(emulator.environment)

    With a plain `with` it runs in a thread of its own, for code that is not async.

    `requests_per_minute`, `period` (seconds), `window`, `requests_per_second`: its own limits, None for no such limit.
    `seed`: of the numbers and of the kinds of Tweets. `credentials`: random when None. `now`: epoch seconds, which
    day it is in the world of Tweets. `clock_skew_s`: how far its clock (`Date`, OAuth timestamps, resets) is ahead of
    the machine's.
    `latency_s`: seconds, a range of them, or a function of the request's number; a part passes before the arrival is
    counted. `unavailable`, `forbidden` (ID to author), `rejected` and the fractions: see `World`. `readings`: how it
    reads what the documentation leaves open. `faults`: `{name: every}` or a function of the request's number, see
    `FAULTS`.
    `log_size`: requests kept in full, None for all; `count_ids`: count how often each ID was answered. `tls`: a server
    context, then the address is https.
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
        credentials: Credentials | None = None,
        now: Callable[[], float] = time.time,
        clock_skew_s: float = 0.0,
        latency_s: float | tuple[float, float] | Callable[[int], float] = 0.0,
        unavailable: Iterable[str] = (),
        unavailable_fraction: float = 0.01,
        forbidden: Mapping[str, str] | None = None,
        forbidden_fraction: float = 0.0,
        rejected: Iterable[str] = (),
        readings: Readings | None = None,
        faults: Faults = None,
        fault_settings: FaultSettings | None = None,
        log_size: int | None = 1000,
        count_ids: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if host not in _LOOPBACK:
            raise ValueError(f"the emulator listens on loopback only ({', '.join(_LOOPBACK)}), not on {host!r}")
        limits = []
        if requests_per_minute is not None:
            limits.append(Limit(requests_per_minute, period, window))
        if requests_per_second is not None:
            limits.append(Limit(requests_per_second, 1.0, window, "second"))
        self.requests_per_minute = requests_per_minute
        self.period = period
        self.host = host
        self.port = port
        self.credentials = credentials or Credentials.new()
        self.world = World(
            seed,
            set(unavailable),
            unavailable_fraction,
            dict(forbidden or {}),
            forbidden_fraction,
            set(rejected),
        )
        self.log = RequestLog(period, log_size, count_ids=count_ids)
        self._tls = tls
        self._service = Service(
            authority=Authority(self.credentials),
            limits=limits,
            world=self.world,
            readings=readings or Readings(),
            log=self.log,
            faults=FaultPlan(faults, fault_settings),
            latency=_latency(latency_s, seed),
            now=now,
            wall=lambda: time.time() + clock_skew_s,
            states_date=clock_skew_s != 0,
        )
        self._runner: web.AppRunner | None = None
        self._thread: _Thread | None = None

    # --- what a client needs to know ---

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:40123`; known once it runs."""
        return f"{'http' if self._tls is None else 'https'}://{self.host}:{self.port}"

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
        """Exchange the faults of a running emulator; None ends them."""
        self._service.faults = FaultPlan(faults, self._service.faults.settings)

    def set_readings(self, readings: Readings) -> None:
        """Exchange how it reads what the documentation leaves open."""
        self._service.readings = readings

    def revoke(self) -> None:
        """From now on its credentials are refused, as of a user that took the access back."""
        self._service.authority.revoked = True

    def peak(self, window_s: float | None = None) -> int:
        """The most requests that arrived in any sliding window of `period` seconds, refused ones too.

        With `window_s` in any window of that length, among those that the log keeps in full.
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
        """The true answer for any number of IDs as one object in the API's shape, its leaves integers.

        `at`: epoch seconds, the emulator's `now` when None. Raises `Refusal` when Tweets of it are not the user's.
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
        return reply_to(request, self.world, self._service.readings, now, app_only=app_only).body

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
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def __enter__(self) -> Self:
        self._thread = _Thread(self)
        self._thread.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.end()


class _Thread(threading.Thread):
    """An emulator in a thread and a loop of its own."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(name="engagement-emulator", daemon=True)
        self._emulator = emulator
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        self.start()
        self._ready.wait()
        if self._error is not None:
            self.join()
            raise self._error

    def end(self) -> None:
        if self._loop is not None and self._over is not None:
            self._loop.call_soon_threadsafe(self._over.set)
        self.join()

    def run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._emulator:
                self._ready.set()
                await self._over.wait()
        except OSError as error:  # the port is taken
            self._error = error
        finally:
            self._ready.set()


def _latency(latency_s: float | tuple[float, float] | Callable[[int], float], seed: int) -> Latency:
    """Make of any form of `latency_s` a function: number of the request to seconds before and after the arrival."""

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
