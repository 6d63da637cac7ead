"""The command group: light to start, and every error an exit code and a line, not a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import engagement_async
from engagement_async import cli, errors
from engagement_async.cli import exit_codes
from engagement_async.cli.app import COMMANDS, Session, engagement, run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGAGEMENT_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ENGAGEMENT_DEBUG", raising=False)
    monkeypatch.setattr("signal.signal", lambda *_: None)


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a command `boom` that raises the error."""

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    @click.pass_obj
    def boom(session: Session, as_json: bool) -> None:
        session.json = as_json
        raise error

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "boom", boom, raising=False)
    monkeypatch.setitem(COMMANDS, "boom", (f"{__name__}:boom", "raises"))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.UsageError("bad metric"), 2, "bad metric"),
        (errors.RequestRefusedError("refused"), 2, "refused"),
        (errors.ServerRefusedError("wrong host"), 2, "wrong host"),
        (errors.ProxyError("407", status=407), 2, "407"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            6,
            "this process may open no more files: raise its limit (ulimit -n",
        ),
        (errors.AuthError("token not found"), 4, "token not found"),
        (errors.EngagementError("the deadline came"), 5, "the deadline came"),
        (OSError(errno.ENOSPC, "No space left on device", "out.csv"), 6, "out.csv: No space left on device: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "out.csv"), 6, "out.csv: Permission denied"),
        (MemoryError(), 6, "out of memory"),
        (exit_codes.CommandError("another run holds it", exit_codes.LOCKED), 11, "another run holds it"),
        (exit_codes.Interrupted(143), 143, ""),
        (KeyboardInterrupt(), 130, ""),
        (EOFError("Compressed file ended"), 2, "a file ends too early"),
        (KeyError("canary-secret"), 1, "this is a bug: KeyError at "),
    ],
)
def test_each_error_has_its_exit_code(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)

    assert run(["boom"]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert (out, "Traceback" in err, "canary" in err) == ("", False, False)

    if message:
        assert run(["boom", "--json"]) == code
        event = json.loads(capsys.readouterr().err)
        assert (event["event"], event["exit_code"]) == ("error", code)
        assert message in event["message"]


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(KeyError("details"), monkeypatch)
    monkeypatch.setenv("ENGAGEMENT_DEBUG", "1")

    assert run(["boom"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--bearer-token", "--access-token-secret", "--consumer-secret"])
@pytest.mark.parametrize("joint", ["=", " "])
def test_secrets_in_arguments_are_refused_and_not_repeated(
    option: str, joint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", "totals", *f"{option}{joint}canary-5f3a9c".split()]) == 2

    err = capsys.readouterr().err
    assert f"Export ENGAGEMENT_{option[2:].upper().replace('-', '_')}" in err
    assert "canary" not in err


def test_wrong_usage_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "total"]) == 2
    assert "'totals', '28hr', 'historical'" in capsys.readouterr().err
    assert run(["nothing"]) == 2
    assert "No such command" in capsys.readouterr().err
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("engagement ")


def test_every_command_of_the_table_is_there() -> None:
    context = click.Context(engagement)
    for name in COMMANDS:
        command = engagement.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys, engagement_async\n"
        "before = set(sys.modules)\n"
        "from engagement_async.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert all(name in done.stdout for name in COMMANDS)
    heavy = {"aiohttp", "asyncio", "rich", "pyarrow", "msgspec", "authlib", "orjson", "tenacity", "platformdirs"}
    assert set(done.stderr.split()).isdisjoint(heavy | {home.partition(":")[0] for home, _ in COMMANDS.values()})


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    code = (
        "import sys, click\n"
        "from engagement_async.cli import app\n"
        "@click.command()\n"
        "def lots():\n"
        "    for n in range(1_000_000): click.echo(n)\n"
        "sys.modules['lots'] = type(sys)('lots'); sys.modules['lots'].lots = lots\n"
        "app.COMMANDS['lots'] = ('lots:lots', '')\n"
        "sys.exit(app.run(['lots']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == exit_codes.BROKEN_PIPE


@pytest.mark.parametrize("arguments", [["--help"], ["-V"], ["fetch", "--help"]])
def test_so_it_does_where_click_writes_by_itself(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "engagement_async", *arguments]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (exit_codes.BROKEN_PIPE, b"")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([option]) == 0
    assert capsys.readouterr().out == f"engagement {engagement_async.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["fetsh"], "'fetch'"), (["backfil"], "'backfill'"), (["backfill", "staus"], "'status'")],
)
def test_a_misspelt_command_is_answered_with_what_was_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert f"No such command '{arguments[-1]}' (did you mean {meant}?)" in capsys.readouterr().err


def test_windows_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "engagement: this command runs on Linux and macOS; on Windows use WSL, the Windows Subsystem for Linux\n"
    )


def test_so_is_a_python_that_knows_no_locks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ModuleNotFoundError("no", name="fcntl"), monkeypatch)

    assert run(["boom"]) == 2
    assert "on Windows use WSL" in capsys.readouterr().err
