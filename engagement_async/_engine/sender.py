"""Sends one request: waits for a slot and a token, signs, posts, parses. What the calls of one client share is here.

An attempt comes to an `Outcome`, never to an exception that recovery would have to catch.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from yarl import URL

from engagement_async._core.call_state import CallState, EndpointState
from engagement_async._core.endpoints import Endpoint
from engagement_async._core.events import CallBegan, Observe, Received, Sent, Waited
from engagement_async._core.other_consumers import OtherConsumerDetector
from engagement_async._core.parsing import ParsedResponse, ResponseBytes
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.rate_limit import Token
from engagement_async._core.recovery import may_lack
from engagement_async._core.request import Outcome, Purpose, Request
from engagement_async._engine.body import gunzip
from engagement_async._engine.decode_budget import DecodeBudget
from engagement_async._engine.observing import begin, current_observers
from engagement_async._engine.owner_signers import OwnerSigners
from engagement_async._engine.scheduler import Lane, Scheduler, loop_clock
from engagement_async._engine.transport import CLOSED, Response, Transport
from engagement_async.credential_store import CredentialStore
from engagement_async.credentials import Credentials, Signer, without_credentials
from engagement_async.errors import APIError, AttemptError, EngagementError, NotSentError, ProxyError, UsageError

__all__ = ["Call", "Sender"]

logger = logging.getLogger("engagement_async")
request_log = logging.getLogger("engagement_async.requests")
"""A line a request."""


@dataclass(slots=True)
class Call:
    """What the requests of one call have in common: state of recovery, lane, back-pressure."""

    state: CallState
    lane: Lane
    wait_for_capacity: Callable[[], Awaitable[None]]
    """Awaited before a response is parsed."""
    keeps_responses: bool = False
    """Whether answers keep the responses that they were read from."""
    observe: Observe | None = None
    """What hears of it; None when nobody does."""
    in_flight: int = 0
    unsent: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks that wait for credentials, a slot or a token."""
    received: int = 0
    """Responses that are here and not parsed yet."""


class Sender:
    """What the calls of one client share: transport, scheduler, credentials, each endpoint's state, the clock's offset."""

    def __init__(
        self,
        *,
        transport: Transport,
        scheduler: Scheduler,
        credentials: Credentials | CredentialStore,
        base_url: URL,
        concurrency: int,
        outage_timeout_s: float,
        user_agent: str,
        quarantine_s: float = 60.0,
        json_depth: int = 32,
        jitter: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.scheduler = scheduler
        self.concurrency = concurrency
        self.outage_timeout_s = outage_timeout_s
        self.jitter = jitter
        self.json_depth = json_depth
        self.requests = 0
        self.in_flight = 0
        self.clock_offset_s = 0.0
        self.endpoints: dict[str, EndpointState] = {}
        self.now = loop_clock()
        self._running: dict[Callable[[UsageError], None], CallState] = {}
        """The calls that run, by what ends them."""
        self._state_changed = asyncio.Event()
        self._waiting_for_change = 0
        self._transport = transport
        self._credentials = None if isinstance(credentials, CredentialStore) else credentials
        self._owners = OwnerSigners(credentials) if isinstance(credentials, CredentialStore) else None
        self._base_url = base_url
        self._headers = {
            "Accept-Encoding": "gzip",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": user_agent,
        }
        self._loop = asyncio.get_running_loop()
        self._has_heard = False
        self._last_error: EngagementError | None = None
        self._signers: dict[str, tuple[URL, Signer | None]] = {}
        """By endpoint; with a store, each owner's signers are in `_owners`."""
        self._slots = asyncio.Semaphore(concurrency)
        self._wall_clock = wall_clock
        self._quarantine_s = quarantine_s
        self._decode_budget = DecodeBudget()
        self._other_consumers = OtherConsumerDetector(scheduler.limits)

    def call(self, endpoint: str, wait_for_capacity: Callable[[], Awaitable[None]]) -> Call:
        """Return what the requests of one more call to this endpoint share."""
        call_state = CallState(self._state_of(endpoint), self.scheduler.limits, self.now(), self.outage_timeout_s)
        return Call(call_state, self.scheduler.lane(endpoint), wait_for_capacity)

    def observe(self, endpoint: Endpoint, *, shares_requests: bool = False) -> Observe | None:
        """Return what hears of a call that begins now; None when nobody does."""
        observers = current_observers()
        if not observers:
            return None
        url = self._base_url.joinpath(endpoint.path.lstrip("/"))
        state = self._state_of(endpoint.name)
        began = CallBegan(endpoint, url.scheme, url.host or "", url.port or 0, url.path, state, shares_requests)
        return begin(observers, began)

    @contextmanager
    def running(self, call: Call, end: Callable[[UsageError], None]) -> Iterator[None]:
        """Note that a call runs while the block does: `end` ends it with an error, whatever it waits for."""
        self._running[end] = call.state
        try:
            yield
        finally:
            del self._running[end]

    def end_calls(self) -> None:
        """End all calls that run: the client is being closed."""
        for end in tuple(self._running):
            end(UsageError(CLOSED))

    def close_circuits(self) -> None:
        """Close all circuits: those of a client that is closed are nobody's, and must not be seen as open."""
        for state in self.endpoints.values():
            state.breaker.record_contact()

    def _state_of(self, endpoint: str) -> EndpointState:
        state = self.endpoints.get(endpoint)
        if state is None:
            state = self.endpoints[endpoint] = EndpointState(self._quarantine_s)
        return state

    @property
    def is_any_circuit_open(self) -> bool:
        """Whether an endpoint does not answer."""
        return any(state.breaker.is_open for state in self.endpoints.values())

    @property
    def owner_trouble(self) -> str | None:
        """The last error of an owner that is not answered; None while anything but probes of such owners is in flight."""
        circuits = [circuit for call in self._running.values() for circuit in call.owners.open_circuits]
        return str(circuits[0].last_error) if circuits and self.in_flight <= len(circuits) else None

    def check_loop(self) -> None:
        """Raise `UsageError` in another event loop than the one that it was made in: its connections are there."""
        if self._loop is not asyncio.get_running_loop():
            raise UsageError(
                "this client was opened in another event loop, and serves that one alone: open a client in each loop "
                "(thread); those with the same rate_limit share it"
            )

    @property
    def trouble(self) -> str | None:
        """Why nothing is answered at the moment: the last error of a circuit that is open, or before the first answer."""
        for state in self.endpoints.values():
            if state.breaker.is_open and state.breaker.last_error is not None:
                return str(state.breaker.last_error)
        return None if self._has_heard or self._last_error is None else str(self._last_error)

    def note_change(self) -> None:
        """Wake everybody who waits for a circuit or for a witness."""
        if self._waiting_for_change:
            self._state_changed.set()
            self._state_changed = asyncio.Event()

    async def wait_for_change(self, at_most_s: float) -> None:
        """Return when the state of recovery changed, or after that many seconds (`inf`: only then)."""
        changed = self._state_changed
        self._waiting_for_change += 1
        try:
            async with asyncio.timeout(None if at_most_s == float("inf") else at_most_s):
                await changed.wait()
        except TimeoutError:
            return
        finally:
            self._waiting_for_change -= 1

    async def send(self, request: Request, call: Call) -> Outcome:
        """Send a request once, and return what came of it. Raises nothing but cancellation and bugs."""
        headers = _NO_HEADERS
        signed_at = 0.0
        try:
            response, signed_at, header = await self._post(request, call)
            call.received += 1
            arrived_at = self.now()
            try:
                headers = response.headers
                observed_at = datetime.fromtimestamp(self._wall_clock() + self.clock_offset_s, UTC)
                if response.status == 200 and request.purpose is Purpose.DATA and not request.is_probe:
                    await call.wait_for_capacity()  # a probe's outcome is waited for by other calls too
                if self._decode_budget.is_spent:
                    await self._decode_budget.wait()
                self._decode_budget.spend(len(response.body))
                parsed = self._parse(response, header, request, call)
            finally:
                call.received -= 1
        except (APIError, AttemptError, ProxyError) as error:
            self._note_failure(error)
            return Outcome(error, RateHeaders.from_headers(headers), signed_at, self._wall_clock())
        parsed.answer.observed_at = observed_at
        return Outcome(parsed, arrived_at=arrived_at)

    def _parse(self, response: Response, header: str, request: Request, call: Call) -> ParsedResponse:
        """Parse a response. Its texts go into errors and results: what they quote of the request's own header does not."""
        kept = ResponseBytes(response.as_gzip, gunzip) if call.keeps_responses else None
        parse = partial(
            request.parser.parse, request.batch_number, request.tweet_ids, response.status, response.headers
        )
        lack = may_lack(request, call.state)
        failure: APIError | AttemptError | None = None
        try:
            parsed = parse(response.body, may_lack=lack, response=kept)
            if not parsed.answer.notes:
                return parsed
        except (APIError, AttemptError) as error:
            failure = error
        body = without_credentials(response.body, header)
        if body != response.body:
            del failure
            return parse(body, may_lack=lack, response=None)
        if failure is not None:
            raise failure
        return parsed

    async def _post(self, request: Request, call: Call) -> tuple[Response, float, str]:
        endpoint = request.parser.query.endpoint
        url, signer = self._signers.get(endpoint.name) or self._sign_for(endpoint.name, endpoint.path)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        call.unsent.add(task)
        try:
            if signer is None:
                assert self._owners is not None  # noqa: S101
                owner, address = request.owner or "", str(url)
                signer = request.signer = self._owners.known(owner, address) or await self._owners.get(owner, address)
            body = request.parser.query.body(request.tweet_ids)
            # Every call may have one request in flight, whatever the others do: behind their workers it would not even
            # reach its lane.
            takes_slot = call.in_flight > 0
            if takes_slot:
                await self._slots.acquire()
            call.in_flight += 1
            try:
                # The token is taken last, so that it is not out while something else is waited for.
                if call.observe is None:
                    token = await self.scheduler.acquire(call.lane, retry=request.attempts > 0)
                else:
                    token = await self._acquire_observed(request, call, call.observe)
                call.unsent.discard(task)
                request.attempts += 1
                return await self._send_signed(url, signer, body, token, request, call)
            finally:
                call.in_flight -= 1
                if takes_slot:
                    self._slots.release()
        finally:
            call.unsent.discard(task)

    async def _acquire_observed(self, request: Request, call: Call, observe: Observe) -> Token:
        asked_at = self.now()
        try:
            token: Token = await self.scheduler.acquire(call.lane, retry=request.attempts > 0)
            return token
        finally:
            observe(Waited(self.now() - asked_at))

    async def _send_signed(
        self, url: URL, signer: Signer, body: bytes, token: Token, request: Request, call: Call
    ) -> tuple[Response, float, str]:
        self.requests += 1
        call.state.owners.count_request(request.owner)
        self.in_flight += 1
        endpoint = request.parser.query.endpoint.name
        sent_at = self.now()
        if (observe := call.observe) is not None:
            observe(Sent(request))

        def on_headers(status: int, headers: Mapping[str, str]) -> None:
            self._has_heard = True
            self.scheduler.settle(token)
            self._yield_to_other_consumers(headers, endpoint, token)

        try:
            # Signed after the wait: a timestamp ages, and a nonce is for one attempt.
            signed_at = int(self._wall_clock() + self.clock_offset_s)
            header = signer.authorization(signed_at)
            response = await self._transport.post(url, {**self._headers, "Authorization": header}, body, on_headers)
        except (NotSentError, ProxyError) as error:
            self.requests -= 1
            call.state.owners.count_request(request.owner, -1)
            self.scheduler.refund(token)
            self._note_attempt(request, sent_at, observe, error=error)
            raise
        except BaseException as error:
            self.scheduler.abandon(token, within_s=self._quarantine_s)  # unless the headers had come
            self._note_attempt(request, sent_at, observe, error=error)
            raise
        finally:
            self.in_flight -= 1
        self._note_attempt(request, sent_at, observe, status=response.status)
        return response, signed_at, header

    def _note_attempt(
        self,
        request: Request,
        sent_at: float,
        observe: Observe | None,
        *,
        status: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Write a line about an attempt to the log of requests, and tell who observes the call."""
        if observe is not None:
            observe(Received(request, self.now() - sent_at, status, error))
        if request_log.isEnabledFor(logging.INFO):
            reason = str(error) if isinstance(error, EngagementError) else type(error).__name__
            request_log.info(
                "request endpoint=%s batch=%d attempt=%d ids=%d status=%s seconds=%.3f%s",
                request.parser.query.endpoint.name,
                request.batch_number,
                request.attempts,
                len(request.tweet_ids),
                status or "-",
                self.now() - sent_at,
                "" if error is None else f" error={reason!r}",
            )

    def _note_failure(self, error: EngagementError) -> None:
        """Tell at once of the first failure of all: it is hardly ever an outage, and mostly the set-up."""
        if not self._has_heard and self._last_error is None and isinstance(error, NotSentError):
            logger.warning("%s: still trying", error)
        self._last_error = error

    def _yield_to_other_consumers(self, headers: Mapping[str, str], endpoint: str, token: Token) -> None:
        cap = self._other_consumers.observe(
            headers,
            endpoint,
            now=self.now(),
            in_flight=self.in_flight - 1,
            available=lambda limit: self.scheduler.available(limit, since=token),
        )
        if cap is not None:
            self.scheduler.cap(cap.limit, cap.remaining, cap.for_s)

    def renew(self, owner: str, signer: object) -> None:
        """Ask the credential store for this owner's credentials again, if those of this signer are the last ones."""
        if self._owners is not None:
            self._owners.renew(owner, signer)

    def _sign_for(self, name: str, path: str) -> tuple[URL, Signer | None]:
        url = self._base_url.joinpath(path.lstrip("/"))
        self._signers[name] = url, None if self._credentials is None else self._credentials.signer(str(url))
        return self._signers[name]


_NO_HEADERS: Mapping[str, str] = {}
