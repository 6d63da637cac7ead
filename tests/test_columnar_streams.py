"""Streams with columns beside streams with dicts: the same answers of the same server, in every way a batch is answered."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from engagement_async import (
    HISTORICAL,
    TOTALS,
    AnswerStream,
    ColumnarAnswer,
    ColumnarStream,
    EngagementClient,
    EngagementResult,
    Merger,
    OAuth1Credentials,
    Query,
    RateLimit,
    UsageError,
)
from engagement_async._core.owned_batches import Tweets
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.columns import check_tables

FAST = RateLimit(60_000)
METRICS = ["impressions", "favorites", "video_views"]
BY_TWEET, BY_TYPE = ["tweet.id", "engagement.type"], ["engagement.type"]
BY_HOUR = ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]
QUERIES = {
    "totals": Query(TOTALS, engagement_types=METRICS, groupings={"tweets": BY_TWEET, "sums": BY_TYPE}),
    "hours": Query(
        HISTORICAL,
        engagement_types=METRICS,
        groupings={"hours": BY_HOUR, "days": ["engagement.day"]},
        start="2026-03-01",
        end="2026-03-04",
    ),
    "hours within days": Query(
        HISTORICAL,
        engagement_types=METRICS,
        groupings={"hours": BY_HOUR},
        start="2026-03-01T05:00:00Z",
        end="2026-03-02T07:00:00Z",
    ),
    "ten weeks": Query(
        HISTORICAL,
        engagement_types=METRICS,
        groupings={"days": ["tweet.id", "engagement.type", "engagement.day"], "tweets": BY_TWEET, "sums": BY_TYPE},
        start="2026-01-01",
        end="2026-03-12",
    ),
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(requests_per_minute=None, owners=4) as emulator:
        yield emulator


def credentials_of(emulator: Emulator, handle: str | None = None) -> OAuth1Credentials:
    owner = next(each for each in emulator.owners if handle in (None, each.handle))
    return OAuth1Credentials(
        emulator.consumer_key, emulator.consumer_secret, owner.access_token, owner.access_token_secret
    )


async def both(client: EngagementClient, query: Query, ids: Tweets) -> tuple[EngagementResult, list[ColumnarAnswer]]:
    merger = Merger(query)
    async with client.stream(query, ids) as answers:
        async for answer in answers:
            merger.add(answer)
    found: list[ColumnarAnswer] = []
    async with client.stream(query, ids, columnar=True) as columnar:
        async for each in columnar:
            check_tables(each, query)
            found.append(each)
    return merger.result(), sorted(found, key=lambda each: each.batch_number)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: str(list(row.values())))


@pytest.mark.parametrize("name", QUERIES)
async def test_the_tables_of_all_answers_are_those_of_the_result(emulator: Emulator, name: str) -> None:
    query = QUERIES[name]
    ids = [i for i in tweet_ids(400, newest_at=time.time()) if emulator.owner_of(i) == emulator.owners[0].handle]
    ids += ["20", "21"]  # of nobody, or gone
    async with EngagementClient(credentials_of(emulator), rate_limit=FAST, base_url=emulator.base_url) as client:
        result, answers = await both(client, query, ids)

    outcomes = Merger(query)
    for answer in answers:
        outcomes.add(answer)
    assert outcomes.result().outcomes == result.outcomes
    assert result.outcomes["answered"] > 50
    assert outcomes.result().groupings == result.groupings
    for grouping, group_by in query.groupings.items():
        if "tweet.id" in group_by:
            for wide in (False, True):
                table = pa.concat_tables([answer.to_arrow(grouping, wide=wide) for answer in answers])
                assert rows(table) == rows(result.to_arrow(grouping, wide=wide))


async def test_tweets_of_many_owners_have_theirs_in_a_column(emulator: Emulator) -> None:
    groupings = {"tweets": BY_TWEET, "of owners": ["owner", *BY_TYPE], "sums": BY_TYPE}
    query = Query(TOTALS, engagement_types=METRICS, groupings=groupings)
    owned: dict[str, list[str]] = defaultdict(list)
    for i in tweet_ids(600, newest_at=time.time()):
        owned[emulator.owner_of(i) or ""].append(i)
    credentials = {owner: credentials_of(emulator, owner) for owner in owned}
    async with EngagementClient(credentials, rate_limit=FAST, base_url=emulator.base_url) as client:
        result, answers = await both(client, query, owned)

    for wide in (False, True):
        table = pa.concat_tables(
            [answer.to_arrow("tweets", wide=wide) for answer in answers], promote_options="default"
        )
        assert rows(table) == rows(result.to_arrow("tweets", wide=wide))
        assert set(table["owner"].to_pylist()) == set(owned)
    by_owner = [row for answer in answers for row in answer.to_arrow("of owners").to_pylist()]
    assert {row["owner"] for row in by_owner} == set(owned)
    assert all("owner" not in answer.to_arrow("sums").column_names for answer in answers)


async def test_it_is_asked_for_by_a_keyword(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    query = QUERIES["totals"]
    async with EngagementClient(credentials_of(emulator), rate_limit=FAST, base_url=emulator.base_url) as client:
        assert type(client.stream(query, ["20"])) is AnswerStream
        assert type(client.stream(query, ["20"], columnar=True)) is ColumnarStream
        assert isinstance(client.stream_batches(query, iter(()), columnar=True), ColumnarStream)
        for name in [name for name in sys.modules if name.startswith("engagement_async._core.")]:
            if name.rpartition(".")[2] in ("arrow", "packed", "column_decoding", "column_parsing"):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(UsageError, match=r"pip install 'engagement-async\[arrow\]'"):
            client.stream(query, ["20"], columnar=True)


async def test_a_stream_with_columns_can_be_left_and_stopped(emulator: Emulator) -> None:
    ids = tweet_ids(2_000, newest_at=time.time())
    async with EngagementClient(credentials_of(emulator), rate_limit=FAST, base_url=emulator.base_url) as client:
        async with client.stream(QUERIES["totals"], ids, columnar=True) as answers:
            async for _ in answers:
                break
        async with client.stream(QUERIES["totals"], ids, columnar=True) as answers:
            answers.stop()
            await asyncio.sleep(0)
            assert all(isinstance(answer, ColumnarAnswer) for answer in [each async for each in answers])
