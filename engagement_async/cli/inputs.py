"""The IDs of a command, and what it says of them: what was taken from each input, rejects, and IDs that look wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from engagement_async._ids.reading import InputReport, Reject, ids_of_argument, read_id_chunks
from engagement_async.cli.report import Reporter
from engagement_async.errors import UsageError

__all__ = ["LISTED_REJECTS", "InputReporter", "id_chunks"]

LISTED_REJECTS = 5
"""Rejected lines that are reported one by one; of the others, only the count."""
_LISTED_INPUTS = 5
"""Inputs that are reported one by one, of a folder of parts."""


class InputReporter:
    """Hears what a reader of IDs says, and tells the user."""

    def __init__(self, reporter: Reporter, *, accepts_suspicious: bool) -> None:
        self._reporter = reporter
        self._accepts_suspicious = accepts_suspicious
        self._inputs = 0
        self._ids_unlisted = 0
        self.rejected = 0

    def on_reject(self, reject: Reject) -> None:
        """Report the first rejects, and count all."""
        self.rejected += 1
        self._reporter.rejected(reject, show=self.rejected <= LISTED_REJECTS)

    def on_warning(self, message: str) -> None:
        """Raise `UsageError` for IDs that look like something else, unless the user has confirmed them."""
        if not self._accepts_suspicious:
            raise UsageError(f"{message}. If they are right: --accept-suspicious-ids")
        self._reporter.warn(message)

    def on_input(self, report: InputReport) -> None:
        """Report what was taken from one input."""
        self._reporter.event("input", **report.fields())
        self._inputs += 1
        if self._inputs <= _LISTED_INPUTS:
            self._reporter.note(str(report))
        else:
            self._ids_unlisted += report.ids

    def finish(self) -> None:
        """Report the inputs that were not listed."""
        if self._inputs > _LISTED_INPUTS:
            more = self._inputs - _LISTED_INPUTS
            self._reporter.note(f"and {self._ids_unlisted:,} IDs from {more:,} more file{'' if more == 1 else 's'}")

    def finish_rejects(self) -> None:
        """Report how many rejects were not listed."""
        if self.rejected > LISTED_REJECTS:
            self._reporter.note(f"and {self.rejected - LISTED_REJECTS:,} more lines are not Tweet IDs")


def id_chunks(
    given: Sequence[str],
    files: Sequence[str],
    heard: InputReporter,
    *,
    id_column: str | None,
    ids_format: str | None,
    strict: bool = False,
) -> Iterator[list[str]]:
    """Yield the IDs of the arguments and the files, in input order.

    Raise `UsageError` for a bad argument, for a file that cannot be read, and with `strict` for a bad line.
    """
    if not given and not files:
        raise UsageError("which Tweets? Give IDs as arguments, --ids FILE, or --ids - for stdin")
    arguments = [tweet_id for text in given for tweet_id in _argument(text)]
    if arguments:
        yield arguments
    yield from read_id_chunks(
        files,
        id_column=id_column,
        format=ids_format,
        on_reject=None if strict else heard.on_reject,
        on_warning=heard.on_warning,
        on_input=heard.on_input,
    )
    heard.finish()
    heard.finish_rejects()


def _argument(text: str) -> list[str]:
    try:
        return ids_of_argument(text)
    except UsageError:
        if os.path.exists(text):  # `--ids *.csv` gives the first alone to the option
            raise UsageError(f"{text!r} is a file: write --ids before each file, or name their directory") from None
        raise
