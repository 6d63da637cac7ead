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
from .limit import WindowKind, limits_of
from .log import RequestLog
from .owners import EmulatorCredentials, Owner
from .replies import reply_to
from .request_rules import Request, hour_of
from .snowflake import tweet_ids_of
from .thread import ServerThread
from .world import World

__all__ = ["Emulator"]

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  named, not bound
_ROUNDS = 10
"""Of the event loop: more than it takes to accept a connection."""


class Emulator:
    """A local Engagement API that keeps to the documentation, as an async context manager.

    With a plain `with` it runs in a thread of its own, for code that is not async.

    Examples:
        >>> async with Emulator(requests_per_minute=300) as emulator:
        ...     os.environ.update(emulator.environment)

    Args:
        requests_per_minute: Its rate limit: requests per `period`. None for no limit.
        period: Length of a "minute" in seconds.
        window: How it counts: in any `period` ("sliding"), or from full minute to full minute ("fixed").
        requests_per_second: A second limit, in addition. None for no such limit.
        seed: Seed of the values, and of the kinds of Tweets.
        host: Address to listen on.
        port: Port to listen on; 0 is any free one.
        public_host: Name in `base_url`, if clients use another one than `host`.
        credentials: What it accepts; random if None.
        owners: How many users share the Tweets, each with an access token of its own.
        revocations: Maps a handle to the seconds after the start from which on that owner's token is refused.
        now: Returns the time in the world of Tweets, in seconds since the epoch.
        clock_skew_s: Seconds by which its clock (`Date`, OAuth timestamps, resets) is ahead of this machine's.
        latency_s: Seconds per request, a range of them, or a function of the request's number. A part of them passes before
            the arrival is counted.
        unavailable: IDs of deleted Tweets.
        unavailable_fraction: Share of all Tweets that are deleted, from 0 to 1.
        forbidden: Maps an ID to the author (a user ID) of a Tweet whose owner's token it does not have.
        forbidden_fraction: Share of all Tweets that belong to such authors, from 0 to 1.
        rejected: IDs that make any request with them fail with a 400 that does not name them.
        interpretation: How it reads what the documentation leaves open.
        faults: Maps names of `FAULTS` to N, for every N-th request; or a function of the request's number to a name.
        fault_settings: How long and how large faults are.
        log_size: Number of requests kept in full; None for all.
        count_ids: Whether to count how often each ID was answered.
        tls: A server's TLS context; the address is then https.
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
        owners: int = 1,
        revocations: Mapping[str, float] | None = None,
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
        authority = Authority(self.credentials, owners)
        for handle, at in (revocations or {}).items():
            authority.revoke(handle, at)
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
            limits=limits_of(requests_per_minute, period, window, requests_per_second),
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
        """Its address, such as `http://127.0.0.1:40123`; known once it runs."""
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def consumer_key(self) -> str:
        """The application's key that it accepts."""
        return self.credentials.consumer_key

    @property
    def consumer_secret(self) -> str:
        """The application's secret that it accepts."""
        return self.credentials.consumer_secret

    @property
    def access_token(self) -> str:
        """The access token of its first owner."""
        return self.credentials.access_token

    @property
    def access_token_secret(self) -> str:
        """The secret of that token."""
        return self.credentials.access_token_secret

    @property
    def bearer_token(self) -> str:
        """The Bearer token that it accepts."""
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
        """Replace the faults of a running emulator by `faults`; None ends them."""
        self._service.faults = FaultPlan(faults, self._service.faults.settings)

    def set_interpretation(self, interpretation: Interpretation) -> None:
        """Replace how a running emulator reads what the documentation leaves open by another `interpretation`."""
        self._service.interpretation = interpretation

    def revoke(self, owner: str | None = None) -> None:
        """Refuse the token of one owner (a handle) from now on, as when the user takes the access back.

        Without an `owner` all credentials are refused. Raise `ValueError` for an unknown handle.
        """
        self._service.authority.revoke(owner)

    def reissue(self, owner: str) -> Owner:
        """Return an `owner` (given as a handle) with a new access token; the old one is refused from now on.

        Raise `ValueError` for an unknown handle.
        """
        return self._service.authority.reissue(owner)

    @property
    def owners(self) -> tuple[Owner, ...]:
        """The owners of its Tweets, with their tokens: `owner1`, `owner2`, ..."""
        return tuple(self._service.authority.owners.values())

    def owner_of(self, tweet_id: str | int) -> str | None:
        """Return the handle of the owner of the Tweet `tweet_id`, or None if the emulator lacks its author's token."""
        return self._service.authority.handles.get(self.world.author_of(str(tweet_id)) or "")

    def tweet_ids(
        self, owner: str, count: int, seed: int = 0, *, newest_at: float | None = None, oldest_at: float | None = None
    ) -> list[str]:
        """Return distinct IDs of Tweets of one owner. The same arguments give the same IDs.

        Args:
            owner: A handle.
            count: How many.
            seed: Another seed gives other IDs.
            newest_at: Seconds since the epoch when the newest may have been posted; the emulator's `now` if None.
            oldest_at: Seconds since the epoch when the oldest may have been posted; 28 days earlier if None.
        """
        user_ids = self.world.user_ids
        index = user_ids.index(self._service.authority.owner(owner).user_id)
        newest_at = self._service.now() if newest_at is None else newest_at
        return tweet_ids_of(
            index, len(user_ids), self.world.seed, count, seed, newest_at=newest_at, oldest_at=oldest_at
        )

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
        owner: str | None = None,
        at: float | None = None,
    ) -> dict[str, Any]:
        """Return the true answer for any number of IDs, as one object in the API's format, with integers as leaves.

        Args:
            endpoint: `totals`, `28hr` or `historical`.
            tweet_ids: IDs, as text or integers.
            engagement_types: Metrics of the endpoint.
            groupings: Maps a name to its `group_by` list.
            start: Inclusive start, as the API takes it; for historical only.
            end: Exclusive end, likewise.
            app_only: Whether only public metrics may be requested.
            owner: The handle whose token is used; None stands for all owners together.
            at: Seconds since the epoch; the emulator's `now` if None.

        Raises:
            Refusal: Tweets are forbidden.
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
        user_id = None if owner is None else self._service.authority.owner(owner).user_id
        interpretation = self._service.interpretation
        return reply_to(request, self.world, interpretation, now, app_only=app_only, user_id=user_id).body

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
            try:
                for _ in range(_ROUNDS):  # asyncio leaves a connection open that it is accepting when its server closes
                    await asyncio.sleep(0)
            finally:
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
