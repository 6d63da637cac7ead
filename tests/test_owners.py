"""Tweets of many owners on one contract, over real sockets against the emulator, which knows every token and every Tweet."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    AuthError,
    CredentialFile,
    EngagementClient,
    Failure,
    FailureKind,
    OAuth1Credentials,
    Query,
    RateLimit,
    TweetsByOwner,
    UsageError,
)
from engagement_async._core.endpoints import LAST_28_HOURS
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.raw_http import Exchange, RawServer, plain

WHAT: dict[str, Any] = {
    "engagement_types": ["favorites", "impressions"],
    "groupings": {"by_tweet": ["tweet.id", "engagement.type"], "by_owner": ["owner", "engagement.type"]},
}
FAST = RateLimit(60_000)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(requests_per_minute=None, owners=60) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def owned(emulator: Emulator) -> dict[str, list[str]]:
    return owned_tweets(emulator, 2_400)


@pytest.fixture
def credentials(emulator: Emulator) -> dict[str, OAuth1Credentials]:
    return credentials_of(emulator)


def owned_tweets(emulator: Emulator, count: int) -> dict[str, list[str]]:
    owned: dict[str, list[str]] = defaultdict(list)
    for tweet_id in tweet_ids(count, newest_at=time.time()):
        owned[emulator.owner_of(tweet_id) or ""].append(tweet_id)
    return dict(owned)


def credentials_of(emulator: Emulator) -> dict[str, OAuth1Credentials]:
    return {
        owner.handle: OAuth1Credentials(
            emulator.consumer_key, emulator.consumer_secret, owner.access_token, owner.access_token_secret
        )
        for owner in emulator.owners
    }


def client_of(emulator: Emulator, credentials: Any, **options: Any) -> EngagementClient:
    return EngagementClient(credentials, base_url=emulator.base_url, **{"rate_limit": FAST, **options})


def pairs(owned: dict[str, list[str]], seed: int = 1) -> list[tuple[str, str]]:
    shuffled = [(owner, tweet_id) for owner, ids in owned.items() for tweet_id in ids]
    random.Random(seed).shuffle(shuffled)
    return shuffled


@pytest.mark.parametrize("form", ["mapping", "list of pairs", "generator", "async generator"])
async def test_every_value_is_under_its_owner(
    emulator: Emulator, owned: dict[str, list[str]], credentials: dict[str, OAuth1Credentials], form: str
) -> None:
    async def generated() -> AsyncIterator[tuple[str, str]]:
        for pair in pairs(owned):
            yield pair

    given: Any = {
        "mapping": owned,
        "list of pairs": pairs(owned),
        "generator": iter(pairs(owned)),
        "async generator": generated(),
    }[form]
    before = len(emulator.log)
    async with client_of(emulator, credentials) as client:
        result = await client.last_28_hours(given, **WHAT)

    assert len(emulator.log) - before == sum(ceil(len(ids) / 25) for ids in owned.values())
    assert result.outcomes["failed"] == result.outcomes["forbidden"] == 0
    assert set(result.tweet_ids) == {i for ids in owned.values() for i in ids}
    rows = list(result.rows("by_tweet"))
    assert all(row["owner"] == emulator.owner_of(row["tweet_id"]) for row in rows)
    assert result.columns("by_tweet") == ("owner", "tweet_id", "engagement_type", "value")
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        sums[row["owner"], row["engagement_type"]] += row["value"]
    assert {(row["owner"], row["engagement_type"]): row["value"] for row in result.rows("by_owner")} == sums
    assert result.to_arrow("by_tweet").to_pylist() == rows
    assert result.to_arrow("by_owner").num_rows == 2 * len(owned)
    assert {owner: its.outcomes for owner, its in result.owners.items()}.keys() == owned.keys()
    assert Counter(result.tweet_owners.values()) == {owner: len(ids) for owner, ids in owned.items()}


@pytest.mark.parametrize(
    ("refused", "kind", "count", "requests"),
    [
        (lambda asked, _: "7" in asked, FailureKind.REFUSED, 1, 25),
        (lambda asked, _: "190" in asked, FailureKind.REFUSED, 1, 25),
        (lambda asked, _: not {"7", "8", "190", "200"}.isdisjoint(asked), FailureKind.REFUSED, 4, 60),
        (lambda _, before: before >= 4, FailureKind.CREDENTIALS, 100, 16),
        (lambda *_: True, FailureKind.CREDENTIALS, 200, 2),
    ],
    ids=["one Tweet", "one of the last", "some", "revoked midway", "revoked"],
)
async def test_a_refusal_in_an_owners_name_is_about_all_of_its_tweets_or_some(
    refused: Callable[[list[str], int], bool], kind: FailureKind, count: int, requests: int
) -> None:
    asked_of: Counter[bool] = Counter()

    async def respond(exchange: Exchange) -> None:
        asked = json.loads(exchange.request.partition(b"\r\n\r\n")[2])["tweet_ids"]
        is_first = int(asked[0]) < 1000
        asked_of[is_first] += 1
        if is_first and refused(asked, asked_of[True] - 1):
            await exchange.send(plain(b'{"errors":[{"code":179,"message":"not authorized"}]}', status="403 Forbidden"))
        else:
            await exchange.send(plain(json.dumps({"by_tweet": {i: {"impressions": "1"} for i in asked}}).encode()))

    owned = {"one": [str(i) for i in range(1, 201)], "other": [str(i) for i in range(1000, 1100)]}
    credentials = {owner: OAuth1Credentials("key", "secret", owner, "secret") for owner in owned}
    async with (
        RawServer(respond) as server,
        EngagementClient(credentials, base_url=server.url, rate_limit=FAST, concurrency=4) as client,
    ):
        result = await client.last_28_hours(
            owned, engagement_types=["impressions"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
        )

    assert {failure.kind for failure in result.failed_tweet_ids.values() if isinstance(failure, Failure)} == {kind}
    assert len(result.failed_tweet_ids) == count
    assert result.outcomes["answered"] == 300 - count
    assert asked_of[True] <= requests


async def test_an_owner_fails_alone() -> None:
    async with Emulator(requests_per_minute=None, owners=60) as emulator:
        owned = owned_tweets(emulator, 2_400)
        good = credentials_of(emulator)
        names = sorted(owned)
        revoked, unknown, wrong = names[:5], names[5:8], names[8:10]
        for owner in revoked:
            emulator.revoke(owner)
        store = {owner: its for owner, its in good.items() if owner not in unknown}
        for owner in wrong:
            store[owner] = good[names[20]]  # another owner's token, for whom its Tweets are forbidden
        async with client_of(emulator, store) as client:
            result = await client.last_28_hours(owned, **WHAT)

        failing = {*revoked, *unknown}
        for owner, its in result.owners.items():
            assert sum(its.outcomes) == len(owned[owner])
            if owner in failing:
                assert its.outcomes.failed == len(owned[owner])
                assert its.requests <= (0 if owner in unknown else 2)
                assert its.error is not None
                assert its.error.startswith(f"owner {owner}: ")
            elif owner in wrong:
                assert its.outcomes.forbidden + its.outcomes.unavailable == len(owned[owner])
                assert its.outcomes.forbidden > 0
                assert its.error is None
            else:
                assert its.outcomes.failed == its.outcomes.forbidden == 0
                assert its.requests == ceil(len(owned[owner]) / 25)
        kinds = {getattr(failure, "kind", None) for failure in result.failed_tweet_ids.values()}
        assert kinds == {FailureKind.CREDENTIALS}
        assert sum(its.requests for its in result.owners.values()) == len(emulator.log)


async def test_new_tokens_are_found_while_the_run_goes_on(tmp_path: Path) -> None:
    async with Emulator(requests_per_minute=None, owners=3) as emulator:
        owned = owned_tweets(emulator, 300)
        path = tmp_path / "owners.csv"

        def write() -> None:
            lines = [f"{o.handle},{o.access_token},{o.access_token_secret}" for o in emulator.owners]
            path.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))
            path.chmod(0o600)

        write()
        store = CredentialFile(path, consumer_key=emulator.consumer_key, consumer_secret=emulator.consumer_secret)
        async with client_of(emulator, store) as client:
            first = await client.last_28_hours(owned, **WHAT)
            emulator.reissue("owner2")
            write()
            second = await client.last_28_hours(owned, **WHAT)

        assert first.outcomes == second.outcomes
        assert second.outcomes["failed"] == 0
        assert second.owners["owner2"].requests - first.owners["owner2"].requests <= 2  # the ones that were refused


async def test_owners_that_were_refused_by_mistake_are_answered_by_the_next_call_of_the_client() -> None:
    async with Emulator(requests_per_minute=None, owners=3) as emulator:
        owned = owned_tweets(emulator, 300)
        store = credentials_of(emulator)
        async with client_of(emulator, store) as client:
            emulator.set_faults({"401": 1})
            for _ in range(2):
                before = len(emulator.log)
                with pytest.raises(AuthError, match="every owner fails alike"):
                    await client.last_28_hours(owned, **WHAT)
                assert len(owned) <= len(emulator.log) - before <= 2 * len(owned)
            emulator.set_faults({})
            result = await client.last_28_hours(owned, **WHAT)

        assert result.outcomes["failed"] == 0


@pytest.mark.parametrize("count", [1, 2, 60])
async def test_a_run_whose_owners_all_fail_alike_stops(
    emulator: Emulator, owned: dict[str, list[str]], count: int
) -> None:
    wrong = OAuth1Credentials("no", "such", "application", "here")
    before = len(emulator.log)
    async with client_of(emulator, lambda _: wrong) as client:
        with pytest.raises(AuthError):
            await client.last_28_hours(dict(list(owned.items())[:count]), **WHAT)

    assert len(emulator.log) - before <= 2 * min(count, 20) + 16


async def test_a_large_owner_holds_nobody_up(emulator: Emulator, credentials: dict[str, OAuth1Credentials]) -> None:
    ids: dict[str, list[str]] = defaultdict(list)
    for tweet_id in tweet_ids(20_000, newest_at=time.time()):
        ids[emulator.owner_of(tweet_id) or ""].append(tweet_id)
    small = {owner: its[:25] for owner, its in ids.items() if owner != "owner1"}
    many = {"owner1": ids["owner1"], **small}
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"t": ["tweet.id"]})
    seen: list[str | None] = []
    async with client_of(emulator, credentials) as client, client.stream(query, many) as answers:
        async for answer in answers:
            seen.append(answer.owner)
            assert answer.requests == 1

    last_small = max(at for at, owner in enumerate(seen) if owner != "owner1")
    assert last_small <= 2 * len(small) + 16
    assert seen.count("owner1") == ceil(len(ids["owner1"]) / 25)


async def test_outages_and_failures_sign_nothing_for_another_owner() -> None:
    """Probes and bisected requests too: an owner's token may not read another's Tweets, and would be forbidden to."""
    async with Emulator(requests_per_minute=None, owners=60, faults={"503": 3, "reset": 7}, seed=5) as faulty:
        owned: dict[str, list[str]] = defaultdict(list)
        for tweet_id in tweet_ids(1_200, newest_at=time.time()):
            owned[faulty.owner_of(tweet_id) or ""].append(tweet_id)
        store = {
            owner.handle: OAuth1Credentials(
                faulty.consumer_key, faulty.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in faulty.owners
        }
        async with client_of(faulty, store) as client:
            result = await client.last_28_hours(owned, **WHAT)

        assert result.outcomes["forbidden"] == 0
        assert result.outcomes["failed"] == 0


async def test_no_secret_is_shown(
    emulator: Emulator, owned: dict[str, list[str]], credentials: dict[str, OAuth1Credentials], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = {**credentials, "owner1": OAuth1Credentials("key", "canary-1", "canary-2", "canary-3")}
    async with client_of(emulator, broken) as client:
        result = await client.last_28_hours(owned, **WHAT)
    shown = f"{caplog.text} {result!r} {result.owners} {result.failed_tweet_ids} {client!r} {vars(client)}"

    secrets = ["canary-", *(owner.access_token_secret for owner in emulator.owners), emulator.consumer_secret]
    assert [secret for secret in secrets if secret in shown] == []


@pytest.mark.parametrize("given", [{"owner1": ["1"]}, TweetsByOwner([("owner1", "1")])])
async def test_owners_need_a_credential_store(
    emulator: Emulator, credentials: dict[str, OAuth1Credentials], given: Any
) -> None:
    async with client_of(emulator, credentials["owner1"]) as client:
        with pytest.raises(UsageError, match="give a CredentialFile"):
            await client.totals(given, engagement_types=["favorites"], groupings={"t": ["tweet.id"]})
        with pytest.raises(UsageError, match="give a CredentialFile"):
            await client.totals(["1"], engagement_types=["favorites"], groupings={"t": ["owner", "tweet.id"]})


async def test_a_credential_store_needs_owners(emulator: Emulator, credentials: dict[str, OAuth1Credentials]) -> None:
    async with client_of(emulator, credentials) as client:
        with pytest.raises(UsageError, match="give pairs"):
            await client.totals(["1"], engagement_types=["favorites"], groupings={"t": ["tweet.id"]})


@pytest.mark.virtual_time
async def test_a_call_that_hears_of_a_rotation_later_signs_with_what_another_call_got() -> None:
    """Its 401 is about the old token: the store has no others than the new one, which was not refused."""
    old, new = (OAuth1Credentials("key", "secret", token, "secret") for token in ("old", "new"))
    in_store = old
    slow = "2"

    async def look_up(_: str) -> OAuth1Credentials:
        return in_store

    async def answer(exchange: Exchange) -> None:
        ids = json.loads(exchange.request.partition(b"\r\n\r\n")[2])["tweet_ids"]
        await asyncio.sleep(0.5 if slow in ids else 0.1)
        if in_store is new and b'oauth_token="new"' not in exchange.request:
            await exchange.send(plain(b'{"errors":["Invalid or expired token"]}', status="401 Unauthorized"))
        else:
            await exchange.send(plain(json.dumps({"by_tweet": {i: {"favorites": "1"} for i in ids}}).encode()))

    async with (
        RawServer(answer) as server,
        EngagementClient(look_up, base_url=server.url, rate_limit=FAST) as client,
    ):

        async def call(tweet_id: str) -> dict[str, int]:
            query: dict[str, Any] = {"engagement_types": ["favorites"]}
            query["groupings"] = {"by_tweet": ["tweet.id", "engagement.type"]}
            return (await client.totals({"acme": [tweet_id]}, **query)).outcomes

        assert (await call("1"))["answered"] == 1
        in_store = new
        assert [outcomes["answered"] for outcomes in await asyncio.gather(call("1"), call(slow))] == [1, 1]
