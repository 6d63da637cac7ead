"""Calls that share requests: small calls with the same query, made within a moment, go out as one.

A call joins the group of its query. A group is sent when its time is over, or when it fills a request; and it goes on to
gather while the one before it waits for the contract, so that a crowd costs full requests and not many small ones. Each
caller gets what is its own: its IDs, its outcomes, its copy of an error that concerns the request as a whole. One that is
cancelled leaves its group, and nobody else sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard, TypeVar

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch, TweetIds, length_of
from engagement_async._core.merging import Merger, merge_parts
from engagement_async._core.query import Query
from engagement_async._core.result import EngagementResult
from engagement_async._core.sharing import can_share, restrict
from engagement_async._engine.stream import AnswerStream
from engagement_async._engine.transport import CLOSED
from engagement_async.errors import UsageError

__all__ = ["Coalescer"]

E = TypeVar("E", bound=Exception)


@dataclass(eq=False, slots=True)
class _Caller:
    """One call: its IDs in input order, the answers that it waits for, and those that came."""

    tweet_ids: tuple[str, ...]
    result: asyncio.Future[EngagementResult]
    parts: list[Answer]
    open_batches: set[int] = field(default_factory=set)


class _Group:
    """The callers of one query whose IDs go out together."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.callers: set[_Caller] = set()
        self.stream: AnswerStream | None = None
        self.task: asyncio.Task[None] | None = None
        self._ids: dict[str, int] = {}  # to how many callers ask for it
        self._waiting: dict[int, set[_Caller]] = {}

    @property
    def size(self) -> int:
        """How many distinct IDs are in it."""
        return len(self._ids)

    @property
    def waits_for_contract(self) -> bool:
        """Whether it was sent off and has no token yet."""
        return (
            self.task is not None and not self.task.done() and (self.stream is None or self.stream.waits_for_contract)
        )

    def join(self, caller: _Caller) -> None:
        self.callers.add(caller)
        for i in caller.tweet_ids:
            self._ids[i] = self._ids.get(i, 0) + 1

    def leave(self, caller: _Caller) -> None:
        """Take a caller out that was cancelled; its IDs too, if they were not sent off yet and nobody else asks."""
        self.callers.discard(caller)
        if self.task is None:
            for i in caller.tweet_ids:
                self._ids[i] -= 1
                if not self._ids[i]:
                    del self._ids[i]
        elif not self.callers:
            self.task.cancel()

    def batches(self) -> list[Batch]:
        """Return the requests to send, having noted who waits for which."""
        ids = list(self._ids)
        size = self.query.endpoint.ids_per_request
        batches = [Batch(number, tuple(ids[at : at + size])) for number, at in enumerate(range(0, len(ids), size))]
        batch_of = {i: batch.number for batch in batches for i in batch.tweet_ids}
        for caller in self.callers:
            caller.open_batches = {batch_of[i] for i in caller.tweet_ids}
            for number in caller.open_batches:
                self._waiting.setdefault(number, set()).add(caller)
        return batches

    def deliver(self, answer: Answer) -> None:
        """Hand an answer's parts to those who asked; a caller that has all of its parts has its result."""
        for caller in self._waiting.pop(answer.batch_number, ()):
            if caller.result.done():
                continue
            caller.parts.append(restrict(answer, caller.tweet_ids, self.query))
            caller.open_batches.discard(answer.batch_number)
            if not caller.open_batches:
                merger = Merger(self.query)
                merger.add(merge_parts(0, caller.tweet_ids, caller.parts, self.query))
                caller.result.set_result(merger.result())

    def cancel(self) -> None:
        """Cancel everybody who still waits: the loop is being shut down."""
        for caller in self.callers:
            caller.result.cancel()

    def fail(self, error: Exception) -> None:
        """Tell everybody who still waits."""
        for caller in self.callers:
            if not caller.result.done():
                caller.result.set_exception(_copy_of(error))


class Coalescer:
    """Gathers the calls of one client. `open_stream` makes a stream of batches, as `client.stream_batches` does."""

    def __init__(self, within_s: float, open_stream: Callable[[Query, Iterator[Batch]], AnswerStream]) -> None:
        self._within_s = within_s
        self._open_stream = open_stream
        self._gathering: dict[Query, _Group] = {}
        self._sent: dict[Query, set[_Group]] = {}

    @staticmethod
    def takes(tweet_ids: TweetIds, query: Query) -> TypeGuard[Collection[str | int]]:
        """Return whether a call can share requests: it fills none alone, and nothing of its answer is a sum over Tweets."""
        return (
            isinstance(tweet_ids, Iterable)
            and not isinstance(tweet_ids, (str, bytes))
            and 0 < (length_of(tweet_ids) or 0) < query.endpoint.ids_per_request
            and can_share(query)
        )

    async def fetch(self, query: Query, tweet_ids: tuple[str, ...], parts: list[Answer]) -> EngagementResult:
        """Return the result for these IDs, which are distinct. `parts` takes in the answers as they come."""
        loop = asyncio.get_running_loop()
        group = self._gathering.get(query)
        if group is None:
            group = self._gathering[query] = _Group(query)
            loop.call_later(self._within_s, self._on_timer, group)
        caller = _Caller(tweet_ids, loop.create_future(), parts)
        group.join(caller)
        if group.size >= query.endpoint.ids_per_request:
            self._send_off(group)
        try:
            return await caller.result
        finally:
            group.leave(caller)

    async def aclose(self) -> None:
        """End all requests: who still waits gets a `UsageError`."""
        closed = UsageError(CLOSED)
        groups = [*self._gathering.values(), *(group for groups in self._sent.values() for group in groups)]
        self._gathering.clear()
        for group in groups:
            group.fail(closed)
            if group.task is not None:
                group.task.cancel()
        await asyncio.gather(*(group.task for group in groups if group.task is not None), return_exceptions=True)

    def _on_timer(self, group: _Group) -> None:
        if self._gathering.get(group.query) is not group:
            return
        if not group.callers:
            del self._gathering[group.query]
        elif any(sent.waits_for_contract for sent in self._sent.get(group.query, ())):
            asyncio.get_running_loop().call_later(self._within_s, self._on_timer, group)
        else:
            self._send_off(group)

    def _send_off(self, group: _Group) -> None:
        del self._gathering[group.query]
        self._sent.setdefault(group.query, set()).add(group)
        group.task = asyncio.get_running_loop().create_task(self._run(group))
        group.task.add_done_callback(lambda _: self._forget(group))

    async def _run(self, group: _Group) -> None:
        try:
            async with self._open_stream(group.query, iter(group.batches())) as answers:
                group.stream = answers
                async for answer in answers:
                    group.deliver(answer)
        except Exception as error:
            group.fail(error)
        finally:
            group.cancel()

    def _forget(self, group: _Group) -> None:
        sent = self._sent[group.query]
        sent.discard(group)
        if not sent:
            del self._sent[group.query]


def _copy_of(error: E) -> E:
    """Return an error like this one: raised by many, one object would gather the tracebacks of all."""
    copy = type(error).__new__(type(error), *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, True
    return copy
