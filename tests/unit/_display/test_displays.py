"""Where progress is shown: on a terminal, in a notebook, or as lines."""

from __future__ import annotations

import io
import sys

import pytest

from engagement_async import CallProgress, UsageError
from engagement_async._display.displays import LinesDisplay, open_display
from engagement_async._display.notebook import NotebookDisplay
from engagement_async._display.terminal import TerminalDisplay
from tests.support.terminal import stderr_on_terminal


class Kernel:
    """What IPython says of itself in a notebook."""

    kernel = object()


def at(elapsed_s: float, *, is_finished: bool = False) -> CallProgress:
    return CallProgress(int(elapsed_s), 100, 1, elapsed_s, None, 0.0, None, is_finished=is_finished)


def test_a_terminal_gets_a_bar() -> None:
    with stderr_on_terminal():
        assert isinstance(open_display("totals"), TerminalDisplay)


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with stderr_on_terminal():
        monkeypatch.setenv("TERM", "dumb")

        assert isinstance(open_display("totals"), LinesDisplay)


def test_a_notebook_gets_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.core.getipython.get_ipython", Kernel)

    with stderr_on_terminal():
        assert isinstance(open_display("totals"), NotebookDisplay)


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.core.getipython.get_ipython", object)

    with stderr_on_terminal():
        assert isinstance(open_display("totals"), TerminalDisplay)


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class Writes:
    """What a program may put in the place of stderr."""

    def write(self, text: str) -> None: ...
    def flush(self) -> None: ...


@pytest.mark.parametrize("stream", [io.StringIO(), closed(), Writes(), None])
def test_files_and_pipes_get_lines(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)

    display = open_display("totals")
    display.show(at(100, is_finished=True))

    assert isinstance(display, LinesDisplay)


def test_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    display = open_display("jobs/\x1b[2Jmay")
    for second in range(25):
        display.show(at(second))
    display.show(at(24.2, is_finished=True))
    display.close()

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        rf"jobs/\x1b[2Jmay: {ids} of 100 IDs · 1 request{took}"
        for ids, took in ((10, ""), (20, ""), (24, " · in 24 s"))
    ]


@pytest.mark.parametrize(("module", "library"), [("terminal", "rich"), ("notebook", "tqdm")])
def test_what_is_missing_is_named_with_its_install_line(
    module: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module == "notebook":
        monkeypatch.setattr("IPython.core.getipython.get_ipython", Kernel)
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"engagement_async._display.{module}")

    with (
        stderr_on_terminal(),
        pytest.raises(UsageError, match=rf"needs {library}: pip install 'engagement-async\[progress\]'"),
    ):
        open_display("totals")
