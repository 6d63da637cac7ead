"""A picture of a report, before it is drawn: what it shows, in a chart, in words and as a table. Values alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from engagement_async._core.charts import ACCENT, FAINT, MISS, TEXT

__all__ = ["DARK", "OUTCOME_COLOURS", "RAMP", "Link", "Picture", "Table", "Value", "counted", "seconds_text"]

RAMP: Final = ("#e8f0fb", "#cadefa", "#a3c6f5", "#74a9ee", "#478be6", "#2468c8", "#153e7e")
"""From little to much."""
OUTCOME_COLOURS: Final = {
    "answered": ACCENT,
    "unavailable": "#b58105",
    "unsupported": "#8a93a0",
    "forbidden": "#7c4dd6",
    "failed": MISS,
    "pending": "#c9d1da",
}
"""By outcome, in the order of reading."""
DARK: Final = {
    ACCENT: "#58a6ff",
    MISS: "#ff9e64",
    TEXT: "#dbe2ea",
    FAINT: "#343c47",
    "#b58105": "#e3b341",
    "#8a93a0": "#8b949e",
    "#7c4dd6": "#bc8cff",
    "#c9d1da": "#4a5361",
    **dict(
        zip(RAMP, ("#14243b", "#173459", "#1b487c", "#225fa3", "#317ccb", "#5ea2e8", "#a2ccf9"), strict=True),
    ),
}
"""What each colour of a chart becomes on a dark page."""


class Link(NamedTuple):
    """A text that leads somewhere."""

    text: str
    address: str


Value = str | int | float | Link | None
"""Of a table's cell; None is nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    left_out: int = 0
    """Rows that are not in it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture."""

    name: str
    """What `--picture` calls it."""
    title: str
    says: str
    """What one sees, in one sentence with numbers: who cannot see it reads that."""
    about: str
    """How to read it: units, what is left out."""
    draw: Callable[[int], Any]
    """Returns the chart, as wide as so many pixels."""
    table: Table
    shows_table: bool = False
    """Whether the table is open from the start."""


def seconds_text(seconds: float) -> str:
    """Return a latency as people read it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def counted(counts: Mapping[str, int]) -> str:
    """Return `3 failed, 2 pending` of those that are not 0."""
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "none"
