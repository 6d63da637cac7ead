"""Many owners: whose a Tweet is, what another owner's token may ask, revocation at a time, new tokens."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from engagement_async.emulator import Emulator, EmulatorCredentials, Interpretation, Owner, Refusal, tweet_ids
from engagement_async.emulator.auth import Authority, SignedRequest
from tests.support.emulator_requests import BY_TWEET, NOW, make_emulator, request_body, send, sign
from tests.support.virtual_loop import run_virtual


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def credentials_of(emulator: Emulator, owner: str) -> EmulatorCredentials:
    token = next(each for each in emulator.owners if each.handle == owner)
    return dataclasses.replace(
        emulator.credentials, access_token=token.access_token, access_token_secret=token.access_token_secret
    )


async def ask_as(
    session: aiohttp.ClientSession,
    emulator: Emulator,
    owner: str,
    ids: list[str],
    credentials: EmulatorCredentials | None = None,
) -> tuple[int, Any]:
    """Ask for the impressions of some Tweets with an owner's token."""
    url = f"{emulator.base_url}/insights/engagement/totals"
    header = sign(url, credentials or credentials_of(emulator, owner))
    body = request_body(ids, ["impressions"], BY_TWEET)
    status, answer, _ = await send(session, emulator, "totals", body, headers={"Authorization": header})
    return status, answer


def test_owners_are_the_same_for_the_same_credentials() -> None:
    credentials = EmulatorCredentials.new(5)
    owners = credentials.owners(1000)

    assert owners[:10] == credentials.owners(10)
    assert owners[0] == Owner(
        "owner1",
        credentials.access_token.partition("-")[0],
        credentials.access_token,
        credentials.access_token_secret,
    )
    assert [owner.handle for owner in owners] == [f"owner{number}" for number in range(1, 1001)]
    for distinct in ("user_id", "access_token", "access_token_secret"):
        assert len({getattr(owner, distinct) for owner in owners}) == 1000
    assert all(owner.access_token.startswith(f"{owner.user_id}-") for owner in owners)
    assert not set(owners[1:]) & set(EmulatorCredentials.new(6).owners(1000))


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_nonsensical_number_of_owners_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="owners must be from 1 to 100,000"):
        Emulator(owners=count)


def test_every_tweet_has_one_owner_and_ids_of_each_can_be_made() -> None:
    emulator = make_emulator(owners=7, seed=3)
    shares = Counter(emulator.owner_of(tweet_id) for tweet_id in tweet_ids(7000, newest_at=NOW))

    assert set(shares) == {f"owner{number}" for number in range(1, 8)}
    assert max(shares.values()) < 1.2 * min(shares.values())
    for owner in emulator.owners:
        ids = emulator.tweet_ids(owner.handle, 50)
        assert len(set(ids)) == 50
        assert ids == make_emulator(owners=7, seed=3).tweet_ids(owner.handle, 50)
        assert {emulator.owner_of(tweet_id) for tweet_id in ids} == {owner.handle}
        assert {emulator.owner_of(int(tweet_id)) for tweet_id in ids} == {owner.handle}


def test_one_owner_has_everything() -> None:
    emulator = make_emulator()

    assert {emulator.owner_of(tweet_id) for tweet_id in tweet_ids(100, newest_at=NOW)} == {"owner1"}


def test_tweets_of_others_have_no_owner() -> None:
    emulator = make_emulator(owners=2, forbidden={"7": "123"})
    emulator.world.forbidden["8"] = emulator.owners[1].user_id

    assert emulator.owner_of(7) is None
    assert emulator.owner_of(8) == "owner2"


@pytest.mark.parametrize("form", ["ids", "authors"])
async def test_an_owner_may_ask_about_own_tweets_alone(session: aiohttp.ClientSession, form: Any) -> None:
    interpretation = Interpretation(forbidden=form)
    async with make_emulator(owners=3, unavailable_fraction=0, interpretation=interpretation) as emulator:
        ids = {
            owner.handle: sorted(emulator.tweet_ids(owner.handle, 4, oldest_at=NOW - 1e6)) for owner in emulator.owners
        }
        user_ids = {owner.handle: owner.user_id for owner in emulator.owners}
        own = await ask_as(session, emulator, "owner2", ids["owner2"])
        mixed = await ask_as(session, emulator, "owner2", [*ids["owner1"], *ids["owner2"], *ids["owner3"]])
        expected = emulator.expected("totals", ids["owner2"], ["impressions"], BY_TWEET, owner="owner2")
        with pytest.raises(Refusal, match="Forbidden to access tweets"):
            emulator.expected("totals", ids["owner2"], ["impressions"], BY_TWEET, owner="owner1")
        everything = emulator.expected("totals", [i for each in ids.values() for i in each], ["impressions"], BY_TWEET)
        log = emulator.log

    assert own[0] == 200
    assert {i: int(metrics["impressions"]) for i, metrics in own[1]["by_tweet"].items()} == {
        i: metrics["impressions"] for i, metrics in expected["by_tweet"].items()
    }
    assert len(everything["by_tweet"]) == 12
    assert mixed[0] == 403
    if form == "ids":
        assert mixed[1]["errors"] == [f"Forbidden to access tweets: {','.join(sorted(ids['owner1'] + ids['owner3']))}"]
    else:
        texts = {
            f"Forbidden to access tweets for author id {user_ids[owner]}: {', '.join(ids[owner])}"
            for owner in ("owner1", "owner3")
        }
        assert set(mixed[1]["errors"]) == texts
    assert [entry.owner for entry in log] == ["owner2", "owner2"]
    assert log.by_owner == {"owner2": 2}


async def test_the_bearer_token_may_ask_public_metrics_of_all(session: aiohttp.ClientSession) -> None:
    async with make_emulator(owners=50, unavailable_fraction=0) as emulator:
        body = request_body(tweet_ids(50, newest_at=NOW), ["favorites"], BY_TWEET)
        status, answer, _ = await send(session, emulator, "totals", body, bearer=True)

    assert status == 200
    assert len(answer["by_tweet"]) == 50


async def test_one_token_is_revoked_and_replaced(session: aiohttp.ClientSession) -> None:
    async with make_emulator(owners=2) as emulator:
        ids = {owner.handle: emulator.tweet_ids(owner.handle, 1) for owner in emulator.owners}
        old = credentials_of(emulator, "owner2")
        statuses = []

        async def ask_both() -> None:
            statuses.append([(await ask_as(session, emulator, owner, ids[owner]))[0] for owner in ("owner1", "owner2")])

        await ask_both()
        emulator.revoke("owner2")
        await ask_both()
        renewed = emulator.reissue("owner2")
        await ask_both()
        stale = await ask_as(session, emulator, "owner2", ids["owner2"], old)

        assert statuses == [[200, 200], [200, 401], [200, 200]]
        assert stale == (401, {"errors": ["Your account could not be authenticated. Reason: Access token not found"]})
        assert renewed == emulator.owners[1]
        assert renewed.user_id == emulator.world.user_ids[1]
        assert emulator.owner_of(ids["owner2"][0]) == "owner2"
        assert emulator.log.by_owner == {"owner1": 3, "owner2": 4}
        emulator.revoke()
        await ask_both()
        assert statuses[-1] == [401, 401]


async def test_a_wrong_secret_counts_for_the_owner(session: aiohttp.ClientSession) -> None:
    async with make_emulator(owners=2) as emulator:
        wrong = dataclasses.replace(credentials_of(emulator, "owner2"), access_token_secret="wrong")
        status, answer = await ask_as(session, emulator, "owner2", ["7"], wrong)

        assert (status, answer["errors"]) == (
            401,
            ["Your account could not be authenticated. Reason: Invalid signature"],
        )
        assert emulator.log.by_owner == {"owner2": 1}


def test_revocation_at_a_time() -> None:
    async def main() -> list[int]:
        statuses = []
        async with (
            make_emulator(owners=2, revocations={"owner2": 3600}) as emulator,
            aiohttp.ClientSession() as session,
        ):
            ids = emulator.tweet_ids("owner2", 1)
            for pause_s in (0, 3500, 200):
                await asyncio.sleep(pause_s)
                statuses.append((await ask_as(session, emulator, "owner2", ids))[0])
        return statuses

    assert run_virtual(main()) == [200, 200, 401]


def test_revocation_is_of_the_instant() -> None:
    credentials = EmulatorCredentials.new(1)
    authority = Authority(credentials, 3)
    authority.revoke("owner1", 60)
    authority.revoke(at=120)

    def is_refused(uptime_s: float, header: str) -> bool:
        try:
            authority.check(SignedRequest([header], "POST", "http://a/b"), NOW, uptime_s)
        except Refusal:
            return True
        return False

    instants = (0, 59.9, 60, 119.9, 120)
    by_owner = [is_refused(at, sign("http://a/b", credentials, timestamp=str(int(NOW)))) for at in instants]
    by_bearer = [is_refused(at, f"Bearer {credentials.bearer_token}") for at in instants]

    assert by_owner == [False, False, True, True, True]
    assert by_bearer == [False, False, False, False, True]


@pytest.mark.parametrize("owner", ["owner0", "owner3", "somebody"])
def test_unknown_owners_are_refused_with_the_names(owner: str) -> None:
    emulator = make_emulator(owners=2)
    match = f"no owner is called '{owner}': they are owner1 to owner2"

    for call in (emulator.revoke, emulator.reissue, lambda handle: emulator.tweet_ids(handle, 1)):
        with pytest.raises(ValueError, match=match):
            call(owner)
    with pytest.raises(ValueError, match=match):
        Emulator(owners=2, revocations={owner: 1})
