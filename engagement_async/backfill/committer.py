"""The journal's side of a run: a thread of its own that commits as many answers at once as came while it wrote the last.

A batch is taken only while fewer than `concurrency` are open, which is asked but not committed: so a run that is killed
leaves no more than those to be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeVar

from engagement_async._core.batches import SpanBatch
from engagement_async._core.parsing import Answer
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.quota import DurableScheduler
from engagement_async.backfill.work import Work

__all__ = ["Committer"]

_T = TypeVar("_T")


class Committer:
    """Takes answers, and commits them with what the quota and the run have to say of themselves.

    `describe` returns the document of the run, given its outcome or None while it is at work; `on_commit` is called after
    each commit.
    """

    def __init__(
        self,
        directory: JobDirectory,
        quota: DurableScheduler,
        *,
        concurrency: int,
        describe: Callable[[str | None], dict[str, Any]],
        on_commit: Callable[[], object],
    ) -> None:
        self._directory = directory
        self._quota = quota
        self._concurrency = concurrency
        self._describe = describe
        self._on_commit = on_commit
        self.journal: Journal
        self.committed_at = 0.0
        """By the loop's clock."""
        self._thread: ThreadPoolExecutor
        self._work: Work
        self._run_name = ""
        self._uncommitted: list[Answer] = []
        self._open_batches = 0
        self._capacity_freed = asyncio.Event()
        self._wakeup = asyncio.Event()
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
        """Tell the journal of this run before its first request."""
        self._work = work
        self._run_name = f"run {len(self.journal.documents('run ')):06}"
        spent, _ = self._quota.checkpoint()
        await self.call(self.journal.write, [], {self._run_name: self._describe(None), "spent": spent})

    # --- batches out, answers in ---

    async def batches(self) -> AsyncIterator[SpanBatch]:
        """Yield the batches of the work, each as soon as there is room for one more."""
        while page := await self.call(self._work.next_page, self.journal):
            for batch in page:
                while self._open_batches >= self._concurrency:
                    self._capacity_freed.clear()
                    await self._capacity_freed.wait()
                self._open_batches += 1
                yield batch

    def add(self, answer: Answer) -> None:
        """Take an answer, to be committed soon."""
        self._uncommitted.append(answer)
        self._wakeup.set()

    def request_commit(self) -> None:
        """Have the journal told soon, also if no answer comes."""
        self._is_commit_requested = True
        self._wakeup.set()

    def finish(self) -> None:
        """No answer comes any more."""
        self._is_exhausted = True
        self._wakeup.set()

    async def run(self) -> None:
        """Commit what comes, all at once; return when nothing more can come."""
        while not (self._is_exhausted and not self._uncommitted):
            await self._wakeup.wait()
            self._wakeup.clear()
            if self._uncommitted or self._is_commit_requested:
                await self.commit()

    @property
    def uncommitted_ids(self) -> int:
        """IDs of answers that are not committed yet."""
        return sum(len(answer.tweet_ids) for answer in self._uncommitted)

    async def commit(self, outcome: str | None = None) -> None:
        """Commit what came until now, and how the run ended if it did."""
        answers, self._uncommitted = self._uncommitted, []
        self._is_commit_requested = False
        spent, mark = self._quota.checkpoint()
        documents = {self._run_name: self._describe(outcome), "spent": spent}
        await self.call(self._work.write, self.journal, answers, documents)
        self.committed_at = asyncio.get_running_loop().time()
        self._on_commit()
        self._quota.acknowledge(mark)
        self._open_batches -= len(answers)
        self._capacity_freed.set()
