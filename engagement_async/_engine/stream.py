"""AnswerStream: the answers to one query, as an async context manager with back-pressure."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self, cast

from engagement_async._core.answer import Answer
from engagement_async._core.columnar import ColumnarAnswer, to_columns
from engagement_async._core.events import Ended, HandedOut
from engagement_async._core.outcomes import Failure, count_outcomes
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.query import Query
from engagement_async._engine.gc_pressure import relaxed_gc
from engagement_async._engine.sender import Sender
from engagement_async._engine.source import Batches, Sampled
from engagement_async._engine.workers import Workers
from engagement_async.errors import UsageError

__all__ = ["AnswerStream", "ColumnarStream"]


class AnswerStream:
    """The answers to one query, one `Answer` per batch, in order of arrival. `client.stream(...)` makes one.

    An async context manager, and an async iterator in it. Leaving it cancels what is in flight. Memory is bounded: workers
    pause while `concurrency` answers are not consumed (back-pressure).

    Args:
        sender: What sends the requests of its client.
        query: What to request of each Tweet.
        batches: Distinct IDs, in batches.
    """

    def __init__(self, sender: Sender, query: Query, batches: Batches) -> None:
        self._sender = sender
        self._endpoint, self._engagement_types = query.endpoint, query.engagement_types
        self._call = call = sender.call(query.endpoint.name, self._wait_for_capacity)
        self._owners = call.state.owners
        if isinstance(batches, Sampled):  # a job: Tweets that were answered once are the best ones to probe with
            call.state.endpoint.answered.extend(batches.answered)
            self._owners.were_answered_before = batches.were_answered
            self._owners.refused_before = batches.refused_owners
            call.keeps_responses = True
        # What a job stores must be fit for every table later.
        parsers = self._parsers(query.spans(), sender.json_depth, checks_times=call.keeps_responses)
        self._lane = call.lane
        self._concurrency = sender.concurrency
        self._workers = Workers(sender, call, parsers, batches, self._deliver, self._note_end)
        self._delivered: deque[Answer] = deque()
        self._delivered_event = asyncio.Event()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._open = ExitStack()
        self._is_open = False
        self._was_cut_short = False
        self._is_giving_up = False

    def _parsers(self, spans: Sequence[Query], json_depth: int, *, checks_times: bool) -> list[ResponseParser]:
        """Return the parsers of the parts of the span."""
        return [ResponseParser(span, json_depth=json_depth, checks_times=checks_times) for span in spans]

    async def __aenter__(self) -> Self:
        if self._workers.is_stopping or self._is_open:
            raise UsageError("a stream is entered once: call client.stream(...) again")
        self._sender.check_loop()
        self._is_open = True
        self._call.state.begin(self._sender.now())
        self._call.observe = self._sender.observe(self._endpoint)
        self._open.enter_context(relaxed_gc())
        self._open.enter_context(self._sender.running(self._call, self._workers.fail))
        self._workers.start_one()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        is_done = self._workers.is_source_read and not self._workers.has_pending_batches
        self._was_cut_short = not (is_done or self._workers.is_stopping)
        try:
            await self._workers.aclose()
        finally:
            if self._call.observe is not None:
                self._call.observe(Ended(error or self._workers.error))

    @property
    def waits_for_contract(self) -> bool:
        """Whether a request of this stream waits for a token at this moment."""
        return self._lane.is_queued

    def stop(self) -> None:
        """Send no new requests, nor those that wait for a token. Answers to requests in flight are still delivered; then the
        stream ends.

        Of a batch that is only partly answered by then, one last answer has the settled Tweets; of a `SpanBatch` they are
        delivered at once. The others are in no answer.
        """
        self._workers.stop()
        self._workers.deliver_settled()

    @property
    def is_read(self) -> bool:
        """Whether the source of IDs was read to its end."""
        return self._workers.is_source_read

    def take_owner_requests(self) -> Counter[str]:
        """Return how many requests were signed for each owner since the last call of this method."""
        return self._owners.take_requests()

    async def give_up(self, failure: Failure) -> None:
        """Abort what is in flight, and fail every ID that has no outcome yet: the stream hands out the rest, and ends.

        IDs of an async source that no batch had yet are in no answer.

        Args:
            failure: Why they failed.

        Raises:
            UsageError: The rest of a sync source has what is no Tweet ID.
        """
        self._concurrency = sys.maxsize  # what has arrived is paid for: it is parsed before the rest is given up
        while self._waiters:
            if not (waiter := self._waiters.popleft()).done():
                waiter.set_result(None)
        self._is_giving_up = True
        try:
            await self._workers.give_up(failure)
        finally:
            self._is_giving_up = False
            self._delivered_event.set()  # whoever iterates may have to end

    @property
    def parked_batches(self) -> int:
        """How many batches wait to be sent again later, as the API fails at them: their source may hand out as many more."""
        return self._workers.parked_batches

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        if not self._is_open:
            raise UsageError("the stream is not open: write `async with client.stream(...) as answers:`")
        while not self._delivered:
            if not (self._workers.are_running or self._is_giving_up):
                if self._workers.error is not None:
                    raise self._workers.error
                if self._was_cut_short:
                    raise UsageError("the stream was left before its end: iterate inside its `async with` block")
                raise StopAsyncIteration
            self._delivered_event.clear()
            await self._delivered_event.wait()
        answer = self._delivered.popleft()
        self._release_waiters()
        if self._call.observe is not None:
            self._call.observe(HandedOut(count_outcomes(answer, self._engagement_types)))
        return answer

    def _deliver(self, answer: Answer) -> None:
        # Never waits: an answer is not lost when its worker is cancelled.
        self._delivered.append(answer)
        self._delivered_event.set()

    def _note_end(self) -> None:
        """Let the consumer look again: a worker ended."""
        self._delivered_event.set()

    async def _wait_for_capacity(self) -> None:
        """Wait while as many answers are not consumed as there are workers."""
        enqueue = self._waiters.append
        while len(self._delivered) >= self._concurrency:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            enqueue(waiter)
            await waiter
            enqueue = self._waiters.appendleft  # another answer was delivered first: keep the place in the queue
        self._release_waiters()

    def _release_waiters(self) -> None:
        """Let one worker go on, if there is room: it lets the next one go on."""
        while self._waiters and len(self._delivered) < self._concurrency:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class ColumnarStream(AnswerStream):
    """An `AnswerStream` of `ColumnarAnswer`: their values are columns. `client.stream(..., columnar=True)` makes one.

    Args:
        sender: What sends the requests of its client.
        query: What to request of each Tweet, with `owner` as a level where groupings have it.
        batches: Distinct IDs, in batches.

    Raises:
        UsageError: pyarrow is not installed.
    """

    def __init__(self, sender: Sender, query: Query, batches: Batches) -> None:
        self._query = query
        super().__init__(sender, query.without_owners(), batches)

    async def __anext__(self) -> ColumnarAnswer:
        return cast("ColumnarAnswer", await super().__anext__())  # as `_deliver` made it

    def _parsers(self, spans: Sequence[Query], json_depth: int, *, checks_times: bool) -> list[ResponseParser]:
        from engagement_async._core.column_parsing import ColumnParser

        if len(spans) > 1:  # each answer is merged of several: nothing but dicts can be merged
            return super()._parsers(spans, json_depth, checks_times=True)
        return [ColumnParser(span, json_depth=json_depth) for span in spans]

    def _deliver(self, answer: Answer) -> None:
        super()._deliver(to_columns(answer, self._query))
