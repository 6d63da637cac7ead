"""What the tests of pipelines share: a query, an emulator whose credentials are in the environment, a file of owners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engagement_async import TOTALS, Query
from engagement_async.emulator import Emulator

__all__ = ["METRICS", "QUERY", "emulator_in_environment", "write_owners"]

METRICS = ["favorites", "impressions"]
QUERY = Query(TOTALS, engagement_types=METRICS, groupings={"by_tweet": ["tweet.id", "engagement.type"]})


@contextmanager
def emulator_in_environment(
    monkeypatch: pytest.MonkeyPatch, *, unavailable: list[str], owners: int = 1
) -> Iterator[Emulator]:
    """Run an emulator without a limit, which `EnvironmentCredentials()` sign for. It counts how often an ID is answered."""
    with Emulator(None, owners=owners, unavailable=unavailable, unavailable_fraction=0.0, count_ids=True) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def write_owners(path: Path, emulator: Emulator) -> Path:
    """Write the credentials of all of its owners into a CSV file, with the consumer pair, so that it can be sent."""
    path.touch(0o600)
    pair = f"{emulator.consumer_key},{emulator.consumer_secret}"
    lines = [f"{each.handle},{pair},{each.access_token},{each.access_token_secret}" for each in emulator.owners]
    path.write_text("owner,consumer_key,consumer_secret,access_token,access_token_secret\n" + "\n".join(lines))
    return path
