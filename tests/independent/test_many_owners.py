"""A thousand owners against a server that shares no code with the package: whose token signed what, and what that cost."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from math import ceil
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from oauthlib.oauth1 import RequestValidator, SignatureOnlyEndpoint

from engagement_async import LAST_28_HOURS, EngagementClient, FailureKind, OAuth1Credentials, Query, RateLimit
from engagement_async.backfill import BackfillJob

CONSUMER_KEY, CONSUMER_SECRET = "canary-key", "canary-consumer-secret"
QUERY = Query(
    LAST_28_HOURS,
    engagement_types=["favorites", "impressions"],
    groupings={"by_tweet": ["tweet.id", "engagement.type"], "by_owner": ["owner", "engagement.type"]},
)
AMPLE = RateLimit(1_000_000)
OWNERS = 1_000


class Validator(RequestValidator):
    """Knows the secrets of the tokens that were given out and not revoked."""

    enforce_ssl = False
    timestamp_lifetime = 100_000
    client_key_length = access_token_length = nonce_length = (5, 100)
    dummy_client = dummy_access_token = "nobody"

    def __init__(self, secrets: dict[str, str]) -> None:
        super().__init__()
        self.secrets = secrets

    def validate_client_key(self, client_key: str, request: Any) -> bool:
        return client_key == CONSUMER_KEY

    def validate_timestamp_and_nonce(self, *_: Any, **__: Any) -> bool:
        return True

    def get_client_secret(self, client_key: str, request: Any) -> str:
        return CONSUMER_SECRET

    def get_access_token_secret(self, client_key: str, token: str, request: Any) -> str:
        return self.secrets.get(token, "")

    def check_client_key(self, client_key: str) -> bool:
        return True

    def check_access_token(self, request_token: str) -> bool:
        return True

    def check_nonce(self, nonce: str) -> bool:
        return True


class World:
    """Owners with Tweets and tokens; five are revoked, three have none, and two have a wrong one."""

    def __init__(self) -> None:
        draw = random.Random(11)
        names = [f"brand-{number}" for number in range(OWNERS)]
        self.owned = {
            name: [str(10**18 + number * 1_000 + n) for n in range(draw.randrange(1, 45))]
            for number, name in enumerate(names)
        }
        self.owner_of = {i: name for name, ids in self.owned.items() for i in ids}
        chosen = draw.sample(names, 10)
        self.revoked, self.unknown, self.wrong = chosen[:5], chosen[5:8], chosen[8:]
        self.failing = frozenset(chosen)
        self.store = {
            name: OAuth1Credentials(CONSUMER_KEY, CONSUMER_SECRET, f"canary-token-{name}", f"canary-secret-{name}")
            for name in names
            if name not in self.unknown
        }
        for name in self.wrong:
            self.store[name] = OAuth1Credentials(CONSUMER_KEY, CONSUMER_SECRET, f"canary-token-{name}", "canary-wrong")
        self.renewed = {name: (f"canary-new-{name}", f"canary-secret-{name}") for name in chosen}
        self.secrets = {f"canary-token-{name}": f"canary-secret-{name}" for name in names if name not in self.revoked}
        self.suspended: frozenset[str] = frozenset()
        """Owners whose account the API refuses with a 403, whatever they ask."""
        self.clock_is_off_s = 0.0
        """How far the machine's clock is behind the server's."""
        self.requests: Counter[str] = Counter()
        self.order: list[str] = []
        self.breaches: list[str] = []
        self._endpoint = SignatureOnlyEndpoint(Validator(self.secrets))

    def value(self, tweet_id: str, metric: str) -> int:
        return int(tweet_id) % 9_973 + len(metric)

    @property
    def least_requests(self) -> int:
        return sum(ceil(len(ids) / 25) for name, ids in self.owned.items() if name not in self.failing)

    async def answer(self, request: web.Request) -> web.Response:
        authorization = request.headers["Authorization"]
        token = re.search('oauth_token="([^"]*)"', authorization)
        assert token is not None
        name = token[1].removeprefix("canary-token-").removeprefix("canary-new-")
        self.requests[name] += 1
        self.order.append(name)
        asked = orjson.loads(await request.read())
        others = [i for i in asked["tweet_ids"] if self.owner_of[i] != name]
        if others:
            self.breaches.append(f"{name} asked for Tweets of {self.owner_of[others[0]]}")
        if "owner" in str(asked["groupings"].values()):
            self.breaches.append("owner is no level of the API")
        is_valid, _ = self._endpoint.validate_request(str(request.url), "POST", None, {"Authorization": authorization})
        if not is_valid:
            return web.json_response({"errors": [{"message": "Your account could not be authenticated."}]}, status=401)
        if name in self.suspended:
            return web.json_response({"errors": [{"message": "Your account is suspended."}]}, status=403)
        if self.clock_is_off_s:
            signed_at = re.search('oauth_timestamp="([0-9]*)"', authorization)
            now = time.time() + self.clock_is_off_s
            if signed_at is None or abs(int(signed_at[1]) - now) > 300:
                return web.json_response({"errors": [{"message": "Timestamp out of bounds."}]}, status=401)
        values = {
            i: {metric: str(self.value(i, metric)) for metric in asked["engagement_types"]} for i in asked["tweet_ids"]
        }
        sums = {m: str(sum(self.value(i, m) for i in asked["tweet_ids"])) for m in asked["engagement_types"]}
        body = {"start": "2026-03-01T08:00:00Z", "end": "2026-03-02T12:00:00Z", "by_tweet": values, "by_owner": sums}
        return web.json_response(body)

    async def _date(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(time.time() + self.clock_is_off_s, usegmt=True)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.on_response_prepare.append(self._date)
        app.router.add_post("/insights/engagement/28hr", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield site.name
        finally:
            await runner.cleanup()

    def check_requests(self) -> None:
        assert self.breaches == []
        assert all(
            self.requests[name] == ceil(len(self.owned[name]) / 25) for name in self.owned if name not in self.failing
        )
        assert all(self.requests[name] <= 2 for name in self.failing)
        assert not any(self.requests[name] for name in self.unknown)
        assert self.least_requests < self.requests.total() <= self.least_requests + 2 * 7

    def check_rows(self, rows: list[dict[str, Any]], sums: list[dict[str, Any]]) -> None:
        assert len(rows) == 2 * sum(len(ids) for name, ids in self.owned.items() if name not in self.failing)
        expected: Counter[tuple[str, str]] = Counter()
        for row in rows:
            assert row["owner"] == self.owner_of[row["tweet_id"]]
            assert row["value"] == self.value(row["tweet_id"], row["engagement_type"])
            expected[row["owner"], row["engagement_type"]] += row["value"]
        assert {(row["owner"], row["engagement_type"]): row["value"] for row in sums} == expected


async def test_one_call() -> None:
    world = World()
    async with world.served() as url, EngagementClient(world.store, rate_limit=AMPLE, base_url=url) as client:
        result = await client.last_28_hours(
            world.owned, engagement_types=QUERY.engagement_types, groupings=QUERY.groupings
        )

    world.check_requests()
    world.check_rows(list(result.rows("by_tweet")), list(result.rows("by_owner")))
    assert {name for name, its in result.owners.items() if its.error} == world.failing
    failed = {i for name in world.failing for i in world.owned[name]}
    assert result.failed_tweet_ids.keys() == failed
    assert all(getattr(each, "kind", None) is FailureKind.CREDENTIALS for each in result.failed_tweet_ids.values())
    assert {name: its.requests for name, its in result.owners.items() if its.requests} == world.requests


async def test_one_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    job = BackfillJob(tmp_path / "job")
    async with world.served() as url:
        await job.start(QUERY, world.owned)
        progress = await job.run(world.store, rate_limit=AMPLE, base_url=url)

    world.check_requests()
    assert progress.requests == world.requests.total()
    failed = sum(len(world.owned[name]) for name in world.failing)
    assert (progress.outcome, progress.outcomes.failed) == ("done", failed)
    assert progress.outcomes.answered == sum(map(len, world.owned.values())) - failed
    status = await job.status()
    assert set(list(status.owners)[:10]) == world.failing
    await job.export(tmp_path / "{grouping}.parquet", outcomes=tmp_path / "outcomes.csv")
    tables = [pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in QUERY.groupings]
    world.check_rows(*tables)
    assert (tmp_path / "outcomes.csv").read_text().count(",failed,") == failed
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary-" not in held
    assert "canary-" not in f"{caplog.text} {status} {progress}"


async def test_one_job_whose_owners_get_new_tokens_later(tmp_path: Path) -> None:
    world = World()
    job = BackfillJob(tmp_path / "job")
    pending = sum(len(world.owned[name]) for name in world.failing)
    async with world.served() as url:
        await job.start(QUERY, world.owned)
        progress = await job.run(world.store, rate_limit=AMPLE, base_url=url, failed_credentials="pending")
        world.check_requests()
        assert (progress.outcome, progress.pending, progress.outcomes.failed) == ("credentials", pending, 0)
        owners = (await job.status()).owners
        assert {name for name, its in owners.items() if its.error} == world.failing
        assert {name: its.requests for name, its in owners.items() if its.requests} == world.requests

        before = world.requests.copy()
        progress = await job.run(world.store, rate_limit=AMPLE, base_url=url, failed_credentials="pending")
        assert progress.outcome == "credentials"
        assert all((world.requests - before)[name] <= 2 for name in world.failing)
        assert (world.requests - before).keys() <= world.failing

        world.secrets.update(world.renewed.values())
        renewed = {
            name: OAuth1Credentials(CONSUMER_KEY, CONSUMER_SECRET, *pair) for name, pair in world.renewed.items()
        }
        progress = await job.run(world.store | renewed, rate_limit=AMPLE, base_url=url, failed_credentials="pending")
        assert (progress.outcome, progress.pending, progress.outcomes.failed) == ("done", 0, 0)
    assert world.breaches == []
    world.failing = frozenset()
    await job.export(tmp_path / "{grouping}.parquet")
    world.check_rows(*(pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in QUERY.groupings))
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary-" not in held


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_an_account_that_is_refused_costs_two_requests(concurrency: int) -> None:
    world = World()
    names = [name for name, ids in world.owned.items() if name not in world.failing and len(ids) > 25]
    world.suspended = frozenset(names[::40])
    world.failing |= world.suspended
    async with (
        world.served() as url,
        EngagementClient(world.store, rate_limit=AMPLE, base_url=url, concurrency=concurrency) as client,
    ):
        result = await client.last_28_hours(
            world.owned, engagement_types=QUERY.engagement_types, groupings=QUERY.groupings
        )

    assert len(world.suspended) > 5
    assert all(world.requests[name] == 2 for name in world.suspended)
    assert world.breaches == []
    assert world.requests.total() <= world.least_requests + 2 * len(world.failing - frozenset(world.unknown))
    assert {name for name, its in result.owners.items() if its.error} == world.failing
    assert all("Your account is suspended" in (result.owners[name].error or "") for name in world.suspended)
    assert not result.forbidden_tweet_ids


async def test_of_an_account_that_is_refused_no_third_request_is_under_way() -> None:
    """With few owners, several requests of each are under way at once."""
    world = World()
    good, *suspended = [name for name in world.owned if name not in world.failing][:4]
    world.suspended = world.failing = frozenset(suspended)
    world.owned = {name: [str(10**18 + 1_000 * n + i) for i in range(500)] for n, name in enumerate([*suspended, good])}
    world.owner_of = {i: name for name, ids in world.owned.items() for i in ids}
    async with world.served() as url, EngagementClient(world.store, rate_limit=AMPLE, base_url=url) as client:
        await client.last_28_hours(world.owned, engagement_types=QUERY.engagement_types, groupings=QUERY.groupings)

    assert world.requests == {good: 20, **dict.fromkeys(suspended, 2)}


async def test_a_clock_that_is_wrong_fails_nobody() -> None:
    world = World()
    world.clock_is_off_s = 3_600.0
    async with world.served() as url, EngagementClient(world.store, rate_limit=AMPLE, base_url=url) as client:
        result = await client.last_28_hours(
            world.owned, engagement_types=QUERY.engagement_types, groupings=QUERY.groupings
        )

    assert {name for name, its in result.owners.items() if its.error} == world.failing
    assert world.breaches == []
    in_flight = 16  # those that were signed before the first answer told the time
    assert world.requests.total() <= world.least_requests + 2 * 7 + in_flight
    assert all(world.requests[name] <= 3 for name in world.failing)


async def test_small_owners_are_done_while_a_large_one_is_not(tmp_path: Path) -> None:
    world = World()
    names = list(world.owned)
    world.store = {
        name: OAuth1Credentials(CONSUMER_KEY, CONSUMER_SECRET, f"canary-token-{name}", f"canary-secret-{name}")
        for name in names
    }
    world.secrets |= {f"canary-token-{name}": f"canary-secret-{name}" for name in names}
    large, *small = names
    world.owned = {name: [str(10**18 + 1_000 * n + i) for i in range(25)] for n, name in enumerate(small)}
    world.owned = {large: [str(2 * 10**18 + i) for i in range(100_000)], **world.owned}
    world.owner_of = {i: name for name, ids in world.owned.items() for i in ids}
    job = BackfillJob(tmp_path / "job")
    async with world.served() as url:
        await job.start(QUERY, world.owned)
        progress = await job.run(world.store, rate_limit=AMPLE, base_url=url, max_requests=1_100)
        assert (progress.outcome, len(world.order)) == ("max_requests", 1_100)
        assert frozenset(world.order) == frozenset(names)
        owners = (await job.status()).owners
        assert [name for name, its in owners.items() if its.pending] == [large]

        world.order.clear()
        async with (
            EngagementClient(world.store, rate_limit=AMPLE, base_url=url) as client,
            client.stream(QUERY, world.owned) as answers,
        ):
            done = set()
            async for answer in answers:
                done.add(answer.owner)
                if len(done) == len(names):
                    break
    assert len(world.order) <= 1_100
    assert world.breaches == []
