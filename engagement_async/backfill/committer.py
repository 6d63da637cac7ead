"""The journal's side of a run: a thread of its own, each of whose commits takes all answers that came during the last one.

A batch is handed out only while fewer than `most_open` are open: requested, but not committed. Batches that wait for their
turn because the API fails at them do not count. So a run that is killed leaves no more than `most_open` batches to be
requested again, beside those. Answers that cannot be committed are held, and the commit is tried again.

`most_open` is the number of requests that may be in flight, so that a commit takes two or three answers at full speed. Where
the contract is so large that nobody waits for it, it is `GATHERED` times that number, and answers are gathered for a moment
before each commit, which waits for the disk several times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeVar

from engagement_async._core.answer import Answer
from engagement_async._core.batches import AnsweredTweets, OwnedTweet, SpanBatch
from engagement_async._core.rate_limit import RateLimit
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.owner_records import OwnerRecords
from engagement_async.backfill.quota import DurableScheduler
from engagement_async.backfill.reserve import Reserve
from engagement_async.backfill.storage_errors import JournalBusyError, JournalMovedError
from engagement_async.backfill.traffic import TrafficRecorder
from engagement_async.backfill.work import Work
from engagement_async.errors import JobDiskError

__all__ = ["GATHERED", "HOLD_S", "Committer", "may_gather"]

HOLD_S = 20.0
"""How long answers are held that the disk does not take."""
GATHERED = 4
"""How many times as many batches may be open, where answers are gathered."""
_SMALL_PART = 50
"""A contract is large if its window has room for that many times the batches that may be open."""
_GATHER_S = 0.02
_RETRY_EVERY_S = 0.5
_LOOK_EVERY_S = 0.25
_RESERVED_BYTES, _LEAST_RESERVED_BYTES = 32 * 1024, 256 * 1024
"""For each request at once, and in all: an answer to 250 Tweets takes some 6 kB, one of hours up to a megabyte."""

_T = TypeVar("_T")
logger = logging.getLogger("engagement_async")


def may_gather(limits: Iterable[RateLimit], concurrency: int) -> bool:
    """Return whether a contract is so large that the requests that a kill repeats do not matter to it."""
    return all(limit.requests >= _SMALL_PART * GATHERED * concurrency for limit in limits)


class Committer:
    """Takes answers, and commits them together with the state of the quota and of the run.

    At most `most_open` batches are requested and not committed. With `gathers`, answers wait for others for a moment.
    `describe` returns the document of the run, given its outcome or None while it is at work. `on_commit` is called after
    each commit, `on_full` once when the disk is full: then nothing more should be requested. `parked` returns how many of
    the open batches wait for their turn. `owners` are the records of owners, `traffic` what is sent.
    """

    def __init__(
        self,
        directory: JobDirectory,
        quota: DurableScheduler,
        *,
        most_open: int,
        gathers: bool,
        describe: Callable[[str | None], dict[str, Any]],
        on_commit: Callable[[], object],
        on_full: Callable[[JobDiskError], object],
        parked: Callable[[], int],
        owners: OwnerRecords,
        traffic: TrafficRecorder,
    ) -> None:
        self._directory = directory
        self._quota = quota
        self._owners = owners
        self._traffic = traffic
        self._most_open = most_open
        self._enough = most_open // 2 if gathers else 1
        self._describe = describe
        self._on_commit = on_commit
        self._on_full = on_full
        self._parked = parked
        self._reserve = Reserve(directory.reserve_path)
        self.journal: Journal
        self.committed_at = 0.0
        """By the loop's clock."""
        self._thread: ThreadPoolExecutor
        self._work: Work
        self._run = 0
        self._sample_ids: tuple[list[AnsweredTweets], list[OwnedTweet]] = [], []
        self._refused_owners: frozenset[str] = frozenset()
        self._uncommitted: list[Answer] = []
        self._open: dict[int, int] = {}  # batches that were handed out, and how many of their IDs are not committed
        self._is_ending = False
        self._give_up_at: float | None = None
        """When the disk is no longer waited for; None while it takes what is written."""
        self._capacity_freed = asyncio.Event()
        self._wakeup = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_commit_requested = False
        self._is_exhausted = False

    # --- the journal's thread ---

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        """Hold the job's lock and its journal, on the journal's own thread."""
        stack = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engagement-journal")

        def open_() -> Journal:
            self._directory.must_exist()
            stack.enter_context(self._directory.locked())
            stack.callback(self._reserve.release)
            return stack.enter_context(self._directory.open_journal())

        try:
            self.journal = await self.call(open_)
            yield self.journal
        finally:
            await asyncio.shield(self.call(stack.close))
            self._thread.shutdown(wait=False)

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a function on the journal's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def begin(self, work: Work) -> None:
        """Reserve room on the disk, and record this run in the journal, before its first request."""
        self._work = work
        self._run = len(self.journal.documents("run "))
        spent, _ = self._quota.checkpoint()
        documents = {self._run_name: self._describe(None), "spent": spent}

        def begin() -> None:
            self._reserve.hold(max(_LEAST_RESERVED_BYTES, self._most_open * _RESERVED_BYTES))
            self.journal.write([], documents)
            self._owners.load(self.journal.owner_records())
            self._refused_owners = work.refused_owners(self.journal)
            self._sample_ids = self.journal.sample_ids()

        await self.call(begin)

    @property
    def _run_name(self) -> str:
        return f"run {self._run:06}"

    # --- batches out, answers in ---

    def batches(self) -> BatchesOfWork:
        """Return the batches of the work, each to be had as soon as there is room for one more."""
        outcomes = self.journal.totals.outcomes
        return BatchesOfWork(
            self._batches(),
            *self._sample_ids,
            were_answered=sum(outcomes) > outcomes.failed,
            refused_owners=self._refused_owners,
        )

    async def _batches(self) -> AsyncIterator[SpanBatch]:
        while True:
            page = await self.call(self._work.next_page, self.journal)
            if not page and not self._open:
                return
            for batch in page:
                while len(self._open) >= self._most_open and len(self._open) - self._parked() >= self._most_open:
                    await self._wait_for_change()
                self._open[batch.number] = len(batch.tweet_ids)
                yield batch
            if not page:  # what comes may have to be asked again, in part
                await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        self._capacity_freed.clear()
        try:
            async with asyncio.timeout(_LOOK_EVERY_S):  # parking a batch sets no event
                await self._capacity_freed.wait()
        except TimeoutError:
            return

    def add(self, answer: Answer) -> None:
        """Take an answer, to be committed soon."""
        self._uncommitted.append(answer)
        if len(self._uncommitted) >= self._enough:
            self._wakeup.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._wakeup.set)

    def request_commit(self) -> None:
        """Commit soon, even if no answer comes."""
        self._is_commit_requested = True
        self._wakeup.set()

    def finish(self) -> None:
        """Note that no answer comes any more."""
        self._is_exhausted = True
        self._wakeup.set()

    async def run(self) -> None:
        """Commit what comes, all at once; return when nothing more can come."""
        while not (self._is_exhausted and not self._uncommitted):
            await self._wakeup.wait()
            self._wakeup.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._uncommitted or self._is_commit_requested:
                await self.commit()

    @property
    def has_uncommitted(self) -> bool:
        """Whether answers are not committed yet."""
        return bool(self._uncommitted)

    def end_soon(self) -> None:
        """Wait at most `HOLD_S` from now on for another process that reads the journal: the run is to end."""
        self._is_ending = True

    async def end(self, outcome: str) -> None:
        """Commit what is left, and how the run ended."""
        self.end_soon()
        await self.commit(outcome)

    async def commit(self, outcome: str | None = None) -> None:
        """Commit what came until now, and how the run ended if it did. What the disk does not take is tried again."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._try_to_commit(outcome)
            except JournalBusyError as error:
                if self._is_ending:
                    self._give_up_at = self._give_up_at or clock() + HOLD_S
                    if clock() > self._give_up_at:
                        raise
                logger.warning("waiting until the journal can be written to: %s", error)
            except JournalMovedError:
                raise  # waiting brings no file back
            except JobDiskError as error:
                self._on_full(error)
                self._give_up_at = self._give_up_at or clock() + HOLD_S
                if not await self.call(self._reserve.release):
                    if clock() > self._give_up_at:
                        raise
                    await asyncio.sleep(_RETRY_EVERY_S)
            else:
                self._give_up_at = None
                return

    async def _try_to_commit(self, outcome: str | None) -> None:
        answers = list(self._uncommitted)
        self._is_commit_requested = False
        spent, mark = self._quota.checkpoint()
        traffic, known = self._traffic.documents(self._run)
        owners = self._owners.changed()
        documents = {self._run_name: self._describe(outcome), "spent": spent, **traffic, **owners}
        full = await self.call(self._write, answers, documents)
        self._owners.acknowledge(owners)
        del self._uncommitted[: len(answers)]
        self.committed_at = asyncio.get_running_loop().time()
        self._on_commit()
        self._quota.acknowledge(mark)
        self._traffic.acknowledge(known)
        for answer in answers:
            self._open[answer.batch_number] -= len(answer.tweet_ids)
            if not self._open[answer.batch_number]:
                del self._open[answer.batch_number]
        self._capacity_freed.set()
        if full is not None:
            self._on_full(full)

    def _write(self, answers: list[Answer], documents: dict[str, Any]) -> JobDiskError | None:
        """Commit; return the error if there is no more room for as much again. It is no error of what was committed."""
        self._work.write(self.journal, answers, documents)
        try:
            if self._reserve.size:  # rows that were written say best how much the next ones take
                self._reserve.hold(2 * self._most_open * self.journal.largest_row)
        except JobDiskError as error:
            return error
        return None


class BatchesOfWork:
    """An async iterator over batches, with a sample of Tweets: answered ones first, then others from far apart."""

    def __init__(
        self,
        batches: AsyncIterator[SpanBatch],
        answered: Iterable[AnsweredTweets],
        others: Iterable[OwnedTweet],
        *,
        were_answered: bool,
        refused_owners: frozenset[str],
    ) -> None:
        self._batches = batches
        self.were_answered = were_answered
        self.refused_owners = refused_owners
        self.answered = list(answered)
        # Those of one answer need not be far from others that are still to be asked.
        self._sample = list(dict.fromkeys([*(tweets.pick(0) for tweets in self.answered), *others]))

    def __aiter__(self) -> BatchesOfWork:
        return self

    async def __anext__(self) -> SpanBatch:
        return await anext(self._batches)

    def sample(self) -> Iterable[OwnedTweet]:
        """Return some Tweets from places far apart, without reading on."""
        return self._sample
