"""What is known of every batch of a job: whether it is answered, failed or pending, and which of its spans have an answer.

One byte for each batch, in memory; the journal's rows are what it is made of. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from engagement_async.backfill.totals import PENDING, UNANSWERED

__all__ = ["BatchStates"]

_ANSWERED = re.compile(rb"[\x01\x03\x05\x07]")
_UNSETTLED, _FAILED = re.compile(rb"[\x00\x05\x07]"), re.compile(rb"[\x03\x07]")
"""States of batches: see `state_of`."""
_LOOKED_AT = 2000


class BatchStates:
    """The states as of the last commit, and what the open transaction made of them: `commit` or `roll_back` ends it."""

    def __init__(self, states: bytearray | None = None, parts: dict[int, dict[int, int]] | None = None) -> None:
        self._states = bytearray() if states is None else states
        self._parts = {} if parts is None else parts
        self._batches = len(self._states)
        self._changed_states: dict[int, int] = {}
        self._changed_parts: dict[int, Mapping[int, int]] = {}

    # --- what the transaction changes ---

    def add(self, count: int) -> None:
        """Take in new batches, which nobody answered."""
        self._states.extend(bytes(count))

    def answered(self, number: int, state: int) -> None:
        """Give a batch the state of its answer."""
        self._changed_states[number] = state

    def set_parts(self, number: int, spans: Mapping[int, int]) -> None:
        """Say which spans of a batch have an answer, each with how many of its IDs are pending."""
        self._changed_parts[number] = spans

    def commit(self) -> None:
        """Make what the transaction changed the state."""
        for number, state in self._changed_states.items():
            self._states[number] = state
        for number, spans in self._changed_parts.items():
            if spans:
                self._parts[number] = dict(spans)
            else:
                self._parts.pop(number, None)
        self._batches = len(self._states)
        self.roll_back()

    def roll_back(self) -> None:
        """Forget what the transaction changed."""
        del self._states[self._batches :]
        self._changed_states.clear()
        self._changed_parts.clear()

    # --- what is so ---

    def __bytes__(self) -> bytes:
        return bytes(self._states)

    def has_answer(self, number: int) -> bool:
        """Whether that batch had an answer before the open transaction."""
        return bool(self._states[number] != UNANSWERED)

    def is_pending(self, number: int) -> bool:
        """Whether some IDs of an answered batch are still to be asked."""
        return bool(self._states[number] & PENDING)

    def parts_of(self, number: int) -> Mapping[int, int]:
        """Return the spans of a batch that have an answer, each with how many of its IDs are pending."""
        if number in self._changed_parts:
            return self._changed_parts[number]
        return self._parts.get(number, {})

    @property
    def parts(self) -> Mapping[int, Mapping[int, int]]:
        """The same of all batches that have such."""
        return self._parts

    def unsettled(self, after: int, count: int) -> list[int]:
        """Return the next batches after that one in which IDs are still to be asked."""
        return self._next(_UNSETTLED, after, count)

    def failed(self, after: int, count: int) -> list[int]:
        """Return the next batches after that one in which IDs failed."""
        return self._next(_FAILED, after, count)

    def sample(self, count: int) -> tuple[list[int], list[int]]:
        """Return some batches that are answered, and some from far apart that are not."""
        answered = self._next(_ANSWERED, -1, _LOOKED_AT)
        unsettled = self._next(_UNSETTLED, -1, _LOOKED_AT)
        places = {unsettled[0], unsettled[len(unsettled) // 2], unsettled[-1]} if unsettled else set()
        return answered[:: max(1, len(answered) // count)][:count], sorted(places)

    def _next(self, states: re.Pattern[bytes], after: int, count: int) -> list[int]:
        return [match.start() for match in islice(states.finditer(self._states, after + 1), count)]
