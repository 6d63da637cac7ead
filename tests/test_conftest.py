"""What conftest.py promises: a test that blocks its loop, or leaves something behind, fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tests

BLOCKS = """
async def test_it(tmp_path):
    from engagement_async.credentials import OAuth1Credentials
    import engagement_async.config as module
    exec(compile("import time; time.sleep(0.001)", module.__file__, "exec"))
"""
LEAVES_A_TASK = """
import asyncio
async def test_it():
    global task
    task = asyncio.create_task(asyncio.sleep(3600))
"""
LEAVES_AN_ERROR = """
import asyncio
async def test_it():
    async def fail():
        raise ValueError("nobody took this")
    asyncio.create_task(fail())
    await asyncio.sleep(0)
"""
LEAVES_A_SESSION = """
import aiohttp
async def test_it():
    session = aiohttp.ClientSession()
    session.itself = [session]  # only the garbage collector finds it
"""
LEAVES_A_FILE = """
def test_it(tmp_path):
    file = [open(tmp_path / "file", "w")]
    file.append(file)
"""
HOURS = """
import asyncio
import pytest
@pytest.mark.virtual_time
async def test_it():
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(5 * 3600)
    assert asyncio.get_running_loop().time() - began == 5 * 3600
"""


def run(folder: Path, text: str) -> str:
    (folder / "test_it.py").write_text(text)
    options = ["-c", "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n0", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), str(folder)],
        cwd=Path(tests.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(BLOCKS, "Blocking call to time.sleep", id="a blocking call"),
        pytest.param(LEAVES_A_TASK, "tasks left behind", id="a task"),
        pytest.param(LEAVES_AN_ERROR, "nobody took this", id="an error"),
        pytest.param(LEAVES_A_SESSION, "Unclosed client session", id="a session"),
        pytest.param(LEAVES_A_FILE, "unclosed file", id="a file"),
    ],
)
def test_a_test_that_is_not_clean_fails(tmp_path: Path, text: str, reason: str) -> None:
    out = run(tmp_path, text)

    assert reason in out
    assert "1 error" in out or "1 failed" in out


def test_hours_pass_at_once_in_virtual_time(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, HOURS)
