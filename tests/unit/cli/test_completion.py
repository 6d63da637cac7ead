"""Completion: the scripts of shells, and what they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from engagement_async.cli.app import engagement


def complete(line: str) -> list[tuple[str, str]]:
    """Return what bash is told of the last word of a line: kinds and values."""
    done = subprocess.run(
        [sys.executable, "-m", "engagement_async"],
        env={
            "PATH": os.environ["PATH"],
            "_ENGAGEMENT_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(item.split(",", 1)) for item in done.stdout.split()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "items"),
    [
        ("engagement fet", [("plain", "fetch")]),
        ("engagement backfill ret", [("plain", "retry-failed")]),
        ("engagement fetch h", [("plain", "historical")]),
        ("engagement fetch totals --ids mi", [("file", "mi")]),
        ("engagement fetch totals --output ou", [("file", "ou")]),
        ("engagement fetch totals --log-file lo", [("file", "lo")]),
        ("engagement fetch totals --ca-file c", [("file", "c")]),
        ("engagement backfill export jo", [("dir", "jo")]),
        ("engagement fetch totals --metrics fav", [("plain", "favorites")]),
        ("engagement fetch totals --metrics favorites,rep", [("plain", "favorites,replies")]),
        ("engagement fetch totals --metrics url", []),
        ("engagement fetch 28hr --metrics url", [("plain", "url_clicks")]),
        ("engagement fetch totals --group-by tweet.id,eng", [("plain", "tweet.id,engagement.type")]),
        ("engagement fetch totals --group-by all=eng", [("plain", "all=engagement.type")]),
        ("engagement emulator --fault gzip-b", [("plain", "gzip-bad-crc")]),
        ("engagement emulator --interpretation bare", [("plain", "bare-hours")]),
        ("engagement completion z", [("plain", "zsh")]),
    ],
)
def test_words(line: str, items: list[tuple[str, str]]) -> None:
    assert complete(line) == items


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    done = CliRunner().invoke(engagement, ["completion", shell])

    assert done.exit_code == 0
    assert f"_ENGAGEMENT_COMPLETE={shell}_complete" in done.output
    if path := shutil.which(shell):
        subprocess.run([path, "-n"], input=done.output, text=True, check=True)
