"""Whole runs with Tweets of several owners, in worlds drawn at random.

Owners are not answered for a while or at all, Tweets are refused in the account's name, the API fails at some Tweets, or
answers nobody. The consumer may be slow, stop or leave.

After each run every ID is in exactly one place, for the reason that the world gives; values and sums are true; an owner
that is well loses nothing to one that is not.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import (
    LAST_28_HOURS,
    EngagementClient,
    EngagementResult,
    Failure,
    FailureKind,
    Merger,
    Query,
    RateLimit,
)
from tests.support.model_server import Act, Disconnect, ModelServer, Rule, Status, World, during, flaky, poison
from tests.support.oracle import OAUTH, check_places, check_values, make_ids, now, play

WHAT: dict[str, Any] = {
    "engagement_types": ["favorites", "replies"],
    "groupings": {"tweets": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]},
}
SICK: list[Act] = [Status(503), Status(403, content=b"<html>no</html>"), Disconnect()]
NOT_AUTHORIZED = Status(403, content=b'{"errors":[{"code":179,"message":"not authorized to see this status"}]}')
TIMEOUT_S = 900.0


@dataclass
class Owner:
    """What is true of one owner: when it is not answered, and which of its Tweets are bad."""

    ids: list[str]
    sick_from: float = math.inf
    sick_until: float = math.inf
    act: Act = SICK[0]
    poison: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    kinds: dict[str, set[FailureKind | None]] = field(default_factory=dict)

    def rule(self) -> Rule:
        mine = frozenset(self.ids)
        return Rule(
            "sick",
            lambda asked: (
                self.act
                if self.sick_from <= asked.at < self.sick_until and not mine.isdisjoint(asked.tweet_ids)
                else None
            ),
        )

    def may_be(self, tweet_id: str, *, had_outage: bool) -> set[FailureKind | None]:
        """Return the kinds of failure that are right for a Tweet; None where it is answered."""
        if tweet_id in self.poison:
            right: set[FailureKind | None] = {FailureKind.SERVER}
        elif tweet_id in self.refused:
            right = {FailureKind.REFUSED}
        else:
            right = {None}
        if self.sick_until - self.sick_from > TIMEOUT_S and self.sick_from < math.inf:
            right |= {None, FailureKind.OUTAGE}
        if len(self.ids) < 3:  # one Tweet tells little of another
            right |= {FailureKind.OUTAGE, FailureKind.SERVER}
        if self.refused and (had_outage or self.sick_from < math.inf or len(self.ids) < 100):
            right.add(FailureKind.CREDENTIALS)  # if the first two requests that arrive hold such a Tweet
        return right


def draw_owner(lots: random.Random, number: int) -> Owner:
    owner = Owner(make_ids(lots.choice([1, 2, 30, 200, 600]), number))
    if lots.random() < 0.4:
        owner.sick_from = lots.choice([0.0, lots.uniform(0, 30)])
        owner.sick_until = owner.sick_from + lots.choice([5.0, 100.0, 500.0, 10**6])
        owner.act = lots.choice(SICK)
    if lots.random() < 0.3:
        owner.poison = frozenset(lots.sample(owner.ids, min(2, len(owner.ids))))
    if lots.random() < 0.3 and len(owner.ids) > 100:
        owner.refused = frozenset(lots.sample(owner.ids[60:], lots.choice([1, 3, 8]))) - owner.poison
    return owner


@given(seed=st.integers(0, 2**32), count=st.integers(2, 6), concurrency=st.sampled_from([1, 4, 16]))
@settings(max_examples=settings().max_examples // 2)
def test_an_owner_loses_nothing_to_another(seed: int, count: int, concurrency: int) -> None:
    lots = random.Random(seed)
    owners = {f"owner{n}": draw_owner(lots, n) for n in range(count)}
    outage_at = lots.uniform(0, 30) if lots.random() < 0.3 else math.inf
    rate = lots.choice([0.0, 0.0, 0.2])
    rules = [
        during(outage_at, outage_at + lots.choice([5, 60])),
        *(owner.rule() for owner in owners.values()),
        flaky(rate, [Status(503), Disconnect()], seed),
        *(poison(owner.poison) for owner in owners.values()),
        *(poison(owner.refused, NOT_AUTHORIZED) for owner in owners.values()),
    ]
    limit = RateLimit(lots.choice([60, 600, 6000]))

    way = lots.choice(["call", "call", "timeout", "slow", "stopped", "left"])
    ends_at = lots.choice([1.0, 20.0, 100.0, 700.0])

    async def main(server: ModelServer) -> EngagementResult:
        given = {name: its.ids for name, its in owners.items()}
        query = Query(LAST_28_HOURS, **WHAT)
        merger = Merger(query)
        async with (
            EngagementClient(
                dict.fromkeys(owners, OAUTH), rate_limit=limit, base_url=server.url, concurrency=concurrency
            ) as client,
            asyncio.timeout(50_000),
        ):
            if way in ("call", "timeout"):
                return await client.last_28_hours(given, **WHAT, timeout=ends_at if way == "timeout" else None)
            async with client.stream(query, given) as answers:
                if way == "stopped":
                    asyncio.get_running_loop().call_later(ends_at, answers.stop)
                async for answer in answers:
                    merger.add(answer)
                    if way == "slow":
                        await asyncio.sleep(lots.choice([0.0, 1.0, 200.0]))
                    if way == "left" and now() > ends_at:
                        break
        return merger.result()

    world = World(rules)
    result = play(world, main)

    all_ids = sorted(i for owner in owners.values() for i in owner.ids)
    if way in ("stopped", "left"):
        assert set(result.tweet_ids) <= set(all_ids)
        assert len(set(result.tweet_ids)) == len(result.tweet_ids)
    else:
        assert sorted(result.tweet_ids) == all_ids
    check_places(result, result.tweet_ids)  # owners take turns
    check_values(world, result)
    found = frozenset(result.tweet_ids)
    for name, owner in owners.items():
        for i in owner.ids:
            failure = result.failed_tweet_ids.get(i)
            kind = failure.kind if isinstance(failure, Failure) else None
            right = owner.may_be(i, had_outage=outage_at < math.inf)
            if way == "timeout" or i not in found:
                right |= {FailureKind.TIMEOUT, None}
            assert kind in right, f"{name} of {len(owner.ids)}: Tweet {owner.ids.index(i)} {failure!r}, not {right}"
