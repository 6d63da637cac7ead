"""A month of a series against the server of another hand: the truth, the gaps, and none after a fill."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engagement_async.series import EngagementSeries
from tests.independent.server import HOUR, Server, World
from tests.support.independent_requests import client_of, random_ids
from tests.support.series import gap_hours, hours_between, rows

BEGAN_AT = datetime(2026, 10, 1, tzinfo=UTC)
METRICS = ("impressions", "favorites", "url_clicks")


async def test_a_month_of_pulls_is_the_truth_with_known_gaps(tmp_path: Path) -> None:
    draw = random.Random(20261126)
    ids = random_ids(30, 5)
    states = dict(zip(ids, ("gone", "foreign", "never", "once", "once"), strict=False))
    world = World(states)
    never = {i for i, state in states.items() if state == "never"}
    alive = {i for i in ids if states.get(i, "once") == "once"}
    whole: set[datetime] = set()
    async with Server(world) as server, client_of(server) as client:
        series = EngagementSeries(tmp_path / "s.duckdb", now=lambda: world.now)
        for day in range(30):
            world.now = BEGAN_AT + day * 24 * HOUR + timedelta(minutes=draw.randrange(1, 59) + 60 * draw.randrange(9))
            if draw.random() < 0.25:
                continue  # a missed day
            hour = world.now.replace(minute=0)
            for _ in range(draw.choice([1, 2])):
                report = await series.pull(client, None if whole else ids, engagement_types=METRICS)
                assert set(report.failed_tweet_ids) == never
            whole |= set(hours_between(hour - 28 * HOUR, hour))

        span = set(hours_between(min(whole), max(whole) + HOUR))
        assert gap_hours(series) == {(i, hour) for i in alive for hour in span - whole} | {
            (i, hour) for i in never for hour in span
        }
        assert len(span - whole) > 24
        found = rows(series)
        assert {(i, hour) for (i, _, hour), (_, state) in found.items() if state == "complete"} == {
            (i, hour) for i in alive for hour in whole
        }

        await series.fill(client)

        assert gap_hours(series) == {(i, hour) for i in never for hour in span}
        found = rows(series)
        for i in alive:
            for metric in METRICS:
                for hour in span:
                    assert found[i, metric, hour] == (world.value(i, metric, hour), "complete")
        assert series.status().tweets == {"answered": 27, "unavailable": 1, "forbidden": 1, "failed": 1}
        assert server.breaches == []
