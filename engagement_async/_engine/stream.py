"""The engine: workers between the chunker and whoever takes the answers. Bounded, back-pressured, every ID accounted for.

A worker takes a batch, asks for it until every ID has its place, and hands on exactly one `Answer`. What an error means is
decided in retrying.py; who may send next, in scheduler.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.stop import stop_base
from yarl import URL

from engagement_async._core.batches import Batch, SpanBatch
from engagement_async._core.merging import unite
from engagement_async._core.parsing import Answer, AnswerReader, Reading, RefusedIdsError
from engagement_async._core.query import Query
from engagement_async._core.rate_headers import RateHeaders, per_minute
from engagement_async._core.rate_limit import RateLimit, Token
from engagement_async._core.recovery import (
    ATTEMPTS,
    PUT_OFF_BEFORE_SPLIT,
    Outage,
    Suspicion,
    backoff_s,
    clock_error_s,
    halves,
    hold_s,
    missing_answer,
    narrow,
)
from engagement_async._engine.scheduler import Lane, Scheduler, loop_clock
from engagement_async._engine.transport import Reply
from engagement_async.credentials import Credentials, Signer
from engagement_async.errors import (
    APIError,
    AttemptError,
    AuthError,
    EngagementError,
    NotSentError,
    RateLimitedError,
    RequestRefusedError,
    UsageError,
)

__all__ = ["AnswerStream", "Engine", "Poster"]

logger = logging.getLogger("engagement_async")

_CANCELLED = "the source of tweet_ids was cancelled before its end"

Source = Iterator[Batch] | AsyncIterator[Batch] | AsyncIterator[SpanBatch]


class Poster(Protocol):
    """What the engine wants of a transport: see `Transport.post`."""

    async def post(
        self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: Callable[[], None]
    ) -> Reply: ...


@dataclass(slots=True)
class _Ask:
    """One request to be made, until it is answered or given up."""

    tweet_ids: tuple[str, ...]
    reader: AnswerReader
    is_second_look: bool = False
    """Whether an answer left these IDs out before."""
    faults: int = 0
    first_fault_at: float = math.inf

    def narrowed(self, tweet_ids: tuple[str, ...]) -> _Ask:
        """A request for some of these IDs, that inherits how long they have been waiting."""
        return _Ask(tweet_ids, self.reader, self.is_second_look, first_fault_at=self.first_fault_at)


@dataclass(slots=True)
class _Call:
    """What the requests of one call have in common."""

    lane: Lane
    turn: Callable[[], Awaitable[None]]
    """Waited for before an answer is decoded."""
    began_at: float
    in_flight: int = 0


@dataclass(slots=True)
class _Collected:
    """The answers so far to one batch, and how many of its parts are still open."""

    batch: Batch | SpanBatch
    open_parts: int
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """One part of one batch on its way through the workers."""

    collected: _Collected
    asks: deque[_Ask]
    not_before: float = -math.inf
    put_off: int = 0
    """How often."""


class _PutOffError(Exception):
    """This request used up its attempts: the work goes to the back of the queue."""


class Engine:
    """What the calls of one client share: transport, scheduler, the state of the outage, the clock's correction."""

    def __init__(
        self,
        *,
        transport: Poster,
        scheduler: Scheduler,
        credentials: Credentials,
        base_url: URL,
        concurrency: int,
        outage_timeout_s: float,
        user_agent: str,
        json_depth: int = 32,
        draw: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.scheduler = scheduler
        self.concurrency = concurrency
        self.outage_timeout_s = outage_timeout_s
        self.outage = Outage(outage_timeout_s)
        self.draw = draw
        self.json_depth = json_depth
        self.requests = 0
        self.in_flight = 0
        self._transport = transport
        self._credentials = credentials
        self._base_url = base_url
        self._headers = {
            "Accept-Encoding": "gzip",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": user_agent,
        }
        self._signers: dict[str, tuple[URL, Signer]] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._outage_changed = asyncio.Event()
        self._wall_clock = wall_clock
        self._clock_error_s = 0.0
        self._shared_until = -math.inf
        self._minute_limits: dict[tuple[str, int | None], RateLimit] = {}
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(AttemptError),
            stop=stop_after_attempt(ATTEMPTS) | _StopWhenLate(self),
            wait=self._wait,
            sleep=asyncio.sleep,
            reraise=True,
        )
        self.now = loop_clock()

    async def ask(self, ask: _Ask, call: _Call, number: int) -> Reading:
        """Asks until there is an answer, which is decoded when it is its turn.

        Raises `_PutOffError` when the attempts are used up, and what stops or narrows.
        """
        try:
            return await self._attempt(ask, call, number)
        except AttemptError as error:
            first = error
        # tenacity takes over from the first fault on: its bookkeeping costs 16 µs, which good requests need not pay.
        try:
            return await self._retrying.copy()(_Resumed(self._attempt, first), ask, call, number)
        except AttemptError as error:
            last = error
        raise _PutOffError from last

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        retry_after_s = error.retry_after_s if isinstance(error, APIError) else None
        return max(backoff_s(state.args[0].faults, error, self.draw()), retry_after_s or 0.0)

    def is_too_late(self, ask: _Ask, wait_s: float) -> bool:
        """Whether waiting so long would pass the deadline of this request."""
        return self.now() + wait_s > ask.first_fault_at + self.outage_timeout_s

    async def _attempt(self, ask: _Ask, call: _Call, number: int) -> Reading:
        """One attempt that counts: waits that the contract asks for, and a wrong clock, cost none."""
        clock_was_corrected = False
        while True:
            is_probe = await self._pass_outage(call)
            reply: Reply | None = None
            signed_with = self._clock_error_s
            try:
                reply = await self._post(ask, call)
                if reply.status == 200:
                    self._look_for_sharers(reply.headers, ask.reader.query.endpoint.name)
                    if not is_probe:  # for a probe's outcome every other call waits too
                        await call.turn()
                reading = ask.reader.read(number, ask.tweet_ids, reply.status, reply.headers, reply.body)
            except RateLimitedError as error:
                self._note_answer()
                self._hold(_said(reply), error)
            except AuthError:
                self._note_answer()
                if clock_was_corrected or not self._correct_clock(_said(reply), signed_with):
                    raise
                clock_was_corrected = True
            except AttemptError as error:
                error.retry_after_s = _said(reply).retry_after_s
                self._note_fault(ask, error, is_probe)
                raise
            except APIError:
                self._note_answer()
                raise
            except BaseException:
                if is_probe:
                    self.outage.release()
                    self._wake()
                raise
            else:
                self._note_answer()
                return reading

    def _correct_clock(self, said: RateHeaders, signed_with: float) -> bool:
        """Whether a refused signature may have been the clock's fault; takes over the API's time if so."""
        if self._clock_error_s != signed_with:
            return True  # another request found out while this one was on its way
        error_s = clock_error_s(said, self._wall_clock() + signed_with)
        if error_s is None:
            return False
        self._clock_error_s += error_s
        logger.warning("this machine's clock is %.0f s off the API's: signing with the API's time", error_s)
        return True

    async def _post(self, ask: _Ask, call: _Call) -> Reply:
        endpoint = ask.reader.query.endpoint
        url, signer = self._signers.get(endpoint.name) or self._sign_for(endpoint.name, endpoint.path)
        body = ask.reader.query.body(ask.tweet_ids)
        # Every call may have one request in flight, whatever the others do: behind their workers it would not even reach
        # its lane.
        takes_slot = call.in_flight > 0
        if takes_slot:
            await self._slots.acquire()
        call.in_flight += 1
        try:
            # The token is taken last, so that it is not out while something else is waited for.
            token = await self.scheduler.acquire(call.lane, retry=ask.faults > 0)
            return await self._send(url, signer, body, token)
        finally:
            call.in_flight -= 1
            if takes_slot:
                self._slots.release()

    async def _send(self, url: URL, signer: Signer, body: bytes, token: Token) -> Reply:
        self.requests += 1
        self.in_flight += 1
        try:
            # Signed after the wait: a timestamp ages, and a nonce is for one attempt.
            header = signer.authorization(int(self._wall_clock() + self._clock_error_s))
            return await self._transport.post(
                url, {**self._headers, "Authorization": header}, body, lambda: self.scheduler.settle(token)
            )
        except NotSentError:
            self.requests -= 1
            self.scheduler.refund(token)
            raise
        except BaseException:
            self.scheduler.abandon(token)  # unless the headers had come
            raise
        finally:
            self.in_flight -= 1

    def _sign_for(self, name: str, path: str) -> tuple[URL, Signer]:
        url = self._base_url.joinpath(path.lstrip("/"))
        self._signers[name] = (url, self._credentials.signer(str(url)))
        return self._signers[name]

    async def _pass_outage(self, call: _Call) -> bool:
        """Waits while the circuit is open. Whether the next attempt is its probe."""
        while True:
            if self.outage.is_over_deadline(self.now(), call.began_at):
                raise _GivenUpError(
                    f"given up: no answer for {self.outage_timeout_s:.0f} s; last: {self.outage.last_error}"
                )
            wait_s = self.outage.admit(self.now())
            if not wait_s:
                return self.outage.is_open
            self._outage_changed.clear()
            try:
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._outage_changed.wait()
            except TimeoutError:
                continue

    def _note_answer(self) -> None:
        if self.outage.is_open:
            logger.warning("the API answers again")
            self._wake()
        self.outage.answered()

    def _note_fault(self, ask: _Ask, error: AttemptError, is_probe: bool) -> None:
        ask.first_fault_at = min(ask.first_fault_at, self.now())
        was_open = self.outage.is_open
        if not was_open:
            ask.faults += 1  # a probe of an outage is not held against the request that makes it
        self.outage.fault(error, self.now(), self.draw(), was_probe=is_probe)
        logger.debug("attempt failed: %s", error)
        if self.outage.is_open:
            if not was_open:
                logger.warning(
                    "the API does not answer (%s): probing until it does, for %.0f s at most",
                    error,
                    self.outage_timeout_s,
                )
            self._wake()

    def _wake(self) -> None:
        self._outage_changed.set()

    def _hold(self, said: RateHeaders, error: RateLimitedError) -> None:
        seconds = hold_s(said, self.scheduler.limits, self.draw())
        if seconds > self.scheduler.held_s:
            logger.warning("the API refused for the rate: holding the contract for %.1f s", seconds)
            self.scheduler.hold(seconds)

    def _look_for_sharers(self, headers: Mapping[str, str], endpoint: str) -> None:
        """Fewer requests left than this engine's own outcomes has: somebody else spends the same contract."""
        remaining, told = per_minute(headers)
        if remaining is None:
            return
        limit = self._minute_limits.get((endpoint, told))
        if limit is None:
            limit = _minute_limit(self.scheduler.limits, endpoint, told)
            if limit is None:
                return
            if len(self._minute_limits) < 100:
                self._minute_limits[endpoint, told] = limit
        now = self.now()
        is_shared = now < self._shared_until
        # What is in flight may not be counted yet. That is no proof of somebody else, but once there is one, it matters.
        left = max(0, remaining - self.in_flight) if is_shared else remaining
        if left >= self.scheduler.free(limit):
            return
        reset_s = RateHeaders.from_headers(headers).minute_reset_s
        for_s = limit.period if reset_s is None else min(reset_s + 1.0, limit.period)
        if not is_shared:
            foreign = self.scheduler.free(limit) - left
            logger.warning(
                "somebody else spends this contract too (%d of this window's requests): an earlier run, or another program; "
                "yielding to them",
                foreign,
            )
        self.scheduler.cap(limit, left, for_s)
        self._shared_until = now + limit.period


def _said(reply: Reply | None) -> RateHeaders:
    return RateHeaders() if reply is None else RateHeaders.from_headers(reply.headers)


class _StopWhenLate(stop_base):
    """tenacity's own stop by delay reads the machine's clock; this one asks the engine, which has the loop's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._engine.is_too_late(retry_state.args[0], retry_state.upcoming_sleep)


class _GivenUpError(Exception):
    """The outage outlasted the deadline."""


class _Resumed:
    """An attempt whose first outcome is known already: the error is raised without asking again."""

    def __init__(self, attempt: Callable[..., Any], error: AttemptError) -> None:
        self._attempt = attempt
        self._error: AttemptError | None = error

    async def __call__(self, *args: Any) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return await self._attempt(*args)


class _Collections:
    """Makes the garbage collector's runs rare while streams are open.

    Answers are trees of dicts: thousands of objects each, in which there is no cycle to be found. At CPython's own threshold
    the collector would run once an answer, and take up to a third of a run's time.
    """

    RARE = 50_000

    def __init__(self) -> None:
        self._streams = 0
        self._usual = 0

    def make_rare(self) -> None:
        self._streams += 1
        if self._streams == 1:
            self._usual = gc.get_threshold()[0]
            if 0 < self._usual < self.RARE:
                gc.set_threshold(self.RARE)

    def make_usual(self) -> None:
        self._streams -= 1
        if not self._streams and 0 < self._usual < self.RARE and gc.get_threshold()[0] == self.RARE:
            gc.set_threshold(self._usual)


_COLLECTIONS = _Collections()


class AnswerStream:
    """The answers to one query, one a batch, in order of arrival. An async context manager: leaving it ends all workers.

    Memory is bounded: workers wait, their replies still compressed, while `concurrency` answers lie untaken.
    """

    def __init__(self, engine: Engine, query: Query, source: Source) -> None:
        self._engine = engine
        self._readers = [AnswerReader(part, json_depth=engine.json_depth) for part in query.parts()]
        self._source = source
        self._source_ended = False
        self._reading: asyncio.Future[Batch | SpanBatch | None] | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._call = _Call(engine.scheduler.lane(query.endpoint.name), self._turn, engine.now())
        self._suspicion = Suspicion()
        self._doubt = asyncio.Lock()
        self._ready: deque[_Work] = deque()
        self._put_off: deque[_Work] = deque()
        self._out: deque[Answer] = deque()
        self._out_changed = asyncio.Event()
        self._turns: deque[asyncio.Future[None]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._is_stopping = False
        self._is_open = False

    async def __aenter__(self) -> AnswerStream:
        if self._is_stopping or self._is_open:
            raise UsageError("a stream is entered once: call client.stream(...) again")
        self._is_open = True
        _COLLECTIONS.make_rare()
        self._hire()
        return self

    async def __aexit__(self, *_: object) -> None:
        _COLLECTIONS.make_usual()
        self.stop()
        workers: list[asyncio.Future[Any]] = list(self._workers)
        for worker in workers:
            worker.cancel()
        if self._reading is not None:
            self._reading.cancel()
            workers.append(self._reading)
        await asyncio.gather(*workers, return_exceptions=True)
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    def stop(self) -> None:
        """Take no more work. Answers to what is in flight still come; then the stream ends."""
        self._is_stopping = True
        if not self._stopped.done():
            self._stopped.set_result(None)

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> Answer:
        if not self._is_open:
            raise UsageError("the stream is not open: write `async with client.stream(...) as answers:`")
        while not self._out:
            if not self._workers:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._out_changed.clear()
            await self._out_changed.wait()
        answer = self._out.popleft()
        self._next_turn()
        return answer

    async def _turn(self) -> None:
        """Waits while as many answers lie untaken as there are workers. A reply that waits here is still compressed."""
        while len(self._out) >= self._engine.concurrency:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            await turn

    def _next_turn(self) -> None:
        while self._turns and len(self._out) < self._engine.concurrency:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _hand_out(self, answer: Answer) -> None:
        # Never waits: an answer is not lost when its worker is cancelled.
        self._out.append(answer)
        self._out_changed.set()

    def _hire(self) -> None:
        """One worker more, unless there are enough: small calls need few."""
        if len(self._workers) < self._engine.concurrency and not self._is_stopping:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._dismiss)

    def _dismiss(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if worker.cancelled() and not self._is_stopping:  # by its source, whose input did not end there
            error = EngagementError(_CANCELLED)
        if error is not None and self._error is None:
            self._error = error
            self.stop()
            for other in self._workers:
                other.cancel()
        self._out_changed.set()

    async def _work(self) -> None:
        while (work := await self._next_work()) is not None:
            self._hire()
            try:
                await self._resolve(work)
            except _PutOffError as error:
                self._put_off_or_fail(work, error)
            except _GivenUpError as error:
                self._fail(work, work.asks, str(error))
                work.asks.clear()
            if not work.asks:
                collected = work.collected
                collected.open_parts -= 1
                if not collected.open_parts:
                    self._hand_out(self._united(collected))
                del collected
            del work  # while this worker waits for the next answer, it must not keep the last one alive
            self._next_turn()

    def _united(self, collected: _Collected) -> Answer:
        batch = collected.batch
        return unite(batch.number, batch.tweet_ids, collected.answers, self._readers[0].query)

    async def _next_work(self) -> _Work | None:
        """New work first, then what was put off; None when nothing is left."""
        while not self._is_stopping:
            if self._ready:
                return self._ready.popleft()
            is_crowded = len(self._put_off) >= 4 * self._engine.concurrency
            if not self._source_ended and not is_crowded and self._take_batch():
                continue
            due_s = self._put_off[0].not_before - self._engine.now() if self._put_off else math.inf
            if due_s <= 0:
                return self._put_off.popleft()
            if self._source_ended and not self._put_off:
                return None
            # Whichever comes first: the source's next batch, the time of what was put off, the end.
            waits: set[asyncio.Future[Any]] = {self._stopped}
            if self._reading is not None and not is_crowded:
                waits.add(self._reading)
            await asyncio.wait(waits, timeout=None if due_s == math.inf else due_s, return_when=asyncio.FIRST_COMPLETED)
        return None

    def _take_batch(self) -> bool:
        """Makes work of the source's next batch. False when there is none yet."""
        if not isinstance(self._source, AsyncIterator):
            batch: Batch | SpanBatch | None = next(self._source, None)
        elif self._reading is None:
            # A task of its own, so that no worker stands in a source that pauses.
            self._reading = asyncio.ensure_future(anext(self._source, None))
            return False
        elif not self._reading.done():
            return False
        else:
            reading, self._reading = self._reading, None
            if reading.cancelled():
                raise EngagementError(_CANCELLED)
            batch = reading.result()
        if batch is None:
            self._source_ended = True
            return True
        readers = [self._readers[batch.span]] if isinstance(batch, SpanBatch) else self._readers
        collected = _Collected(batch, len(readers))
        self._ready.extend(_Work(collected, deque([_Ask(batch.tweet_ids, reader)])) for reader in readers)
        return True

    async def _resolve(self, work: _Work) -> None:
        """Asks until every ID of this work has its place."""
        number = work.collected.batch.number
        answers = work.collected.answers
        while work.asks:
            try:
                ask, reading = await self._ask(work.asks, number)
            except RefusedIdsError as error:
                ask = work.asks.popleft()
                if self._suspicion.refuse(error, len(ask.tweet_ids)):
                    raise RequestRefusedError(
                        f"{error}. Every request so far was refused alike: it is the request, not its IDs",
                        status=error.status,
                        texts=error.texts,
                    ) from None
                narrowed = narrow(number, ask.tweet_ids, error)
                if narrowed.out is not None:
                    answers.append(narrowed.out)
                # Both halves are asked before either is split again: one that is answered clears the request.
                work.asks.extend(ask.narrowed(ids) for ids in narrowed.rest)
            else:
                self._suspicion.clear()
                work.asks.popleft()
                work.asks.extend(self._take(reading, ask, answers, number))

    async def _ask(self, asks: deque[_Ask], number: int) -> tuple[_Ask, Reading]:
        """Asks the first of these requests. In doubt, it is cut down to a single ID, and others wait for its outcome."""
        if not self._suspicion.in_doubt:
            return asks[0], await self._engine.ask(asks[0], self._call, number)
        async with self._doubt:
            ask = asks[0]
            if self._suspicion.in_doubt and len(ask.tweet_ids) > 1:
                asks[0] = ask.narrowed(ask.tweet_ids[:1])
                asks.insert(1, ask.narrowed(ask.tweet_ids[1:]))
            return asks[0], await self._engine.ask(asks[0], self._call, number)

    def _take(self, reading: Reading, ask: _Ask, answers: list[Answer], number: int) -> list[_Ask]:
        """Files the answer; returns what must still be asked."""
        again: list[_Ask] = []
        answers.append(reading.answer)
        if reading.missing and ask.is_second_look and not reading.is_refusal:
            answers.append(missing_answer(number, reading.missing))
        elif reading.missing:
            again.append(_Ask(reading.missing, ask.reader, is_second_look=ask.is_second_look or not reading.is_refusal))
        again += [_Ask(ids, AnswerReader(query, json_depth=self._engine.json_depth)) for query, ids in reading.reduced]
        return again

    def _put_off_or_fail(self, work: _Work, error: _PutOffError) -> None:
        engine = self._engine
        ask = work.asks.popleft()
        wait_s = backoff_s(ask.faults, error.__cause__, engine.draw())
        work.put_off += 1
        if engine.is_too_late(ask, wait_s):
            self._fail(work, [ask], f"given up after {engine.outage_timeout_s:.0f} s: {error.__cause__}")
            wait_s = 0.0
        elif work.put_off >= PUT_OFF_BEFORE_SPLIT and len(ask.tweet_ids) > 1:
            # Others are answered, this one never is: one of its Tweets may be what the API fails at.
            work.asks.extend(map(ask.narrowed, halves(ask.tweet_ids)))
        else:
            work.asks.append(ask)
        if work.asks:
            work.not_before = engine.now() + wait_s
            self._put_off.append(work)

    def _fail(self, work: _Work, asks: Iterable[_Ask], reason: str) -> None:
        number = work.collected.batch.number
        work.collected.answers += [
            Answer(number, ask.tweet_ids, failed_tweet_ids=dict.fromkeys(ask.tweet_ids, reason)) for ask in asks
        ]


def _minute_limit(limits: tuple[RateLimit, ...], endpoint: str, told: int | None) -> RateLimit | None:
    """The limit that the `x-per-minute-*` headers of this endpoint's answers speak of; None when that is unclear."""
    counting = [limit for limit in limits if limit.endpoint in (None, endpoint)]
    nearest = min(abs(limit.period - 60.0) for limit in counting)
    by_minute = [limit for limit in counting if abs(limit.period - 60.0) == nearest]
    same = [limit for limit in by_minute if limit.requests == told]
    for found in (same, by_minute):
        if len(found) == 1:
            return found[0]
    return None
