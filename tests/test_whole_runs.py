"""Whole runs against a model API: the real client over real sockets, under virtual time, in worlds drawn at random.

A world has Tweets of all kinds (gone, forbidden, refused, poisonous, left out of answers) and bad times (outages of one
endpoint or of all, holds, random faults, slow bodies). Several calls run in it at once: from lists, generators, sources that
pause or do not end; with consumers that are slow, leave early or are cancelled. After each run:

- every ID is in exactly one place, and where it failed, the server's own record says why;
- values are true, and sums are those over the Tweets that were answered;
- no window of any limit saw more requests than the contract allows;
- no more requests were made than `most_requests` says;
- nothing is left running, and the run came to an end.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    TOTALS,
    ColumnarAnswer,
    EngagementClient,
    EngagementError,
    EngagementResult,
    Merger,
    Query,
    RateLimit,
    RateLimitedError,
    Timeouts,
)
from engagement_async._core.backoff import LONGEST_HOLD_S
from engagement_async._core.suspensions import Suspensions
from engagement_async._engine.decode_budget import DecodeBudget
from engagement_async._engine.source import READ_AHEAD
from tests.support.columns import check_tables
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
from tests.support.oracle import (
    check_contract,
    check_failures,
    check_places,
    check_values,
    client_of,
    longest_gap_s,
    make_ids,
    now,
    play,
)
from tests.support.virtual_loop import VirtualLoop

BY_TWEET, BY_TYPE, SUM = ["tweet.id", "engagement.type"], ["engagement.type", "tweet.id"], ["engagement.type"]
SPAN = {"start": "2026-08-20", "end": "2026-10-19"}  # 60 days: three requests a batch
QUERIES = {
    "totals": Query(TOTALS, engagement_types=["favorites", "replies"], groupings={"tweets": BY_TWEET, "sum": SUM}),
    "totals twice": Query(
        TOTALS,
        engagement_types=["impressions", "favorites", "video_views"],
        groupings={"tweets": BY_TWEET, "types": BY_TYPE, "sum": SUM},
    ),
    "totals summed": Query(TOTALS, engagement_types=["favorites", "replies"], groupings={"sum": SUM}),
    "28hr": Query(
        LAST_28_HOURS,
        engagement_types=["favorites", "url_clicks"],
        groupings={
            "hours": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
            "days": ["engagement.day", "engagement.type"],
        },
    ),
    "28hr by hour": Query(
        LAST_28_HOURS, engagement_types=["favorites"], groupings={"hours": ["engagement.hour", "tweet.id"], "sum": SUM}
    ),
    "historical": Query(
        HISTORICAL,
        engagement_types=["impressions", "favorites"],
        groupings={"tweets": BY_TWEET, "days": ["engagement.day"]},
        **SPAN,
    ),
}
MOMENTS = (0.1, 1.0, 7.0, 45.0, 200.0, 500.0)
TIMEOUTS = Timeouts(connect_s=5, read_s=20, total_s=30)
IS_NIGHTLY = settings().max_examples > 1_000
FAULTS = ("outage", "limited", "flaky", "for ever")
"""Causes that have nothing to do with the Tweets of a request."""


@dataclass(frozen=True)
class Call:
    """One call that a client makes."""

    number: int
    query_name: str
    count: int
    source: str = "list"
    begins_at: float = 0.0
    consumer_s: tuple[float, ...] = ()
    """How long the consumer takes for its first answers."""
    leaves_after: int | None = None
    """Answers; then the stream is left, or stopped and taken to its end."""
    stops: bool = False
    cancelled_after_s: float | None = None
    is_stream: bool = True
    is_columnar: bool = False

    @property
    def query(self) -> Query:
        return QUERIES[self.query_name]

    @property
    def endpoint(self) -> str:
        return self.query.endpoint.name

    @property
    def ids(self) -> list[str]:
        return make_ids(self.count, self.number)

    @property
    def spans(self) -> int:
        """How many requests a batch takes."""
        return 1 if self.query.start is None else 3

    @property
    def needed(self) -> int:
        """Requests on a good day."""
        return -(-self.count // self.query.endpoint.ids_per_request) * self.spans


@dataclass(frozen=True)
class Plan:
    """One run: the world, the client, and its calls."""

    world: World
    calls: tuple[Call, ...]
    limits: tuple[RateLimit, ...]
    concurrency: int
    outage_timeout_s: float
    decode_bytes: int = DecodeBudget.BYTES
    """How much is decoded in one iteration of the event loop."""
    odd: int = 0
    """How many Tweets are not simply there."""
    poisoned: int = 0
    bad_s: float = 0.0
    """How long bad times last together."""
    bad_times: int = 0
    last_words: str = ""
    """Of an API that says the same to everything from some request on, for ever."""
    asleep: tuple[tuple[float, float], ...] = ()
    """When the process is suspended, and for how long."""

    @property
    def asleep_s(self) -> float:
        return sum(seconds for _, seconds in self.asleep)


@dataclass
class Outcome:
    """What became of one call."""

    result: EngagementResult
    error: EngagementError | None = None
    is_whole: bool = True
    """Whether it ended by itself."""
    taken: int = 0
    """IDs that were read from the source."""
    answers: int = 0
    ended_at: float = 0.0
    late: list[tuple[float, str]] = field(default_factory=list)
    """When IDs came out as failed."""


# --- drawing ---

OUTAGES: tuple[Act | None, ...] = (
    Status(503), Status.html(502), Hang(), Disconnect(), Cut(), Status(200, content={}), Status(200, content=b""), None,
)  # fmt: skip
"""None: nothing listens."""
POISONS: tuple[Act, ...] = (
    Status(500, ("internal server error",)),
    Cut(),
    Disconnect(),
    Hang(),
    Status(200, content=b"{"),
)
ROUGH: tuple[tuple[Act, ...], ...] = (
    (Status(503), Disconnect(), Cut(), Status(500), Slow(8.0)),
    (Status(503, headers={"Retry-After": 30}), Status(504, content=b"")),
    (Hang(), Slow(9.0), Status(200, ("internal server error",))),
    (Status(429, ("Too many requests",), headers={"Retry-After": 2}), Status(503)),
)
ENDS: dict[str, Act] = {
    "Rate limit exceeded": Status(429, ("Rate limit exceeded",)),
    "Monthly product cap": Status(429, content={"title": "UsageCapExceeded", "detail": "Monthly product cap"}),
    "no credits": Status(402, content={"title": "CreditsDepleted", "detail": "Your account has no credits"}),
    "different level": Status(403, content={"errors": [{"code": 453, "message": "You may need a different level"}]}),
    "Access token not found": Status(401, ("Your account could not be authenticated. Reason: Access token not found",)),
    "403": Status.html(403),
}
FATES = (
    "poison", "poison", "poison later", "unavailable", "forbidden", "no impressions", "no video views", "refused",
    "refused by name", "left out", "left out of one", "lacks a metric",
)  # fmt: skip


@st.composite
def calls(draw: st.DrawFn, number: int) -> Call:
    name = draw(st.sampled_from(list(QUERIES)))
    size = QUERIES[name].endpoint.ids_per_request
    source = draw(st.sampled_from(["list", "generator", "async", "pausing", "endless"]))
    pace = draw(st.sampled_from([(), (), (1.0,) * 5, (400.0,), (1_000.0, 0.0, 1_000.0)]))
    return Call(
        number,
        name,
        draw(st.integers(1, 5 * size if size < 100 else 2 * size)),
        source,
        begins_at=draw(st.sampled_from([0.0, 0.0, 5.0, 130.0])),
        consumer_s=pace,
        leaves_after=draw(st.integers(1, 4)) if source == "endless" else draw(st.sampled_from([None, None, None, 1])),
        stops=draw(st.booleans()),
        cancelled_after_s=draw(st.sampled_from([None] * 5 + [0.05, 3.0, 90.0, 700.0])),
        is_stream=source == "endless" or bool(pace) or draw(st.booleans()),
        is_columnar=draw(st.booleans()),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    made = tuple(draw(calls(number)) for number in range(draw(st.integers(1, 3))))
    world = World(
        latency_s=draw(st.sampled_from([(0.02, 0.1), (0.5, 2.0), (0.0, 10.0)])), seed=draw(st.integers(0, 99))
    )
    rules: list[Rule] = []
    refused: list[tuple[float, float]] = []
    bad_s = 0.0
    at = 0.0
    for _ in range(draw(st.integers(0, 2))):  # outages, one after the other
        at += draw(st.sampled_from([0.0, 0.5, 20.0, 300.0]))
        lasts_s = draw(st.sampled_from([3.0, 60.0, 250.0, 400.0, 1_300.0]))
        act = draw(st.sampled_from(OUTAGES))
        if act is None:
            refused.append((at, at + lasts_s))
        else:
            rules.append(during(at, at + lasts_s, act, endpoint=draw(st.sampled_from([None, None, "totals", "28hr"]))))
        at += lasts_s + 1
        bad_s += lasts_s
    if draw(st.integers(0, 3)) == 0:
        start, lasts_s = draw(st.sampled_from([0.0, 1.0, 60.0])), draw(st.sampled_from([0.5, 30.0, 100.0]))
        headers = draw(st.sampled_from([{}, {"Retry-After": 7}, {"Retry-After": 0}]))
        rules.append(
            during(start, start + lasts_s, Status(429, ("Too many requests",), headers=headers), cause="limited")
        )
        bad_s += lasts_s
    last_words = draw(st.sampled_from([""] * 40 + list(ENDS)))
    if last_words:
        rules.insert(0, after_requests(draw(st.integers(1, 12)), math.inf, ENDS[last_words], cause="for ever"))
    world, odd, poisoned = _with_fates(draw, replace(world, rules=rules, refused=refused), made)
    rate = draw(st.sampled_from([0.0, 0.0, 0.1, 0.3]))
    if rate:  # last: a slow answer is none for a Tweet that the API fails at
        world.rules = [*world.rules, flaky(rate, draw(st.sampled_from(ROUGH)), draw(st.integers(0, 99)))]
    limits = draw(
        st.sampled_from(
            [
                (RateLimit(30),),
                (RateLimit(300),),
                (RateLimit(300), RateLimit(5, period=1)),
                (RateLimit(60, period=10), RateLimit(20, endpoint="28hr")),
            ]
        )
    )
    first = limits[0]
    tells = first.period == 60 and draw(st.booleans())
    return Plan(
        replace(world, limit=(first.requests, first.period) if tells else None),
        made,
        limits,
        concurrency=draw(st.sampled_from([1, 2, 4, 16])),
        outage_timeout_s=draw(st.sampled_from([300.0, 900.0])),
        decode_bytes=draw(st.sampled_from([DecodeBudget.BYTES, 1, 5_000])),
        odd=odd,
        poisoned=poisoned,
        bad_s=bad_s,
        bad_times=len(rules) + len(refused),
        last_words=last_words,
        asleep=tuple(draw(st.lists(st.tuples(st.sampled_from(MOMENTS), st.sampled_from([40.0, 5_000.0])), max_size=1))),
    )


def _with_fates(draw: st.DrawFn, world: World, made: tuple[Call, ...]) -> tuple[World, int, int]:
    """Draw which Tweets of the calls are not simply there."""
    rules, omissions = [*world.rules], list[Omission]()
    places: dict[str, set[str]] = {
        "unavailable": set(),
        "forbidden": set(),
        "no impressions": set(),
        "no video views": set(),
    }
    poisoned = 0
    chosen = draw(st.lists(st.tuples(st.sampled_from(made), st.integers(0, 10**6), st.sampled_from(FATES)), max_size=5))
    if draw(st.integers(0, 5)) == 0:  # a whole neighbourhood
        call, at = draw(st.sampled_from(made)), draw(st.integers(0, 10**6))
        bad = call.ids[at % call.count :][: draw(st.sampled_from([2, 7, 24, 40]))]
        rules.append(poison(bad, draw(st.sampled_from(POISONS))))
        poisoned += len(bad)
    for call, at, fate in chosen:
        tweet = frozenset([call.ids[at % call.count]])
        if fate in places:
            places[fate] |= tweet
        elif fate.startswith("poison"):
            poisoned += 1
            since = "2026-09-15" if fate == "poison later" else ""
            rules.append(poison(tweet, draw(st.sampled_from(POISONS)), since=since))
        elif fate.startswith("refused"):
            is_named = fate == "refused by name"
            status, has_id = draw(st.sampled_from([400, 403])), draw(st.booleans())
            rules.append(refuses(tweet, status=status, is_named=is_named, has_request_id=has_id and not is_named))
        elif not any(tweet <= omission.tweet_ids for omission in omissions):  # two may disagree about the sums
            times = draw(st.sampled_from([1.0, math.inf]))
            of = {"types"} if fate == "left out of one" else None
            metric = call.query.engagement_types[0] if fate == "lacks a metric" else None
            omissions.append(Omission(tweet, times, of, metric, in_sums=draw(st.booleans())))
    changed = replace(
        world,
        rules=rules,
        omissions=omissions,
        unavailable=places["unavailable"],
        forbidden=places["forbidden"],
        unsupported={
            "unsupported_for_impressions_engagements_tweet_ids": places["no impressions"],
            "unsupported_for_video_views_tweet_ids": places["no video views"],
        },
        unsupported_status=draw(st.sampled_from([200, 400])),
    )
    return changed, len(chosen), poisoned


# --- running ---


def source_of(call: Call, outcome: Outcome) -> Iterable[str] | AsyncIterator[str]:
    def counted(ids: Iterable[str]) -> Iterator[str]:
        for i in ids:
            outcome.taken += 1
            yield i

    async def slowly(pause_s: float) -> AsyncIterator[str]:
        for n, i in enumerate(counted(call.ids)):
            if n and pause_s and n % call.query.endpoint.ids_per_request == 0:
                await asyncio.sleep(pause_s)
            yield i

    match call.source:
        case "list":
            return call.ids
        case "generator":
            return counted(call.ids)
        case "endless":
            return counted(itertools.chain(call.ids, (str(2 * 10**18 + n) for n in itertools.count())))
        case "async":
            return slowly(0.0)
    return slowly(200.0)


async def make_call(client: EngagementClient, call: Call) -> Outcome:
    merger = Merger(call.query)
    outcome = Outcome(merger.result())
    loop = asyncio.get_running_loop()
    await asyncio.sleep(call.begins_at)
    try:
        async with asyncio.timeout(call.cancelled_after_s):
            async with client.stream(call.query, source_of(call, outcome), columnar=call.is_columnar) as answers:
                async for answer in answers:
                    if isinstance(answer, ColumnarAnswer):
                        check_tables(answer, call.query)
                    outcome.late += [(loop.time(), i) for i in answer.failed_tweet_ids]
                    merger.add(answer)
                    if outcome.answers < len(call.consumer_s):
                        await asyncio.sleep(call.consumer_s[outcome.answers])
                    outcome.answers += 1
                    if outcome.answers == call.leaves_after:
                        outcome.is_whole = False
                        if not call.stops:
                            break
                        answers.stop()
    except TimeoutError:
        outcome.is_whole = False
    except EngagementError as error:
        outcome.is_whole = False
        outcome.error = error
    outcome.result = merger.result()
    outcome.ended_at = loop.time()
    return outcome


async def run(plan: Plan, server: ModelServer) -> list[Outcome]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    for at, seconds in plan.asleep:
        loop.call_at(at, server.note_suspension)
        loop.call_at(at, loop.suspend, seconds)
    async with (
        client_of(
            server,
            rate_limit=plan.limits,
            concurrency=plan.concurrency,
            outage_timeout_s=plan.outage_timeout_s,
            timeouts=TIMEOUTS,
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(make_call(client, call)) for call in plan.calls]
    return [task.result() for task in tasks]


# --- judging ---


def most_requests(plan: Plan, server: ModelServer, outcomes: list[Outcome]) -> float:
    """Return what a run may cost.

    That is what a good day costs, 40 for each poison Tweet and span that it is asked for, 20 for each other odd one, and
    two more for each fault that has nothing to do with the Tweets.
    """
    needed = 0
    spans = 1
    for call, outcome in zip(plan.calls, outcomes, strict=True):
        size = call.query.endpoint.ids_per_request
        needed += -(-outcome.taken // size) * call.spans if call.source == "endless" else call.needed
        spans = max(spans, call.spans)
    causes = server.causes()
    faults = sum(causes[cause] for cause in FAULTS)
    # What was on its way when the process was suspended, or when the server went away, is asked again.
    again = (plan.concurrency + len(plan.calls)) * (len(plan.asleep) + len(plan.world.refused))
    alone = len(plan.calls) * plan.outage_timeout_s / 10 if plan.poisoned else 0.0
    return needed + 40 * spans * plan.poisoned + alone + 20 * spans * plan.odd + 2 * faults + again


def most_faults(plan: Plan) -> float:
    """How many requests outages and holds may see: five of each worker, and a probe a second."""
    at_once = plan.concurrency + len(plan.calls)
    return plan.bad_times * (5 * at_once + 20) + plan.bad_s


def longest_s(plan: Plan, server: ModelServer) -> float:
    """How long a run may take: bad times, what is waited for by design, the contract, and two minutes for each odd Tweet."""
    calls = plan.calls
    waits_s = sum(
        call.begins_at + sum(call.consumer_s) + 200 * call.needed * (call.source == "pausing") for call in calls
    )
    contract_s = max(server.requests * limit.period / limit.requests + limit.period for limit in plan.limits)
    odd_s = 120.0 * (plan.odd + plan.poisoned) + sum(TIMEOUTS.total_s for r in server.records if not r.is_useful)
    return waits_s + 2 * contract_s + odd_s + plan.bad_s + plan.asleep_s + plan.outage_timeout_s + 300


def judge(plan: Plan, server: ModelServer, outcomes: list[Outcome]) -> None:
    check_contract(server, *plan.limits)
    assert now() <= longest_s(plan, server), f"it took {now():.0f} s"
    for call, outcome in zip(plan.calls, outcomes, strict=True):
        result = outcome.result
        if outcome.is_whole:
            check_places(result, call.ids)
        else:
            check_places(result, list(result.tweet_ids))
        check_values(plan.world, result)
        span = {"since": call.begins_at, "until": outcome.ended_at}
        asleep_s = sum(seconds for at, seconds in plan.asleep if call.begins_at < at <= outcome.ended_at - seconds)
        # A sleep of less than that cannot be told from waiting.
        patience_s = plan.outage_timeout_s + max(0.0, asleep_s - Suspensions.LONGEST_STEP_S)
        check_failures(server, result.failed_tweet_ids, endpoint=call.endpoint, outage_timeout_s=patience_s, **span)
        if outcome.error is not None and plan.last_words not in str(outcome.error):
            raise outcome.error
        if outcome.error is not None and not plan.last_words:
            gap_s = longest_gap_s(server, call.endpoint, **span)
            if isinstance(outcome.error, RateLimitedError):
                gap_s += LONGEST_HOLD_S  # it stops when a hold would outlast its patience
            assert gap_s >= 0.95 * patience_s, f"stopped for nothing: {outcome.error!r}"
        if call.source == "endless":
            ahead = outcome.taken / call.query.endpoint.ids_per_request - outcome.answers
            # A refusal in the account's name may be about some Tweets.
            refused = server.causes()["refused"] or server.causes()["for ever"]
            witnesses = READ_AHEAD if refused else 0
            assert ahead <= 6 * plan.concurrency + 4 + witnesses, f"read {ahead:.0f} batches ahead of the consumer"
    causes = server.causes()
    assert causes["outage"] + causes["limited"] <= most_faults(plan), causes
    at_once = plan.concurrency + len(plan.calls)
    assert causes["for ever"] <= len(plan.calls) * (5 * at_once + 40 + plan.outage_timeout_s / 5), causes
    assert server.requests <= most_requests(plan, server, outcomes), causes


def play_and_judge(plan: Plan) -> None:
    async def main(server: ModelServer) -> None:
        outcomes = await run(plan, server)
        note(f"{server.causes()} {[outcome.result.outcomes for outcome in outcomes]}")
        judge(plan, server, outcomes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeBudget, "BYTES", plan.decode_bytes)
        play(plan.world, main)


# A run costs some 100 ms: without the shrinking, which would play hundreds more. Nightly runs do it.
PHASES = [phase for phase in Phase if IS_NIGHTLY or phase is not Phase.shrink]


@pytest.mark.timeout(3_600)
@settings(max_examples=3 * settings().max_examples, phases=PHASES, report_multiple_bugs=IS_NIGHTLY)
@given(plans())
def test_whole_runs(plan: Plan) -> None:
    play_and_judge(plan)
