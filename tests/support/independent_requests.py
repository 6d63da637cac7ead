"""How these tests open the client under test, and what must hold of every result."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from engagement_async import BearerCredentials, EngagementClient, EngagementResult, OAuth1Credentials, RateLimit
from tests.independent.server import BEARER, CONSUMER_KEY, CONSUMER_SECRET, TOKEN, TOKEN_SECRET, Server, World

OAUTH = OAuth1Credentials(CONSUMER_KEY, CONSUMER_SECRET, TOKEN, TOKEN_SECRET)
APP_ONLY = BearerCredentials(BEARER)
AMPLE = RateLimit(1_000_000, period=1)
BY_TWEET = {"by_tweet": ["tweet.id", "engagement.type"]}


def client_of(server: Server, **options: Any) -> EngagementClient:
    """Return the client, with a contract that is never in the way unless the test gives one."""
    options = {"credentials": OAUTH, "rate_limit": AMPLE, "base_url": server.url, **options}
    return EngagementClient(options.pop("credentials"), **options)


def random_ids(count: int, seed: int) -> list[str]:
    """Distinct IDs as they are: snowflakes, and some short ones of the first years."""
    draw = random.Random(seed)
    ids = {
        str(draw.randrange(10**17, 2 * 10**18) if draw.random() < 0.9 else draw.randrange(20, 10**10))
        for _ in range(count)
    }
    while len(ids) < count:
        ids.add(str(draw.randrange(10**17, 2 * 10**18)))
    ordered = sorted(ids)
    draw.shuffle(ordered)
    return ordered


def mixed_world(ids: Iterable[str], seed: int, *, bad_share: float = 0.3, states: tuple[str, ...] = ()) -> World:
    """Return a world in which a share of the Tweets is not simply alive."""
    draw = random.Random(seed)
    kinds = states or ("gone", "foreign", "old", "ancient", "never", "once")
    return World({i: draw.choice(kinds) for i in ids if draw.random() < bad_share})


def distinct(ids: Iterable[str | int]) -> list[str]:
    return list(dict.fromkeys(str(i) for i in ids))


def account_adds_up(result: EngagementResult, given: Iterable[str | int]) -> None:
    """Every distinct ID is in exactly one place, and the lists are in input order."""
    ids = distinct(given)
    order = {i: n for n, i in enumerate(ids)}
    wholly = set.intersection(
        *(set(result.unsupported_tweet_ids.get(metric, ())) for metric in result.query.engagement_types)
    )
    places = [
        *result.answered_tweet_ids,
        *result.unavailable_tweet_ids,
        *result.forbidden_tweet_ids,
        *result.failed_tweet_ids,
        *wholly,
    ]
    assert len(places) == len(ids)
    assert set(places) == set(ids)
    assert sum(result.outcomes.values()) == len(ids)
    assert list(result.tweet_ids) == ids
    for listed in (
        result.answered_tweet_ids,
        result.unavailable_tweet_ids,
        result.forbidden_tweet_ids,
        list(result.failed_tweet_ids),
        *result.unsupported_tweet_ids.values(),
    ):
        assert listed == sorted(listed, key=order.__getitem__)
