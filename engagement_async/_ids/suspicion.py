"""Whether IDs look like something else: row numbers, counts, numbers that a spreadsheet has rounded. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Suspicion"]

_AT_ONCE = 100
"""First IDs that all end in 00 before it is told at once: by chance that is one in 10^200."""
_AT_END = 3
"""Minimum IDs of an input of which all are suspicious."""
_SMALL_DIGITS = 8


class Suspicion:
    """Follows the IDs of one input; costs nothing once an ordinary one was seen."""

    def __init__(self) -> None:
        self._ids = 0
        self._rounded = True
        self._small = True
        self._counting = True

    def add(self, tweet_ids: Sequence[str]) -> str | None:
        """Take in the next IDs; return what is wrong with all so far, if that is certain before the end."""
        if self._rounded:
            self._rounded = all(tweet_id.endswith("00") for tweet_id in tweet_ids)
        if self._small:
            self._small = all(len(tweet_id) <= _SMALL_DIGITS for tweet_id in tweet_ids)
        if self._small and self._counting:
            self._counting = list(map(int, tweet_ids)) == list(range(self._ids + 1, self._ids + len(tweet_ids) + 1))
        self._ids += len(tweet_ids)
        return self._finding() if self._rounded and self._ids >= _AT_ONCE else None

    @classmethod
    def none(cls) -> Suspicion:
        """Return one that finds nothing more."""
        found = cls()
        found._rounded = found._small = False
        return found

    def end(self, rounded_fractions: int = 0, fractions: int = 0) -> str | None:
        """Return what is wrong with all IDs of the input, if anything.

        `rounded_fractions` of them ended in `.0` and may have been floats, `fractions` did and were none.
        """
        if rounded_fractions >= _AT_END and not fractions:
            return (
                "every ID that ends in .0 is a number that a float holds: most likely they were floats, and their last "
                "digits are lost. Take them from their source again, as text"
            )
        return self._finding() if self._ids >= _AT_END else None

    def _finding(self) -> str | None:
        if self._small and self._counting:
            return (
                f"the IDs count from 1 to {self._ids:,}: most likely they are row numbers. Name the column of the Tweet IDs "
                "with --id-column"
            )
        if self._rounded:
            return (
                "every ID ends in 00: most likely a spreadsheet has rounded them to 15 digits, and they name other Tweets "
                "or none. Take them from their source again, as text"
            )
        if self._small:
            return (
                "every ID is below 10^8, as of Tweets before June 2007: most likely they are row numbers or counts. Name "
                "the column of the Tweet IDs with --id-column"
            )
        return None
