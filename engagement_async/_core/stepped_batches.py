"""Batches of IDs that are all checked before the first request, in steps: an event loop can run between these. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Generic, Self, TypeVar

__all__ = ["STEP_IDS", "SteppedBatches"]

_Batch = TypeVar("_Batch")

STEP_IDS = 1_000
"""IDs that are checked in one step: a quarter of a millisecond, seldom more than one."""


class SteppedBatches(Generic[_Batch]):
    """An iterator over batches that are ready once all steps were taken: the first `next` takes those that are left.

    `steps` is a generator that works until its next `yield`, and returns the batches.
    """

    def __init__(self, steps: Generator[None, None, Iterator[_Batch]]) -> None:
        self._steps = steps
        self._batches: Iterator[_Batch] | None = None
        self._error: Exception | None = None

    @classmethod
    def of(cls, steps: Generator[None, None, Iterator[_Batch]], ids: int) -> Self:
        """Return the batches of so many IDs; few are checked at once."""
        stepped = cls(steps)
        if ids <= STEP_IDS:
            for _ in stepped.prepare():
                pass
        return stepped

    @property
    def is_prepared(self) -> bool:
        """Whether all steps were taken."""
        return self._batches is not None

    def prepare(self) -> Iterator[None]:
        """Take the steps that are left, and yield after each. Raise what is wrong with the IDs, each time."""
        while self._batches is None:
            if self._error is not None:
                raise self._error
            try:
                next(self._steps)
            except StopIteration as end:
                self._batches = end.value
                return
            except Exception as error:
                self._error = error
                raise
            yield

    def then(self, change: Callable[[Iterator[_Batch]], Iterator[_Batch]]) -> SteppedBatches[_Batch]:
        """Return the same batches, as `change` makes others of them, in the same steps."""

        def steps() -> Generator[None, None, Iterator[_Batch]]:
            yield from self.prepare()
            return change(self)

        return SteppedBatches(steps())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Batch:
        for _ in self.prepare():
            pass
        assert self._batches is not None  # noqa: S101 - it is prepared
        return next(self._batches)
