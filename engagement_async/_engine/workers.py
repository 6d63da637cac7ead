"""The workers of one call: each takes a request, sends it, and executes what `decide` says of the outcome.

Requests wait in three places, and are served in this order: those that may be sent again now, those that a follow-up or a
split made, then new batches of the source. An idle worker is woken when there is one of them.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice

from engagement_async._core.accounting import in_input_order
from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch, OwnedTweet, SpanBatch
from engagement_async._core.call_state import EndpointState, OwnerState
from engagement_async._core.decisions import (
    Accept,
    AwaitOwner,
    Decision,
    Fail,
    GiveUp,
    HoldAll,
    Postpone,
    Probe,
    Renew,
    Requeue,
    Resign,
    RetryIn,
    Send,
    Stop,
    Wait,
)
from engagement_async._core.events import CircuitChanged, Decided
from engagement_async._core.merging import merge_parts, split_off_tainted_sums
from engagement_async._core.outcomes import Failure
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.recovery import admit, cancel, conclude, decide
from engagement_async._core.request import Request
from engagement_async._core.words import owner_text
from engagement_async._engine.sender import Call, Sender
from engagement_async._engine.source import Batches, BatchSource
from engagement_async.errors import EngagementError, NotSentError, ProxyError

__all__ = ["Workers"]

logger = logging.getLogger("engagement_async")

_MOST_UNANSWERED = 4096
"""Requests that may wait for owners that the API does not answer, besides those that may wait anyway."""

_Part = tuple[Answer, ResponseParser]


@dataclass(slots=True)
class PendingBatch:
    """The answers to the parts of one batch so far, each with its parser, and its requests that are still under way."""

    batch: Batch | SpanBatch
    open: dict[int, Request] = field(default_factory=dict)
    """By identity: two requests may be alike."""
    parts: list[_Part] = field(default_factory=list)
    requests: int = 0
    """How many were sent, retries included; since the last answer, if there are several."""

    def add(self, requests: Iterable[Request]) -> None:
        """Note requests that are under way."""
        for request in requests:
            self.open[id(request)] = request


class Workers:
    """At most `concurrency` tasks between a source of batches and `deliver`, which gets one `Answer` a batch."""

    def __init__(
        self,
        sender: Sender,
        call: Call,
        parsers: Sequence[ResponseParser],
        batches: Batches,
        deliver: Callable[[Answer], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._call = call
        self._parsers = parsers
        self._source = BatchSource(batches, self._wake_one)
        self._deliver = deliver
        self._on_idle = on_idle
        self._ready: deque[Request] = deque()
        self._new: deque[Request] = deque()
        self._delayed: list[tuple[float, int, Request]] = []
        self._behind_owner: dict[str, deque[Request]] = {}
        """Requests that wait until it is known whether the API takes their owner's credentials, or answers it again."""
        self._order = count()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[int, PendingBatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self.error: BaseException | None = None
        self.is_stopping = False
        self._is_abandoned = False
        """Whether nobody waits for what is settled of batches: the stream is left, or given up."""

    @property
    def are_running(self) -> bool:
        return self._running > 0

    @property
    def has_pending_batches(self) -> bool:
        """Whether some of the IDs that were read have no outcome yet."""
        return bool(self._pending)

    @property
    def is_source_read(self) -> bool:
        """Whether the source was read to its end."""
        return self._source.is_exhausted

    @property
    def parked_batches(self) -> int:
        """How many batches wait, with all that is left of them, to be sent again later: nothing of them is under way."""
        waiting = [request for _, _, request in self._delayed] + list(chain.from_iterable(self._behind_owner.values()))
        delayed = Counter(id(request.batch) for request in waiting)
        batches = {id(request.batch): request.batch for request in waiting}
        return sum(
            isinstance(batch, PendingBatch) and len(batch.open) == delayed[key] for key, batch in batches.items()
        )

    def start_one(self) -> None:
        """Start one more worker, unless there are enough: small calls need few."""
        if self._running < self._sender.concurrency and not self.is_stopping:
            self._running += 1  # before the task: an eager one runs at once
            task = asyncio.create_task(self._work())
            if task.done():
                self._on_done(task)
            else:
                self._tasks.add(task)
                task.add_done_callback(self._on_done)

    def stop(self) -> None:
        """Take no more work, and send nothing that waits for a token; what is in flight still comes to its end."""
        self.is_stopping = True
        # Soon: a scheduler may call this while it grants a token, and that request is to be sent.
        asyncio.get_running_loop().call_soon(self._cancel_unsent)
        self._wake_all()
        self._sender.note_change()

    def _cancel_unsent(self) -> None:
        for task in tuple(self._call.unsent):
            if not task.cancelling():
                task.cancel()

    def deliver_settled(self) -> None:
        """Deliver what is settled of each `SpanBatch`. After `stop`: the rest of it is sent no more."""
        for pending in list(self._pending.values()):
            self._deliver_settled(pending)

    async def aclose(self) -> None:
        """Cancel all workers, and wait for them and for the source."""
        self._is_abandoned = True
        self.stop()
        self._source.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # whoever cancels once more, as anyio's scopes do, must not leave the source open
            await self._source.aclose()

    async def give_up(self, failure: Failure) -> None:
        """Abort what is in flight, and fail all IDs without an outcome, those that a sync source still has among them."""
        self._is_abandoned = True
        self.stop()
        while self._call.received:  # noqa: ASYNC110 - what has arrived is parsed within some turns of the loop
            await asyncio.sleep(0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.error is not None:
            return
        while self._pending:
            pending = next(iter(self._pending.values()))
            for request in list(pending.open.values()):
                failed: dict[str, str] = dict.fromkeys(request.tweet_ids, failure)
                answer = Answer(request.batch_number, request.tweet_ids, failed_tweet_ids=failed)
                self._settle(request, (answer,), ())
        for batch in self._source.rest():
            failed = dict.fromkeys(batch.tweet_ids, failure)
            self._deliver(Answer(batch.number, batch.tweet_ids, failed_tweet_ids=failed, owner=batch.owner))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._running -= 1
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and not self.is_stopping:
            error = EngagementError("a worker was cancelled from outside of the stream")
        if error is None and not self._running and not self.is_stopping:
            error = conclude(self._call.state)
        if error is not None:
            self._end(error)
        if not self._running and self.error is None and not self._is_abandoned:
            for pending in list(self._pending.values()):  # of batches that are not whole: after `stop`
                self._deliver_settled(pending, is_last=True)
        self._on_idle()

    def fail(self, error: BaseException) -> None:
        """End with this error, unless all is done: what waits or is in flight is cancelled."""
        if self._running:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            self.stop()
            for task in self._tasks:
                task.cancel()

    async def _work(self) -> None:
        while (request := await self._next_request()) is not None:
            self.start_one()
            await self._process(request)
            del request  # while this worker waits for more, it must not keep the last one alive

    # --- which request is next ---

    async def _next_request(self) -> Request | None:
        """Return the request to send next, or None when nothing is left for this worker."""
        while not self.is_stopping:
            if (request := self._take()) is not None:
                self._wake_one()  # there may be more
                return request
            if self._source.is_exhausted and not self._delayed:
                break
            await self._wait_for_work()
        self._wake_all()  # nor is anything left for them
        return None

    def _take(self) -> Request | None:
        now = self._sender.now()
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        if self._ready:
            return self._ready.popleft()
        if self._new:
            return self._new.popleft()
        if (self._delayed or self._behind_owner) and self._waiting >= 4 * self._sender.concurrency:
            return None  # enough is under way: a source must not be read into memory because the API fails
        batch = self._source.take()
        if batch is None:
            return None
        self._queue_batch(batch)
        return self._new.popleft()

    @property
    def _waiting(self) -> int:
        """How many requests wait to be sent again later, or for the outcome of their owner's credentials.

        Some thousands may wait for owners that the API does not answer: they must not keep others from being read.
        """
        owners = self._call.state.owners
        unanswered = sum(len(its) for owner, its in self._behind_owner.items() if owners.of(owner).is_out)
        return len(self._delayed) + sum(map(len, self._behind_owner.values())) - min(unanswered, _MOST_UNANSWERED)

    def _queue_batch(self, batch: Batch | SpanBatch) -> None:
        parsers = [self._parsers[batch.span]] if isinstance(batch, SpanBatch) else self._parsers
        pending = PendingBatch(batch)
        self._pending[id(pending)] = pending
        requests = [Request(batch.tweet_ids, parser, batch.number, pending, batch.owner) for parser in parsers]
        pending.add(requests)
        self._new.extend(requests)

    async def _wait_for_work(self) -> None:
        """Wait until a request is due, the source has a batch, or all is to stop."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        self._set_timer()
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._wake_one()  # somebody else must take what this worker was woken for
            raise

    def _wake_one(self) -> None:
        while self._idle:
            woken = self._idle.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._idle:
            self._wake_one()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._delayed and self._idle:
            delay_s = max(0.0, self._delayed[0][0] - self._sender.now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake_one()
        self._set_timer()

    # --- one request ---

    async def _process(self, request: Request) -> None:
        if (request.owner is None and self._call.state.is_clear) or await self._is_admitted(request):
            await self._send(request)

    async def _is_admitted(self, request: Request) -> bool:
        """Wait until the request may be sent; send the probes that fall to it. False: it was given up, or all stops."""
        sender = self._sender
        while not self.is_stopping:
            match admit(request, self._call.state, now=sender.now()):
                case Send():
                    return True
                case Wait(seconds):
                    await sender.wait_for_change(seconds)
                case Probe(probe):
                    await self._send(probe)
                case Postpone(seconds):
                    self._queue(request, sender.now() + seconds)
                    return False
                case AwaitOwner():
                    assert request.owner is not None  # noqa: S101
                    self._behind_owner.setdefault(request.owner, deque()).append(request)
                    return False
                case GiveUp(failure):
                    self._release(request.owner)
                    await self._call.wait_for_capacity()
                    self._execute(Fail(request.tweet_ids, failure), request)
                    return False
        return False

    async def _send(self, request: Request) -> None:
        """Send a request once, decide what its outcome means, and do it."""
        owner = None if request.owner is None else self._call.state.owners.of(request.owner)
        attempts = request.attempts
        if owner is not None:
            owner.in_flight += 1
            request.renewals = owner.renewals
        try:
            outcome = await self._sender.send(request, self._call)
        except BaseException:
            cancel(request, self._call.state)
            self._release(request.owner)
            self._sender.note_change()
            raise
        finally:
            if owner is not None:
                owner.in_flight -= 1
        if isinstance(request.batch, PendingBatch) and not isinstance(outcome.result, (NotSentError, ProxyError)):
            request.batch.requests += request.attempts - attempts
        sender, state = self._sender, self._call.state
        if isinstance(outcome.result, EngagementError):
            logger.debug("attempt failed: %s", outcome.result)
        breaker = state.endpoint.breaker
        was_open, owner_was_out = breaker.is_open, owner is not None and owner.is_out
        decision = decide(
            request, outcome, state, now=sender.now(), jitter=sender.jitter(), witnesses=self._witnesses(request)
        )
        if (observe := self._call.observe) is not None:
            observe(Decided(request, outcome.result, decision))
            if breaker.is_open is not was_open:
                observe(CircuitChanged(breaker.is_open))
        if breaker.is_open and not was_open and request.owner is not None and not state.endpoint.answered:
            self._note_other_owners()
        if breaker.is_open and not was_open:
            logger.warning(
                "%s %s (%s): probing with single Tweets until that ends",
                self._parsers[0].query.endpoint.name,
                "cannot be reached" if isinstance(breaker.last_error, NotSentError) else "does not answer",
                breaker.last_error,
            )
        elif was_open and not breaker.is_open:
            logger.warning("%s answers again", self._parsers[0].query.endpoint.name)
        if owner is not None and owner.is_out is not owner_was_out:
            self._tell_of_owner(request.owner or "", owner)
        self._release(request.owner)
        sender.note_change()
        self._execute(decision, request)

    def _release(self, owner: str | None) -> None:
        """Have the requests that wait for this owner admitted anew: one of them, to probe, while it is not answered."""
        waiting = self._behind_owner.get(owner or "")
        if not waiting:
            return
        if self._call.state.owners.of(owner or "").is_out:
            self._ready.append(waiting.popleft())
        else:
            self._ready.extend(waiting)
            waiting.clear()
        if not waiting:
            del self._behind_owner[owner or ""]

    def _note_other_owners(self) -> None:
        """Have Tweets of other owners at hand for probes: those in flight may all be of one that alone is not answered."""
        others: dict[str | None, tuple[str, ...]] = {i.owner: (i.tweet_id,) for i in self._source.sample()}
        for batch in self._source.read_ahead() or ():
            self._queue_batch(batch)
        others |= {request.owner: request.tweet_ids for request in self._new}
        for owner, tweet_ids in islice(others.items(), EndpointState.KNOWN - 1):
            if owner is not None:
                self._call.state.endpoint.note_unanswered(owner, tweet_ids)

    def _tell_of_owner(self, name: str, owner: OwnerState) -> None:
        endpoint = self._parsers[0].query.endpoint.name
        if owner.breaker is not None and owner.is_out:
            logger.warning(
                "%s does not answer owner %s (%s), while it answers others: probing with single Tweets until that ends",
                endpoint,
                owner_text(name),
                owner.breaker.last_error,
            )
        else:
            logger.warning("%s answers owner %s again", endpoint, owner_text(name))

    def _witnesses(self, request: Request) -> Iterator[OwnedTweet]:
        """Yield Tweets from places far apart, if any are known. Lazy: only refusals have the source read ahead."""
        yield from self._source.sample()
        batches = self._source.read_ahead()
        if batches is None:
            return  # Tweets far from these ones are still being read
        for batch in batches:
            self._queue_batch(batch)
        if self._new:
            for far in (self._new[-1], self._new[len(self._new) // 2]):
                yield OwnedTweet(far.tweet_ids[-1], far.owner)
        for at in (-1, len(request.tweet_ids) // 2, 0):
            yield OwnedTweet(request.tweet_ids[at], request.owner)

    # --- decisions ---

    def _execute(self, decision: Decision, request: Request) -> None:
        match decision:
            case Accept(answers, follow_up):
                self._settle(request, answers, follow_up)
            case Fail(tweet_ids, failure, rest):
                failed = Answer(request.batch_number, tweet_ids, failed_tweet_ids=dict.fromkeys(tweet_ids, failure))
                self._settle(request, (failed,), rest)
            case Requeue(requests):
                self._settle(request, (), requests)
            case RetryIn(seconds):
                self._queue(request, self._sender.now() + seconds)
                if isinstance(request.batch, PendingBatch):
                    self._deliver_settled(request.batch)
            case HoldAll(seconds):
                if seconds > self._sender.scheduler.held_s:
                    logger.warning("the API refused for the rate: holding the contract for %.1f s", seconds)
                    self._sender.scheduler.hold(seconds)
                self._queue_first(request)
            case Resign(offset_s):
                if abs(offset_s - self._sender.clock_offset_s) > 1.0:  # others in flight learn the same
                    logger.warning(
                        "this machine's clock is %.0f s off the API's: signing with the API's time", offset_s
                    )
                self._sender.clock_offset_s = offset_s
                self._queue_first(request)
            case Renew(owner):
                self._sender.renew(owner, request.signer)
                self._queue_first(request)
            case Stop(error):
                raise error

    def _settle(self, request: Request, answers: tuple[Answer, ...], follow_up: tuple[Request, ...]) -> None:
        pending = request.batch
        if not isinstance(pending, PendingBatch):  # a probe's
            return
        for answer in answers:
            pending.parts.append((answer, request.parser))
        del pending.open[id(request)]
        if follow_up:
            pending.add(follow_up)
            self._ready.extend(follow_up)
        if not pending.open:
            self._finish(pending)
        else:
            self._deliver_settled(pending)

    def _finish(self, pending: PendingBatch) -> None:
        """Deliver the answer to a batch, unless sums of it must be asked for once more."""
        batch_number, tweet_ids = pending.batch.number, pending.batch.tweet_ids
        if len(pending.parts) > 1:
            pending.parts, again = split_off_tainted_sums(pending.parts, self._parsers[0].query)
            self._request_again(pending, again)
        if not pending.open:
            del self._pending[id(pending)]
            answers = [answer for answer, _ in pending.parts]
            if len(answers) != 1 or answers[0].tweet_ids != tweet_ids:
                # What was settled before was delivered.
                tweet_ids = in_input_order(tweet_ids, {i for answer in answers for i in answer.tweet_ids})
            self._deliver_answer(pending, merge_parts(batch_number, tweet_ids, answers, self._parsers[0].query))

    def _request_again(
        self, pending: PendingBatch, ids_of_parts: Iterable[tuple[ResponseParser, tuple[str, ...]]]
    ) -> None:
        batch = pending.batch
        requests = [Request(ids, parser, batch.number, pending, batch.owner) for parser, ids in ids_of_parts]
        pending.add(requests)
        self._ready.extend(requests)

    def _deliver_answer(self, pending: PendingBatch, answer: Answer) -> None:
        answer.owner = pending.batch.owner
        answer.requests, pending.requests = pending.requests, 0
        self._deliver(answer)

    def _deliver_settled(self, pending: PendingBatch, *, is_last: bool = False) -> None:
        """Deliver what is settled of a `SpanBatch`, while the API fails at others of its Tweets or the rest is not sent.

        Of any other batch, that is one answer, the last one.
        """
        if not pending.parts or not (is_last or isinstance(pending.batch, SpanBatch)):
            return
        if not (self.is_stopping or any(request.is_suspect or request.failures for request in pending.open.values())):
            return
        query = self._parsers[0].query
        settled, others = _split_by_settled(pending)
        settled, again = split_off_tainted_sums(settled, query)
        pending.parts = [*settled, *others]
        if again:  # their IDs are not settled any more
            self._request_again(pending, again)
            settled, others = _split_by_settled(pending)
        answers = [answer for answer, _ in settled]
        tweet_ids = in_input_order(pending.batch.tweet_ids, {i for answer in answers for i in answer.tweet_ids})
        if tweet_ids:
            pending.parts = others
            self._deliver_answer(pending, merge_parts(pending.batch.number, tweet_ids, answers, query))

    def _queue(self, request: Request, not_before: float) -> None:
        if not_before > self._sender.now():
            heapq.heappush(self._delayed, (not_before, next(self._order), request))
            if self._idle:
                self._set_timer()
        else:
            self._ready.append(request)

    def _queue_first(self, request: Request) -> None:
        if isinstance(request.batch, PendingBatch):
            self._ready.appendleft(request)


def _open_ids(pending: PendingBatch) -> set[str]:
    """Return the IDs of a batch that are not settled: a Tweet is so in all parts, of all spans, or not at all."""
    ids = {i for request in pending.open.values() for i in request.tweet_ids}
    known = -1
    while known < len(ids):
        known = len(ids)
        for answer, _ in pending.parts:
            if not ids.isdisjoint(_ids_in(answer)):
                ids.update(_ids_in(answer))
    return ids


def _split_by_settled(pending: PendingBatch) -> tuple[list[_Part], list[_Part]]:
    """Return the parts of a batch that are settled, and the others."""
    open_ids = _open_ids(pending)
    settled, others = list[_Part](), list[_Part]()
    for part in pending.parts:
        (settled if open_ids.isdisjoint(_ids_in(part[0])) else others).append(part)
    return settled, others


def _ids_in(answer: Answer) -> Iterator[str]:
    """Yield the IDs that an answer speaks of, those too that it does not settle."""
    yield from answer.tweet_ids
    for ids in answer.unsupported_tweet_ids.values():
        yield from ids
