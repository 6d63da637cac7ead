"""Which column holds the Tweet IDs, by its name and by what is in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from engagement_async._ids.values import find_id, is_strong
from engagement_async.errors import UsageError

__all__ = ["best_column", "column_number", "is_known_name", "named_column", "rank", "strong_share"]

_CERTAIN = (
    *("tweetid", "tweetidstr", "statusid", "statusidstr", "postid", "postidstr", "idstr", "id", "restid"),
    *("tweetids", "statusids", "postids", "ids"),
)
"""Names of ID columns, best first: `id_str` before `id`, which is a number in older exports of Tweets."""
_LIKELY = (
    *("tweeturl", "posturl", "statusurl", "tweetlink", "postlink", "tweetpermalink", "postpermalink"),
    *("permalink", "url", "link", "expandedurl", "tweet", "tweets", "post", "posts", "status", "uri"),
)
"""Names that may as well mean a text or another address: they count where IDs are in them."""
_RANKS = {name: place for place, name in enumerate((*_CERTAIN, *_LIKELY))}
_IGNORED = re.compile(r"[\s_\-.:#\"'`\u00a0\u200b-\u200f\u2060\ufeff]+")
_LISTED = 20


@lru_cache(4096)
def rank(name: str) -> int | None:
    """Return how good a name is for a column of Tweet IDs, 0 the best; None if it is none."""
    return _RANKS.get(_folded(name))


def is_known_name(name: str) -> bool:
    """Return whether a column of this name holds Tweet IDs, whatever is in it."""
    place = rank(name)
    return place is not None and place < len(_CERTAIN)


def _folded(name: str) -> str:
    """Return a name without what differs between tools: case, spaces, `_`, `-`, `.`."""
    return _IGNORED.sub("", name).casefold()


def strong_share(cells: Sequence[str]) -> float:
    """Return which part of the cells that are not empty holds IDs too large for row numbers."""
    filled = [cell for cell in cells if cell.strip()]
    ids = [found for cell in filled if (found := find_id(cell))]
    return sum(map(is_strong, ids)) / len(filled) if filled else 0.0


def best_column(names: Sequence[str], samples: Mapping[int, Sequence[str]], source: str) -> int:
    """Return the index of the column of Tweet IDs.

    A better name wins over a worse one, and a column with IDs in it over one with row numbers or floats. `samples` are
    some cells of each column that `rank` knows. Raise `UsageError` if no column qualifies, or two do alike.
    """
    ranked = sorted((place, index) for index, name in enumerate(names) if (place := rank(name)) is not None)
    strong = [(place, index) for place, index in ranked if strong_share(samples.get(index, ())) > 0.5]
    certain = [(place, index) for place, index in ranked if place < len(_CERTAIN)]
    for found in (strong, certain):
        if found:
            place, index = found[0]
            _check_alone([i for p, i in found if p == place], names, samples, source)
            if found is certain:
                _check_weak(index, names, samples, source)
            return index
    if len(names) == 1:
        return 0
    raise UsageError(f"{source}: which column holds the IDs? Name it with --id-column: {_list(names)}")


def _check_weak(index: int, names: Sequence[str], samples: Mapping[int, Sequence[str]], source: str) -> None:
    """Raise `UsageError` if the IDs are in a column of another name, and this one counts its rows."""
    others = [other for other in samples if other != index and strong_share(samples[other]) > 0.5]
    if others and any(cell.strip() for cell in samples.get(index, ())):
        raise UsageError(
            f"{source}: column {names[index]!r} holds no IDs, but row numbers or the like, and {names[others[0]]!r} may: "
            f"choose one, as --id-column {others[0] + 1}"
        )


def _check_alone(alike: list[int], names: Sequence[str], samples: Mapping[int, Sequence[str]], source: str) -> None:
    if any(list(samples.get(index, ())) != list(samples.get(alike[0], ())) for index in alike[1:]):
        numbers = " or ".join(f"--id-column {index + 1}" for index in alike)
        raise UsageError(
            f"{source}: several columns are called {names[alike[0]]!r}: choose one by its number, {numbers}"
        )


def named_column(names: Sequence[str], id_column: str, source: str, *, option: str = "--id-column") -> int:
    """Return the index of the column that the caller named, by its name or by its number from 1.

    Case, spaces, `_` and `-` of the name do not matter, unless two columns differ by them alone. `option` is how the
    caller names it.
    """
    for found in (
        [index for index, name in enumerate(names) if name == id_column],
        [index for index, name in enumerate(names) if _folded(name) == _folded(id_column)],
    ):
        if len(found) > 1:
            numbers = " or ".join(f"{option} {index + 1}" for index in found)
            raise UsageError(f"{source}: several columns are called {id_column!r}: choose one by its number, {numbers}")
        if found:
            return found[0]
    number = column_number(id_column)
    if number is not None:
        if number > len(names):
            raise UsageError(f"{source}: has no column {number}, but {len(names)}: {_list(names)}")
        return number - 1
    raise UsageError(f"{source}: has no column {id_column!r}, but {_list(names)}")


def column_number(id_column: str) -> int | None:
    """Return the number of a column that is given by one, from 1, or None if it is given by name."""
    if id_column.isascii() and id_column.isdigit() and len(id_column) <= 5 and int(id_column) > 0:
        return int(id_column)
    return None


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(name[:40]) for name in names[:_LISTED]) + more
