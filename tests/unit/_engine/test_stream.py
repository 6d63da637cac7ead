"""The engine under virtual time, against a modelled server: hours of storms in milliseconds, every ID accounted for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engagement_async import (
    LAST_28_HOURS,
    TOTALS,
    AuthError,
    BearerCredentials,
    ColumnarStream,
    Failure,
    FailureKind,
    LocalScheduler,
    Merger,
    Query,
    RateLimit,
    RequestRefusedError,
    UsageError,
)
from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch, chunk
from engagement_async._core.rate_limit import Token
from engagement_async._core.result import EngagementResult
from engagement_async._engine.decode_budget import DecodeBudget
from engagement_async._engine.scheduler import Lane
from engagement_async._engine.sender import Sender
from engagement_async._engine.stream import AnswerStream
from engagement_async._engine.transport import OnHeaders, Response
from engagement_async.errors import AttemptTimeoutError, DisconnectedError, NotSentError
from tests.support.virtual_loop import run_virtual
from tests.unit._core.test_rate_limit import peak

QUERY = Query(
    TOTALS,
    engagement_types=["favorites", "replies"],
    groupings={"by_tweet": ["tweet.id", "engagement.type"], "sum": ["engagement.type"]},
)
Behave = Callable[["Model", list[str]], "Response | BaseException | None"]


def truth(tweet_id: str, metric: str) -> int:
    return (int(tweet_id) * 2654435761 + len(metric)) % 1000


class Model:
    """A server as a function: what `behave` does not decide, it answers well. Counts everything."""

    def __init__(self, behave: Behave | None = None, *, latency_s: float = 0.2, seed: int = 1) -> None:
        self.behave = behave
        self.latency_s = latency_s
        self.random = random.Random(seed)
        self.arrived_at: list[float] = []
        self.asked: Counter[str] = Counter()
        self.requests: list[list[str]] = []
        self.answered = 0
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s * self.random.random())
            asked = orjson.loads(body)["tweet_ids"]
            self.arrived_at.append(self.now)
            self.requests.append(asked)
            outcome = self.behave(self, asked) if self.behave else None
            await asyncio.sleep(self.latency_s * self.random.random())
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is None:
                self.answered += 1
                self.asked.update(asked)
                outcome = reply(200, good(asked))
            on_headers(outcome.status, outcome.headers)
            return outcome
        finally:
            self.in_flight -= 1


def good(tweet_ids: list[str]) -> dict[str, Any]:
    return {
        "by_tweet": {i: {m: str(truth(i, m)) for m in QUERY.engagement_types} for i in tweet_ids},
        "sum": {m: str(sum(truth(i, m) for i in tweet_ids)) for m in QUERY.engagement_types},
    }


def reply(status: int, body: Any = None, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, orjson.dumps(body or {}))


def engine_for(model: Model, limit: RateLimit, **options: Any) -> Sender:
    return Sender(
        transport=model,
        scheduler=LocalScheduler(limit),
        credentials=BearerCredentials("token"),
        base_url=URL("https://data-api.example"),
        user_agent="tests",
        **{"concurrency": 16, "outage_timeout_s": 900.0, "jitter": random.Random(7).random, **options},
    )


def kinds_of(result: EngagementResult) -> set[FailureKind]:
    return {failure.kind for failure in result.failed_tweet_ids.values() if isinstance(failure, Failure)}


def ids(count: int) -> Iterator[str]:
    return (str(10**18 + 7 * n) for n in range(count))


async def fetch(engine: Sender, count: int) -> EngagementResult:
    merger = Merger(QUERY)
    async with AnswerStream(engine, QUERY, chunk(ids(count), TOTALS.ids_per_request)) as answers:
        async for answer in answers:
            merger.add(answer)
    return merger.result()


def run(model: Model, count: int, limit: RateLimit | None = None, **options: Any) -> EngagementResult:
    async def main() -> EngagementResult:
        result = await fetch(engine_for(model, limit or RateLimit(100_000), **options), count)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "a task was left behind"
        return result

    return run_virtual(main())


def check(result: EngagementResult, count: int, *, out: frozenset[str] = frozenset()) -> None:
    """Every value is right, and every ID is in one place."""
    answered = [i for i in ids(count) if i not in out]
    assert result.tweet_ids == list(ids(count))
    assert result.answered_tweet_ids == answered
    assert sum(result.outcomes.values()) == count
    assert result.groupings["by_tweet"] == {i: {m: truth(i, m) for m in QUERY.engagement_types} for i in answered}
    assert result.groupings["sum"] == {m: sum(truth(i, m) for i in answered) for m in QUERY.engagement_types}


def test_a_good_day() -> None:
    model = Model()

    result = run(model, 10_100)

    check(result, 10_100)
    assert len(model.requests) == 41
    assert set(model.asked.values()) == {1}
    assert model.most_in_flight <= 16


@pytest.mark.virtual_time
async def test_values_are_of_the_instant_at_which_their_response_came_however_slow_the_consumer() -> None:
    """The first response leaves some IDs out, and a second one has them; the consumer takes ten seconds for each answer."""
    epoch = 1_767_225_600
    loop = asyncio.get_running_loop()
    received: dict[str, datetime] = {}

    def forgetful(model: Model, asked: list[str]) -> Response:
        shown = [i for i in asked if i[-1] != "4" or len(asked) < 200]
        return reply(200, good(shown))

    class Noting(Model):
        async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
            response = await super().post(url, headers, body, on_headers)
            shown = orjson.loads(response.body)["by_tweet"]
            received.update(dict.fromkeys(shown, datetime.fromtimestamp(epoch + loop.time(), UTC)))
            return response

    query = Query(TOTALS, engagement_types=QUERY.engagement_types, groupings={"by_tweet": QUERY.groupings["by_tweet"]})
    engine = engine_for(
        Noting(forgetful, latency_s=3.0), RateLimit(100_000), concurrency=4, wall_clock=lambda: epoch + loop.time()
    )
    merger = Merger(query)
    async with AnswerStream(engine, query, chunk(ids(3_000), TOTALS.ids_per_request)) as answers:
        async for answer in answers:
            await asyncio.sleep(10)
            assert {i: answer.observed_at_of(i) for i in answer.tweet_ids} == {i: received[i] for i in answer.tweet_ids}
            assert 0 < len(answer.observed_later) < len(answer.tweet_ids) / 2
            merger.add(answer)
    result = merger.result()

    assert result.observed_at == received
    assert (result.first_observed_at, result.last_observed_at) == (min(received.values()), max(received.values()))


@pytest.mark.virtual_time
async def test_answers_that_come_together_are_decoded_in_several_iterations_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an application that shares the loop would wait for all sixteen."""
    engine = engine_for(Model(latency_s=0.0), RateLimit(100_000))
    loop = asyncio.get_running_loop()
    iteration, at = 0, Counter[int]()

    def count_iteration() -> None:
        nonlocal iteration
        iteration += 1
        if is_open:
            loop.call_soon(count_iteration)

    monkeypatch.setattr(DecodeBudget, "BYTES", 2 * len(orjson.dumps(good(list(ids(250))))))
    is_open = True
    count_iteration()
    async with AnswerStream(engine, QUERY, chunk(ids(16 * 250), TOTALS.ids_per_request)) as answers:
        parse = answers._workers._parsers[0].parse

        def parse_and_count(*args: Any, **options: Any) -> Any:
            at[iteration] += 1
            return parse(*args, **options)

        monkeypatch.setattr(answers._workers._parsers[0], "parse", parse_and_count)
        assert len([answer async for answer in answers]) == 16
    is_open = False

    assert sum(at.values()) == 16
    assert max(at.values()) <= 3  # two, as the body of the first ones is a little smaller


class OfJob:
    """Batches as a durable job gives them."""

    were_answered = False
    answered = ()
    refused_owners = ()

    def __init__(self, count: int, size: int) -> None:
        given = tuple(ids(count))
        self._batches = iter([Batch(at // size, given[at : at + size]) for at in range(0, count, size)])

    def __aiter__(self) -> OfJob:
        return self

    async def __anext__(self) -> Batch:
        for batch in self._batches:
            return batch
        raise StopAsyncIteration

    def sample(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize("of_job", [False, True])
def test_an_hour_that_is_none_in_every_batch_takes_no_other_tweet_with_it_where_it_would_be_stored(
    *, of_job: bool
) -> None:
    """In columns, and in the journal of a job: there it would keep tables from being made, for ever."""
    query = Query(
        LAST_28_HOURS,
        engagement_types=["favorites"],
        groupings={"g": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
    )
    bad = set(list(ids(100))[3::25])

    def answer_hours(model: Model, asked: list[str]) -> Response:
        model.answered += 1
        hours = {i: {"noon" if i in bad else "07": "5"} for i in asked}
        return reply(200, {"g": {i: {"favorites": {"2026-03-01": hours[i]}} for i in asked}})

    async def main() -> list[Answer]:
        engine = engine_for(model, RateLimit(100_000))
        size = LAST_28_HOURS.ids_per_request
        stream = (
            AnswerStream(engine, query, OfJob(100, size))
            if of_job
            else ColumnarStream(engine, query, chunk(ids(100), size))
        )
        async with stream as answers:
            return [answer async for answer in answers]

    model = Model(answer_hours)
    answers = run_virtual(main())

    failed = {i: failure for answer in answers for i, failure in answer.failed_tweet_ids.items()}
    assert failed.keys() == bad
    assert {failure.kind for failure in failed.values() if isinstance(failure, Failure)} == {FailureKind.SERVER}
    assert all("'noon' for an hour" in failure for failure in failed.values())
    values = {i: types for answer in answers for i, types in answer.groupings.get("g", {}).items()}
    assert values == {i: {"favorites": {"2026-03-01": {"07": 5}}} for i in ids(100) if i not in bad}
    assert len(model.requests) <= 4 * 40


def test_no_ids_cost_no_request() -> None:
    model = Model()

    result = run(model, 0)

    assert result.outcomes == {"answered": 0, "unavailable": 0, "unsupported": 0, "forbidden": 0, "failed": 0}
    assert not model.requests


@pytest.mark.virtual_time
async def test_a_small_call_hires_few_workers() -> None:
    stream = AnswerStream(engine_for(Model(), RateLimit(100)), QUERY, chunk(ids(10), 250))
    async with stream as answers:
        await asyncio.sleep(0.01)
        hired = stream._workers._running
        async for _ in answers:
            pass

    assert hired <= 2


@pytest.mark.virtual_time
async def test_the_source_is_read_no_further_than_the_workers_need() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for n in range(10**9):
            taken += 1
            yield str(10**18 + n)

    async with AnswerStream(engine_for(Model(), RateLimit(100_000)), QUERY, chunk(endless(), 250)) as answers:
        await anext(answers)
        await asyncio.sleep(1_000)  # nobody takes answers: the workers must stop

    assert taken <= (2 * 16 + 2) * 250


@pytest.mark.virtual_time
async def test_a_ten_minute_outage_is_survived_at_a_tenth_of_the_requests() -> None:
    """20,000 batches at 1,000 a minute; the API is gone from the fifth minute to the fifteenth."""

    def gone(model: Model, asked: list[str]) -> Response | BaseException | None:
        return reply(503) if 300 <= model.now < 900 else None

    model = Model(gone)
    limit = RateLimit(1_000)

    answered = failed = 0
    batches = chunk(ids(20_000 * 10), 10)
    async with AnswerStream(engine_for(model, limit, concurrency=32), QUERY, batches) as answers:
        async for answer in answers:
            answered += len(answer.tweet_ids)
            failed += len(answer.failed_tweet_ids)

    assert (answered, failed) == (200_000, 0)
    assert max(model.asked.values()) <= 2, "a probe may ask for a Tweet that was answered before"
    assert len(model.requests) <= 1.10 * 20_000
    assert len(model.requests) <= 20_000 + 200  # in truth far fewer: one probe at a time
    assert peak(model.arrived_at, limit.period) <= limit.requests


def test_a_total_outage_ends_at_the_deadline_with_every_id_failed() -> None:
    model = Model(lambda model, asked: reply(503, {"errors": ["internal server error"]}))

    result = run(model, 250_000)

    assert result.outcomes["failed"] == 250_000
    assert len(model.requests) <= 1.10 * 1_000
    assert "the API answered nothing for 900 s" in result.failed_tweet_ids[str(10**18)]
    assert "internal server error" in result.failed_tweet_ids[str(10**18)]


@pytest.mark.parametrize("outage_timeout_s", [0.3, 5.0, 60.0])
def test_a_small_call_is_given_up_at_its_deadline_too(outage_timeout_s: float) -> None:
    asked_at: list[float] = []

    def gone(model: Model, asked: list[str]) -> BaseException:
        asked_at.append(model.now)
        return NotSentError("no connection")

    result = run(Model(gone), 10, outage_timeout_s=outage_timeout_s)

    assert result.outcomes["failed"] == 10
    assert asked_at[-1] <= outage_timeout_s + 1.0


@pytest.mark.virtual_time
async def test_an_api_that_refuses_connections_for_90_s_costs_nothing_of_the_contract() -> None:
    model = Model(lambda model, asked: NotSentError("no connection") if model.now < 90 else None)

    engine = engine_for(model, RateLimit(100))
    result, requests = await fetch(engine, 2_500), engine.requests

    check(result, 2_500)
    assert requests == 10


def test_a_batch_that_keeps_failing_while_others_are_answered_is_split() -> None:
    refusals = 8

    def moody(model: Model, asked: list[str]) -> Response | BaseException | None:
        nonlocal refusals
        if asked[0] == str(10**18) and refusals:
            refusals -= 1
            return reply(502)
        return None

    model = Model(moody)

    result = run(model, 25_000, RateLimit(200))

    check(result, 25_000)
    assert len(model.requests) <= 100 + 2 * 8


def test_a_tweet_that_the_api_fails_at_takes_no_other_with_it() -> None:
    poison = str(10**18 + 7 * 100)
    model = Model(lambda model, asked: reply(500) if poison in asked else None)

    result = run(model, 25_000, RateLimit(600))

    check(result, 25_000, out=frozenset([poison]))
    assert "the API fails at this Tweet" in result.failed_tweet_ids[poison]
    assert len(model.requests) <= 100 + 40


def test_a_third_of_all_answers_is_broken_and_nothing_is_lost() -> None:
    faults: list[Callable[[], Response | BaseException]] = [
        lambda: reply(500),
        lambda: reply(503, None, retry_after="1"),
        lambda: reply(408),
        lambda: Response(200, {}, b""),
        lambda: Response(200, {}, b"<html>maintenance</html>"),
        lambda: Response(200, {}, b'{"by_tweet": {'),
        lambda: reply(200, {"by_tweet": [1, 2]}),
        lambda: reply(200, {"by_tweet": {"1": {"favorites": None}}}),
        lambda: reply(200, {"errors": ["internal server error"]}),
        lambda: DisconnectedError("reset"),
        lambda: AttemptTimeoutError("hang"),
        lambda: reply(429, {"errors": ["rate limit"]}, retry_after="1"),
    ]

    def broken(model: Model, asked: list[str]) -> Response | BaseException | None:
        return model.random.choice(faults)() if model.random.random() < 1 / 3 else None

    model = Model(broken)
    limit = RateLimit(600)

    result = run(model, 50_000, limit)

    check(result, 50_000)
    assert peak(model.arrived_at, limit.period) <= limit.requests


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "20"},
        {"retry_after": "Thu, 01 Jan 2026 00:00:20 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"x_per_minute_reset": "1767225620", "date": "Thu, 01 Jan 2026 00:00:00 GMT"},
    ],
)
def test_a_429_holds_the_whole_contract_for_as_long_as_it_says(headers: dict[str, str]) -> None:
    def limited(model: Model, asked: list[str]) -> Response | None:
        return reply(429, {"errors": ["Rate limit exceeded"]}, **headers) if len(model.requests) == 5 else None

    model = Model(limited, latency_s=0.01)

    result = run(model, 25_000, RateLimit(600))

    check(result, 25_000)
    refused_at = model.arrived_at[4]
    later = [at for at in model.arrived_at if at > refused_at + 0.05]
    assert 20 <= later[0] - refused_at <= 21.5
    assert len(model.requests) == 101


@pytest.mark.parametrize("value", ["soon", "nan", "-5", "1e9", "inf", "", "9" * 400])
def test_a_429_that_says_nonsense_is_waited_out_for_one_window(value: str) -> None:
    def limited(model: Model, asked: list[str]) -> Response | None:
        refuse = len(model.requests) == 1
        return reply(429, None, retry_after=value, x_per_minute_reset=value, date=value) if refuse else None

    model = Model(limited, latency_s=0.01)

    result = run(model, 500, RateLimit(600))

    check(result, 500)
    assert 60 <= model.arrived_at[-1] - model.arrived_at[0] <= 61.5


def test_rate_limit_texts_beside_a_200_hold_the_contract_too() -> None:
    def limited(model: Model, asked: list[str]) -> Response | None:
        return reply(200, {"errors": ["Rate limit exceeded"]}, retry_after="9") if len(model.requests) == 1 else None

    model = Model(limited)

    check(run(model, 250), 250)
    assert model.arrived_at[1] - model.arrived_at[0] >= 9


def test_another_consumer_of_the_contract_is_yielded_to(caplog: pytest.LogCaptureFixture) -> None:
    """The other one spends 60 of 100 at the start of each minute; together they never exceed it."""
    limit = RateLimit(100)

    def shared(model: Model, asked: list[str]) -> Response | None:
        window = int(model.now // 60)
        ours = sum(int(at // 60) == window for at in model.arrived_at)
        assert ours + 60 <= 100, "the two of them exceed the contract"
        date = format_datetime(datetime.fromtimestamp(1_767_225_600 + int(model.now), UTC), usegmt=True)
        return reply(
            200,
            good(asked),
            x_per_minute_remaining=str(100 - 60 - ours),
            x_per_minute_reset=str(1_767_225_600 + (window + 1) * 60),
            date=date,
        )

    model = Model(shared, latency_s=0.05)

    result = run(model, 50_000, limit, concurrency=4)

    assert result.outcomes["answered"] == 50_000
    assert "somebody else spends this contract too" in caplog.text


def test_a_wrong_credential_stops_the_run_at_once() -> None:
    model = Model(lambda model, asked: reply(401, {"errors": ["Your account could not be authenticated."]}))

    with pytest.raises(AuthError, match="could not be authenticated"):
        run(model, 100_000)

    assert len(model.requests) <= 16


@pytest.mark.virtual_time
async def test_a_clock_ten_minutes_wrong_is_corrected_by_the_api_s_own_date() -> None:
    stamps: list[int] = []
    epoch = 1_767_225_600

    class Signer:
        def authorization(self, timestamp: int) -> str:
            stamps.append(timestamp)
            return "signed"

    class Signed:
        is_app_only = False

        def signer(self, url: str) -> Signer:
            return Signer()

    def strict(model: Model, asked: list[str]) -> Response | None:
        date = format_datetime(datetime.fromtimestamp(epoch + model.now, UTC), usegmt=True)
        late = abs(stamps[-1] - (epoch + model.now)) > 300
        return reply(401, {"errors": ["Timestamp out of bounds"]}, date=date) if late else None

    model = Model(strict)

    def engine_for(model: Model, limit: RateLimit, **options: Any) -> Sender:
        return Sender(
            transport=model,
            scheduler=LocalScheduler(limit),
            base_url=URL("https://data-api.example"),
            user_agent="tests",
            outage_timeout_s=900.0,
            **options,
        )

    loop = asyncio.get_running_loop()
    engine = engine_for(
        model, RateLimit(100), credentials=Signed(), wall_clock=lambda: epoch - 600 + loop.time(), concurrency=1
    )
    outcome = await fetch(engine, 2_500)

    check(outcome, 2_500)
    assert len(model.requests) == 11


@pytest.mark.parametrize(
    "text",
    [
        "Forbidden to access tweets: {0},{1}",
        "Forbidden to access tweets for author id 18435372: {0}, {1}",
    ],
)
def test_forbidden_ids_that_are_named_cost_one_request_more(text: str) -> None:
    foreign = [str(10**18 + 7 * n) for n in (3, 249)]

    def owned(model: Model, asked: list[str]) -> Response | None:
        found = set(foreign) & set(asked)
        return reply(403, {"errors": [text.format(*foreign)]}) if found else None

    model = Model(owned)

    result = run(model, 500)

    check(result, 500, out=frozenset(foreign))
    assert result.forbidden_tweet_ids == foreign
    assert len(model.requests) == 3


@pytest.mark.parametrize("bad", [0, 1, 124, 125, 249])
@pytest.mark.parametrize("status", [400, 403])
def test_one_bad_id_that_is_not_named_is_found_by_halving(bad: int, status: int) -> None:
    poison = str(10**18 + 7 * bad)
    model = Model(lambda model, asked: reply(status, {"errors": ["Bad request"]}) if poison in asked else None)

    result = run(model, 250)

    check(result, 250, out=frozenset([poison]))
    assert "Bad request" in result.failed_tweet_ids[poison]
    assert len(model.requests) <= 1 + 16


def test_many_bad_ids_are_all_found() -> None:
    poison = frozenset(random.Random(5).sample(list(ids(5_000)), 60))
    model = Model(lambda model, asked: reply(400, {"errors": ["Bad request"]}) if poison & set(asked) else None)

    result = run(model, 5_000)

    check(result, 5_000, out=poison)
    assert set(result.failed_tweet_ids) == poison


@pytest.mark.parametrize(("count", "concurrency", "most"), [(250, 16, 14), (25_000, 1, 8), (25_000, 16, 21)])
def test_a_request_that_is_wrong_itself_stops_early(count: int, concurrency: int, most: int) -> None:
    model = Model(lambda model, asked: reply(400, {"errors": ["engagement_types is strange"]}))

    with pytest.raises(RequestRefusedError, match="engagement_types is strange"):
        run(model, count, concurrency=concurrency)

    assert len(model.requests) <= most


def test_ids_that_an_answer_leaves_out_are_asked_once_more_and_then_failed() -> None:
    never, late = str(10**18), str(10**18 + 7)

    def forgetful(model: Model, asked: list[str]) -> Response | None:
        told = [i for i in asked if i != never and not (i == late and len(asked) == 250)]
        return reply(200, good(told))

    model = Model(forgetful)

    result = run(model, 250)

    check(result, 250, out=frozenset([never]))
    told = [i for i in ids(250) if i not in (never, late)]
    assert sorted(model.requests[1:]) == sorted([told, [never, late], [late]]), (
        "sums are taken from answers that settle all of their IDs"
    )
    assert result.failed_tweet_ids == {never: "missing: two answers left this Tweet out"}


@pytest.mark.virtual_time
async def test_unsupported_ids_of_a_400_are_asked_for_their_other_metrics() -> None:
    query = Query(
        TOTALS,
        engagement_types=["favorites", "impressions"],
        groupings={"by_tweet": ["tweet.id", "engagement.type"]},
    )
    old = list(ids(2))

    class Old(Model):
        async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
            on_headers(200, {})
            asked = orjson.loads(body)
            self.requests.append(asked["tweet_ids"])
            refused = [i for i in asked["tweet_ids"] if i in old]
            if "impressions" in asked["engagement_types"] and refused:
                text = "Impressions & engagements for tweets older than 90 days (TIME_PERIOD) are not supported"
                key = "unsupported_for_impressions_engagements_tweet_ids"
                return reply(400, {"errors": [text], key: refused})
            values = {i: dict.fromkeys(asked["engagement_types"], "5") for i in asked["tweet_ids"]}
            return reply(200, {"by_tweet": values})

    model = Old()

    merger = Merger(query)
    async with AnswerStream(engine_for(model, RateLimit(100)), query, chunk(ids(4), 250)) as answers:
        async for answer in answers:
            merger.add(answer)
    result = merger.result()

    young = [i for i in ids(4) if i not in old]
    assert result.groupings["by_tweet"] == {
        **{i: {"favorites": 5} for i in old},
        **{i: {"favorites": 5, "impressions": 5} for i in young},
    }
    assert result.unsupported_tweet_ids == {"impressions": old}
    assert result.outcomes["answered"] == 4


@pytest.mark.virtual_time
async def test_leaving_the_stream_early_ends_the_workers_and_holds_their_tokens() -> None:
    model = Model(latency_s=5)
    limit = RateLimit(300)

    engine = engine_for(model, limit)
    async with AnswerStream(engine, QUERY, chunk(ids(50_000), 250)) as answers:
        await anext(answers)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert engine.in_flight == 0
    await asyncio.sleep(200)  # the window and the quarantine

    assert engine.scheduler.available(limit) == 300


@pytest.mark.virtual_time
async def test_a_stream_that_was_left_early_does_not_look_as_if_it_had_come_to_its_end() -> None:
    async with AnswerStream(engine_for(Model(latency_s=5), RateLimit(300)), QUERY, chunk(ids(50_000), 250)) as answers:
        async for _ in answers:
            break
    with pytest.raises(UsageError, match="left before its end: iterate inside its `async with` block"):
        [answer async for answer in answers]


@pytest.mark.virtual_time
async def test_a_stream_of_which_all_answers_were_taken_has_come_to_its_end() -> None:
    """Be it that the last one was the last that was asked for."""
    async with AnswerStream(engine_for(Model(), RateLimit(300)), QUERY, chunk(ids(500), 250)) as answers:
        assert len([answer async for answer in answers]) == 2
    assert [answer async for answer in answers] == []

    async with AnswerStream(engine_for(Model(), RateLimit(300)), QUERY, chunk(ids(500), 250)) as answers:
        await anext(answers)
        await anext(answers)
    assert [answer async for answer in answers] == []

    async with AnswerStream(engine_for(Model(latency_s=5), RateLimit(300)), QUERY, chunk(ids(500), 250)) as answers:
        answers.stop()
    assert [answer async for answer in answers] == []


@pytest.mark.virtual_time
async def test_a_scheduler_that_stops_the_stream_with_its_last_token_has_that_request_sent() -> None:
    class Budget(LocalScheduler):
        async def acquire(self, lane: Lane, *, retry: bool = False) -> Token:
            token: Token = await super().acquire(lane, retry=retry)
            answers.stop()
            return token

    model = Model()
    engine = engine_for(model, RateLimit(300))
    engine.scheduler = Budget(RateLimit(300))
    async with AnswerStream(engine, QUERY, chunk(ids(1000), 250)) as answers:
        got = [answer async for answer in answers]

    assert len(got) == len(model.requests) == 1


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"code": 179, "message": "Sorry, you are not authorized to see this status."}]},
        {"errors": ["You are not permitted to access this Tweet"]},
        {"title": "Forbidden", "detail": "Not for you", "type": "about:blank"},
    ],
    ids=["code", "text", "problem"],
)
def test_a_refusal_in_the_accounts_name_that_is_about_one_tweet_fails_that_tweet_alone(
    status: int, body: dict[str, Any]
) -> None:
    bad = str(10**18 + 7 * 321)
    model = Model(lambda _, asked: reply(status, body) if bad in asked else None)

    result = run(model, 1000)

    assert list(result.failed_tweet_ids) == [bad]
    assert kinds_of(result) == {FailureKind.REFUSED}
    assert result.outcomes["answered"] == 999
    assert len(model.requests) <= 30


@pytest.mark.parametrize("retry_after_s", [5, 600])
def test_a_failure_says_how_long_to_wait_but_not_for_longer_than_the_call_does(retry_after_s: int) -> None:
    model = Model(lambda *_: reply(503, Retry_After=str(retry_after_s)))

    result = run(model, 250, outage_timeout_s=60.0)

    assert kinds_of(result) == {FailureKind.OUTAGE}
    assert 55 < model.arrived_at[-1] < 90


@pytest.mark.virtual_time
async def test_stopping_lets_what_is_in_flight_come_home() -> None:
    model = Model(latency_s=5)

    async with AnswerStream(engine_for(model, RateLimit(100_000)), QUERY, chunk(ids(50_000), 250)) as answers:
        got = [await anext(answers)]
        answers.stop()
        async for answer in answers:
            got.append(answer)  # noqa: PERF401

    assert len(got) == len(model.requests) == model.answered


def test_an_error_of_the_source_comes_out_and_ends_the_workers() -> None:
    async def failing() -> AsyncIterator[str]:
        for i in ids(600):
            yield i
        raise OSError("the disk is gone")

    async def main() -> None:
        async with AnswerStream(engine_for(Model(), RateLimit(100)), QUERY, chunk(failing(), 250)) as answers:
            async for _ in answers:
                pass

    with pytest.raises(OSError, match="the disk is gone"):
        run_virtual(main())


def test_a_bad_id_in_a_stream_is_told_by_its_place() -> None:
    async def main() -> None:
        source = [*ids(300), "12a"]
        async with AnswerStream(engine_for(Model(), RateLimit(100)), QUERY, chunk(iter(source), 250)) as answers:
            async for _ in answers:
                pass

    with pytest.raises(UsageError, match=r"tweet_ids\[300\] is '12a'"):
        run_virtual(main())


@pytest.mark.virtual_time
async def test_a_run_cancelled_at_any_await_leaves_nothing_behind() -> None:
    """1,000 runs, each cancelled at another moment."""
    limit = RateLimit(20, period=1)

    chance = random.Random(11)
    for _ in range(1_000):
        model = Model(latency_s=0.2, seed=chance.randrange(10**9))
        engine = engine_for(model, limit, concurrency=4)
        task = asyncio.create_task(fetch(engine, 50_000))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(chance.choice([0, 0, 0.05, 0.3]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert engine.in_flight == model.in_flight == 0
        await asyncio.sleep(70)
        assert engine.scheduler.available(limit) == limit.requests


@pytest.mark.virtual_time
async def test_a_probe_s_answer_that_nobody_takes_does_not_hold_other_calls() -> None:
    sent = 0

    def failing(model: Model, asked: list[str]) -> Response | None:
        nonlocal sent
        sent += 1
        return reply(503) if sent >= 4 and model.now < 60 else None

    engine = engine_for(Model(failing), RateLimit(100_000), concurrency=2)
    inner = 0
    async with AnswerStream(engine, QUERY, chunk(ids(2_500), 250)) as answers:
        async for _ in answers:
            await asyncio.sleep(200)  # the outage ends meanwhile
            inner += (await fetch(engine, 10)).outcomes["answered"]

    assert inner == 100


@pytest.mark.virtual_time
async def test_a_blip_is_not_dated_by_the_faults_of_an_earlier_call() -> None:
    gone = Model(lambda model, asked: reply(503) if model.now < 10 or 7_200 <= model.now < 7_201 else None)

    engine = engine_for(gone, RateLimit(100_000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await fetch(engine, 10)
    await asyncio.sleep(7_200 - gone.now)
    outcome = await fetch(engine, 25_000)

    check(outcome, 25_000)


@pytest.mark.virtual_time
async def test_a_call_keeps_its_deadline_when_others_begin() -> None:
    engine = engine_for(Model(lambda model, asked: reply(503)), RateLimit(100_000))

    async def first() -> float:
        await fetch(engine, 5_000)
        return asyncio.get_running_loop().time()

    running = asyncio.create_task(first())
    others = []
    for _ in range(3):
        await asyncio.sleep(600)
        others.append(asyncio.create_task(fetch(engine, 10)))
    await asyncio.gather(*others)
    outcome = await running

    assert outcome <= 950


@pytest.mark.virtual_time
async def test_a_small_call_is_not_stuck_behind_the_workers_of_large_ones() -> None:
    engine = engine_for(Model(), RateLimit(60))
    large = [asyncio.create_task(fetch(engine, 250 * 60)) for _ in range(3)]
    await asyncio.sleep(10)
    began_at = asyncio.get_running_loop().time()
    await fetch(engine, 10)
    took_s = asyncio.get_running_loop().time() - began_at
    for task in large:
        task.cancel()
    await asyncio.gather(*large, return_exceptions=True)

    assert took_s <= 5


@pytest.mark.virtual_time
async def test_answers_that_were_not_taken_for_long_are_no_sign_of_somebody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    epoch = 1_767_225_600

    def telling(model: Model, asked: list[str]) -> Response:
        used = sum(at >= model.now // 60 * 60 for at in model.arrived_at)
        return reply(
            200,
            good(asked),
            x_per_minute_remaining=str(60 - used),
            x_per_minute_reset=str(epoch + int(model.now) // 60 * 60 + 60),
            date=format_datetime(datetime.fromtimestamp(epoch + int(model.now), UTC), usegmt=True),
        )

    async with AnswerStream(engine_for(Model(telling), RateLimit(60)), QUERY, chunk(ids(15_000), 250)) as answers:
        taken = 0
        async for _ in answers:
            taken += 1
            if taken == 20:
                await asyncio.sleep(300)

    assert "somebody else" not in caplog.text


@pytest.mark.virtual_time
async def test_calls_at_the_same_time_share_the_concurrency_and_one_that_is_cancelled_gives_its_slots_back() -> None:
    model = Model(latency_s=1.0)

    engine = engine_for(model, RateLimit(100_000), concurrency=4)
    calls = [asyncio.create_task(fetch(engine, 10_000)) for _ in range(4)]
    for call in calls[:2]:
        await asyncio.sleep(2)
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False, False]
    alone = Model(latency_s=1.0)
    engine._transport = alone
    rest = await fetch(engine, 10_000)
    assert alone.most_in_flight == 4, "a slot was lost, or one too many was given back"
    for result in [result for result in (*results, rest) if isinstance(result, EngagementResult)]:
        check(result, 10_000)
    assert model.most_in_flight <= 4 + 4


# --- given up before the end ---


@given(seed=st.integers(0, 2**32), after_s=st.floats(0, 3.0), count=st.integers(1, 2_000), trouble=st.floats(0, 0.6))
def test_what_is_given_up_loses_no_answer_and_no_id(seed: int, after_s: float, count: int, trouble: float) -> None:
    """At whatever moment: every ID has one outcome, values are true, and sums are those of the answered IDs."""
    rng = random.Random(seed)

    def behave(model: Model, asked: list[str]) -> Response | BaseException | None:
        if rng.random() < trouble:
            outcomes: list[Response | BaseException] = [
                reply(503),
                reply(403),
                DisconnectedError("no"),
                NotSentError("no"),
            ]
            return rng.choice(outcomes)
        return None

    async def main() -> EngagementResult:
        model = Model(behave, latency_s=1.0, seed=seed)
        merger = Merger(QUERY)
        engine = engine_for(model, RateLimit(60))
        async with AnswerStream(engine, QUERY, chunk(ids(count), TOTALS.ids_per_request)) as answers:
            try:
                async with asyncio.timeout(after_s):
                    async for answer in answers:
                        merger.add(answer)
            except TimeoutError:
                await answers.give_up(Failure("over", kind=FailureKind.TIMEOUT))
                async for answer in answers:
                    merger.add(answer)
        assert model.in_flight == 0
        return merger.result()

    try:
        result = run_virtual(main())
    except RequestRefusedError:  # every request so far was refused alike, before the time was over
        return

    assert result.tweet_ids == list(ids(count))
    assert sum(result.outcomes.values()) == count
    values = result.groupings.get("by_tweet", {})
    assert set(values) == set(result.answered_tweet_ids)
    assert all(values[i] == {m: truth(i, m) for m in QUERY.engagement_types} for i in values)
    if not result.missing_metrics:
        sums = {m: sum(truth(i, m) for i in values) for m in QUERY.engagement_types}
        assert {m: result.groupings.get("sum", {}).get(m, 0) for m in QUERY.engagement_types} == sums


@pytest.mark.virtual_time
async def test_what_is_given_up_is_handed_out_to_whoever_iterates_already() -> None:
    merger = Merger(QUERY)
    async with AnswerStream(engine_for(Model(latency_s=9), RateLimit(300)), QUERY, chunk(ids(1000), 250)) as answers:

        async def consume() -> None:
            async for answer in answers:
                merger.add(answer)

        consuming = asyncio.create_task(consume())
        await asyncio.sleep(1)
        await answers.give_up(Failure("over", kind=FailureKind.TIMEOUT))
        await consuming

    assert len(merger.result().failed_tweet_ids) == 1000


@given(seed=st.integers(0, 2**32), concurrency=st.integers(1, 20), taken=st.integers(0, 10))
def test_what_has_arrived_and_waits_for_a_slow_consumer_is_not_given_up(
    seed: int, concurrency: int, taken: int
) -> None:
    async def main() -> tuple[Model, EngagementResult]:
        model = Model(seed=seed)
        merger = Merger(QUERY)
        engine = engine_for(model, RateLimit(60_000), concurrency=concurrency)
        async with AnswerStream(engine, QUERY, chunk(ids(20_000), TOTALS.ids_per_request)) as answers:
            for _ in range(taken):
                merger.add(await anext(answers))
            await asyncio.sleep(60)
            await answers.give_up(Failure("over", kind=FailureKind.TIMEOUT))
            async for answer in answers:
                merger.add(answer)
        return model, merger.result()

    model, result = run_virtual(main())

    assert len(result.tweet_ids) == 20_000
    assert set(result.answered_tweet_ids) == set(model.asked)
    assert model.answered >= concurrency + taken
