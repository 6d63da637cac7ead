"""`engagement emulator`: what it prints, what it takes, how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from engagement_async.cli.emulator import emulator
from engagement_async.emulator import FAULTS, Credentials, Emulator

PROGRAM = "from engagement_async.cli.emulator import emulator; emulator()"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A process of the command, and what its `export` lines say. It is ended if the test did not."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            exports = {}
            for line in process.stdout:
                found = re.fullmatch(r"export (ENGAGEMENT_\w+)=(\S+)\n", line)
                assert found
                exports[found[1]] = found[2]
                if found[1] == "ENGAGEMENT_REQUESTS_PER_MINUTE":
                    break
            yield process, exports
        finally:
            process.kill()


def status_of(exports: dict[str, str]) -> int:
    request = urllib.request.Request(
        exports["ENGAGEMENT_BASE_URL"] + "/insights/engagement/totals",
        data=b'{"tweet_ids": ["1"], "engagement_types": ["favorites"], "groupings": {"g": {"group_by": ["tweet.id"]}}}',
        headers={
            "Authorization": "Bearer " + exports["ENGAGEMENT_BEARER_TOKEN"],
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_exports_answers_and_ends_well(number: signal.Signals) -> None:
    with running("--requests-per-minute", "3", "--fault", "503:2") as (process, exports):
        assert exports.keys() == Emulator(3).environment.keys()
        assert exports["ENGAGEMENT_REQUESTS_PER_MINUTE"] == "3"
        assert [status_of(exports) for _ in range(4)] == [200, 503, 200, 503]

        process.send_signal(number)
        out, err = process.communicate(timeout=10)

        assert (process.returncode, out) == (0, "")
        assert f"Engagement API on {exports['ENGAGEMENT_BASE_URL']}, 3 requests a minute." in err
        assert "4 requests, at most 4 in a minute; 2 x 200, 2 x 503" in err
        assert "faults: 2 x 503" in err


def test_a_seed_fixes_the_credentials() -> None:
    with running("--seed", "9") as (_, exports):
        assert exports["ENGAGEMENT_CONSUMER_SECRET"] == Credentials.new(9).consumer_secret


def test_a_shell_takes_the_exports() -> None:
    with running() as (_, exports):
        lines = [f"export {name}={value}" for name, value in exports.items()]
        run = subprocess.run(
            ["/bin/sh", "-c", "\n".join([*lines, 'printf %s "$ENGAGEMENT_BASE_URL"'])],
            capture_output=True,
            check=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )

    assert run.stdout == exports["ENGAGEMENT_BASE_URL"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--fault", "503"], "'503' is not NAME:EVERY"),
        (["--fault", "gzip:3"], "no fault is called 'gzip'"),
        (["--requests-per-minute", "0"], "0 is not in the range"),
        (["--port", "70000"], "70000 is not in the range"),
    ],
)
def test_nonsense_is_a_usage_error(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(emulator, arguments)

    assert result.exit_code == 2
    assert text in result.output


async def test_a_taken_port_is_a_usage_error() -> None:
    async with Emulator() as first:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, "--port", str(first.port)], capture_output=True, text=True, timeout=20
        )

    assert run.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{first.port}: " in run.stderr
    assert run.stdout == ""


def test_every_fault_is_in_the_help() -> None:
    text = CliRunner().invoke(emulator, ["--help"]).output

    for fault in FAULTS.values():
        assert re.search(rf"^ +{re.escape(fault.name)} +{re.escape(fault.what)}$", text, re.MULTILINE)
