"""How far one call is: its IDs as they are read and answered, and what it waits for. Made only where progress is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch, length_of
from engagement_async._core.owned_batches import TweetsByOwner, have_owners
from engagement_async._core.stepped_batches import SteppedBatches
from engagement_async._engine.source import Batches
from engagement_async._engine.stream import AnswerStream
from engagement_async._progress import CallProgress, WaitReason
from engagement_async.errors import UsageError

__all__ = ["CallMeter", "size_of"]


class Waiting(Protocol):
    """What a client says of itself at one moment: a `ClientStatus`."""

    @property
    def waiting_s(self) -> float: ...
    @property
    def waiting_for(self) -> WaitReason | None: ...
    @property
    def trouble(self) -> str | None: ...


class CallMeter:
    """Counts what one call has read and was answered.

    Args:
        ids_total: How many IDs there are, if that is known before they are read.
        status: Returns the client's status; raises `UsageError` once it is closed.
        clock: Returns seconds, and never goes back.
    """

    def __init__(self, ids_total: int | None, status: Callable[[], Waiting], clock: Callable[[], float]) -> None:
        self._ids_total = ids_total
        self._status = status
        self._clock = clock
        self._began_at = clock()
        self._ids_read = self._ids_done = self._requests = 0
        self.stream: AnswerStream | None = None
        """Where the answers come from, if the call has a stream of its own."""

    def counted(self, batches: Batches) -> Batches:
        """Return the same batches; the IDs in them are counted when they are taken."""
        if isinstance(batches, AsyncIterator):
            return self._counted_async(batches)
        return batches.then(self._counted) if isinstance(batches, SteppedBatches) else self._counted(batches)

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._ids_read += len(batch.tweet_ids)
            yield batch
        self._ids_total = self._ids_read

    async def _counted_async(self, batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for batch in batches:
                self._ids_read += len(batch.tweet_ids)
                yield batch
            self._ids_total = self._ids_read
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()

    def counting(self, add: Callable[[Answer], None]) -> Callable[[Answer], None]:
        """Return a function that does the same, and counts the answer."""

        def counted(answer: Answer) -> None:
            add(answer)
            self.add_ids(len(answer.tweet_ids), answer.requests)

        return counted

    def add_ids(self, ids: int, requests: int = 0) -> None:
        """Count IDs that have their outcomes."""
        self._ids_done += ids
        self._requests += requests

    def progress(self, *, is_finished: bool) -> CallProgress:
        """Return the call as it is now."""
        if is_finished:
            self._ids_total = self._ids_done
        elapsed_s = self._clock() - self._began_at
        eta_s = None
        if self._ids_total is not None and self._ids_done:
            eta_s = (self._ids_total - self._ids_done) * elapsed_s / self._ids_done
        waiting_s, waiting_for, trouble = (0.0, None, None) if is_finished else self._waiting()
        return CallProgress(
            self._ids_done,
            self._ids_total,
            self._requests,
            elapsed_s,
            eta_s,
            waiting_s,
            waiting_for,
            trouble,
            is_finished,
        )

    def _waiting(self) -> tuple[float, WaitReason | None, str | None]:
        try:
            status = self._status()
        except UsageError:  # the client was closed: the call is about to say so
            return 0.0, None, None
        if status.waiting_for is WaitReason.CONTRACT and self.stream is not None and not self.stream.waits_for_contract:
            return 0.0, None, status.trouble  # another call waits
        return status.waiting_s, status.waiting_for, status.trouble


def size_of(tweet_ids: object) -> int | None:
    """Return how many IDs were given, duplicates among them, without reading them; None if nobody knows."""
    if isinstance(tweet_ids, TweetsByOwner):
        return size_of(tweet_ids.source)
    if isinstance(tweet_ids, Mapping) and have_owners(tweet_ids):
        sizes = [size_of(ids) for ids in tweet_ids.values()]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    return length_of(tweet_ids) if isinstance(tweet_ids, (Iterable, AsyncIterable)) else None
