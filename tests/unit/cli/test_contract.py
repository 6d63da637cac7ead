"""Commands that spend one contract: after each other, at the same time, beside a job, killed; the emulator counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engagement_async.emulator import Emulator, tweet_ids
from tests.support.redis_server import RedisServer, needs_redis

NOW = time.time()
LIMIT, PERIOD_S = 20, 2.0
BATCH = 250


class Commands:
    """Runs `python -m engagement_async` with one contract of 20 in 2 s."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(folder / "config"),
            "ENGAGEMENT_STATE_DIR": str(folder / "state"),
            **emulator.environment,
            "ENGAGEMENT_REQUESTS_PER_MINUTE": str(LIMIT),
        }
        (folder / "ids.txt").write_text("\n".join(tweet_ids(12 * BATCH, newest_at=NOW)))

    def start(self, *args: str, **environ: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "engagement_async", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**self.environ, **environ},
        )

    def fetch(self, name: str, *options: str, **environ: str) -> subprocess.Popen[bytes]:
        arguments = ("--ids", "ids.txt", "--period", str(PERIOD_S), "-o", f"{name}.json", *options)
        return self.start("fetch", "totals", *arguments, **environ)

    def job(self, name: str) -> subprocess.Popen[bytes]:
        return self.start("backfill", "run", name, "totals", "--ids", "ids.txt", "--period", str(PERIOD_S))

    def end(self, *commands: subprocess.Popen[bytes]) -> list[str]:
        """Wait for all; the contract was kept and nobody was refused. Return what they wrote to stderr."""
        texts = [command.communicate()[1].decode() for command in commands]
        assert [command.returncode for command in commands] == [0] * len(commands), texts
        self.check()
        return texts

    def check(self) -> None:
        assert self.emulator.peak() <= LIMIT
        assert self.emulator.log.statuses[429] == 0


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with Emulator(LIMIT, period=PERIOD_S, now=lambda: NOW, log_size=None) as emulator:
        yield Commands(emulator, tmp_path)


def test_commands_after_each_other_keep_the_contract_and_speak_of_nobody_else(commands: Commands) -> None:
    texts = [text for name in "abc" for text in commands.end(commands.fetch(name))]

    assert not any("somebody else" in text or "warning" in text.lower() for text in texts)
    assert commands.emulator.log.requests == 36


def test_commands_at_the_same_time_keep_the_contract(commands: Commands) -> None:
    texts = commands.end(*(commands.fetch(name) for name in "abcd"))

    assert not any("somebody else" in text for text in texts)
    results = {(commands.folder / f"{name}.json").read_bytes() for name in "abcd"}
    assert len(results) == 1


def test_a_job_beside_a_command_keeps_the_contract(commands: Commands) -> None:
    commands.end(commands.job("job"), commands.fetch("a"), commands.fetch("b"))


def test_commands_that_are_killed_are_counted(commands: Commands) -> None:
    for number in range(4):
        victim = commands.job("job") if number % 2 else commands.fetch("victim")
        before = commands.emulator.log.requests
        while commands.emulator.log.requests < before + 3 and victim.poll() is None:
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    survivor = commands.fetch("survivor", "--scheduler", "machine")
    time.sleep(3 * PERIOD_S)
    survivor.kill()
    survivor.communicate()

    commands.check()


def test_a_command_may_keep_the_contract_to_itself_or_name_it(commands: Commands) -> None:
    commands.end(commands.fetch("a", "--scheduler", "process"))
    assert not (commands.folder / "state").exists()
    commands.end(commands.fetch("b", ENGAGEMENT_CONTRACT="x"), commands.fetch("c", "--contract", "x"))
    assert len(list((commands.folder / "state" / "contracts").iterdir())) == 1


def test_where_no_folder_can_be_written_it_is_told_once_and_the_command_goes_on(commands: Commands) -> None:
    (commands.folder / "file").touch()
    place = str(commands.folder / "file" / "state")

    commands.environ["ENGAGEMENT_STATE_DIR"] = place

    for start in (commands.fetch, commands.job):
        (text,) = commands.end(start("a"))
        assert text.count("within this process alone") == 1
        time.sleep(2 * PERIOD_S)


@needs_redis
async def test_commands_with_one_redis_keep_the_contract(commands: Commands) -> None:
    async with RedisServer(commands.folder / "redis", "--requirepass", "canary") as redis:
        shared = ("--scheduler", redis.url, "--contract", "tests")
        started = [commands.fetch(name, *shared, ENGAGEMENT_REDIS_PASSWORD="canary") for name in "ab"]
        refused = commands.fetch("c", *shared, ENGAGEMENT_REDIS_PASSWORD="wrong")
        texts = [*commands.end(*started), refused.communicate()[1].decode()]

    assert refused.returncode == 2
    assert "Redis refuses" in texts[-1]
    assert not any("canary" in text for text in texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "somewhere"], "machine, process, or an address"),
        (["--scheduler", "redis://localhost"], "needs --contract NAME"),
        (
            ["--contract", "redis://:canary@localhost"],
            "--contract takes a name, such as reports",
        ),
        (["--scheduler", "redis://:canary@localhost", "--contract", "x"], "ENGAGEMENT_REDIS_PASSWORD"),
        (["--scheduler", "redis//:canary@localhost", "--contract", "x"], "ENGAGEMENT_REDIS_PASSWORD"),
        (["--scheduler", "redis://:canary/1@localhost", "--contract", "x"], "percent-encode that"),
        (["--scheduler", "redis://[:canary@localhost", "--contract", "x"], "ENGAGEMENT_REDIS_PASSWORD"),
        (["--scheduler", "redis://redis.example", "--contract", "x"], "not encrypted"),
        (["--scheduler", "redis://localhost", "--contract", "a b"], "contract's name"),
        (["--scheduler", "process", "--contract", "x"], "shares the rate limit with nobody"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(commands: Commands, options: list[str], message: str) -> None:
    command = commands.fetch("a", *options)
    text = command.communicate()[1].decode()

    assert command.returncode == 2
    assert message in " ".join(text.split())
    assert "canary" not in text
    assert commands.emulator.log.requests == 0
