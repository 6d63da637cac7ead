"""Where batches come from: a sync or async iterator, read no further than somebody needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol, runtime_checkable

from engagement_async._core.batches import Batch, SpanBatch
from engagement_async.errors import EngagementError

__all__ = ["BatchSource", "Batches", "Sampled"]

Batches = Iterator[Batch] | AsyncIterator[Batch] | AsyncIterator[SpanBatch]
READ_AHEAD = 400
"""Batches that are read to find Tweets far apart, when every request is refused."""


@runtime_checkable
class Sampled(Protocol):
    """A source that knows Tweets far from the ones it is at, as a durable job does."""

    def sample_ids(self) -> Iterable[str]:
        """Return some Tweet IDs from places far apart, without reading on."""
        ...


class BatchSource:
    """Hands out batches. An async source is read in a task of its own, so that no worker waits inside of it."""

    def __init__(self, batches: Batches, on_ready: Callable[[], None]) -> None:
        self._batches = batches
        self._on_ready = on_ready
        self._pending: asyncio.Future[Batch | SpanBatch | None] | None = None
        self.is_exhausted = False

    def take(self) -> Batch | SpanBatch | None:
        """Return the next batch if there is one at once. An async source begins to read, and calls `on_ready`.

        Raises what the source raises.
        """
        if self.is_exhausted:
            return None
        if not isinstance(self._batches, AsyncIterator):
            batch: Batch | SpanBatch | None = next(self._batches, None)
        elif self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._batches, None))
            self._pending.add_done_callback(lambda _: self._on_ready())
            return None
        elif not self._pending.done():
            return None
        else:
            pending, self._pending = self._pending, None
            if pending.cancelled():
                raise EngagementError("the source of tweet_ids was cancelled before its end")
            batch = pending.result()
        self.is_exhausted = batch is None
        return batch

    def sample_ids(self) -> Iterable[str]:
        """Return Tweets from places far apart, if the source knows any."""
        return self._batches.sample_ids() if isinstance(self._batches, Sampled) else ()

    def read_ahead(self) -> list[Batch]:
        """Return further batches of a sync source; of an async one none, which may pause for long."""
        if self.is_exhausted or isinstance(self._batches, AsyncIterator):
            return []
        return list(islice(self._batches, READ_AHEAD))

    def rest(self) -> Iterator[Batch | SpanBatch]:
        """Read a sync source to its end; of an async one, hand out what was read and not taken."""
        if self._pending is not None and self._pending.done() and not self._pending.cancelled():
            pending, self._pending = self._pending, None
            if (batch := pending.result()) is not None:
                yield batch
        if not self.is_exhausted and not isinstance(self._batches, AsyncIterator):
            yield from self._batches
            self.is_exhausted = True

    async def aclose(self) -> None:
        """Stop reading, and close an async generator."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        if isinstance(self._batches, AsyncGenerator):
            await self._batches.aclose()
