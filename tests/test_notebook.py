"""Notebooks, in a real kernel against the emulator: cells that await, progress bars, tables, and the example."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engagement_async.emulator import Emulator
from tests.support.notebooks import execute, html_of, notebook_of, stderr_of, text_of

OPEN = """
import asyncio, os, sys
from engagement_async import BearerCredentials, EngagementClient, RateLimit

client = EngagementClient(
    BearerCredentials(os.environ["ENGAGEMENT_BEARER_TOKEN"]),
    base_url=os.environ["ENGAGEMENT_BASE_URL"],
    rate_limit=RateLimit(60_000),
)
query = {"engagement_types": ["favorites"], "groupings": {"by_tweet": ["tweet.id", "engagement.type"]}}
await client.__aenter__()
os.getpid()
"""
ONE = "await client.totals(range(1, 601), progress=True, **query)"
TWO = """
results = await asyncio.gather(
    client.totals(range(1, 601), progress=True, **query), client.totals(iter(range(1, 301)), progress=True, **query)
)
"""
CALLBACK = """
seen = []
await client.totals(range(1, 601), progress=seen.append, **query)
seen[-1]
"""
INTERRUPTED = """# raises KeyboardInterrupt or CancelledError: what the stop button of Jupyter does
import signal

def stop(now):
    os.kill(os.getpid(), signal.SIGINT)

async def never():
    yield 1
    await asyncio.Event().wait()

await client.totals(never(), progress=stop, **query)
"""
FRAMES = """
result = await client.totals(range(1, 601), **query)
frame = result.to_pandas("by_tweet", wide=True)
list(frame.columns), len(frame) > 500, len(result.to_polars("by_tweet", wide=True)) == len(frame)
"""
NO_WIDGETS = "sys.modules['ipywidgets'] = None"
NO_TQDM = """# raises
for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
    del sys.modules[name]
sys.modules["tqdm"] = None
del sys.modules["engagement_async._display.notebook"]
await client.totals(range(1, 601), progress=True, **query)
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(requests_per_minute=None, log_size=None) as emulator:
        yield emulator


def test_progress_and_tables_in_a_kernel(emulator: Emulator, tmp_path: Path) -> None:
    cells = (OPEN, ONE, TWO, CALLBACK, INTERRUPTED, FRAMES, NO_WIDGETS, ONE, TWO, NO_TQDM, "await client.aclose()")

    done = execute(notebook_of(*cells), tmp_path, emulator.environment)

    opened, one, two, callback, interrupted, frames, _, text, texts, no_tqdm, _ = done.cells
    assert sorted(widgets(done)) == [(300.0, 300.0), (600.0, 600.0), (600.0, 600.0)]
    assert "600 of 600 IDs, 3 requests · in" in " ".join(texts_of_widgets(done))
    assert "EngagementResult: totals" in html_of(one)
    assert stderr_of(one) + stderr_of(two) == ""
    assert text_of(callback).startswith("CallProgress(ids_done=600, ids_total=600, requests=3,")
    assert interrupted.outputs[-1].ename in ("KeyboardInterrupt", "CancelledError")
    assert text_of(frames) == "(['tweet_id', 'favorites'], True, True)"
    last = stderr_of(text).rpartition("\r")[2].strip()
    assert last.startswith("totals: 100%|")
    assert "| 600 of 600 IDs, 3 requests · in" in last
    assert {"600 of 600", "300 of 300"} <= set(re.findall(r"\d+ of \d+", stderr_of(texts)))
    assert no_tqdm.outputs[-1].ename == "UsageError"
    assert "pip install 'engagement-async[progress]'" in no_tqdm.outputs[-1].evalue
    with pytest.raises(ProcessLookupError):
        os.kill(int(text_of(opened)), 0)


def widgets(notebook: Any) -> list[tuple[float, float]]:
    """Return the values and the maxima of all bars that are widgets."""
    states = [each["state"] for each in _widgets(notebook)]
    return [(state["value"], state["max"]) for state in states if state.get("_model_name") == "FloatProgressModel"]


def texts_of_widgets(notebook: Any) -> list[str]:
    """Return the texts beside them; tqdm writes spaces of the width of a figure."""
    states = [each["state"] for each in _widgets(notebook)]
    return [state["value"].replace("\u2007", " ") for state in states if state.get("_model_name") == "HTMLModel"]


def _widgets(notebook: Any) -> Iterator[Any]:
    yield from notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
