"""What is drawn of a command on a terminal while it is at work: how far it is, what it waits for, what went wrong last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from engagement_async._core.words import count, duration, printable
from engagement_async._display.terminal import bar
from engagement_async._display.texts import done_text
from engagement_async._progress import Progress, RunOutcome, WaitReason
from engagement_async.cli.progress import rate_text

__all__ = ["View", "render"]

_SHOWN_OWNERS = 5
_STYLES = {"failed": "red", "unavailable": "yellow", "forbidden": "yellow", "unsupported": "yellow", "pending": "dim"}


@dataclass(frozen=True, slots=True)
class View:
    """A run at one moment, and what is known beside it."""

    progress: Progress
    warning: str | None = None
    """The last one."""
    warned_s: float = 0.0
    """How many seconds ago that was."""
    owners: Sequence[str] = ()
    """How many owners are done, then those with trouble, the worst first."""
    is_stopping: bool = False
    """Whether nothing more is requested."""


def render(view: View, width: int) -> RenderableType:
    """Return what is drawn, at most so wide: a bar, and a line for each thing that is known."""
    now = view.progress
    left = "stopping" if view.is_stopping else "" if now.eta_s is None else f"{duration(now.eta_s)} left at this rate"
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    for name, text in _lines(view):
        lines.add_row(name, text)
    return Constrain(Group(bar(now.ids_done, now.ids_total, "", done_text(now), left), lines), width)


def _lines(view: View) -> Iterator[tuple[str, RenderableType]]:
    now = view.progress
    yield "IDs", _outcomes(now)
    yield "requests", f"{now.requests:,} in {duration(now.elapsed_s)}, {rate_text(now)}"
    yield "waits for", Text(_waiting(now), style="magenta")
    if now.trouble:
        yield "trouble", _of_others(now.trouble, "red")
    if view.warning is not None:
        yield "warned", _of_others(f"{duration(view.warned_s)} ago: {view.warning}", "yellow")
    for place, line in enumerate(view.owners[: _SHOWN_OWNERS + 1]):
        yield "" if place else "owners", _of_others(line, "red" if place else "")
    if len(view.owners) > _SHOWN_OWNERS + 1:
        yield "", "..."


def _outcomes(now: Progress) -> Text:
    numbers = {**now.outcomes._asdict(), "pending": now.pending}
    text = Text()
    for name, number in numbers.items():
        if number or name == "answered":
            text.append(f"{' · ' if text else ''}")
            text.append(f"{number:,} {name}", style=_STYLES.get(name, ""))
    if now.rejected:
        text.append(f" · {count(now.rejected, 'line')} without an ID", style="yellow")
    return text


def _waiting(now: Progress) -> str:
    if now.outcome not in (None, RunOutcome.DONE):
        return "the next run"  # --until-done
    if now.waiting_for is None:
        return "answers"
    if now.waiting_s < 1 and now.waiting_for is not WaitReason.OUTAGE:
        return now.waiting_for.text  # a token comes several times a second
    seconds = f", {duration(now.waiting_s)}" if now.waiting_s >= 1 else ""
    return f"{now.waiting_for.text}{seconds}"


def _of_others(text: str, style: str) -> Text:
    """Return a text that may be the API's or a file's: one line, that ends where the terminal does."""
    return Text(printable(text).replace("\n", " "), style=style, no_wrap=True, overflow="ellipsis")
