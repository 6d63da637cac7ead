"""What became of the lines of one input: IDs taken, rejects, notices, comments. Nothing is skipped without a count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engagement_async._core.words import shortened
from engagement_async._ids.credential_names import (
    has_credential,
    is_header_of_credentials,
    may_show,
    names_credential,
)
from engagement_async._ids.values import find_id, plain_values, why_not_an_id
from engagement_async.errors import UsageError

__all__ = ["InputReport", "Intake", "OnReject", "Reject"]

_SHOWN = 80
_HIDDEN = "(not shown)"
_EXACT_FLOAT = 2**53
"""Floats hold every integer up to this one."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One line of the input that is not an ID."""

    source: str
    """The file's path, or `standard input`."""
    line: int
    """Its number, from 1; in Parquet and Arrow, that of the row."""
    text: str
    """Its text, cut to 80 characters."""
    reason: str
    """Why it is not an ID, and how to fix it."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.text!r} {self.reason}"


OnReject = Callable[[Reject], object]


@dataclass(slots=True)
class InputReport:
    """What was taken from one input, and what was not."""

    source: str
    """The file's path, or `standard input`."""
    format: str = ""
    """What it was read as: `text`, `csv`, `tsv`, `json`, `parquet`, `arrow`."""
    packing: tuple[str, ...] = ()
    """What had to be undone first, outermost first, as `gzip` or `UTF-16`."""
    column: str | None = None
    """The column or key of the IDs: its name, or its number, from 1, where there is no header."""
    ids: int = 0
    """IDs, duplicates included."""
    rejected: int = 0
    """Lines or values that are not IDs."""
    notices: int = 0
    """Messages between Tweets that are none: deletions, limits, ends of pages, headers that are repeated."""
    comments: int = 0
    """Lines of text with a comment."""
    irregular: int = 0
    """Rows with more or fewer cells than the first: their IDs were taken, and what else is in them was not looked at."""
    owner_column: str | None = None
    """The column or key of the IDs' owners, where they have such."""

    def __str__(self) -> str:
        column = ""
        if self.column is not None:
            column = f", column {self.column}" if self.column.isdigit() else f", column {self.column!r}"
        if self.owner_column is not None:
            column += f", owners from {self.owner_column!r}"
        packing = f" ({', '.join(self.packing)})" if self.packing else ""
        parts = [f"{self.source}: {_count(self.ids, 'ID')} from {self.format}{packing}{column}"]
        parts += [f"{_count(self.rejected, 'reject')}"] if self.rejected else []
        parts += [f"{_count(self.notices, 'notice')} skipped"] if self.notices else []
        parts += [f"{_count(self.comments, 'comment')} skipped"] if self.comments else []
        parts += [f"{_count(self.irregular, 'row')} with another number of cells"] if self.irregular else []
        return "; ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Return what an event for machines says."""
        owners = {} if self.owner_column is None else {"owner_column": self.owner_column}
        return {
            "source": self.source,
            "format": self.format,
            "packing": list(self.packing),
            "column": self.column,
            **owners,
            "ids": self.ids,
            "rejected": self.rejected,
            "notices": self.notices,
            "comments": self.comments,
            "irregular": self.irregular,
        }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass(slots=True)
class Intake:
    """Takes the values of one input: IDs come out, everything else is counted. `on_reject` None makes a reject an error."""

    report: InputReport
    on_reject: OnReject | None = None
    fractions: int = 0
    """IDs with a fraction of zeros that a float cannot hold without it: `2124551806699486865.0` was written in full."""
    rounded_fractions: int = 0
    """IDs with one that a float may have been rounded to."""
    owners: list[str] = field(default_factory=list)
    """Whose the IDs are that were taken and not yet handed on, where IDs have owners."""
    _is_table: bool = False
    _hides_text: bool = False

    @property
    def source(self) -> str:
        """The input's name."""
        return self.report.source

    def reject(self, line: int, text: str, reason: str) -> None:
        """Count a line that is no ID, and tell the caller. Raise `UsageError` if it holds a credential: none is shown."""
        self.check_no_credentials(text)
        is_first = not (self._is_table or self.report.rejected or self.report.ids)
        if is_first and is_header_of_credentials(text):  # of a table that is read as text: its rows come next
            raise self._refused_for_credentials()
        self.report.rejected += 1
        shown = shortened(text, _SHOWN) if may_show(text) and not self._hides_text else _HIDDEN
        reject = Reject(self.source, line, shown, reason)
        if self.on_reject is None:
            raise UsageError(str(reject))
        self.on_reject(reject)

    def note_header(self, names: Iterable[str]) -> None:
        """Note the columns of a table. Of one that has a column of credentials no row is shown."""
        self._is_table = True
        self._hides_text |= any(map(names_credential, names))

    def use_column(self, name: str | None) -> None:
        """Note the column or key of the IDs. Raise `UsageError` if it is one of credentials: values are shown."""
        self._check_column(name, "--id-column")
        self.report.column = name

    def use_owner_column(self, name: str) -> None:
        """Note that of their owners, likewise."""
        self._check_column(name, "--owner-column")
        self.report.owner_column = name

    def _check_column(self, name: str | None, option: str) -> None:
        if name is not None and names_credential(name):
            raise self.refused(f"column {name!r} holds credentials: choose another with {option}")

    def check_no_credentials(self, text: str) -> None:
        """Raise `UsageError` for a line that holds a credential: its file was not meant to be read for IDs."""
        if has_credential(text):
            raise self._refused_for_credentials() from None

    def check_may_show(self, text: str) -> None:
        """Raise `UsageError` for a line that an error would show, if it has a credential by any of its names."""
        if not may_show(text):
            raise self._refused_for_credentials() from None

    def checked(self, values: Sequence[str], lines: Sequence[int]) -> list[str]:
        """Return the IDs of values, one each; the others become rejects."""
        ids = plain_values(values)
        if ids is not None:
            return ids
        return [found for value, line in zip(values, lines, strict=True) for found in self.one(value, line)]

    def owned(self, values: Sequence[str], owners: Sequence[str], lines: Sequence[int]) -> list[str]:
        """Return the IDs of values, one each, and take their owners; IDs without one become rejects too."""
        named = [owner.strip() for owner in owners]
        ids = plain_values(values) if all(named) else None
        if ids is not None:
            self.owners += named
            return ids
        ids = []
        for value, owner, line in zip(values, named, lines, strict=True):
            if owner:
                found = list(self.one(value, line))
                self.owners += [owner] * len(found)
                ids += found
            elif value.strip():
                self.reject(line, value.strip(), f"has no owner in column {self.report.owner_column!r}")
            else:
                self.reject(line, value, why_not_an_id(value) or "")
        return ids

    def one(self, value: str, line: int) -> Iterator[str]:
        """Yield the ID of one value, or nothing after it was rejected."""
        found = find_id(value)
        if found is None:
            self.reject(line, value.strip(), why_not_an_id(value) or "")
            return
        if "." in value and value.strip("\"' \t\r\n").endswith("0") and int(found) > _EXACT_FLOAT and "/" not in value:
            if int(float(found)) == int(found):
                self.rounded_fractions += 1
            else:
                self.fractions += 1
        yield found

    def _refused_for_credentials(self) -> UsageError:
        return self.refused("holds credentials, not Tweet IDs: name another file")

    def refused(self, reason: str, line: int | None = None) -> UsageError:
        """Return the error that refuses the whole input."""
        return UsageError(f"{self.source}{'' if line is None else f':{line}'}: {reason}")
