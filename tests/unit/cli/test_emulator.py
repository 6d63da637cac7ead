"""`engagement emulator`: what it prints, what it takes, how it ends."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engagement_async.cli.app import run
from engagement_async.cli.emulator import emulator
from engagement_async.cli.exit_codes import USAGE
from engagement_async.emulator import FAULTS, INTERPRETATIONS, Emulator, EmulatorCredentials
from engagement_async.emulator.tls import SelfSignedCertificate
from tests.support.emulator_requests import sign
from tests.support.jobs import started

NAMED = [
    *((fault.name, fault.description) for fault in FAULTS.values()),
    *((each.name, each.description) for each in INTERPRETATIONS.values()),
]
PROGRAM = "from engagement_async.cli.emulator import emulator; emulator()"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command in a process; yield it, and what its `export` lines say. It is killed if the test did not end it."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            exports = {}
            for line in process.stdout:
                export = re.fullmatch(r"export (\w+)=(\S+)\n", line)
                assert export
                exports[export[1]] = export[2]
                if export[1] == "ENGAGEMENT_REQUESTS_PER_MINUTE":
                    break
            yield process, exports
        finally:
            process.kill()


def send(
    exports: dict[str, str],
    tweet_id: str = '"1"',
    context: ssl.SSLContext | None = None,
    token: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Ask for the favorites of one Tweet, with the Bearer token or an owner's; return status and JSON."""
    url = exports["ENGAGEMENT_BASE_URL"] + "/insights/engagement/totals"
    authorization = "Bearer " + exports["ENGAGEMENT_BEARER_TOKEN"]
    if token is not None:
        keys = (exports["ENGAGEMENT_CONSUMER_KEY"], exports["ENGAGEMENT_CONSUMER_SECRET"])
        tokens = (token["access_token"], token["access_token_secret"])
        authorization = sign(url, EmulatorCredentials(*keys, *tokens, ""))
    groupings = '{"g": {"group_by": ["tweet.id"]}}'
    body = f'{{"tweet_ids": [{tweet_id}], "engagement_types": ["favorites"], "groupings": {groupings}}}'
    request = urllib.request.Request(
        url,
        data=body.encode(),
        headers={
            "Authorization": authorization,
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
        },
    )
    try:
        with urllib.request.urlopen(request, context=context) as response:
            return response.status, json.loads(gzip.decompress(response.read()))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(gzip.decompress(error.read()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_prints_exports_answers_and_ends_well(number: signal.Signals) -> None:
    with running("--requests-per-minute", "3", "--fault", "503:2") as (process, exports):
        assert exports.keys() == Emulator(3).environment.keys()
        assert exports["ENGAGEMENT_REQUESTS_PER_MINUTE"] == "3"
        assert [send(exports)[0] for _ in range(4)] == [200, 503, 200, 503]

        process.send_signal(number)
        out, err = process.communicate()

        assert (process.returncode, out) == (0, "")
        assert f"Engagement API on {exports['ENGAGEMENT_BASE_URL']}, 3 requests a minute." in err
        assert "4 requests, at most 4 in a minute; 2 x 200, 2 x 503" in err
        assert "faults: 2 x 503" in err


def test_a_seed_fixes_the_credentials() -> None:
    with running("--seed", "9") as (_, exports):
        assert exports["ENGAGEMENT_CONSUMER_SECRET"] == EmulatorCredentials.new(9).consumer_secret


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
        (["--forbidden", "1.5"], "1.5 is not in the range"),
        (["--now", "yesterday"], "'yesterday' is no instant: write 2026-11-21"),
        (["--interpretation", "bare"], "no interpretation is called 'bare'"),
        (["--interpretation", "unavailable-400", "--interpretation", "unavailable-400-when-none-left"], "contradict"),
        (["--owners", "0"], "0 is not in the range"),
        *(
            ([option, name], f"{name!r} is no name or address of a host")
            for option in ("--host", "--public-host")
            for name in ("a/b", "a b", "*.test", "a..b", "b\xfccher", "caf\udce9", "x" * 64)
        ),
        (["--revoke", "owner1"], "'owner1' is not OWNER:SECONDS, such as owner3:60"),
        (["--revoke", "owner1:soon"], "'owner1:soon' is not OWNER:SECONDS"),
        (["--owners", "2", "--revoke", "owner3:1"], "--revoke owner3: with --owners 2 they are owner1 to owner2"),
        (["--owners-file", "/proc/nowhere/owners.csv"], "Cannot write --owners-file /proc/nowhere/owners.csv: "),
        (["--owners-file", __file__], "exists, and holds something else"),
        (["--certificate-file", "emulator.pem"], "--certificate-file needs --tls-self-signed"),
        (
            ["--tls-self-signed", "--certificate-file", "/proc/nowhere/emulator.pem"],
            "Cannot write --certificate-file /proc/nowhere/emulator.pem: ",
        ),
        (["--tls-self-signed", "--certificate-file", __file__], "exists, and is no certificate of an emulator"),
    ],
)
def test_nonsense_is_a_usage_error(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(emulator, arguments)

    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize("option", ["--owners-file", "--certificate-file"])
def test_nothing_is_written_into_the_folder_of_a_job(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = started(tmp_path / "job", 3)
    before = sorted(job.path.iterdir())

    assert run(["emulator", "--tls-self-signed", option, str(job.path / "new")]) == USAGE
    assert "lies in the folder of a job" in capsys.readouterr().err
    assert sorted(job.path.iterdir()) == before


async def test_a_taken_port_is_a_usage_error() -> None:
    async with Emulator() as first:
        run = subprocess.run([sys.executable, "-c", PROGRAM, "--port", str(first.port)], capture_output=True, text=True)

    assert run.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{first.port}: " in run.stderr
    assert run.stdout == ""


def test_the_help_names_everything_and_the_list_describes_it() -> None:
    help_ = " ".join(CliRunner().invoke(emulator, ["--help"]).output.split())
    listed = CliRunner().invoke(emulator, ["--list"])

    assert listed.exit_code == 0
    for name, description in NAMED:
        assert f" {name}" in help_
        assert re.search(rf"^  {re.escape(name)} +{re.escape(description)}$", listed.output, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 110])
def test_the_help_keeps_names_whole(width: int) -> None:
    help_ = CliRunner().invoke(emulator, ["--help"], terminal_width=width).output

    assert max(map(len, help_.splitlines())) <= width
    assert not [name for name, _ in NAMED if name not in help_]


def test_the_world_as_the_flags_say() -> None:
    flags = ("--now", "2010-11-05T12:00:00Z", "--unavailable", "0", "--interpretation", "number-ids")
    with running(*flags) as (_, exports):
        assert send(exports, "7") == (200, {"g": {"7": "0"}})
        future = f'"{1 << 62}"'
        assert send(exports, future)[1]["errors"] == ["1 Tweet ID(s) are unavailable"]
    with running("--unavailable", "1") as (_, exports):
        assert send(exports)[1]["unavailable_tweet_ids"] == ["1"]
        assert send(exports, "7")[0] == 400


def test_a_certificate_is_made_and_written_for_clients(tmp_path: Path) -> None:
    path = tmp_path / "emulator.pem"
    flags = ("--tls-self-signed", "--certificate-file", str(path), "--public-host", "localhost")
    with running(*flags):
        before = path.read_bytes()
    with running(*flags) as (process, exports):
        assert path.read_bytes() != before
        assert exports["SSL_CERT_FILE"] == str(path)
        assert exports["ENGAGEMENT_BASE_URL"].startswith("https://localhost:")
        assert "PRIVATE" not in path.read_text()
        trusting = ssl.create_default_context(cafile=str(path))
        assert send(exports, context=trusting)[0] == 200
        with pytest.raises(urllib.error.URLError, match="self-signed certificate"):
            send(exports, context=ssl.create_default_context())
        by_address = {
            **exports,
            "ENGAGEMENT_BASE_URL": exports["ENGAGEMENT_BASE_URL"].replace("localhost", "127.0.0.1"),
        }
        assert send(by_address, context=trusting)[0] == 200
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert path.exists()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_other_certificates_are_not_overwritten(tmp_path: Path, count: int) -> None:
    path = tmp_path / "bundle.pem"
    bundle = b"".join(SelfSignedCertificate.new([name]).pem for name in "ab"[:count])
    path.write_bytes(bundle)

    result = CliRunner().invoke(emulator, ["--tls-self-signed", "--certificate-file", str(path)])

    assert result.exit_code == 2
    assert "exists, and is no certificate of an emulator" in " ".join(result.output.split())
    assert path.read_bytes() == bundle


def test_a_temporary_certificate_is_enough_for_the_command_line(tmp_path: Path) -> None:
    with running("--tls-self-signed") as (process, exports):
        fetch = ["fetch", "totals", "1", "--metrics", "favorites", "--auth", "bearer"]
        done = subprocess.run(
            [sys.executable, "-m", "engagement_async", *fetch],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **exports},
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["by_tweet_type"].keys() == {"1"}
        path = Path(exports["SSL_CERT_FILE"])
        assert path.exists()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert not path.exists()


def test_a_host_that_others_can_reach_is_warned_of() -> None:
    result = CliRunner().invoke(emulator, ["--host", "192.0.2.1"])  # of documentation alone: nothing listens there

    assert result.exit_code == 2
    assert "Warning: other machines can reach 192.0.2.1." in result.output
    assert "Cannot listen on 192.0.2.1:0: " in result.output


def test_another_loopback_address_is_not_warned_of() -> None:
    with running("--host", "127.0.0.3") as (process, exports):
        assert exports["ENGAGEMENT_BASE_URL"].startswith("http://127.0.0.3:")
        assert send(exports)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert "Warning" not in process.communicate()[1]


def test_owners_and_revocation(tmp_path: Path) -> None:
    path = tmp_path / "owners.csv"
    flags = ("--owners", "3", "--owners-file", str(path), "--revoke", "owner2:0", "--seed", "4", "--unavailable", "0")
    for _ in range(2):  # the second start finds the file of the first
        with running(*flags) as (_, exports):
            rows = list(csv.DictReader(path.read_text().splitlines()))
            statuses = [send(exports, owned_by(row["owner"]), token=row)[0] for row in rows]
            assert send(exports, owned_by("owner3"), token=rows[0])[0] == 403

        assert path.stat().st_mode & 0o077 == 0
        assert [row["owner"] for row in rows] == ["owner1", "owner2", "owner3"]
        assert rows[0]["access_token"] == exports["ENGAGEMENT_ACCESS_TOKEN"]
        assert statuses == [200, 401, 200]


def owned_by(owner: str) -> str:
    (tweet_id,) = Emulator(owners=3, seed=4).tweet_ids(owner, 1)
    return f'"{tweet_id}"'
