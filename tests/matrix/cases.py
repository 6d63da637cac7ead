"""The table of all cases: what the transport may do to an answer, and what the API itself may say.

Each case asks the real client for Tweets of an emulator that misbehaves, and checks values, outcomes, contract and cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from engagement_async import (
    AuthError,
    EngagementClient,
    EngagementResult,
    RateLimit,
    RequestRefusedError,
    ServerRefusedError,
    Timeouts,
)
from engagement_async._core.batches import chunk
from engagement_async._engine.scheduler import LocalScheduler
from engagement_async.emulator import (
    FAULTS,
    Emulator,
    Fault,
    FaultKind,
    FaultSettings,
    Interpretation,
    Reaction,
    random_faults,
)
from tests.matrix.combined import COMBINED
from tests.support.cases import (
    CONCURRENCY,
    GROUPINGS,
    LIMIT,
    METRICS,
    NOW,
    QUERY,
    Bench,
    Case,
    Clock,
    check_contract,
    check_rules,
    check_values,
    client_of,
)
from tests.support.certificates import server_context, trusting_client
from tests.support.raw_http import RawServer, plain

__all__ = ["CASES"]

TRANSPORT, API, CLIENT = "Transport", "API", "Run"
CASES: list[Case] = []
Run = Callable[[Bench], Awaitable[None]]


def case(part: str, name: str, what: str, *, clock: Clock = "virtual", share: float = 1.0) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        CASES.append(Case(part, name, what, run, clock, share))
        return run

    return register


def batches(count: int) -> int:
    return -(-count // 250)


# --- every fault of the emulator, each third request ---

_STOPS = {
    "401": AuthError,
    "403-application": AuthError,
    "404": ServerRefusedError,
    "redirect": ServerRefusedError,
}
_COSTLY = {  # shares of the usual number of Tweets
    "bomb": 0.2,
    "endless-chunks": 0.25,
    "drip": 0.5,
}


def _fault_case(fault: Fault) -> None:
    async def run(bench: Bench) -> None:
        ids = bench.ids()
        every = 3 if batches(len(ids)) >= 3 else 2
        limit = 60_000 if fault.name == "bomb" else LIMIT  # a bomb is made in real time: no minutes to wait there
        async with bench.emulator(faults={fault.name: every}, requests_per_minute=limit) as emulator:
            async with client_of(emulator) as client:
                if fault.expected is Reaction.STOP:
                    bench.ids_in += len(ids)
                    await bench.stops(
                        _STOPS[fault.name], client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS)
                    )
                    assert emulator.log.requests <= every + CONCURRENCY
                else:
                    result = await bench.fetch(client, ids)
                    assert set(result.failed_tweet_ids) <= _may_fail(emulator)
                    if fault.name == "negative":  # which is no fault of the client's to mend
                        _check_negative(result, emulator, ids)
                    else:
                        check_values(result, emulator, ids)
            check_contract(emulator)
            assert emulator.log.faults[fault.name] >= 1, "the fault never struck"
            if fault.expected is Reaction.ACCEPT:
                assert emulator.log.requests == batches(len(ids)), "a good answer was asked for again"

    part = TRANSPORT if fault.kind in (FaultKind.TRANSPORT, FaultKind.TIMING, FaultKind.BODY) else API
    clock: Clock = "real" if fault.name == "bomb" else "virtual"
    CASES.append(Case(part, fault.name, fault.description, run, clock, _COSTLY.get(fault.name, 1.0)))


def _may_fail(emulator: Emulator) -> set[str]:
    """IDs that an answer left out in the second look too, or that were refused alone: those may fail, and no others."""
    left_out = Counter(
        i for entry in emulator.log if entry.fault in ("missing-ids", "null-leaf") for i in entry.tweet_ids
    )
    refused = {
        entry.tweet_ids[0] for entry in emulator.log if entry.fault in ("400", "403") and len(entry.tweet_ids) == 1
    }
    return refused | {i for i, times in left_out.items() if times > 1}


def _check_negative(result: EngagementResult, emulator: Emulator, ids: list[str]) -> None:
    expected = emulator.expected("totals", ids, METRICS, GROUPINGS)["by_tweet"]
    changed = 0
    for i, values in result.groupings["by_tweet"].items():
        for metric, value in values.items():
            changed += value != expected[i][metric]
            assert value in (expected[i][metric], -1)
    assert changed == emulator.log.faults["negative"]


for _each in FAULTS.values():
    _fault_case(_each)


# --- the transport, where it takes more than one answer ---


@case(TRANSPORT, "third-broken", "a third of all answers is broken, in every way but the slow ones")
async def _third_broken(bench: Bench) -> None:
    await _survives_a_third_broken(bench, LIMIT)


async def _survives_a_third_broken(bench: Bench, limit: int) -> None:
    ids = bench.ids()
    async with bench.emulator(faults=random_faults(1 / 3, bench.seed), requests_per_minute=limit) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)
        assert not result.failed_tweet_ids


@case(TRANSPORT, "third-broken-uvloop", "the same on uvloop, in real time", clock="uvloop", share=0.2)
async def _third_broken_uvloop(bench: Bench) -> None:
    await _survives_a_third_broken(bench, 60_000)


@case(TRANSPORT, "refused-90-s", "nothing listens on the port for 90 s")
async def _refused(bench: Bench) -> None:
    ids = bench.ids()
    port = _free_port()
    async with client_of(Emulator(LIMIT, port=port)) as client:
        asking = asyncio.create_task(bench.fetch(client, ids))
        await asyncio.sleep(90)
        assert not asking.done()
        async with bench.emulator(port=port) as emulator:
            result = await asking
            check_values(result, emulator, ids)
            check_contract(emulator)
            assert emulator.log.requests == batches(len(ids)), "what never left was counted"


@case(TRANSPORT, "restart", "the server goes away in the middle, and is back after 30 s")
async def _restart(bench: Bench) -> None:
    ids = bench.ids()
    port = _free_port()
    async with client_of(Emulator(LIMIT, port=port)) as client:
        async with bench.emulator(port=port, latency_s=0.5) as emulator:
            asking = asyncio.create_task(bench.fetch(client, ids))
            await asyncio.sleep(2)
        assert not asking.done()
        await asyncio.sleep(30)
        async with bench.emulator(port=port) as emulator:
            result = await asking
            check_values(result, emulator, ids)
            check_contract(emulator)


@case(TRANSPORT, "tls-self-signed", "a certificate that nobody signed", share=0.1)
async def _self_signed(bench: Bench) -> None:
    await _refuses_tls(bench, "127.0.0.1", trusts=None)


@case(TRANSPORT, "tls-wrong-host", "a trusted certificate of another host", share=0.1)
async def _wrong_host(bench: Bench) -> None:
    await _refuses_tls(bench, "data-api.example", trusts="data-api.example")


async def _refuses_tls(bench: Bench, host: str, *, trusts: str | None) -> None:
    ids = bench.ids()
    bench.ids_in += len(ids)
    async with bench.emulator(tls=server_context(host)) as emulator:
        async with client_of(emulator, tls=trusting_client(trusts) if trusts else None) as client:
            await bench.stops(ServerRefusedError, client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS))
        assert emulator.log.requests == 0, "the credentials were shown to it"


@case(TRANSPORT, "tls-fine", "a certificate that is trusted, and of this host", share=0.25)
async def _tls(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(tls=server_context("127.0.0.1"), faults={"close-reused": 3}) as emulator:
        async with client_of(emulator, tls=trusting_client("127.0.0.1")) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)


@case(TRANSPORT, "dns-failure", "the host's name is not found until the deadline", clock="real", share=0.1)
async def _dns(bench: Bench) -> None:
    ids = bench.ids()
    async with client_of(Emulator(LIMIT), base_url="https://data-api.invalid", outage_timeout_s=0.3) as client:
        result = await bench.fetch_by_ten(client, ids)
        assert client.status().requests == 0, "what never left was counted"
    assert set(result.failed_tweet_ids) == set(ids)
    assert all("was not found" in reason for reason in result.failed_tweet_ids.values())
    bench.note = "all IDs failed, with the reason; no request was spent"


# --- outages ---


@case(API, "storm-10-min", "503 for ten minutes in the middle of a run", share=1.0)
async def _storm(bench: Bench) -> None:
    """Send requests of ten Tweets, so that there are many; at most 1.10 times as many as a good day takes."""
    ids = bench.ids()
    requests = -(-len(ids) // 10)
    limit = 600
    async with bench.emulator(requests_per_minute=limit) as emulator:
        loop = asyncio.get_running_loop()
        middle = requests / limit * 60 / 2
        loop.call_later(middle, emulator.set_faults, {"503": 1})
        loop.call_later(middle + 600, emulator.set_faults, None)
        async with client_of(emulator) as client:
            result = await bench.fetch_by_ten(client, ids)
        assert loop.time() > middle + 600
        check_values(result, emulator, ids)
        check_contract(emulator)
        again = sorted(count for count in emulator.log.answered.values() if count > 1)
        assert again in ([], [2]), "more was asked again than the Tweet of one probe"
        check_cost_of_outage(bench, emulator, requests)


def check_cost_of_outage(bench: Bench, emulator: Emulator, requests: int) -> None:
    """Allow a tenth of the requests more, whatever the size of the run: one probe every 10 to 20 s at most."""
    more = emulator.log.requests - requests
    assert more <= 0.10 * requests or more <= 100, f"{emulator.log.requests} requests for {requests}"
    bench.note = f"{more} requests more than on a good day, {emulator.log.requests / requests:.2f} ×"


@case(API, "outage", "500 to everything until the deadline")
async def _outage(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(faults={"500": 1}) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch_by_ten(client, ids)
        assert set(result.failed_tweet_ids) == set(ids)
        assert all("internal server error" in reason for reason in result.failed_tweet_ids.values())
        assert emulator.log.requests <= max(100, 0.10 * len(ids) / 10), f"{emulator.log.requests} requests"
        check_contract(emulator)
    bench.note = "all IDs failed, with the reason"


@case(API, "single-tweet-probe", "the first six requests fail, all others are fine")
async def _single_tweet_probe(bench: Bench) -> None:
    """Expect some attempts at batches, then single Tweets, until the API answers."""
    ids = bench.ids()
    async with bench.emulator(faults=lambda number: "502" if number <= 6 else None) as emulator:
        async with client_of(emulator, concurrency=1) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)
        assert emulator.log.requests == batches(len(ids)) + 6 + 1
        assert [len(entry.tweet_ids) for entry in emulator.log].count(1) >= 1, (
            "the circuit was probed with a whole batch"
        )


# --- the contract ---


@case(API, "429-storm", "the server's limit is a third of what the client was told")
async def _stricter(bench: Bench) -> None:
    ids = bench.ids()
    limit = max(2, batches(len(ids)) // 4)
    async with bench.emulator(requests_per_minute=limit) as emulator:
        async with client_of(emulator, rate_limit=RateLimit(3 * limit)) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        refused = emulator.log.statuses[429]
        assert refused <= batches(len(ids)), f"{refused} times refused"
        check_rules(emulator, provoked=("You have exceeded your rate limit",))
    bench.note = f"{refused} × 429: the server's count of what is left is believed"


@case(API, "200-waiters", "200 workers meet the same 429, and go on together")
async def _waiters(bench: Bench) -> None:
    """Then at most 15 requests leave in any 100 ms."""
    ids = bench.ids(2_000)
    settings = FaultSettings(retry_after_s=5)
    async with bench.emulator(
        requests_per_minute=60_000,
        faults=lambda number: "429-seconds" if number <= 200 else None,
        fault_settings=settings,
        latency_s=lambda number: 1.0 if number <= 200 else 0.0,
    ) as emulator:
        async with client_of(emulator, concurrency=200) as client:
            result = await bench.fetch_by_ten(client, ids)
        check_values(result, emulator, ids)
        arrived = [entry.arrived_at for entry in emulator.log]
        assert len(arrived) == 400
        after = sorted(arrived)[200:]
        most = max(sum(at <= other < at + 0.1 for other in after) for at in after)
        assert after[0] - max(arrived[:200]) > 4, "the hold was not waited for"
        assert most <= 15, f"{most} requests in 100 ms"
        check_contract(emulator)
    bench.note = f"at most {most} requests in 100 ms"


@case(API, "second-consumer", "another process spends half of the same contract, and cannot be seen")
async def _second_consumer(bench: Bench) -> None:
    ids = bench.ids()
    warned = _Warnings()
    logging.getLogger("engagement_async").addHandler(warned)
    limit = max(4, batches(len(ids)) // 2)
    try:
        async with (
            bench.emulator(requests_per_minute=limit) as emulator,
            client_of(emulator, scheduler=LocalScheduler(RateLimit(limit))) as ours,
            client_of(emulator, scheduler=LocalScheduler(RateLimit(limit))) as theirs,
        ):
            half = len(ids) // 2
            results = await asyncio.gather(bench.fetch(ours, ids[:half]), bench.fetch(theirs, ids[half:]))
            for result, part in zip(results, (ids[:half], ids[half:]), strict=True):
                check_values(result, emulator, part)
            refused = emulator.log.statuses[429]
            check_rules(emulator, provoked=("You have exceeded your rate limit",))
            assert refused <= max(2, 0.05 * emulator.log.requests), f"{refused} times refused"
    finally:
        logging.getLogger("engagement_async").removeHandler(warned)
    assert warned.about("somebody else"), "it was not noticed"
    bench.note = f"told to the user; {refused} × 429"


@case(API, "fixed-window", "the server counts from full minute to full minute")
async def _fixed_window(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(window="fixed") as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)
        assert emulator.log.statuses[429] == 0


# --- credentials and the clock ---


@case(API, "clock-10-min-behind", "this machine's clock is ten minutes behind the API's")
async def _behind(bench: Bench) -> None:
    await _wrong_clock(bench, 600)


@case(API, "clock-10-min-ahead", "this machine's clock is ten minutes ahead of the API's")
async def _ahead(bench: Bench) -> None:
    await _wrong_clock(bench, -600)


async def _wrong_clock(bench: Bench, skew_s: float) -> None:
    ids = bench.ids()
    async with bench.emulator(clock_skew_s=skew_s, latency_s=0.1) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator, provoked=("Your account could not be authenticated. Reason: Timestamp",))
        assert 1 <= emulator.log.statuses[401] <= CONCURRENCY
        bench.note = f"{emulator.log.statuses[401]} × 401, then signed with the API's time"


@case(API, "nonce", "no nonce is used twice, retries and all")
async def _nonces(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(faults={"503": 3, "reset": 4, "gzip-cut": 5}) as emulator:
        async with client_of(emulator) as client:
            await bench.fetch(client, ids)
        nonces = [entry.nonce for entry in emulator.log]
        assert None not in nonces
        assert len(set(nonces)) == len(nonces) == emulator.log.requests > batches(len(ids))
        check_contract(emulator)


@case(API, "revoked", "the access token is taken back in the middle of a run")
async def _revoked(bench: Bench) -> None:
    ids = bench.ids()
    bench.ids_in += len(ids)
    async with bench.emulator(latency_s=0.5) as emulator:
        asyncio.get_running_loop().call_later(batches(len(ids)) / 2 * 60 / LIMIT, emulator.revoke)
        async with client_of(emulator) as client:
            error = await bench.stops(AuthError, client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS))
        assert "Access token not found" in str(error)
        assert 1 <= emulator.log.statuses[401] <= CONCURRENCY
        assert emulator.log.statuses[200] >= 1


# --- refusals that are about IDs ---


@case(API, "403-named", "the text names the Tweets that are not the user's")
async def _forbidden(bench: Bench) -> None:
    await _foreign(bench, Interpretation(forbidden="ids"))


@case(API, "403-authors", "the same, one text an author")
async def _forbidden_by_author(bench: Bench) -> None:
    await _foreign(bench, Interpretation(forbidden="authors"))


async def _foreign(bench: Bench, interpretation: Interpretation) -> None:
    ids = bench.ids()
    async with bench.emulator(forbidden_fraction=0.02, interpretation=interpretation) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        gone = set(result.unavailable_tweet_ids)
        foreign = [i for i in ids if emulator.world.author_of_forbidden(i) is not None and i not in gone]
        assert result.forbidden_tweet_ids == foreign
        assert foreign
        check_values(result, emulator, ids)
        check_contract(emulator, provoked=("Forbidden to access tweets",))
        assert emulator.log.requests <= 2 * batches(len(ids)), "more than one request more a batch"
    bench.note = f"{len(foreign)} IDs forbidden, at most one request more a batch"


@case(API, "400-unnamed", "one Tweet of the run makes its batch fail, and no text names it")
async def _one_bad_id(bench: Bench) -> None:
    ids = bench.ids()
    bad = random.Random(bench.seed).choice(ids)
    async with bench.emulator(rejected={bad}) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        assert set(result.failed_tweet_ids) == {bad}
        check_values(result, emulator, ids)
        check_contract(emulator, provoked=("The request could not be processed.",))
        more = emulator.log.requests - batches(len(ids))
        assert more <= 16, f"{more} more requests"
    bench.note = f"found by {more} more requests; failed, with the reason"


@case(API, "400-unnamed-many", "one Tweet of 200 makes its batch fail, and no text names it")
async def _bad_ids(bench: Bench) -> None:
    ids = bench.ids()
    bad = set(random.Random(bench.seed).sample(ids, len(ids) // 200))
    async with bench.emulator(rejected=bad) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        assert set(result.failed_tweet_ids) == bad
        check_values(result, emulator, ids)
        check_contract(emulator, provoked=("The request could not be processed.",))
        assert emulator.log.requests - batches(len(ids)) <= 16 * len(bad)
    bench.note = f"all {len(bad)} found; failed, with the reason"


@case(API, "request-itself", "status 400 to every request, whatever its Tweets")
async def _request_itself(bench: Bench) -> None:
    ids = bench.ids()
    bench.ids_in += len(ids)
    async with bench.emulator(faults={"400": 1}) as emulator:
        async with client_of(emulator) as client:
            await bench.stops(RequestRefusedError, client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS))
        assert emulator.log.requests <= 5 + CONCURRENCY, f"{emulator.log.requests} requests"
        check_contract(emulator)


@case(API, "406", "status 406: something on the way takes the gzip out", share=0.1)
async def _not_acceptable(bench: Bench) -> None:
    ids = bench.ids()
    bench.ids_in += len(ids)
    text = b'{"errors": ["This request requires gzip compression."]}'
    async with (
        RawServer(lambda exchange: exchange.send(plain(text, "406 Not Acceptable"))) as server,
        client_of(Emulator(LIMIT), base_url=server.url) as client,
    ):
        await bench.stops(ServerRefusedError, client.totals(ids, engagement_types=METRICS, groupings=GROUPINGS))
        bench.tries += server.requests
        assert server.requests <= CONCURRENCY


@case(API, "missing-for-good", "a third of the Tweets is in no place of any answer")
async def _missing(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(faults={"missing-ids": 1}) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)
        assert result.failed_tweet_ids
        assert all(reason.startswith("missing: ") for reason in result.failed_tweet_ids.values())
        assert emulator.log.requests <= 3 * batches(len(ids)), (
            "asked for more than once more, and once apart for the sums"
        )
    bench.note = f"{len(result.failed_tweet_ids)} IDs failed as missing, after one request more a batch"


@case(API, "unavailable-400", "a batch of which Tweets are gone is a 400 that lists them")
async def _unavailable(bench: Bench) -> None:
    ids = bench.ids()
    async with bench.emulator(
        unavailable_fraction=0.05, unavailable=ids[:250], interpretation=Interpretation(unavailable="400")
    ) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids)
        assert set(ids[:250]) <= set(result.unavailable_tweet_ids)
        assert not result.failed_tweet_ids
        check_values(result, emulator, ids)
        check_contract(emulator, provoked=("",))
        assert emulator.log.requests <= 2 * batches(len(ids))
    bench.note = f"{len(result.unavailable_tweet_ids)} IDs unavailable"


@case(API, "unsupported-400", "Tweets over 90 days old are a 400 that lists them, and have other metrics still")
async def _unsupported(bench: Bench) -> None:
    await _too_old(bench, Interpretation(unsupported="400"))


@case(API, "unsupported-200", "the same with status 200, and a fake zero for video views over 1800 days old")
async def _unsupported_200(bench: Bench) -> None:
    await _too_old(bench, Interpretation(unsupported="200"))


async def _too_old(bench: Bench, interpretation: Interpretation) -> None:
    ids = bench.ids(oldest_at=NOW - 3000 * 86_400)
    metrics = ("impressions", "favorites", "video_views")
    async with bench.emulator(interpretation=interpretation) as emulator:
        async with client_of(emulator) as client:
            result = await bench.fetch(client, ids, engagement_types=metrics)
        expected = emulator.expected("totals", ids, metrics, GROUPINGS)
        old = set(expected["unsupported_for_impressions_engagements_tweet_ids"])
        ancient = set(expected["unsupported_for_video_views_tweet_ids"])
        assert set(result.unsupported_tweet_ids["impressions"]) == old
        assert set(result.unsupported_tweet_ids["video_views"]) == ancient
        assert not result.failed_tweet_ids
        truth: dict[str, Any] = expected["by_tweet"]
        for i in ancient:
            truth[i].pop("video_views", None)
        assert result.groupings["by_tweet"] == truth
        check_contract(emulator, provoked=("",))
    bench.note = f"{len(old)} IDs without impressions, {len(ancient)} without video views; all else answered"


# --- the run itself ---


@case(CLIENT, "cancelled", "cancelled at any await, over and over")
async def _cancelled(bench: Bench) -> None:
    """No task, no descriptor, no token is lost; the same scheduler serves all runs."""
    chance = random.Random(bench.seed)
    limit = RateLimit(1_000, period=1)
    scheduler = LocalScheduler(limit)
    ids = bench.ids(40)
    times, cancelled = (bench.size // 2 if bench.size > 5_000 else 100), 0
    async with bench.emulator(
        requests_per_minute=1_000, period=1.0, latency_s=(0.0, 0.4), log_size=10, count_ids=False
    ) as emulator:
        while cancelled < times:
            async with client_of(emulator, scheduler=scheduler, concurrency=4) as client:
                for _ in range(50):
                    run = asyncio.create_task(_drain(client, ids))
                    for _ in range(chance.randrange(12)):
                        await asyncio.sleep(chance.choice([0, 0, 0, 0.05, 0.2]))
                    run.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await run
                    cancelled += run.cancelled()
                    assert client.status().in_flight == 0
        await asyncio.sleep(70)
        assert scheduler.available(limit) == limit.requests, "a token was lost, or doubled"
        check_contract(emulator)
    bench.note = f"{cancelled:,} runs cancelled; every token came back"


async def _drain(client: EngagementClient, ids: list[str]) -> None:
    async with client.stream_batches(QUERY, chunk(iter(ids), 10)) as answers:
        async for _ in answers:
            pass


@case(CLIENT, "hopeless-timeouts", "timeouts so short that most answers come too late")
async def _impatient(bench: Bench) -> None:
    """Aborted requests are counted by the server, and by the client: the contract holds."""
    ids = bench.ids()
    async with bench.emulator(latency_s=(0.0, 3.0)) as emulator:
        async with client_of(emulator, timeouts=Timeouts(connect_s=1, read_s=1, total_s=1)) as client:
            result = await bench.fetch(client, ids)
        check_values(result, emulator, ids)
        check_contract(emulator)
        assert not result.failed_tweet_ids


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def about(self, text: str) -> bool:
        return any(text in said for said in self.said)


CASES.sort(key=lambda each: (TRANSPORT, API, CLIENT).index(each.part))


CASES.extend(COMBINED)
