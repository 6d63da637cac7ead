"""The nine rules of recovery (docs/reliability.md), each as tests: the real client over real sockets, under virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    EngagementClient,
    EngagementError,
    EngagementResult,
    FailureKind,
    Merger,
    Query,
    RateLimit,
    RequestRefusedError,
    Timeouts,
    TweetsByOwner,
    WaitReason,
)
from engagement_async.backfill import BackfillJob, RunOutcome
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
from tests.support.model_truth import Asked
from tests.support.oracle import (
    AMPLE,
    OAUTH,
    QUERY,
    TOTALS_BY_TWEET,
    check,
    check_failures,
    check_places,
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

FAVORITES: dict[str, Any] = {
    "engagement_types": ["favorites"],
    "groupings": {"tweets": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]},
}
LAST_DAY = Query(LAST_28_HOURS, **FAVORITES)
BACK = 45.0
"""Seconds after the end of an outage by which a probe must have found out: the longest pause between two, and then some."""


# --- 1. a probe is never the suspect ---


def probes_of(server: ModelServer) -> list[Asked]:
    """Return what was asked in the outage, from half a minute after it began: by then the circuit is open."""
    asked = [r.asked for r in server.records if r.cause == "outage"]
    return [one for one in asked if one.at > asked[0].at + 25]


@pytest.mark.parametrize("act", [Status(503), Disconnect(), Status.html(502)], ids=["503", "reset", "html"])
def test_rule_1_a_probe_asks_for_one_tweet(act: Act) -> None:
    ids = make_ids(10_000)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(240)) as client:
            check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
        probes = probes_of(server)
        assert 5 <= len(probes) <= 60
        assert {len(probe.tweet_ids) for probe in probes} == {1}

    play(World([after_requests(15, 195, act)]), main)


def test_rule_1_a_probe_asks_for_a_tweet_that_this_endpoint_answered_before() -> None:
    ids = make_ids(10_000)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(240)) as client:
            check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
        probes = probes_of(server)
        assert probes
        answered = {i for r in server.records if r.is_useful and r.asked.at < probes[0].at for i in r.asked.tweet_ids}
        assert {i for probe in probes for i in probe.tweet_ids} <= answered

    play(World([after_requests(15, 195)]), main)


@pytest.mark.parametrize("place", [0, 124, 249], ids=["first", "middle", "last"])
@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_rule_1_a_healthy_api_is_not_down_when_every_batch_holds_poison(place: int, concurrency: int) -> None:
    ids = make_ids(1_000)
    bad = ids[place::250]

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=concurrency) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
        assert now() <= 600

    play(World([poison(bad)]), main)


def test_rule_1_a_mostly_poisonous_batch_gives_up_its_poison_alone() -> None:
    ids = make_ids(25)
    good = ids[17]

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids)
        assert result.answered_tweet_ids == [good]

    play(World([poison(set(ids) - {good})]), main)


# --- 2. a circuit belongs to one endpoint ---


@pytest.mark.parametrize("act", [Status(503), Hang(), Disconnect()], ids=["503", "hang", "reset"])
def test_rule_2_a_dead_endpoint_does_not_slow_another(act: Act) -> None:
    ids, hourly = make_ids(75_000), make_ids(1_000, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), timeouts=Timeouts(read_s=10, total_s=10)) as client:

            async def totals() -> float:
                check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
                return now()

            took_s, result = await asyncio.gather(totals(), client.last_28_hours(hourly, **FAVORITES))
        check(server, result, hourly)
        assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert len(result.failed_tweet_ids) == len(hourly)
        assert server.causes("totals") == {"answer": 300}
        assert server.causes("28hr")["outage"] <= 150
        # 300 requests at 60 a minute, and the probes of the other endpoint, which are asked for with the same contract.
        assert took_s <= 300 + 150

    play(World([during(0, 10**6, act, endpoint="28hr")]), main)


def test_rule_2_an_open_circuit_does_not_delay_the_first_request_to_another_endpoint() -> None:
    ids, hourly = make_ids(10), make_ids(500, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            dead = asyncio.create_task(client.last_28_hours(hourly, **FAVORITES))
            await asyncio.sleep(120)
            check(server, await client.totals(ids, **TOTALS_BY_TWEET), ids)
            assert now() <= 122
            dead.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dead

    play(World([during(0, 10**6, endpoint="28hr")]), main)


def test_rule_2_the_answers_of_one_endpoint_do_not_close_the_circuit_of_another() -> None:
    ids, hourly = make_ids(30_000), make_ids(4_000, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60), outage_timeout_s=600) as client:
            await asyncio.gather(client.totals(ids, **TOTALS_BY_TWEET), client.last_28_hours(hourly, **FAVORITES))
        late = [r.asked for r in server.records if r.cause == "outage" and r.asked.at > 60]
        assert {len(asked.tweet_ids) for asked in late} <= {1}
        assert len(late) <= 600 / 5

    play(World([during(0, 10**6, endpoint="28hr")]), main)


def of_owner(ids: list[str], start: float, end: float, act: Act | None = None) -> Rule:
    """Do the same for the Tweets of one owner, and for no others."""
    mine = frozenset(ids)
    return Rule(
        "outage",
        lambda asked: (act or Status(503)) if start <= asked.at < end and mine & set(asked.tweet_ids) else None,
    )


@pytest.mark.parametrize("act", [Status(503), Status(403, content=b"<html>"), Disconnect()], ids=str)
@pytest.mark.parametrize("lasts_s", [600, 10**6])
def test_rule_2_an_owner_that_is_not_answered_costs_probes_and_keeps_nobody_waiting(act: Act, lasts_s: float) -> None:
    owned = {"sick": make_ids(2_500), "well": make_ids(25_000, call=1)}

    async def main(server: ModelServer) -> None:
        limit = RateLimit(300)
        async with EngagementClient(dict.fromkeys(owned, OAUTH), rate_limit=limit, base_url=server.url) as client:
            call = asyncio.create_task(client.last_28_hours(owned, **FAVORITES))
            await asyncio.sleep(60)
            assert client.status().waiting_for is not WaitReason.OUTAGE  # others are answered
            await asyncio.sleep(400)
            assert client.status().waiting_for is WaitReason.OUTAGE
            assert client.status().trouble
            result = await call
        taken = [r for r in server.records if r.cause != "outage" and owned["well"][-1] in r.asked.tweet_ids]
        assert taken[0].asked.at <= 260  # 1,000 requests at 300 a minute, and what the other one's outage costs
        assert server.causes("28hr")["outage"] <= 30 + 900 / 10
        assert server.requests <= 1_100 + server.causes("28hr")["outage"] + 20
        if lasts_s == 600:
            assert result.outcomes["answered"] == 27_500
            assert now() < 600 + BACK + 30
        else:
            assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
            assert set(result.failed_tweet_ids) < set(owned["sick"])
            assert result.outcomes["answered"] + len(result.failed_tweet_ids) == 27_500
            assert now() < 960

    play(World([of_owner(owned["sick"], 20, lasts_s, act)]), main)


def test_rule_2_a_bad_tweet_of_an_owner_is_no_outage_of_that_owner() -> None:
    owned = {"one": make_ids(25), "other": make_ids(5_000, call=1)}
    bad = owned["one"][-1]

    async def main(server: ModelServer) -> None:
        async with EngagementClient(
            dict.fromkeys(owned, OAUTH), rate_limit=RateLimit(60), base_url=server.url
        ) as client:
            result = await client.last_28_hours(owned, **FAVORITES)
        assert kinds(result.failed_tweet_ids) == {bad: FailureKind.SERVER}
        assert server.causes("28hr")["poison"] <= 40

    play(World([poison([bad])]), main)


def test_rule_2_an_owner_that_comes_first_and_is_not_answered_hides_no_other() -> None:
    owned = {"sick": make_ids(3_000), "well": make_ids(500, call=1)}
    pairs = [(owner, i) for owner, ids in owned.items() for i in ids]

    async def main(server: ModelServer) -> None:
        async with EngagementClient(
            dict.fromkeys(owned, OAUTH), rate_limit=RateLimit(300), base_url=server.url, outage_timeout_s=300
        ) as client:
            result = await client.last_28_hours(TweetsByOwner(iter(pairs)), **FAVORITES)
        assert set(result.failed_tweet_ids) == set(owned["sick"])
        assert result.outcomes["answered"] == 500
        assert server.causes("28hr")["outage"] <= 120

    play(World([of_owner(owned["sick"], 0, 10**6)]), main)


def test_rule_2_while_a_probe_of_one_owner_hangs_others_are_read_and_answered() -> None:
    owned = {"sick": make_ids(2_500), "well": make_ids(25_000, call=1)}

    async def main(server: ModelServer) -> None:
        async with EngagementClient(
            dict.fromkeys(owned, OAUTH),
            rate_limit=RateLimit(300),
            base_url=server.url,
            timeouts=Timeouts(read_s=30, total_s=30),
        ) as client:
            await client.last_28_hours(owned, **FAVORITES)
        last = max(r.asked.at for r in server.records if r.cause != "outage" and owned["well"][-1] in r.asked.tweet_ids)
        assert last <= 300

    play(World([of_owner(owned["sick"], 20, 10**6, Hang())]), main)


def test_rule_2_a_job_ends_whose_owner_has_one_tweet_that_the_api_fails_at(tmp_path: Path) -> None:
    owned = {"one": make_ids(1), "other": make_ids(5_000, call=1)}

    async def main(server: ModelServer) -> None:
        job = BackfillJob(tmp_path / "job")
        await job.start(LAST_DAY, owned)
        progress = await job.run(dict.fromkeys(owned, OAUTH), rate_limit=RateLimit(60), base_url=server.url)
        assert (progress.outcome, progress.outcomes.failed) == (RunOutcome.DONE, 1)

    play(World([poison(owned["one"])]), main)


def test_rule_2_a_probe_of_an_owner_that_cannot_be_sent_is_not_repeated_at_once() -> None:
    owned = {"sick": make_ids(50), "well": make_ids(50, call=1)}

    async def main(server: ModelServer) -> None:
        async with EngagementClient(
            dict.fromkeys(owned, OAUTH), rate_limit=AMPLE, base_url=server.url, outage_timeout_s=300
        ) as client:
            result = await client.last_28_hours(owned, **FAVORITES)
            assert client.status().requests < 60
        assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert set(result.failed_tweet_ids) == set(owned["sick"])
        assert now() < 400

    play(World([of_owner(owned["sick"], 0, 10**6)], refused=[(20, 10**6)]), main)


def test_rule_2_a_job_leaves_the_tweets_of_an_owner_that_is_not_answered_pending(tmp_path: Path) -> None:
    owned = {"sick": make_ids(500), "well": make_ids(10_000, call=1)}

    async def main(server: ModelServer) -> None:
        job = BackfillJob(tmp_path / "job")
        await job.start(LAST_DAY, owned)
        run: dict[str, Any] = {"rate_limit": RateLimit(300), "base_url": server.url}
        first = await job.run(dict.fromkeys(owned, OAUTH), **run)
        assert first.outcome is RunOutcome.OUTAGE
        assert (first.outcomes.answered, first.outcomes.failed) == (10_000, 0)
        await asyncio.sleep(3_000)
        second = await job.run(dict.fromkeys(owned, OAUTH), **run)
        assert second.outcome is RunOutcome.DONE
        assert second.outcomes.answered == 10_500

    play(World([of_owner(owned["sick"], 0, 3_000)]), main)


# --- 3. only time spent trying counts as failing ---


def test_rule_3_time_behind_a_slow_consumer_does_not_count() -> None:
    ids = make_ids(500)

    async def main(server: ModelServer) -> None:
        merger = Merger(LAST_DAY)
        async with client_of(server, concurrency=2) as client, client.stream(LAST_DAY, ids) as answers:
            async for answer in answers:
                merger.add(answer)
                await asyncio.sleep(1_000)
        check(server, merger.result(), ids)
        assert merger.result().outcomes["answered"] == 500

    for seed in range(5):
        play(World([flaky(0.4, [Status(503), Cut(), Status(200, content=b"{")], seed)], seed=seed), main)


def test_rule_3_time_in_a_queue_does_not_count() -> None:
    ids = make_ids(15_000)  # 600 batches at 20 a minute: half an hour

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(20)) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids)
        assert result.outcomes["answered"] == len(ids)

    play(World([flaky(0.3, [Status(503)], 1)]), main)


@pytest.mark.parametrize("seed", range(4))
def test_rule_3_time_in_an_outage_does_not_count(seed: int) -> None:
    ids = make_ids(5_000)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(60)) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids)
        assert result.outcomes["answered"] == len(ids)

    play(World([after_requests(20, 840), flaky(0.3, [Status(503), Status(500)], seed)], seed=seed), main)


def test_rule_3_time_in_which_the_api_holds_the_contract_does_not_count() -> None:
    """A request fails once, then the API holds the contract for longer than the timeout, again and again."""
    ids = make_ids(100)
    hold = Status(429, ("Too many requests",), headers={"Retry-After": 400})

    def first_hold_then_fail(asked: Asked) -> Act | None:
        if asked.number in (5, 10, 15):
            return hold
        return Status(503) if asked.number % 2 else None

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=300, concurrency=2) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids, outage_timeout_s=300)
        assert result.outcomes["answered"] == 100

    play(World([Rule("limited", first_hold_then_fail)]), main)


def test_rule_3_time_waiting_for_the_contract_does_not_count() -> None:
    """One request in ten minutes: a batch that fails twice was tried for moments."""
    ids = make_ids(50)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(1, period=600), outage_timeout_s=300) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids, outage_timeout_s=300)
        assert result.outcomes["answered"] == 50

    play(World([Rule("flaky", lambda asked: Status(503) if asked.number in (1, 3, 4) else None)]), main)


@pytest.mark.parametrize("still_away_s", [0.0, 20.0], ids=["back at once", "back after 20 s"])
@pytest.mark.parametrize("asleep_at", [0.2, 3.0, 40.0], ids=["in flight", "after faults", "circuit open"])
def test_rule_3_time_in_which_the_process_was_suspended_does_not_count(asleep_at: float, still_away_s: float) -> None:
    """As on a laptop that wakes up, and has its network some seconds later."""
    ids = make_ids(5_000)
    end = asleep_at + 5_000 + still_away_s

    async def main(server: ModelServer) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(asleep_at, loop.suspend, 5_000.0)
        async with client_of(server) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert result.outcomes["answered"] == 5_000

    play(World([during(0, end)]), main)


# --- 4. after an outage of any length, a run recovers by itself ---


@pytest.mark.parametrize("minutes", [10, 16, 30, 180])
@pytest.mark.parametrize("act", [Status(503), Hang(), None], ids=["503", "hang", "refused"])
def test_rule_4_an_endless_stream_recovers_from_any_outage(minutes: int, act: Act | None) -> None:
    """A batch a minute, for five hours at least; the API is gone from minute 10 on."""
    start, end = 600.0, 600.0 + 60 * minutes
    came: dict[int, float] = {}
    answered: dict[int, float] = {}
    failed: dict[int, float] = {}

    async def source() -> AsyncIterator[str]:
        for n, tweet_id in enumerate(make_ids(300 * 25)):
            if n and n % 25 == 0:
                await asyncio.sleep(60)
            came[n // 25] = now()
            yield tweet_id

    async def main(server: ModelServer) -> None:
        async with (
            client_of(server, rate_limit=RateLimit(300)) as client,
            client.stream(LAST_DAY, source()) as answers,
        ):
            async for answer in answers:
                (failed if answer.failed_tweet_ids else answered)[place(answer) // 25] = now()
                check_failures(server, answer.failed_tweet_ids, endpoint="28hr", outage_timeout_s=900, until=now())
        assert answered.keys() | failed.keys() == came.keys()
        assert all(came[n] < end for n in failed), "failed, though it came when the API was back"
        assert all(at <= end + BACK + 60 for at in failed.values()), "failed, when the API was back"
        assert all(came[n] >= start - 60 for n in failed), "failed, though it came before the outage"
        assert len(failed) <= (minutes if minutes > 15 else 0)
        assert all(at <= max(came[n] + 30, end + BACK + 60) for n, at in answered.items()), "answered too late"

    rules = [] if act is None else [during(start, end, act)]
    play(World(rules, refused=[(start, end)] if act is None else []), main)


@pytest.mark.parametrize("act", [Status(503), None], ids=["503", "refused"])
def test_rule_4_a_call_after_a_timeout_asks_at_once(act: Act | None) -> None:
    ids, later = make_ids(2_000), make_ids(2_000, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=120) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
            assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
            assert len(result.failed_tweet_ids) == 2_000
            assert 100 <= now() <= 150
            await asyncio.sleep(600 - now())
            began_at = now()
            result = await client.totals(later, **TOTALS_BY_TWEET)
            check(server, result, later)
            assert result.outcomes["answered"] == 2_000
            assert now() <= began_at + BACK

    rules = [] if act is None else [during(0, 590, act)]
    play(World(rules, refused=[(0.0, 590.0)] if act is None else []), main)


def test_rule_4_a_call_that_begins_late_in_an_outage_has_its_own_patience() -> None:
    ids, later = make_ids(2_000), make_ids(2_000, call=1)

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=300) as client:

            async def second() -> EngagementResult:
                await asyncio.sleep(290)
                return await client.totals(later, **TOTALS_BY_TWEET)

            gone, result = await asyncio.gather(client.totals(ids, **TOTALS_BY_TWEET), second())
        check(server, gone, ids, outage_timeout_s=300)
        assert len(gone.failed_tweet_ids) == 2_000
        check(server, result, later, outage_timeout_s=300)
        assert result.outcomes["answered"] == 2_000

    play(World([during(0, 500)]), main)


def test_rule_4_a_job_goes_on_after_an_outage_of_any_length(tmp_path: Path) -> None:
    ids = make_ids(2_500)

    async def main(server: ModelServer) -> None:
        first = await run_job(server, tmp_path / "job", ids, rate_limit=RateLimit(60), concurrency=4)
        assert (first.outcome, first.outcomes.failed) == ("outage", 0)
        assert first.pending > 0
        await asyncio.sleep(4_000)
        second = await run_job(server, tmp_path / "job", ids)
        assert (second.outcome, second.outcomes.answered, second.pending) == ("done", 2_500, 0)
        assert first.requests + second.requests <= 10 + 4 * 6 + 900 / 5

    play(World([after_requests(4, 4_000)]), main)


# --- 5. requeued work that is due goes before new work ---


def test_rule_5_a_request_that_is_due_again_goes_before_new_ones() -> None:
    ids = make_ids(7_500)  # 300 batches at 30 a minute
    unlucky = ids[12]

    def fails_ten_times(asked: Asked) -> Act | None:
        if unlucky in asked.tweet_ids and next(faults) < 10:
            return Status(502)
        return None

    faults = itertools.count()

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(30), concurrency=4) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids)
        assert result.outcomes["answered"] == len(ids)
        asked_at = [r.asked.at for r in server.of(unlucky)]
        pauses = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
        assert max(pauses) <= 40, "new work went first"
        assert server.requests <= 300 + 10 + 20

    play(World([Rule("flaky", fails_ten_times)]), main)


def test_rule_5_what_an_outage_left_behind_goes_before_new_work() -> None:
    ids = make_ids(12_500)  # 500 batches at 60 a minute

    async def main(server: ModelServer) -> None:
        done: dict[int, float] = {}
        async with (
            client_of(server, rate_limit=RateLimit(60), concurrency=8) as client,
            client.stream(LAST_DAY, ids) as answers,
        ):
            async for answer in answers:
                assert not answer.failed_tweet_ids
                done[place(answer) // 25] = now()
        begun = {
            n for n in range(500) if any(r.asked.at < 160 and ids[25 * n] in r.asked.tweet_ids for r in server.records)
        }
        # Whatever was begun before the API came back is answered before long, not at the end of the run.
        assert all(done[n] <= 160 + BACK + 60 for n in begun)
        assert len(done) == 500

    play(World([during(60, 160)]), main)


# --- 6. everything that waits for the server has an end ---

CAP = {
    "title": "UsageCapExceeded",
    "detail": "Usage cap exceeded: Monthly product cap",
    "type": "https://api.twitter.com/2/problems/usage-capped",
    "period": "Monthly",
}
ENROLL = {
    "title": "Client Forbidden",
    "detail": "This request must be made using an approved developer account",
    "reason": "client-not-enrolled",
    "type": "https://api.twitter.com/2/problems/client-forbidden",
}
LEVEL = {
    "errors": [
        {
            "code": 453,
            "message": "You currently have access to a subset of X API endpoints. You may need a different level",
        }
    ]
}
FOR_EVER: dict[str, tuple[Act, str]] = {
    "429": (Status(429, ("Rate limit exceeded",)), "Rate limit exceeded"),
    "429 retry-after 0": (Status(429, ("Rate limit exceeded",), headers={"Retry-After": 0}), "Rate limit exceeded"),
    "429 retry-after 30": (Status(429, ("Rate limit exceeded",), headers={"Retry-After": 30}), "Rate limit exceeded"),
    "429 monthly cap": (Status(429, content=CAP, content_type="application/problem+json"), "Monthly product cap"),
    "429 in a 200": (Status(200, ("Rate limit exceeded",)), "Rate limit exceeded"),
    "402": (Status(402, content={"title": "CreditsDepleted", "detail": "Your account has no credits"}), "no credits"),
    "403 enroll": (Status(403, content=ENROLL, content_type="application/problem+json"), "approved developer account"),
    "403 access level": (Status(403, content=LEVEL), "subset of X API endpoints"),
    "403 html": (Status.html(403), "403"),
    "401": (Status(401, ("Your account could not be authenticated. Reason: Access token not found",)), "authenticated"),
}


@pytest.mark.parametrize("answers", [0, 30], ids=["from the start", "after answers"])
@pytest.mark.parametrize("name", FOR_EVER)
def test_rule_6_what_never_ends_is_ended_with_the_apis_own_words(name: str, answers: int) -> None:
    act, words = FOR_EVER[name]
    ids = make_ids(25_000)
    merger = Merger(QUERY)

    async def main(server: ModelServer) -> None:
        told = ""
        async with client_of(server, rate_limit=RateLimit(240), outage_timeout_s=200, concurrency=8) as client:
            try:
                async with asyncio.timeout(10_000), client.stream(QUERY, ids) as stream:
                    async for answer in stream:
                        merger.add(answer)
            except EngagementError as error:
                told = str(error)
        last = max((r.answered_at for r in server.records if r.is_useful), default=0.0)
        assert now() <= last + 200 + 70, "it took longer than outage_timeout_s, and one window"
        result = merger.result()
        told = told or next(iter(result.failed_tweet_ids.values()), "")
        assert words in told
        check_values(server.world, result)
        assert result.outcomes["answered"] == 250 * server.causes()["answer"], "what was answered is lost"
        useless = server.requests - server.causes()["answer"]
        if name.startswith("429"):
            assert useless <= 8 + 200, "more than a request a second"
        else:
            assert useless <= 8 + 30

    play(World([after_requests(answers + 1, 10**7, act, cause="for ever")]), main)


@pytest.mark.parametrize("name", FOR_EVER)
def test_rule_6_a_job_that_can_go_on_later_leaves_its_ids_pending(name: str, tmp_path: Path) -> None:
    act, words = FOR_EVER[name]
    ids = make_ids(5_000)

    async def main(server: ModelServer) -> None:
        job = BackfillJob(tmp_path / "job")
        told = words
        try:
            async with asyncio.timeout(10_000):
                await run_job(server, tmp_path / "job", ids, rate_limit=RateLimit(240), concurrency=4)
        except EngagementError as error:
            told = str(error)
        assert words in told
        status = await job.status()
        assert status.totals.outcomes.failed == 0
        assert status.totals.outcomes.answered == 250 * server.causes()["answer"] > 0
        assert status.totals.pending == 5_000 - status.totals.outcomes.answered

    play(World([after_requests(7, 10**7, act, cause="for ever")]), main)


def test_rule_6_holds_between_answers_are_no_end() -> None:
    """Every third request gets a 429, for longer than the timeout."""
    ids = make_ids(2_500)
    hold = Status(429, ("Too many requests",), headers={"Retry-After": 20})

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=120, concurrency=1) as client:
            result = await client.last_28_hours(ids, **FAVORITES)
        check(server, result, ids)
        assert result.outcomes["answered"] == len(ids)
        assert now() > 600

    play(World([Rule("limited", lambda asked: hold if asked.number % 3 == 0 else None)]), main)


def test_rule_6_a_text_about_the_rate_beside_whole_data_is_a_note() -> None:
    note = "Note: the rate limit of this endpoint changes in May"
    ids = make_ids(3)
    values = {i: {"favorites": "1", "replies": "2"} for i in ids}
    whole = {"tweets": values, "sum": {"favorites": "3", "replies": "6"}, "errors": [note]}

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=60) as client, asyncio.timeout(1_000):
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        assert result.outcomes["answered"] == 3
        assert result.groupings["sum"] == {"favorites": 3, "replies": 6}
        assert note in result.notes
        assert server.requests == 1

    play(World([during(0, 10**7, Status(200, content=whole))]), main)


# --- 7. a refusal that is not about IDs never halves a batch ---

NOT_ABOUT_IDS = {
    "403 html": Status.html(403),
    "400 html": Status.html(400),
    "403 text": Status(403, content=b"Forbidden", content_type="text/plain"),
    "403 empty": Status(403, content=b""),
    "403 enroll": Status(403, content=ENROLL, content_type="application/problem+json"),
    "403 access level": Status(403, content=LEVEL),
    "403 code": Status(403, content={"errors": [{"code": 64, "message": "Your account is suspended"}]}),
}


@pytest.mark.parametrize("name", NOT_ABOUT_IDS)
def test_rule_7_a_refusal_that_is_not_about_ids_never_halves_a_batch(name: str) -> None:
    """Some batches are answered; then everything is refused, for good."""
    ids = make_ids(25_000)

    async def main(server: ModelServer) -> None:
        answered = 0
        stopped = ""
        failed: set[FailureKind] = set()
        async with client_of(server, rate_limit=RateLimit(600), outage_timeout_s=300, concurrency=4) as client:
            try:
                async with client.stream(QUERY, ids) as answers:
                    async for answer in answers:
                        failed.update(kinds(answer.failed_tweet_ids).values())
                        answered += len(answer.tweet_ids) - len(answer.failed_tweet_ids)
            except EngagementError as error:
                stopped = str(error)
        # It stops, or waits as in an outage; no Tweet is to blame.
        assert stopped or failed == {FailureKind.OUTAGE}
        refused = [r.asked for r in server.records if r.cause == "for ever"]
        assert {len(asked.tweet_ids) for asked in refused} <= {1, 250}
        assert len(refused) <= 4 + 300 / 5
        assert answered == 250 * server.causes()["answer"]

    play(World([after_requests(20, 10**7, NOT_ABOUT_IDS[name], cause="for ever")]), main)


@pytest.mark.parametrize("name", ["403 html", "403 text", "403 empty"])
def test_rule_7_a_wall_that_goes_away_costs_no_tweet(name: str) -> None:
    """A page of a firewall for a minute: stop, or wait, but never blame a Tweet."""
    ids = make_ids(10_000)
    merger = Merger(QUERY)

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(240), concurrency=4) as client:
            try:
                async with client.stream(QUERY, ids) as answers:
                    async for answer in answers:
                        merger.add(answer)
            except EngagementError:
                pass
        result = merger.result()
        assert result.failed_tweet_ids == {}
        check_values(server.world, result)
        assert len([r for r in server.records if r.cause == "wall"]) <= 4 + 30

    play(World([after_requests(10, 60, NOT_ABOUT_IDS[name], cause="wall")]), main)


@pytest.mark.parametrize("has_request_id", [False, True], ids=["same text", "with a request's ID"])
@pytest.mark.parametrize("answers", [0, 40], ids=["from the start", "after answers"])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_rule_7_when_every_request_is_refused_alike_it_is_the_request(
    has_request_id: bool, answers: int, concurrency: int
) -> None:
    ids = make_ids(25_000)

    def refuse(asked: Asked) -> Act | None:
        if asked.number <= answers:
            return None
        suffix = f" (request {asked.number * 7919:08x}-{asked.at:.3f})" if has_request_id else ""
        return Status(400, (f"Something is not right{suffix}",))

    async def main(server: ModelServer) -> None:
        async with client_of(server, rate_limit=RateLimit(600), concurrency=concurrency) as client:
            with pytest.raises(RequestRefusedError, match="Something is not right"):
                await client.totals(ids, **TOTALS_BY_TWEET)
        assert server.causes()["alike"] <= concurrency + 25

    play(World([Rule("alike", refuse)]), main)


@pytest.mark.parametrize(
    ("bad_first", "concurrency"), [(25, 1), (63, 1), (130, 1), (250, 1), (250, 2), (250, 16), (1_000, 1), (1_000, 4)]
)
def test_rule_7_ids_at_the_front_that_are_all_refused_do_not_stop_the_run(bad_first: int, concurrency: int) -> None:
    """A sorted list that begins with Tweets of a kind which the API refuses: it is the IDs, not the request."""
    ids = make_ids(5_000)
    bad = ids[:bad_first]

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=concurrency) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.REFUSED)
        assert server.requests <= 20 + 2.2 * bad_first + 40

    play(World([refuses(bad)]), main)


@pytest.mark.parametrize(("bad_first", "concurrency"), [(250, 1), (1_000, 4)])
def test_rule_7_ids_at_the_front_of_an_async_source_do_not_stop_the_run(bad_first: int, concurrency: int) -> None:
    ids = make_ids(2_500)
    bad = ids[:bad_first]

    async def source() -> AsyncIterator[str]:
        for tweet_id in ids:
            yield tweet_id

    async def main(server: ModelServer) -> None:
        async with client_of(server, concurrency=concurrency) as client:
            result = await client.totals(source(), **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.REFUSED)

    play(World([refuses(bad)]), main)


def test_rule_7_a_job_passes_ids_that_are_all_refused(tmp_path: Path) -> None:
    ids = make_ids(5_000)

    async def main(server: ModelServer) -> None:
        progress = await run_job(server, tmp_path / "job", ids, concurrency=4)
        assert (progress.outcome, progress.outcomes.answered, progress.outcomes.failed) == ("done", 4_000, 1_000)

    play(World([refuses(ids[:1_000])]), main)


def test_rule_7_named_ids_are_taken_out_at_one_request_more() -> None:
    ids = make_ids(1_000)
    bad = ids[10:1_000:100]

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.REFUSED)
        assert server.requests <= 8

    play(World([refuses(bad, is_named=True)]), main)


# --- 8. a sum is taken only from an answer that settles all its IDs ---

ALL_THREE: dict[str, Any] = {
    "engagement_types": ["favorites", "replies"],
    "groupings": {
        "tweets": ["tweet.id", "engagement.type"],
        "types": ["engagement.type", "tweet.id"],
        "sum": ["engagement.type"],
    },
}


@pytest.mark.parametrize("in_sums", [True, False], ids=["in the sums", "not in the sums"])
@pytest.mark.parametrize("times", [1, 2, 10**6], ids=["once", "twice", "for ever"])
@pytest.mark.parametrize("of", [None, {"types"}, {"tweets"}], ids=["everywhere", "of one grouping", "of the other"])
@pytest.mark.parametrize("count", [3, 600])
def test_rule_8_a_tweet_that_is_left_out_counts_once_or_not_at_all(
    in_sums: bool, times: int, of: set[str] | None, count: int
) -> None:
    ids = make_ids(count)
    gone = {ids[1], ids[-1]}

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **ALL_THREE)
        check(server, result, ids)
        wanted = {} if times == 1 else dict.fromkeys((ids[1], ids[-1]), FailureKind.MISSING)
        if times != 2:  # whether two are enough depends on how the rest is asked
            assert kinds(result.failed_tweet_ids) == wanted
        assert server.requests <= -(-count // 250) * 5

    play(World(omissions=[Omission(gone, times, of, in_sums=in_sums)]), main)


@pytest.mark.parametrize("in_sums", [True, False], ids=["in the sums", "not in the sums"])
@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "for ever"])
def test_rule_8_a_metric_that_is_left_out_is_told(in_sums: bool, times: int) -> None:
    ids = make_ids(300)

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **ALL_THREE)
        check(server, result, ids)
        assert result.outcomes["answered"] == 300
        missing: Mapping[str, list[str]] = getattr(result, "missing_metrics", {})
        assert {m: list(i) for m, i in missing.items()} == ({} if times == 1 else {"replies": [ids[7]]})
        assert server.requests <= 2 + 3

    play(World(omissions=[Omission({ids[7]}, times, metric="replies", in_sums=in_sums)]), main)


@pytest.mark.parametrize("content", [{"sum": {}}, {"sum": {"favorites": "3"}}], ids=["none", "one of two"])
@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "for ever"])
def test_rule_8_a_sum_that_lacks_a_metric_is_told(content: dict[str, Any], times: int) -> None:
    ids = make_ids(3)
    query: dict[str, Any] = {"engagement_types": ["favorites", "replies"], "groupings": {"sum": ["engagement.type"]}}
    lacking = [m for m in query["engagement_types"] if m not in content["sum"]]

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **query)
        check_places(result, ids)
        assert result.outcomes["answered"] == 3
        missing: Mapping[str, list[str]] = getattr(result, "missing_metrics", {})
        assert 2 <= server.requests <= 4
        if times == 1:
            assert missing == {}
            check_values(server.world, result)
        else:
            assert {m: list(i) for m, i in missing.items()} == dict.fromkeys(lacking, ids)

    lacks = Status(200, content=content)
    play(World([Rule("lacks", lambda asked: lacks if asked.number <= times else None)]), main)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("is_shown", [True, False], ids=["with its other metrics", "nowhere"])
def test_rule_8_a_tweet_without_one_metric_is_summed_once(status: int, is_shown: bool) -> None:
    ids = make_ids(300)
    query: dict[str, Any] = {**ALL_THREE, "engagement_types": ["impressions", "favorites"]}
    old = {ids[2], ids[299]}
    first = Omission(old, 1, in_sums=False)

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.totals(ids, **query)
        check(server, result, ids)
        assert result.outcomes["answered"] == 300
        assert {m: set(i) for m, i in result.unsupported_tweet_ids.items()} == {"impressions": old}

    key = "unsupported_for_impressions_engagements_tweet_ids"
    world = World(unsupported={key: old}, unsupported_status=status, omissions=[] if is_shown else [first])
    play(world, main)


@pytest.mark.parametrize("fate", ["poison", "refused", "left out"])
def test_rule_8_a_tweet_that_fails_in_one_part_of_a_long_span_is_in_no_sum(fate: str) -> None:
    ids = make_ids(30)
    bad = ids[4]
    query: dict[str, Any] = {
        "engagement_types": ["favorites"],
        "groupings": {"tweets": ["tweet.id"], "days": ["engagement.day", "tweet.id"], "sum": ["engagement.day"]},
        "start": "2026-08-20",
        "end": "2026-10-19",
    }
    refusal = refuses([bad])

    def in_the_last_part(asked: Asked) -> Act | None:
        return refusal.decide(asked) if asked.start is not None and asked.start.month >= 10 else None

    worlds = {
        "poison": World([poison([bad], since="2026-10-01")]),
        "refused": World([Rule("refused", in_the_last_part)]),
        "left out": World(omissions=[Omission({bad})]),
    }

    async def main(server: ModelServer) -> None:
        async with client_of(server) as client:
            result = await client.historical(ids, **query)
        check(server, result, ids)
        assert list(result.failed_tweet_ids) == [bad]

    play(worlds[fate], main)


def test_rule_8_hours_above_tweets_lose_the_values_of_a_tweet_that_fails_later() -> None:
    ids = make_ids(30)
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"hours": ["engagement.hour", "tweet.id"]},
        start="2026-08-20",
        end="2026-10-19",
    )

    async def main(server: ModelServer) -> None:
        merger = Merger(query)
        async with client_of(server) as client, client.stream(query, ids) as answers:
            async for answer in answers:
                merger.add(answer)
        check(server, merger.result(), ids)

    for days_above_hours in (True, False):
        play(World([poison([ids[3]], since="2026-09-15")], days_above_hours=days_above_hours), main)


# --- 9. the answer itself says why it failed ---


def test_rule_9_each_failure_says_its_own_kind() -> None:
    ids = make_ids(1_000)

    async def main(server: ModelServer) -> None:
        async with client_of(server, outage_timeout_s=300) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
            hourly = await client.last_28_hours(ids[:50], **FAVORITES)
        check(server, result, ids)
        assert kinds(result.failed_tweet_ids) == {
            ids[10]: FailureKind.SERVER,
            ids[300]: FailureKind.REFUSED,
            ids[301]: FailureKind.REFUSED,
            ids[600]: FailureKind.MISSING,
        }
        assert set(kinds(hourly.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        assert "Invalid Tweet" in result.failed_tweet_ids[ids[300]]
        assert "internal server error" in result.failed_tweet_ids[ids[10]]

    rules = [
        during(0, 10**6, endpoint="28hr"),
        poison([ids[10]]),
        refuses([ids[300]]),
        refuses([ids[301]], "Bad Tweet", is_named=True),
    ]
    play(World(rules, omissions=[Omission({ids[600]})]), main)


def test_rule_9_an_ordinary_failure_that_is_taken_in_an_outage_does_not_end_a_job(tmp_path: Path) -> None:
    """Every batch has Tweets that are left out, and the API is away for a minute now and then."""
    ids = make_ids(5_000)
    never = set(ids[::250]) | set(ids[5::250])

    async def main(server: ModelServer) -> None:
        progress = await run_job(server, tmp_path / "job", ids, rate_limit=RateLimit(10), concurrency=4)
        assert (progress.outcome, progress.outcomes.failed) == ("done", 40)
        assert progress.outcomes.answered == 4_960

    outages = [during(at, at + 20) for at in (3, 30, 60, 100)]
    play(World(outages, omissions=[Omission(never)]), main)


@pytest.mark.parametrize("concurrency", [1, 2, 4])
@pytest.mark.parametrize("act", [Hang(), Slow(300.0)], ids=["no byte", "no body"])
def test_rule_9_an_outage_of_few_faults_leaves_a_job_pending(concurrency: int, act: Act, tmp_path: Path) -> None:
    """Patient timeouts and few workers: not ten faults fit into a quarter of an hour."""
    ids = make_ids(2_500)

    async def main(server: ModelServer) -> None:
        patient = Timeouts(total_s=120, read_s=120)
        progress = await run_job(server, tmp_path / "job", ids, concurrency=concurrency, timeouts=patient)
        assert (progress.outcome, progress.outcomes.failed, progress.pending) == ("outage", 0, 2_500)

    play(World([during(0, 10**6, act)]), main)


def test_rule_9_a_failure_is_read_off_the_answer_after_the_outage_is_over() -> None:
    """A consumer that takes its answers long after: the client's present state says nothing of them."""
    ids = make_ids(100)

    async def main(server: ModelServer) -> None:
        async with (
            client_of(server, outage_timeout_s=120, concurrency=4) as client,
            client.stream(LAST_DAY, ids) as answers,
        ):
            await asyncio.sleep(3_000)
            async for answer in answers:
                assert set(kinds(answer.failed_tweet_ids).values()) <= {FailureKind.OUTAGE}
                check_failures(server, answer.failed_tweet_ids, endpoint="28hr", outage_timeout_s=120)

    play(World([during(0, 1_000)]), main)
