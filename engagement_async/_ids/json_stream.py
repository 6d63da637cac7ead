"""JSON as a stream of values: lines of them, arrays of any length, X's archive, values one below the other. Lazy.

A file of one value a line is read by lines, so that a bad one costs itself alone. Of anything else no more than one value
is in memory, an array's elements being values of their own; there a mistake refuses the whole file, since nobody knows
where the next value begins.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any

import orjson

from engagement_async._ids.archives import peek
from engagement_async._ids.columns import rank
from engagement_async._ids.json_values import Fraction, JsonIds, stands_alone
from engagement_async._ids.lines import line_blocks
from engagement_async._ids.report import Intake
from engagement_async._ids.values import STRONG_DIGITS

__all__ = ["json_ids"]

_VALUE_BYTES = 16 * 1024 * 1024
"""The largest value, and the longest line: a page of 500 Tweets with all of their users is a few MB."""
_HEAD_BYTES = 64 * 1024
_CHUNK = 16 * 1024
_SPACE = re.compile(r"[\s,;]*")
_ASSIGNMENT = re.compile(r"(?:(?:var|let|const)\s+)?[A-Za-z_$][\w.$]*(?:\[[^\]]*\])?\s*=\s*(?=[\[{])")
_SHORT = 81
_decoder = json.JSONDecoder(parse_float=Fraction, parse_constant=Fraction)


def json_ids(
    pieces: Iterator[bytes], intake: Intake, *, id_column: str | None, owner_column: str | None = None
) -> Iterator[list[str]]:
    """Yield the IDs of JSON values in chunks; their owners go to `intake.owners` if `owner_column` names their key."""
    head, pieces = peek(pieces, _HEAD_BYTES, lines=2)
    if owner_column is not None:
        intake.use_owner_column(owner_column)
        owned = _OwnedIds(intake, id_column, owner_column)
        chunks = _of_lines(pieces, owned, intake) if _is_lines(head) else _of_values(pieces, owned, intake)
        for values, numbers in chunks:
            yield from filter(None, (intake.owned(values, owned.take(), numbers),))
        return
    finder = JsonIds(intake, id_column)
    chunks = _of_lines(pieces, finder, intake) if _is_lines(head) else _of_values(pieces, finder, intake)
    for values, numbers in chunks:
        ids = intake.checked(values, numbers)
        if ids:
            yield ids


class _OwnedIds:
    """Finds IDs as `JsonIds`, and remembers whose each is."""

    key = None
    """None is known beforehand: each value is searched for its owner too."""

    def __init__(self, intake: Intake, id_column: str | None, owner_column: str) -> None:
        self._finder = JsonIds(intake, id_column, owner_column)
        self._owners: list[str] = []

    def of(self, value: object, line: int) -> Iterator[str]:
        """As `JsonIds.of`."""
        for found in self._finder.of(value, line):
            self._owners.append(self._finder.owner)
            yield found

    def take(self) -> list[str]:
        """Return the owners of what was found since the last call."""
        owners, self._owners = self._owners, []
        return owners


def _is_lines(head: bytes) -> bool:
    """Return whether every value has a line to itself, so far as the beginning tells."""
    lines = [line for line in head.split(b"\n") if line.strip()]
    first = lines[0].decode("utf-8", "replace").lstrip() if lines else ""
    if first[:1] != "{":
        return first[:1] != "[" and _ASSIGNMENT.match(first) is None
    if len(lines) == 1:
        return not head.endswith(b"\n") or _is_json(lines[0])
    return _is_json(lines[0]) or lines[1][:1] == b"{"


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _of_lines(
    pieces: Iterator[bytes], finder: JsonIds | _OwnedIds, intake: Intake
) -> Iterator[tuple[list[str], list[int]]]:
    key = finder.key
    for first, block in line_blocks(pieces, intake.reject, line_bytes=_VALUE_BYTES):
        values: list[str] = []
        numbers: list[int] = []
        for number, line in enumerate(block.split(b"\n")[:-1], first):
            try:
                value = orjson.loads(line)
            except ValueError:
                if line.strip():
                    intake.reject(number, line[:_SHORT].decode("utf-8", "replace"), "is not JSON")
                continue
            held = value.get(key) if type(value) is dict else None
            if type(held) is str and len(held) >= STRONG_DIGITS and stands_alone(value, key):
                values.append(held)
                numbers.append(number)
                continue
            for found in finder.of(_exact(value, line), number):
                values.append(found)
                numbers.append(number)
            key = finder.key
        yield values, numbers


def _exact(value: object, line: bytes) -> object:
    """Return the value with its fractions as they were written, if an ID may be among them."""
    held = value.items() if type(value) is dict else (("id", value),)
    if not any(type(inner) is float and (len(held) == 1 or rank(key) is not None) for key, inner in held):
        return value
    exact: object = _decoder.decode(line.decode("utf-8", "replace"))
    return exact


# --- values of any number of lines --------------------------------------------------------------------------------


def _of_values(
    pieces: Iterator[bytes], finder: JsonIds | _OwnedIds, intake: Intake
) -> Iterator[tuple[list[str], list[int]]]:
    values: list[str] = []
    numbers: list[int] = []
    for number, value in _Values(pieces, intake):
        for found in finder.of(value, number):
            values.append(found)
            numbers.append(number)
        if len(values) >= _CHUNK:
            yield values, numbers
            values, numbers = [], []
    yield values, numbers


class _Values:
    """Iterates over the values of a text, each with the line in which it begins; an array's elements are values."""

    def __init__(self, pieces: Iterator[bytes], intake: Intake) -> None:
        self._pieces = pieces
        self._intake = intake
        self._text = ""
        self._at = 0
        self._line = 1
        self._counted = 0
        self._utf8 = getincrementaldecoder("utf-8")("replace")
        self._is_whole = False

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        in_array = False
        while self._skip():
            char = self._text[self._at]
            if in_array and char == "]":
                in_array = False
                self._at += 1
            elif not in_array and char == "[":
                in_array = True
                self._at += 1
            elif not in_array and (found := _ASSIGNMENT.match(self._text, self._at)):
                self._at = found.end()
            else:
                yield self._value()
        if in_array:
            raise self._intake.refused("is cut short: the array has no end. Fetch it again", self._line)

    def _skip(self) -> bool:
        """Go to the next character that is no space; return whether there is one."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return True
            if not self._fill():
                return False

    def _fill(self) -> bool:
        """Read on; return whether there was more."""
        if self._is_whole:
            return False
        piece = next(self._pieces, None)
        self._is_whole = piece is None
        more = self._utf8.decode(piece or b"", final=self._is_whole)
        self._count_lines()
        self._text = self._text[self._at :] + more
        self._at = self._counted = 0
        return True

    def _count_lines(self) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at

    def _value(self) -> tuple[int, Any]:
        self._count_lines()
        wanted = 0
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._is_whole and len(self._text) - self._at <= _VALUE_BYTES:
                    wanted = max(2 * (len(self._text) - self._at), _HEAD_BYTES)
                    while len(self._text) - self._at < wanted and self._fill():
                        pass
                    continue
                raise self._refused(error) from None
            except RecursionError:
                raise self._intake.refused("is nested too deep", self._line) from None
            if end < len(self._text) or self._is_whole or isinstance(value, (dict, list)):
                self._at = end
                return self._line, value
            self._fill()  # a number may go on

    def _refused(self, error: json.JSONDecodeError) -> Exception:
        line = self._line + self._text.count("\n", self._at, error.pos)
        if not self._is_whole:
            return self._intake.refused(
                f"a value of over {_VALUE_BYTES:,} bytes, or no JSON: make lines of it, as `jq -c '.data[]'` does",
                self._line,
            )
        if error.pos >= len(self._text.rstrip()):
            return self._intake.refused("is cut short: fetch it again", line)
        return self._intake.refused(f"is not JSON: {error.msg}. As a list of IDs give one a line", line)
