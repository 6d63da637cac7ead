"""Commands run as coroutines: their result, their errors, and what a signal does. Real signals, to this process."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engagement_async.cli.exit_codes import INTERRUPTED, TERMINATED, Interrupted
from engagement_async.cli.signals import run_async, signals_held, signals_raise


@contextmanager
def mute_unraisable() -> Iterator[None]:
    """Ignore exceptions that Python could raise nowhere: these are wanted."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook


def test_a_result_comes_back() -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        return 7

    assert run_async(main) == 7


def test_an_error_goes_up() -> None:
    async def main() -> None:
        raise ValueError("of the command")

    with pytest.raises(ValueError, match="of the command"):
        run_async(main)


def test_a_cancellation_of_the_commands_own_is_no_signal() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_async(main)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_a_signal_cancels_and_waits_until_all_is_put_away(number: signal.Signals, code: int) -> None:
    put_away: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            put_away.append("all")

    with pytest.raises(Interrupted) as caught:
        run_async(main)

    assert caught.value.exit_code == code
    assert put_away == ["all"]


def test_the_handlers_of_before_are_there_after() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def main() -> None:
        assert signal.getsignal(signal.SIGTERM) != before[1]

    run_async(main)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class _EndsItself:
    """Python up to 3.11 makes a RuntimeError of what is raised here."""

    def __set_name__(self, owner: type, name: str) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_a_class_is_made_is_a_signal() -> None:
    def make_a_class() -> None:
        with signals_raise():
            type("Made", (), {"field": _EndsItself()})

    with pytest.raises(Interrupted) as caught:
        make_a_class()

    assert caught.value.exit_code == TERMINATED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_a_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    (tmp_path / "of_the_test.py").write_text(
        f"import signal, time\ndef initialize():\n    signal.raise_signal({number.value})\n    time.sleep(0.1)\n"
        "try:\n    initialize()\nexcept BaseException:\n    pass\nis_whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[bool] = []

    def import_it() -> None:
        with signals_raise():
            seen.append(importlib.import_module("of_the_test").is_whole)
            time.sleep(60)

    with pytest.raises(Interrupted) as caught:
        import_it()

    del sys.modules["of_the_test"]
    assert seen == [True]
    assert caught.value.exit_code == 128 + number


def test_of_two_signals_at_once_the_second_leaves_what_is_put_away_alone() -> None:
    put_away: list[str] = []

    def clean_up() -> None:
        with signals_raise(clock=lambda: 5.0):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGHUP)
                put_away.append("all")

    with pytest.raises(Interrupted) as caught:
        clean_up()

    assert caught.value.exit_code == TERMINATED
    assert put_away == ["all"]


def test_a_signal_that_python_swallowed_is_raised_by_the_next_one() -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    now = 5.0
    put_away: list[str] = []

    def go_on() -> None:
        nonlocal now
        with signals_raise(clock=lambda: now):
            try:
                Finalized()
                signal.raise_signal(signal.SIGTERM)  # at once: the same one
                now += 0.3
                put_away.append("nothing yet")
                signal.raise_signal(signal.SIGTERM)
                put_away.append("never")
            finally:
                put_away.append("all")

    with pytest.raises(Interrupted) as caught, mute_unraisable():
        go_on()

    assert caught.value.exit_code == TERMINATED
    assert put_away == ["nothing yet", "all"]


def test_two_signals_at_once_end_a_coroutine_as_one_does() -> None:
    put_away: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            put_away.append("all")

    with pytest.raises(Interrupted):
        run_async(main, clock=lambda: 5.0)

    assert put_away == ["all"]


def test_a_signal_before_the_event_loop_is_there_stops_what_it_runs() -> None:
    begun: list[str] = []

    async def main(deliver: Callable[[], None]) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        deliver()
        await stopped.wait()
        begun.append("and stopped")
        loop.remove_signal_handler(signal.SIGTERM)

    with signals_held() as deliver:
        signal.raise_signal(signal.SIGTERM)
        begun.append("held")
        asyncio.run(main(deliver))

    assert begun == ["held", "and stopped"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_event_loop_closes_is_told_afterwards(number: signal.Signals) -> None:
    closing, put_away = threading.Event(), []

    def work() -> None:  # in a thread that the loop waits for
        closing.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), number)

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)
        asyncio.get_running_loop().call_soon(closing.set)

    def run() -> None:
        with signals_raise():
            try:
                run_async(main)
            finally:
                put_away.append("all")

    with pytest.raises(Interrupted) as caught:
        run()

    assert caught.value.exit_code == 128 + number
    assert put_away == ["all"]


def test_a_signal_during_the_last_import_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_last.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    done: list[str] = []

    def import_it() -> None:
        with signals_raise():
            importlib.import_module("the_last")
            done.append("all")

    with pytest.raises(Interrupted) as caught:
        import_it()

    del sys.modules["the_last"]
    assert caught.value.exit_code == TERMINATED
    assert done == ["all"]
    time.sleep(0.1)  # nothing is sent after that


@pytest.mark.parametrize("signals", [1, 2])
def test_the_second_signal_during_an_import_ends_the_process(tmp_path: Path, signals: int) -> None:
    # It sends them to itself: those of another process are one to a process that does not run meanwhile.
    (tmp_path / "hangs.py").write_text(
        f"import signal, time\nfor _ in range({signals}):\n    signal.raise_signal(signal.SIGTERM)\n    time.sleep(0.3)\n"
        "print('is imported')\n"
    )
    code = "from engagement_async.cli.signals import *\nwith signals_raise():\n import hangs, time\n time.sleep(60)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    if signals == 1:
        assert done.returncode == 1
        assert "Interrupted" in done.stderr
        assert done.stdout == "is imported\n"
    else:
        assert done.returncode == -signal.SIGTERM
        assert done.stdout == ""


def test_an_error_beside_no_signal_stays_what_it_is() -> None:
    def fail() -> None:
        with signals_raise():
            raise ValueError("of the command")

    with pytest.raises(ValueError, match="of the command"):
        fail()
