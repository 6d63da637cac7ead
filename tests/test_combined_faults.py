"""Faults in combination, over a long time, and beside others: the real client over real sockets, under virtual time.

Each fault alone is in tests/matrix and in test_recovery_rules.py; here they meet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    TOTALS,
    EngagementClient,
    EngagementError,
    EngagementResult,
    Failure,
    FailureKind,
    Merger,
    OAuth1Credentials,
    Query,
    RateLimit,
    RateLimitedError,
    Timeouts,
)
from engagement_async.backfill import BackfillJob
from tests.support.model_server import (
    Act,
    Cut,
    Disconnect,
    Hang,
    ModelServer,
    Omission,
    Rule,
    Slow,
    Status,
    World,
    after_requests,
    during,
    flaky,
    poison,
    refuses,
)
from tests.support.model_truth import Asked, value
from tests.support.oracle import (
    AMPLE,
    OAUTH,
    QUERY,
    TOTALS_BY_TWEET,
    check,
    check_contract,
    check_values,
    client_of,
    kinds,
    make_ids,
    now,
    place,
    play,
    run_job,
)
from tests.support.virtual_loop import VirtualLoop

BY_HOUR: dict[str, Any] = {
    "engagement_types": ["favorites"],
    "groupings": {"tweets": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]},
}
LAST_DAY = Query(LAST_28_HOURS, **BY_HOUR)
TWO_SPANS = Query(
    HISTORICAL,
    engagement_types=["favorites"],
    groupings={"tweets": ["tweet.id", "engagement.type"]},
    start="2026-01-01",
    end="2026-02-20",
)


# --- poison, and what it costs ---


@pytest.mark.parametrize(
    "act", [Status(500), Cut(), Disconnect(), Status(200, content=b"{")], ids=["500", "cut", "reset", "json"]
)
@pytest.mark.parametrize("place", [0, 100, 249])
def test_one_poison_tweet_of_250_costs_forty_requests_and_two_minutes(place: int, act: Act) -> None:
    """While others are answered: nine batches are fine."""
    ids = make_ids(2_500)
    bad = ids[1_000 + place]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=4) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == {bad: FailureKind.SERVER}
        assert server.requests <= 9 + 40
        assert now() <= 120

    play(World([poison([bad], act)]), main)


def test_one_poison_tweet_of_a_single_batch_costs_no_more() -> None:
    """Nobody else asks: the halves without it are the others that are answered."""
    ids = make_ids(250)

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == {ids[77]: FailureKind.SERVER}
        assert server.requests <= 60
        assert now() <= 300

    play(World([poison([ids[77]])]), main)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_forty_poison_tweets_of_ten_thousand_take_no_other_with_them(concurrency: int) -> None:
    ids = make_ids(10_000)
    bad = ids[10::250]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(1_000), concurrency=concurrency) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
        assert server.requests <= 1_500

    play(World([poison(bad)]), main)


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (250, [10, 200]),
        (250, [10, 100, 150, 240]),
        (250, [0, 60, 120, 180, 240, 249]),
        (1_000, [10, 300, 600, 900]),
        (2_500, [10 + 250 * n for n in range(10)]),
        (2_500, [10 + 250 * n for n in range(0, 10, 3)]),
        (5_000, [10 + 250 * n for n in range(16)]),
        (300, [1, 2, 3, 4, 5, 298, 299]),
    ],
    ids=str,
)
@pytest.mark.parametrize("concurrency", [1, 16])
def test_poison_tweets_fail_alone(count: int, places: list[int], concurrency: int) -> None:
    ids = make_ids(count)
    bad = [ids[place] for place in places]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(1_000), concurrency=concurrency) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
        assert server.requests <= count / 250 + 50 * len(bad)

    play(World([poison(bad)]), main)


def test_poison_that_hangs_is_found_too() -> None:
    ids = make_ids(2_500)
    bad = [ids[3], ids[1_300]]

    async def main(server: ModelServer) -> None:
        async with client_of(server, timeouts=Timeouts(total_s=10, read_s=10), concurrency=4) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
        assert server.requests <= 8 + 2 * 40
        assert now() <= 900

    play(World([poison(bad, Hang())]), main)


def test_poison_that_heals_is_answered_in_the_end() -> None:
    """For 20 s one Tweet fails whatever it is in; that is no reason to fail it, or it has failed alone."""
    ids = make_ids(2_500)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), concurrency=4) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert result.outcomes["failed"] == 0

    play(World([poison([ids[10]], end=5)]), main)


@pytest.mark.parametrize("seed", range(3))
def test_poison_among_random_faults_takes_no_other_with_it(seed: int) -> None:
    ids = make_ids(5_000)
    bad = ids[100::500]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=8) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert set(result.failed_tweet_ids) == set(bad)
        assert server.requests <= 1_500

    play(World([poison(bad), flaky(0.2, [Status(503), Disconnect(), Cut()], seed)], seed=seed), main)


@pytest.mark.parametrize("start", [0.3, 2.0, 10.0, 30.0])
@pytest.mark.parametrize("act", [Status(503), Hang(), None], ids=["503", "hang", "refused"])
def test_an_outage_while_poison_is_being_looked_for(start: float, act: Act | None) -> None:
    ids = make_ids(2_500)
    bad = ids[10::625]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=4) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
        assert server.requests <= 10 + 45 * len(bad) + 4 * 6 + 300 / 5

    rules = [poison(bad)] if act is None else [during(start, start + 300, act), poison(bad)]
    play(World(rules, refused=[(start, start + 300)] if act is None else []), main)


@pytest.mark.parametrize("act", [Status(504), Hang()], ids=["504", "hang"])
@pytest.mark.parametrize("most", [20, 100])
def test_an_api_that_fails_at_large_requests_answers_small_ones(most: int, act: Act) -> None:
    ids = make_ids(1_000)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), timeouts=Timeouts(total_s=20)) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert result.outcomes["answered"] == 1_000
        assert server.requests <= 4 * (250 / most) * 12

    play(World([Rule("too large", lambda asked: act if len(asked.tweet_ids) > most else None)]), main)


def test_poison_refusals_and_tweets_left_out_in_one_batch() -> None:
    ids = make_ids(250)
    wanted = {
        ids[10]: FailureKind.SERVER,
        ids[100]: FailureKind.REFUSED,
        ids[101]: FailureKind.MISSING,
        ids[200]: FailureKind.SERVER,
    }

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == wanted
        assert result.unavailable_tweet_ids == [ids[11]]
        assert result.forbidden_tweet_ids == [ids[12]]

    world = World(
        [poison([ids[10], ids[200]]), refuses([ids[100]])],
        unavailable={ids[11]},
        forbidden={ids[12]},
        omissions=[Omission({ids[101]}), Omission({ids[102], ids[103]}, 1)],
    )
    play(world, main)


def test_a_batch_of_which_nobody_is_fine_ends_with_each_in_its_place() -> None:
    ids = make_ids(25)
    third = len(ids) // 3
    broken, refused, gone = ids[:third], ids[third : 2 * third], ids[2 * third :]

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.last_28_hours(ids, **BY_HOUR)
        check(server, result, ids)
        assert result.unavailable_tweet_ids == gone
        assert set(result.failed_tweet_ids) == {*broken, *refused}

    play(World([refuses(refused), poison(broken)], unavailable=set(gone)), main)


# --- holds, and what comes before and after them ---


def test_429_for_ever_after_answers_ends_and_keeps_the_answers() -> None:
    ids = make_ids(25_000)
    merger = Merger(QUERY)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(240), outage_timeout_s=120, concurrency=4) as client:
            try:
                async with asyncio.timeout(86_400), client.stream(QUERY, ids) as answers:
                    async for answer in answers:
                        merger.add(answer)
            except EngagementError as error:
                assert "Rate limit exceeded" in str(error)  # noqa: PT017
        result = merger.result()
        assert result.outcomes["answered"] == 250 * server.causes()["answer"] > 0
        check_values(server.world, result)
        last = max(r.answered_at for r in server.records if r.is_useful)
        assert now() <= last + 120 + 70

    play(World([after_requests(30, 10**7, Status(429, ("Rate limit exceeded",)), cause="limited")]), main)


@pytest.mark.parametrize("first", ["outage", "hold"])
def test_an_outage_and_a_hold_follow_each_other_again_and_again(first: str) -> None:
    """Each shorter than the timeout, together far longer, and nothing is answered between them for ten minutes."""
    ids = make_ids(2_500)
    hold = Status(429, ("Too many requests",), headers={"Retry-After": 20})
    rules = [
        during(5 + 60 * n, 35 + 60 * n, Status(503) if (n % 2 == 0) == (first == "outage") else hold) for n in range(10)
    ]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(30), concurrency=4) as client:
            result = await client.last_28_hours(ids, **BY_HOUR)
        check(server, result, ids)
        check_contract(server, RateLimit(30))
        assert result.outcomes["answered"] == 2_500

    play(World(rules), main)


def test_a_hold_in_the_middle_of_a_bisection_changes_nothing() -> None:
    ids = make_ids(1_000)
    bad = [ids[3], ids[700]]
    hold = Status(429, ("Too many requests",), headers={"Retry-After": 400})

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=300, concurrency=2) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids, outage_timeout_s=300)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)

    play(World([Rule("limited", lambda asked: hold if asked.number in (9, 20, 31) else None), poison(bad)]), main)


# --- consumers ---


def test_a_consumer_that_is_slower_than_the_timeout_loses_nothing_to_an_outage() -> None:
    ids = make_ids(1_000)
    merger = Merger(LAST_DAY)

    async def main(server: ModelServer) -> None:
        async with (
            client_of(server, outage_timeout_s=300, concurrency=4) as client,
            client.stream(LAST_DAY, ids) as answers,
        ):
            async for answer in answers:
                merger.add(answer)
                await asyncio.sleep(700)
        check(server, merger.result(), ids, outage_timeout_s=300)
        assert merger.result().outcomes["answered"] == 1_000

    outages = [during(at, at + 250) for at in (100, 900, 2_000, 3_333)]
    play(World([*outages, flaky(0.3, [Status(503), Cut()], 4)]), main)


def test_an_outage_that_begins_and_ends_behind_the_consumers_back() -> None:
    """Nobody asks while the consumer is away; the outage was no time of trying."""
    ids = make_ids(1_000)
    merger = Merger(LAST_DAY)

    async def main(server: ModelServer) -> None:
        async with (
            client_of(server, outage_timeout_s=120, concurrency=2) as client,
            client.stream(LAST_DAY, ids) as answers,
        ):
            async for answer in answers:
                merger.add(answer)
                if place(answer) == 3 * 25:
                    await asyncio.sleep(5_000)
        check(server, merger.result(), ids, outage_timeout_s=120)
        assert merger.result().outcomes["answered"] == 1_000

    play(World([during(100, 4_000)]), main)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.5, 12.0, 100.0, 249.0])
@pytest.mark.parametrize("act", [Status(503), Hang(), Slow(20.0)], ids=["503", "hang", "slow"])
def test_a_call_that_is_cancelled_in_a_probe_holds_nobody_up(seconds: float, act: Act) -> None:
    """Another call on the same client takes over the probing."""
    ids, later = make_ids(2_500), make_ids(2_500, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=4, timeouts=Timeouts(total_s=15, read_s=15)) as client:
            first = asyncio.create_task(client.totals(ids, **TOTALS_BY_TWEET))
            second = asyncio.create_task(client.totals(later, **TOTALS_BY_TWEET))
            await asyncio.sleep(seconds)
            first.cancel()
            result = await second
            await asyncio.wait([first])
        check(server, result, later)
        assert result.outcomes["answered"] == 2_500
        assert now() <= 250 + 60

    play(World([during(0.02, 250, act)]), main)


def test_streams_that_are_left_in_an_outage_leave_nothing_behind() -> None:
    ids = make_ids(2_500)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), concurrency=4) as client:
            for patience_s in (0.0, 1.0, 30.0, 100.0):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.totals(ids, **TOTALS_BY_TWEET), patience_s)
            await asyncio.sleep(500)
            check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
        check_contract(server, RateLimit(60))

    play(World([during(0, 400)]), main)


def test_a_source_that_fails_in_an_outage_says_so() -> None:
    async def source() -> AsyncIterator[str]:
        for tweet_id in make_ids(400):  # a batch, and the beginning of another
            yield tweet_id
        await asyncio.sleep(50)
        raise OSError("the disk is gone")

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=2) as client:
            with pytest.raises(OSError, match="the disk is gone"):
                await client.totals(source(), **TOTALS_BY_TWEET)
        assert now() <= 70

    play(World([during(0, 10**6)]), main)


def test_a_sized_iterable_that_can_be_read_once_loses_no_id() -> None:
    class Bar:
        """As progress bars around generators are."""

        def __init__(self, source: Iterator[str], total: int) -> None:
            self._source = source
            self._total = total

        def __len__(self) -> int:
            return self._total

        def __iter__(self) -> Iterator[str]:
            yield from self._source

        def __contains__(self, item: object) -> bool:
            return any(item == other for other in self._source)

    ids = make_ids(500)

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            check(server, await client.totals(Bar(iter(ids), 500), **TOTALS_BY_TWEET), ids)

    play(World(), main)


# --- several calls ---


def test_three_endpoints_of_which_one_is_dead_one_flaky_and_one_poisonous() -> None:
    ids, hourly, older = make_ids(5_000), make_ids(500, call=1), make_ids(250, call=2)
    span: dict[str, Any] = {"start": "2026-09-01", "end": "2026-10-25"}  # two requests a batch

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(120), outage_timeout_s=400, concurrency=6) as client:
            totals, dead, history = await asyncio.gather(
                client.totals(ids, **TOTALS_BY_TWEET),
                client.last_28_hours(hourly, **BY_HOUR),
                client.historical(older, **BY_HOUR, **span),
            )
        check_contract(server, RateLimit(120))
        for result, given in ((totals, ids), (dead, hourly), (history, older)):
            check(server, result, given, outage_timeout_s=400)
        assert kinds(totals.failed_tweet_ids) == {ids[77]: FailureKind.SERVER}
        assert set(kinds(dead.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert dead.outcomes["failed"] == 500
        assert history.outcomes["answered"] == 250

    def rough(asked: Asked) -> Act | None:
        return rough_answers.decide(asked) if asked.endpoint == "historical" else None

    rough_answers = flaky(0.3, [Status(503), Cut(), Slow(3)], 3)
    play(World([during(0, 10**6, endpoint="28hr"), poison([ids[77]]), Rule("flaky", rough)]), main)


def test_many_calls_through_one_outage_are_all_answered() -> None:
    many = [make_ids(600, call=n) for n in range(12)]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), concurrency=4) as client:

            async def call(n: int) -> EngagementResult:
                await asyncio.sleep(40 * n)
                return await client.totals(many[n], **TOTALS_BY_TWEET)

            results = await asyncio.gather(*(call(n) for n in range(12)))
        for result, given in zip(results, many, strict=True):
            check(server, result, given)
            assert result.outcomes["answered"] == 600
        check_contract(server, RateLimit(60))
        assert server.causes()["outage"] <= 5 * (4 + 12) + 300 / 5

    play(World([during(100, 400)]), main)


def test_a_dead_endpoint_that_comes_back_while_another_dies() -> None:
    ids, hourly = make_ids(30_000), make_ids(3_000, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), concurrency=4) as client:
            totals, hours = await asyncio.gather(
                client.totals(ids, **TOTALS_BY_TWEET), client.last_28_hours(hourly, **BY_HOUR)
            )
        check(server, totals, ids)
        check(server, hours, hourly)
        assert totals.outcomes["failed"] == hours.outcomes["failed"] == 0

    play(World([during(0, 300, endpoint="28hr"), during(290, 800, Hang(), endpoint="totals")]), main)


# --- jobs ---


@pytest.mark.parametrize("count", [250, 1_000])
def test_a_job_with_one_poison_tweet_is_done_in_one_run(count: int, tmp_path: Path) -> None:
    ids = make_ids(count)

    async def main(server: ModelServer) -> None:
        first = await run_job(server, tmp_path / "job", ids)
        assert (first.outcome, first.outcomes.answered, first.outcomes.failed) == ("done", count - 1, 1)
        assert first.requests <= count / 250 + 60
        second = await run_job(server, tmp_path / "job", ids)
        assert (second.outcome, second.requests) == ("done", 0)

    play(World([poison([ids[10]])]), main)


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_a_job_with_poison_in_every_batch_is_done_in_one_run(concurrency: int, tmp_path: Path) -> None:
    ids = make_ids(5_000)
    bad = ids[10::250]

    async def main(server: ModelServer) -> None:
        progress = await run_job(server, tmp_path / "job", ids, concurrency=concurrency)
        assert (progress.outcome, progress.outcomes.answered, progress.outcomes.failed) == ("done", 4_980, 20)
        assert progress.requests <= 1_000

    play(World([poison(bad)]), main)


def test_a_job_with_poison_an_outage_and_a_budget_pays_for_each_answer_once(tmp_path: Path) -> None:
    """Each run may spend what finds four poison Tweets, and is told when that is used up."""
    ids = make_ids(5_000)
    bad = ids[10::1_000]

    async def main(server: ModelServer) -> None:
        outcomes = []
        for _ in range(6):
            before = server.requests
            progress = await run_job(server, tmp_path / "job", ids, max_requests=200, concurrency=4)
            assert progress.requests == server.requests - before <= 200
            outcomes.append(progress.outcome)
            if progress.outcome == "done":
                break
        assert outcomes[-1] == "done"
        assert set(outcomes[:-1]) <= {"max_requests"}
        assert (progress.outcomes.answered, progress.outcomes.failed) == (4_995, 5)

    play(World([after_requests(8, 200), poison(bad)]), main)


def test_a_job_asks_again_for_poison_that_healed_and_its_sums_are_whole(tmp_path: Path) -> None:
    ids = make_ids(1_000)
    bad = ids[7::250]

    async def main(server: ModelServer) -> None:
        first = await run_job(server, tmp_path / "job", ids)
        assert (first.outcome, first.outcomes.failed) == ("done", 4)
        await asyncio.sleep(5_000)
        second = await run_job(server, tmp_path / "job", ids, failed_only=True)
        assert (second.outcome, second.outcomes.answered, second.outcomes.failed) == ("done", 1_000, 0)
        assert second.requests == 4  # each of another batch, whose sums are its own
        await BackfillJob(tmp_path / "job").export(tmp_path / "all.json")
        exported = json.loads((tmp_path / "all.json").read_text())
        assert exported["sum"] == {m: str(sum(value(i, m) for i in ids)) for m in QUERY.engagement_types}

    play(World([poison(bad, end=5_000)]), main)


@pytest.mark.parametrize("sums", [{}, {"sum": ["engagement.type"]}], ids=["by tweet", "with sums"])
def test_a_retry_of_several_spans_asks_again_for_what_failed_in_one_that_was_stopped(
    tmp_path: Path, sums: dict[str, list[str]]
) -> None:
    ids = make_ids(60)
    bad = ids[3]
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"by_tweet": ["tweet.id", "engagement.type"], **sums},
        start="2026-01-01",
        end="2026-02-12",
    )
    refused = Status(400, content=b'{"errors":["no"]}')

    async def main(server: ModelServer) -> None:
        first = await run_job(server, tmp_path / "job", ids, query=query)
        assert (first.outcome, first.outcomes.failed) == ("done", 1)
        stopped = await run_job(server, tmp_path / "job", ids, query=query, failed_only=True, max_requests=1)
        assert (stopped.outcome, stopped.outcomes.failed) == ("max_requests", 1)
        await asyncio.sleep(10_000)
        healed = await run_job(server, tmp_path / "job", ids, query=query, failed_only=True)
        assert (healed.outcome, healed.outcomes.failed, healed.outcomes.answered) == ("done", 0, 60)
        assert healed.requests == 2

    play(
        World([Rule("refused", lambda asked: refused if asked.at < 10_000 and bad in asked.tweet_ids else None)]), main
    )


def test_a_job_says_of_which_tweets_the_api_left_a_metric_out(tmp_path: Path) -> None:
    ids = make_ids(300)

    async def main(server: ModelServer) -> None:
        progress = await run_job(server, tmp_path / "job", ids)
        assert (progress.outcome, progress.outcomes.answered) == ("done", 300)
        job = BackfillJob(tmp_path / "job")
        await job.export(tmp_path / "all.json", outcomes=tmp_path / "outcomes.jsonl")
        told = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
        assert told == [{"tweet_id": ids[5], "state": "answered", "detail": "no favorites"}]

    play(World(omissions=[Omission({ids[5]}, metric="favorites")]), main)


def test_a_job_through_an_outage_shorter_than_its_patience_fails_nobody(tmp_path: Path) -> None:
    ids = make_ids(5_000)

    async def main(server: ModelServer) -> None:
        progress = await run_job(server, tmp_path / "job", ids, rate_limit=RateLimit(60), concurrency=8)
        assert (progress.outcome, progress.outcomes.answered) == ("done", 5_000)

    play(World([after_requests(5, 800), flaky(0.3, [Status(503)], 2)]), main)


def test_a_job_whose_api_dies_between_poison_keeps_what_it_has(tmp_path: Path) -> None:
    """The outage lasts over the end of the run: nothing is failed for it, and the next run ends the job."""
    ids = make_ids(2_500)
    bad = [ids[10], ids[600]]

    async def main(server: ModelServer) -> None:
        first = await run_job(server, tmp_path / "job", ids, rate_limit=RateLimit(60), concurrency=4)
        assert first.outcome == "outage"
        assert first.outcomes.failed <= 2
        assert first.pending > 0
        await asyncio.sleep(5_000)
        second = await run_job(server, tmp_path / "job", ids, concurrency=4)
        assert (second.outcome, second.outcomes.answered, second.outcomes.failed) == ("done", 2_498, 2)

    play(World([after_requests(5, 5_000), poison(bad)]), main)


def test_a_job_that_is_stopped_in_an_outage_stops_at_once(tmp_path: Path) -> None:
    ids = make_ids(2_500)

    async def main(server: ModelServer) -> None:
        job = BackfillJob(tmp_path / "job")
        await job.start(QUERY, ids)
        running = asyncio.create_task(job.run(OAUTH, rate_limit=AMPLE, base_url=server.url, concurrency=4))
        await asyncio.sleep(100)
        job.stop()
        progress = await running
        assert (progress.outcome, progress.outcomes.failed, progress.pending) == ("stopped", 0, 2_500)
        assert now() <= 100 + 25

    play(World([during(0, 10**6)]), main)


@pytest.mark.parametrize("rate", [0.5, 0.7])
def test_ordinary_failures_are_kept_however_rough_the_api_is(rate: float, tmp_path: Path) -> None:
    """A failure that is consumed while a circuit happens to be open is still that Tweet's own."""
    ids = make_ids(2_500)
    never = set(ids[::50])

    async def main(server: ModelServer) -> None:
        progress = await run_job(
            server, tmp_path / "job", ids, query=LAST_DAY, rate_limit=RateLimit(1_200), concurrency=16
        )
        assert (progress.outcome, progress.outcomes.answered, progress.outcomes.failed) == ("done", 2_450, 50)

    play(World([flaky(rate, [Status(503)], 7)], omissions=[Omission(never)]), main)


# --- answers that are late, cut, or say too much ---


def test_slow_bodies_are_no_sign_of_another_consumer() -> None:
    """The server's own count of what is left is honest, and its bodies take a minute."""
    ids = make_ids(25_000)
    limit = RateLimit(60)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=limit, concurrency=16) as client:
            check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
        check_contract(server, limit)
        assert now() <= 60 * 100 / 60 + 120

    play(World([during(0, 10**6, Slow(25.0))], limit=(60, 60.0)), main)


@pytest.mark.parametrize("seed", range(3))
def test_the_contract_holds_when_answers_are_cancelled_late_and_lost(seed: int) -> None:
    ids = make_ids(1_000)
    limits = [RateLimit(20, period=10), RateLimit(5, period=1)]

    async def main(server: ModelServer) -> None:
        timeouts = Timeouts(total_s=6, read_s=6)
        async with client_of(server, rate_limit=limits, concurrency=8, timeouts=timeouts) as client:

            async def call(n: int) -> None:
                try:
                    async with asyncio.timeout(5 * n + 2):
                        await client.last_28_hours(make_ids(200, call=n), **BY_HOUR)
                except TimeoutError:
                    pass

            _, result = await asyncio.gather(
                asyncio.gather(*(call(n) for n in range(1, 8))), client.last_28_hours(ids, **BY_HOUR)
            )
        check(server, result, ids)
        check_contract(server, *limits)

    bad_days: list[Act] = [Hang(), Slow(8.0), Disconnect(), Status(503), Status(429, headers={"Retry-After": 2})]
    play(World([flaky(0.4, bad_days, seed)], latency_s=(5.0, 3.0), seed=seed), main)


def test_left_out_tweets_in_an_outage_are_asked_once_more_when_it_is_over() -> None:
    ids = make_ids(2_500)
    late, never = set(ids[::100]), set(ids[50::250])

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), concurrency=4) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == {i: FailureKind.MISSING for i in ids if i in never}

    play(World([after_requests(4, 300)], omissions=[Omission(late, 1), Omission(never)]), main)


def test_a_failure_of_one_part_of_a_span_in_an_outage_keeps_no_half_of_a_tweet() -> None:
    """The first part of a span is answered, then the API is gone until the timeout."""
    ids = make_ids(100)
    span: dict[str, Any] = {"start": "2026-08-20", "end": "2026-10-19"}

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=1, outage_timeout_s=200, rate_limit=RateLimit(60)) as client:
            result = await client.historical(ids, **BY_HOUR, **span)
        check(server, result, ids, outage_timeout_s=200)
        assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}

    play(World([after_requests(5, 10**6)]), main)


def test_places_add_up_when_everything_goes_wrong_at_once() -> None:
    ids = make_ids(2_000)
    hold = Status(429, ("Too many requests",), headers={"Retry-After": 5})
    rules = [
        during(0.3, 40),
        during(60, 90, Hang()),
        during(120, 130, hold, cause="limited"),
        flaky(0.15, [Status(503), Cut(), Disconnect(), Status.html(502)], 9),
        poison([ids[5], ids[900]]),
        refuses([ids[300], ids[1_700]], has_request_id=True),
        refuses([ids[301]], "Bad Tweet", is_named=True),
    ]
    world = World(
        rules,
        refused=[(150.0, 200.0)],
        unavailable=set(ids[20:2_000:200]),
        forbidden=set(ids[21:2_000:400]),
        unsupported={"unsupported_for_video_views_tweet_ids": set(ids[22:2_000:100])},
        omissions=[Omission({ids[30], ids[1_030]}, 1), Omission({ids[31]}), Omission({ids[32]}, metric="replies")],
    )
    query: dict[str, Any] = {
        "engagement_types": ["favorites", "replies", "video_views"],
        "groupings": {
            "tweets": ["tweet.id", "engagement.type"],
            "types": ["engagement.type", "tweet.id"],
            "sum": ["engagement.type"],
        },
    }

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(120), concurrency=6, timeouts=Timeouts(total_s=20)) as client:
            result = await client.totals(ids, **query)
        check(server, result, ids)
        check_contract(server, RateLimit(120))
        assert kinds(result.failed_tweet_ids) == {
            ids[5]: FailureKind.SERVER,
            ids[31]: FailureKind.MISSING,
            ids[300]: FailureKind.REFUSED,
            ids[301]: FailureKind.REFUSED,
            ids[900]: FailureKind.SERVER,
            ids[1_700]: FailureKind.REFUSED,
        }

    play(world, main)


def test_answers_that_waited_for_a_slow_consumer_are_no_signs_of_life() -> None:
    """They came before the outage: another call must not take its Tweets for the ones that the API fails at."""
    ids, others = make_ids(250 * 32), make_ids(1, 1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(3_000), concurrency=16) as client:

            async def consume_slowly() -> None:
                async with client.stream(QUERY, ids) as answers:
                    async for _ in answers:
                        await asyncio.sleep(4)

            consumer = asyncio.create_task(consume_slowly())
            await asyncio.sleep(30)
            result = await client.totals(others, **TOTALS_BY_TWEET)
            assert result.outcomes["answered"] == 1
            assert server.causes()["outage"] < 40
            consumer.cancel()
            await asyncio.gather(consumer, return_exceptions=True)

    play(World([during(20, 320)]), main)


@pytest.mark.parametrize("act", [Status(503), Status(429)])
def test_a_call_that_began_in_an_outage_does_not_lose_its_patience_while_the_process_is_suspended(act: Act) -> None:
    async def main(server: ModelServer) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with client_of(server, rate_limit=RateLimit(300)) as client:
            try:
                assert (await client.totals(make_ids(250), **TOTALS_BY_TWEET)).outcomes["failed"] == 250
            except RateLimitedError:
                assert isinstance(act, Status)
                assert act.status == 429
            loop.call_later(20, loop.suspend, 7_200)
            result = await client.totals(make_ids(250, 1), **TOTALS_BY_TWEET)
        assert result.outcomes["answered"] == 250

    play(World([during(0, 1_000 + 7_200 + 60, act)]), main)


def test_each_stream_has_its_own_patience_from_when_it_is_entered() -> None:
    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=900) as client:
            streams = [client.stream(QUERY, make_ids(10, k)) for k in range(2)]
            for stream in streams:
                async with stream as answers:
                    [answer] = [answer async for answer in answers]
                assert set(kinds(answer.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert now() > 1_700

    play(World([during(0, 10**6)]), main)


def test_an_outage_of_a_server_that_hangs_ends_in_time_however_long_a_request_may_take() -> None:
    async def main(server: ModelServer) -> None:
        async with client_of(server, timeouts=Timeouts(read_s=300, total_s=300)) as client:
            result = await client.totals(make_ids(10), **TOTALS_BY_TWEET)
        assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert now() < 900 + 2 * 300

    play(World([during(0, 10**6, Hang())]), main)


def test_a_stream_that_is_stopped_sends_nothing_that_waited_for_a_token() -> None:
    async def main(server: ModelServer) -> None:
        async with (
            client_of(server, rate_limit=RateLimit(2, period=60)) as client,
            client.stream(QUERY, make_ids(250 * 40)) as answers,
        ):
            async for _ in answers:
                answers.stop()
            assert server.requests == 2
            assert now() < 10
            assert len((await client.totals(make_ids(3, 1), **TOTALS_BY_TWEET)).tweet_ids) == 3

    play(World(), main)


def test_a_stream_that_is_stopped_hands_out_what_is_settled_of_a_batch() -> None:
    ids = make_ids(250)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(1, period=60)) as client:
            query = Query(TOTALS, engagement_types=["favorites"], groupings={"tweets": ["tweet.id", "engagement.type"]})
            async with client.stream(query, ids) as answers:
                # The second look at one Tweet waits for a token by then.
                asyncio.get_running_loop().call_later(10, answers.stop)
                [answer] = [answer async for answer in answers]
        assert answer.tweet_ids == (*ids[:5], *ids[6:])
        assert server.requests == 1

    play(World(omissions=[Omission(frozenset({ids[5]}), 1)]), main)


@pytest.mark.parametrize("stops_at", [0.5, 2, 5, 10, 20, 30, 45])
def test_a_tweet_of_a_stopped_stream_has_all_of_its_spans_or_no_answer(stops_at: float) -> None:
    ids = make_ids(25)

    async def values(client: EngagementClient, *, stops: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        async with client.stream(TWO_SPANS, ids) as answers:
            if stops:
                asyncio.get_running_loop().call_later(stops_at, answers.stop)
            async for answer in answers:
                assert answer.tweet_ids
                found |= answer.groupings.get("tweets", {})
        return found

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300)) as client:
            partly = await values(client, stops=True)
            await asyncio.sleep(10_000)
            whole = await values(client, stops=False)
        assert len(whole) == 25
        assert partly.items() <= whole.items()

    play(World([poison([ids[3]], since="2026-01-25", end=9_000)]), main)


@pytest.mark.parametrize("stops_at", [96, 112, 128, 144, 160])
def test_sums_of_a_stopped_stream_hold_whoever_is_answered(stops_at: float) -> None:
    """A Tweet that fails in a later span stands in sums of an earlier one, which would be requested again without it."""
    ids = make_ids(25)
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"tweets": ["tweet.id", "engagement.type"], "days": ["engagement.day"]},
        start="2026-01-01",
        end="2026-02-20",
    )

    async def main(server: ModelServer) -> EngagementResult:
        merger = Merger(query)
        async with client_of(server, rate_limit=RateLimit(60)) as client, client.stream(query, ids) as answers:
            asyncio.get_running_loop().call_later(stops_at, answers.stop)
            async for answer in answers:
                merger.add(answer)
        return merger.result()

    world = World([poison(ids[3:10]), poison(ids[:1], since="2026-01-25")])
    result = play(world, main)
    assert not result.missing_metrics
    check_values(world, result)


def test_a_stream_that_is_stopped_and_given_up_accounts_for_every_id() -> None:
    ids = make_ids(500)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(1, period=60)) as client:
            query = Query(TOTALS, engagement_types=["favorites"], groupings={"tweets": ["tweet.id", "engagement.type"]})
            async with client.stream(query, ids) as answers:
                asyncio.get_running_loop().call_later(10, answers.stop)
                found = [answer async for answer in answers]
                await answers.give_up(Failure("no more time", kind=FailureKind.TIMEOUT))
                found += [answer async for answer in answers]
        assert sorted(i for answer in found for i in answer.tweet_ids) == sorted(ids)
        assert sum(len(answer.failed_tweet_ids) for answer in found) == 251

    play(World(omissions=[Omission(frozenset({ids[5]}), 1)]), main)


@pytest.mark.parametrize("first", ["a request that hung", "another call"])
def test_a_suspension_in_a_hold_is_noted_by_whoever_looks_first(first: str) -> None:
    hangs = first == "a request that hung"
    ids = make_ids(500)

    async def main(server: ModelServer) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with client_of(server, rate_limit=RateLimit(300), concurrency=4) as client:
            call = asyncio.create_task(client.totals(ids, **TOTALS_BY_TWEET))
            loop.call_later(20, loop.suspend, 7_200)
            await asyncio.sleep(7_220.5)
            other = await client.totals(make_ids(10, 1), **TOTALS_BY_TWEET) if not hangs else None
            assert (await call).outcomes["answered"] == 500
            assert other is None or other.outcomes["answered"] == 10

    hung = Rule("hang", lambda asked: Hang() if hangs and asked.at < 1 and ids[0] in asked.tweet_ids else None)
    play(World([hung, during(0, 7_300, Status(429, headers={"Retry-After": 60}))]), main)


def test_a_stream_that_is_stopped_does_not_wait_for_a_credential_store() -> None:
    async def look_up(_: str) -> OAuth1Credentials:
        await asyncio.sleep(5)
        return OAUTH

    async def main(server: ModelServer) -> None:
        owned = {f"owner{k}": make_ids(10, k) for k in range(8)}
        async with EngagementClient(look_up, rate_limit=AMPLE, base_url=server.url) as client:
            async with client.stream(QUERY, owned) as answers:
                asyncio.get_running_loop().call_later(1, answers.stop)
                assert [answer async for answer in answers] == []
            assert now() < 2
            assert server.requests == 0

    play(World(), main)


@pytest.mark.parametrize("turns", range(4))
def test_a_call_that_is_cancelled_again_and_again_closes_its_source(turns: int) -> None:
    closed = []

    async def ids() -> AsyncIterator[str]:
        try:
            for tweet_id in make_ids(600):
                yield tweet_id
            await asyncio.sleep(10**5)
        finally:
            closed.append(now())

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            call = asyncio.create_task(client.totals(ids(), **TOTALS_BY_TWEET))
            await asyncio.sleep(0.06)
            call.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
                call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(1)
            assert closed

    play(World(), main)


def test_attempts_that_never_left_the_machine_are_no_requests_of_an_answer() -> None:
    async def main(server: ModelServer) -> None:
        async with client_of(server) as client, client.stream(QUERY, make_ids(10)) as answers:
            [answer] = [answer async for answer in answers]
        assert answer.requests == server.requests == 1

    play(World(refused=[(0.0, 30.0)]), main)


@pytest.mark.parametrize("bad", [[0], [3], [12], [24], [0, 24], [0, 12, 24], [*range(20)]])
def test_a_tweet_that_fails_in_a_later_span_takes_no_other_with_it_wherever_it_stands(bad: list[int]) -> None:
    ids = make_ids(25)
    query: dict[str, Any] = {
        "engagement_types": ["favorites"],
        "groupings": {"tweets": ["tweet.id", "engagement.type"]},
        "start": "2026-01-01",
        "end": "2026-02-20",
    }

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=4) as client:
            result = await client.historical(ids, **query)
        assert kinds(result.failed_tweet_ids) == {ids[i]: FailureKind.SERVER for i in bad}
        assert now() < 300

    play(World([poison([ids[i] for i in bad], since="2026-01-25")]), main)


def test_a_tweet_that_begins_to_fail_takes_no_later_call_for_the_same_tweets_with_it() -> None:
    ids = make_ids(250)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300)) as client:
            for _ in range(20):
                assert (await client.totals(ids, **TOTALS_BY_TWEET)).outcomes["answered"] == 250
            await asyncio.sleep(100)
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        assert kinds(result.failed_tweet_ids) == {ids[0]: FailureKind.SERVER}

    play(World([poison([ids[0]], start=50)]), main)


def test_a_job_whose_first_tweet_fails_in_a_later_span_is_done_with_the_others(tmp_path: Path) -> None:
    ids = make_ids(25)

    async def main(server: ModelServer) -> None:
        job = BackfillJob(tmp_path / "job")
        await job.start(TWO_SPANS, ids)
        options: dict[str, Any] = {"base_url": server.url, "rate_limit": RateLimit(300), "concurrency": 4}
        await job.run(OAUTH, max_duration_s=5, **options)
        progress = await job.run(OAUTH, **options)
        assert (progress.outcome, progress.outcomes.answered, progress.outcomes.failed) == ("done", 24, 1)

    play(World([poison([ids[0]], since="2026-01-25")]), main)


# --- metrics that are left out ---


@pytest.mark.parametrize("start", ["2015-09-01", "2015-10-01"], ids=["before some were counted", "after"])
def test_a_metric_that_is_left_out_once_is_found_for_every_tweet(start: str) -> None:
    """That others are missing in a part of the time range says nothing of it; nor does one Tweet that never has it."""
    ids = make_ids(250)
    query: dict[str, Any] = {
        "engagement_types": ["favorites", "url_clicks"],
        "groupings": {"tweets": ["tweet.id", "engagement.type"]},
        "start": start,
        "end": "2015-10-20",
    }
    never = frozenset({ids[3]})
    omissions = [Omission(never, metric="url_clicks"), Omission(frozenset(ids) - never, 1, metric="url_clicks")]

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=1) as client:
            result = await client.historical(ids, **query)
        assert result.outcomes["answered"] == 250
        assert result.missing_metrics["url_clicks"] == [ids[3]]

    play(World(omissions=omissions), main)


def test_second_looks_for_the_same_tweet_are_not_paid_for_in_every_span() -> None:
    """Ten spans, and an API that leaves out zeros."""
    ids = make_ids(2)
    query: dict[str, Any] = {
        "engagement_types": ["favorites", "url_clicks"],
        "groupings": {"tweets": ["tweet.id", "engagement.type"]},
        "start": "2025-01-01",
        "end": "2025-10-01",
    }

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(300), concurrency=1) as client:
            result = await client.historical(ids, **query)
        assert result.missing_metrics == {"url_clicks": ids}
        assert server.requests == 10 + 1

    play(World(omissions=[Omission(frozenset(ids), metric="url_clicks")]), main)
