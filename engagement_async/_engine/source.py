"""Where batches come from: a sync or async iterator, read no further than somebody needs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Protocol, runtime_checkable

from engagement_async._core.batches import AnsweredTweets, Batch, OwnedTweet, SpanBatch
from engagement_async._core.stepped_batches import SteppedBatches
from engagement_async.errors import EngagementError

__all__ = ["BatchSource", "Batches", "Sampled"]

Batches = Iterator[Batch] | AsyncIterator[Batch] | AsyncIterator[SpanBatch]
READ_AHEAD = 400
"""Batches that are read to find Tweets far apart, when every request is refused."""

_JOBS_AHEAD = 8
"""Batches that are read of a job at once: it has them at hand, and says itself how many may be out."""


@runtime_checkable
class Sampled(Protocol):
    """A source that knows Tweets far from the ones it is at: a durable job, whose answers keep their responses."""

    @property
    def were_answered(self) -> bool:
        """Whether the API answered for others of its Tweets before."""
        ...

    @property
    def refused_owners(self) -> Collection[str]:
        """The owners whose credentials were of no use the last time that they were needed."""
        ...

    @property
    def answered(self) -> Iterable[AnsweredTweets]:
        """Some Tweets that the API answered before: what a probe may ask for."""
        ...

    def sample(self) -> Iterable[OwnedTweet]:
        """Return some Tweets from places far apart, without reading on."""
        ...


class BatchSource:
    """Hands out batches. An async source is read in a task of its own, so that no worker waits inside of it."""

    def __init__(self, batches: Batches, on_ready: Callable[[], None]) -> None:
        self._batches = batches
        # Known once, since it is wanted for each batch.
        self._sync = None if isinstance(batches, AsyncIterator) else batches
        self._on_ready = on_ready
        self._read: deque[Batch | SpanBatch] = deque()
        self._wanted = 0
        self._reader: asyncio.Task[None] | None = None
        self._has_ended = False

    @property
    def is_exhausted(self) -> bool:
        """Whether all batches were handed out."""
        return self._has_ended and not self._read

    def take(self) -> Batch | SpanBatch | None:
        """Return the next batch if there is one at once. An async source begins to read, and calls `on_ready`; and so does
        one that checks many IDs first.

        Raises what the source raises.
        """
        if self._read:
            return self._read.popleft()
        if self._has_ended:
            return None
        if self._sync is None:
            self._start_reading(_JOBS_AHEAD if isinstance(self._batches, Sampled) else 1)
            return None
        if isinstance(self._batches, SteppedBatches) and not self._batches.is_prepared:
            self._start_reading(0)
            return None
        batch = next(self._sync, None)
        self._has_ended = batch is None
        return batch

    def sample(self) -> Iterable[OwnedTweet]:
        """Return Tweets from places far apart, if the source knows any."""
        return self._batches.sample() if isinstance(self._batches, Sampled) else ()

    def read_ahead(self) -> list[Batch | SpanBatch] | None:
        """Return further batches, or None while an async source is still being read.

        One that knows Tweets far from the ones it is at is not read ahead: it may wait for what it handed out.
        """
        if isinstance(self._batches, Sampled):
            return []
        if self._sync is not None:
            return [] if self._has_ended else list(islice(self._sync, READ_AHEAD))
        if not self._has_ended and len(self._read) < READ_AHEAD:
            self._start_reading(READ_AHEAD)
            return None
        batches = list(self._read)
        self._read.clear()
        return batches

    def rest(self) -> Iterator[Batch | SpanBatch]:
        """Read a sync source to its end; of an async one, hand out what was read and not taken."""
        while self._read:
            yield self._read.popleft()
        if not self._has_ended and self._sync is not None:
            yield from self._sync
            self._has_ended = True

    def stop(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()

    async def aclose(self) -> None:
        """Stop reading, and close an async generator."""
        self.stop()
        try:
            if self._reader is not None:
                await asyncio.gather(self._reader, return_exceptions=True)
        finally:
            if isinstance(self._batches, AsyncGenerator):
                await self._batches.aclose()

    def _start_reading(self, wanted: int) -> None:
        self._wanted = max(self._wanted, wanted)
        if self._reader is not None:
            if not self._reader.done():
                return
            if self._reader.cancelled():
                raise EngagementError("the source of tweet_ids was cancelled before its end")
            self._reader.result()
        self._reader = asyncio.ensure_future(self._read_batches())
        self._reader.add_done_callback(lambda _: self._on_ready())

    async def _read_batches(self) -> None:
        """Read until as many batches are there as are wanted; or prepare the batches, a step in each turn of the loop."""
        if isinstance(self._batches, SteppedBatches):
            for _ in self._batches.prepare():
                await asyncio.sleep(0)
            return
        assert isinstance(self._batches, AsyncIterator)  # noqa: S101
        while not self._has_ended and len(self._read) < self._wanted:
            batch: Batch | SpanBatch | None = await anext(self._batches, None)
            if batch is None:
                self._has_ended = True
            else:
                self._read.append(batch)
                if len(self._read) < self._wanted:
                    self._on_ready()
                    await asyncio.sleep(0)  # a source that never pauses must not hold up the event loop
        self._wanted = 0
