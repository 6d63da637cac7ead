from __future__ import annotations

import pytest

from engagement_async.cli.app import run

EVERYWHERE = (
    "--contract",
    "--scheduler",
    "--profile",
    "--base-url",
    "--ca-file",
    "--proxy",
    "--log-file",
    "--metrics-file",
)
ALSO: dict[tuple[str, ...], tuple[str, ...]] = {
    ("fetch", "totals", "20"): ("--metrics", "--ids", "--output", "--credentials"),
    ("plan", "totals", "20"): ("--metrics",),
    ("backfill", "run", "job"): ("--metrics", "--ids", "--credentials"),
    ("backfill", "export", "job"): ("--output",),
    ("series", "pull", "s.duckdb"): ("--metrics", "--ids", "--credentials"),
}
COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (("check",), option) for option in EVERYWHERE if option != "--metrics-file"
]
for command, options in ALSO.items():
    reaches_the_api = command[0] != "plan" and command[1] != "export"
    COMMANDS += [(command, option) for option in (*options, *(EVERYWHERE if reaches_the_api else ()))]


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_an_option_that_is_empty_does_not_pass_for_the_default(
    command: tuple[str, ...],
    option: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run([*command, option, value]) == 2
    assert "is empty: give a value, or leave the option out" in capsys.readouterr().err
