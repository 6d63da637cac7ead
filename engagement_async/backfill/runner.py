"""One run of a job: a client's answers meet the journal.

The event loop asks; the journal has a thread of its own, and commits as many answers at once as came while it wrote the
last ones. A batch is taken only while fewer than `concurrency` are asked but not committed: so a run that is killed
leaves no more than those to be asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch
from engagement_async._core.outcomes import is_outage
from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import LocalScheduler, Scheduler
from engagement_async._engine.stream import AnswerStream
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.job_progress import Outcome, Progress, RunMeter
from engagement_async.backfill.journal import Folder, Journal
from engagement_async.backfill.quota import SpendingScheduler
from engagement_async.backfill.retry_failed import Again, pack_failed, patched
from engagement_async.client import ClientStatus, EngagementClient, check_query
from engagement_async.config import DEFAULT_OUTAGE_TIMEOUT_S, SizeLimits, Timeouts
from engagement_async.credentials import Credentials
from engagement_async.errors import RequestRefusedError, UsageError

__all__ = ["DRAIN_S", "Run"]

DRAIN_S = 20.0
"""How long answers that are on their way are waited for when a run stops."""
OUTAGE_S = DEFAULT_OUTAGE_TIMEOUT_S
"""How long an API that does not answer is waited for."""
_PAGE = 256
"""Batches that are read ahead: half a megabyte."""
_HEARTBEAT_S = 5.0

_T = TypeVar("_T")
logger = logging.getLogger("engagement_async")


class Run:
    """One run of a job, from lock to lock."""

    def __init__(
        self,
        folder: Folder,
        credentials: Credentials,
        rate_limit: RateLimit | Sequence[RateLimit] | None,
        scheduler: Scheduler | None,
        concurrency: int,
        base_url: str,
        timeouts: Timeouts | None,
        size_limits: SizeLimits | None,
    ) -> None:
        if (rate_limit is None) == (scheduler is None):
            raise UsageError("rate_limit is what your contract says, as RateLimit(300); or give a scheduler instead")
        timeouts = timeouts or Timeouts()
        self._folder = folder
        self._credentials = credentials
        self._concurrency = concurrency
        self._withholds = scheduler is None
        inner = scheduler or LocalScheduler(rate_limit or ())
        self._spending = SpendingScheduler(
            inner,
            allowance=4 * concurrency,
            quarantine_s=timeouts.total_s,
            want_record=self._want_record,
            on_spent=lambda: self.stop("max_requests"),
        )
        limit = min(inner.limits, key=lambda limit: abs(limit.period - 60.0))
        self._per_minute = limit.requests * 60 / limit.period if scheduler is None else None
        self._client = EngagementClient(
            credentials,
            scheduler=self._spending,
            concurrency=concurrency,
            base_url=base_url,
            outage_timeout_s=OUTAGE_S,
            timeouts=timeouts,
            size_limits=size_limits,
        )
        self._journal: Journal
        self._thread: ThreadPoolExecutor
        self._meter: RunMeter
        self._name = ""
        self._began_at = time.time()
        self._retried: dict[int, Again] = {}
        self._taken: list[Answer] = []
        self._open = 0  # batches that were given out and are not committed
        self._has_room = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_record_wanted = False
        self._is_asked_all = False
        self._is_taking = False
        self._outcome: Outcome | None = None
        self._draining: asyncio.Task[None] | None = None
        self._consuming: asyncio.Task[None] | None = None
        self._stream: AnswerStream | None = None
        self._committed_at = 0.0

    async def __call__(
        self,
        again: bool,
        max_requests: int | None,
        max_duration_s: float | None,
        on_progress: Callable[[Progress], object] | None,
        every_s: float,
    ) -> Progress:
        loop = asyncio.get_running_loop()
        self._spending.max_requests = max_requests
        async with self._opened():
            tally = self._journal.tally
            to_ask = tally.counts.failed if again else tally.pending
            self._meter = RunMeter(tally, to_ask, self._per_minute, loop.time)
            check_query(self._journal.query, self._credentials)
            if not to_ask:
                return self._told(on_progress, "done")
            await self._in_thread(self._begin)
            timer = loop.call_later(max_duration_s, self.stop, "max_duration") if max_duration_s is not None else None
            watching = asyncio.create_task(self._watch(on_progress, every_s))
            try:
                await self._ask(again)
            except RequestRefusedError as error:
                if not again:
                    await self._commit_rest(type(error).__name__)
                    raise
                # The job was answered before: it is the IDs, all of which are refused again. They stay as they were.
                logger.warning("none of the failed IDs was answered: %s", error)
            except BaseException as error:
                with suppress(Exception):  # the first error is the one to tell
                    await self._commit_rest(type(error).__name__)
                raise
            finally:
                watching.cancel()
                if timer is not None:
                    timer.cancel()
            outcome = self._outcome or "done"
            if not again and self._journal.tally.pending == sum(len(answer.tweet_ids) for answer in self._taken):
                outcome = "done"  # stopped at the very end
            await self._commit_rest(outcome)
            return self._told(on_progress, outcome)

    def stop(self, outcome: Outcome) -> None:
        """Ask nothing more, and end when what is on its way has come."""
        if self._outcome is None:
            self._outcome = outcome
            self._spending.close()
            if self._stream is not None:
                self._draining = asyncio.create_task(self._drain(self._stream))

    # --- the journal's thread ---

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """The lock and the journal, on the journal's own thread."""
        stack = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engagement-journal")

        def open_() -> None:
            self._folder.must_exist()
            stack.enter_context(self._folder.locked())
            self._journal = stack.enter_context(Journal.open(self._folder))

        try:
            await self._in_thread(open_)
            yield
        finally:
            await asyncio.shield(self._in_thread(stack.close))
            self._thread.shutdown(wait=False)

    async def _in_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _begin(self) -> None:
        """Tells the journal of this run before its first request."""
        self._name = f"run {len(self._journal.documents('run ')):06}"
        self._spending.remember(self._journal.document("spent"), counts=self._withholds)
        spent, _ = self._spending.record()
        self._journal.write([], {self._name: self._document(None), "spent": spent})

    def _document(self, outcome: str | None) -> dict[str, Any]:
        progress = self._meter.progress(self._status())
        return {
            "began_at": self._began_at,
            "seen_at": time.time(),
            "requests": self._spending.requests,
            "ids": self._meter.asked,
            "outcome": outcome,
            "now": {
                "requests_last_minute": progress.requests_last_minute,
                "contract_per_minute": self._per_minute,
                "eta_s": progress.eta_s,
                "waiting_s": progress.waiting_s,
                "waiting_for": progress.waiting_for,
            },
        }

    def _write(self, answers: list[Answer], documents: dict[str, Any]) -> None:
        types = self._journal.query.engagement_types
        if not self._retried:
            self._journal.write([encode_answer(answer, types) for answer in answers], documents)
            return
        query = self._journal.query
        changed: dict[int, Answer] = {}
        for answer in answers:
            with_sums = True
            for number, ids in self._retried[answer.batch_number].homes:
                old = changed.get(number) or self._journal.answer(number)
                changed[number] = patched(old, answer, ids, query, with_sums=with_sums)
                with_sums = False
        self._journal.rewrite([encode_answer(answer, types) for answer in changed.values()], documents)
        for answer in answers:
            del self._retried[answer.batch_number]

    # --- asking ---

    async def _ask(self, again: bool) -> None:
        source = self._again() if again else self._pending()
        async with self._client, self._client.stream_batches(self._journal.query, source) as stream:
            self._stream = stream
            self._consuming = asyncio.create_task(self._consume(stream))
            committing = asyncio.create_task(self._commit())
            if self._outcome is not None:  # stopped before it began
                self._draining = asyncio.create_task(self._drain(stream))
            try:
                await asyncio.wait({self._consuming, committing}, return_when=asyncio.FIRST_EXCEPTION)
                for task in (committing, self._consuming):
                    if task.done() and not task.cancelled():
                        task.result()
            finally:
                self._spending.close()
                for left in (self._draining, self._consuming, committing):
                    if left is not None and not left.done():
                        left.cancel()
                        with suppress(asyncio.CancelledError):
                            await left
                self._stream = None

    async def _pending(self) -> AsyncIterator[Batch]:
        after = -1
        while page := await self._in_thread(self._journal.pending, after, _PAGE):
            after = page[-1].number
            for batch in page:
                await self._room()
                yield batch

    async def _again(self) -> AsyncIterator[Batch]:
        """Failed IDs, packed; the pages overlap in nothing, so that an ID that fails again is not asked a third time."""
        after, number = -1, 0
        query = self._journal.query
        while page := await self._in_thread(self._journal.failed, after, _PAGE):
            after = page[-1].batch_number
            for packed in pack_failed(page, query):
                await self._room()
                self._retried[number] = packed
                yield Batch(number, packed.batch.tweet_ids)
                number += 1

    async def _room(self) -> None:
        while self._open >= self._concurrency:
            self._has_room.clear()
            await self._has_room.wait()
        self._open += 1

    async def _consume(self, stream: AnswerStream) -> None:
        try:
            async for answer in stream:
                self._is_taking = True
                if any(is_outage(failure) for failure in answer.failed_tweet_ids.values()):
                    self.stop("outage")  # the API answered nobody: these IDs stay pending
                    continue
                self._taken.append(answer)
                self._wake.set()
        finally:
            self._is_asked_all = True
            self._wake.set()

    async def _commit(self) -> None:
        """Commits what came, all at once; returns when nothing more can come."""
        while not (self._is_asked_all and not self._taken):
            await self._wake.wait()
            self._wake.clear()
            if self._taken or self._is_record_wanted:
                await self._commit_taken(None)

    async def _commit_taken(self, outcome: str | None) -> None:
        answers, self._taken = self._taken, []
        self._is_record_wanted = False
        self._meter.asked += sum(len(answer.tweet_ids) for answer in answers)
        spent, mark = self._spending.record()
        await self._in_thread(self._write, answers, {self._name: self._document(outcome), "spent": spent})
        self._meter.tally = self._journal.tally
        self._committed_at = asyncio.get_running_loop().time()
        self._spending.recorded(mark)
        self._open -= len(answers)
        self._has_room.set()

    async def _commit_rest(self, outcome: str) -> None:
        """After the last request: then nothing is unknown any more."""
        self._spending.close()
        await self._commit_taken(outcome)

    def _want_record(self) -> None:
        self._is_record_wanted = True
        self._wake.set()

    # --- ending and telling ---

    async def _drain(self, stream: AnswerStream) -> None:
        stream.stop()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + DRAIN_S
        # Whatever is still in the stream when no request is out waits for a grant that will not come.
        while self._client.status().in_flight and loop.time() < give_up_at:  # noqa: ASYNC110 - the engine tells no event
            await asyncio.sleep(0.02)
        self._is_taking = True
        while self._is_taking:  # what came last is taken in the next rounds of the loop
            self._is_taking = False
            await asyncio.sleep(0.01)
        if self._consuming is not None:
            self._consuming.cancel()

    async def _watch(self, on_progress: Callable[[Progress], object] | None, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(every_s)
            if loop.time() - self._committed_at > _HEARTBEAT_S:
                self._want_record()
            if on_progress is not None:
                on_progress(self._meter.progress(self._status()))

    def _told(self, on_progress: Callable[[Progress], object] | None, outcome: Outcome) -> Progress:
        progress = self._meter.progress(self._status(), outcome)
        if on_progress is not None:
            on_progress(progress)
        return progress

    def _status(self) -> ClientStatus:
        """Of the client, while it is open; the requests are the job's own outcomes."""
        status = self._client.status() if self._stream is not None else ClientStatus(0, 0, 0.0, None)
        return ClientStatus(self._spending.requests, status.in_flight, status.waiting_s, status.waiting_for)
