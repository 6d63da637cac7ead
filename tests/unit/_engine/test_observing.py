"""Who hears of calls, what they hear, and what becomes of an observer that fails."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engagement_async import TOTALS, BearerCredentials, EngagementError, LocalScheduler, Merger, Query, RateLimit
from engagement_async._core.batches import chunk
from engagement_async._core.events import (
    CallBegan,
    CircuitChanged,
    Decided,
    Ended,
    Event,
    HandedOut,
    Observe,
    Received,
    Sent,
    Waited,
)
from engagement_async._engine.observing import current_observers, observed_by
from engagement_async._engine.sender import Sender
from engagement_async._engine.stream import AnswerStream
from engagement_async._engine.transport import Response
from engagement_async.errors import AttemptTimeoutError, AuthError, DisconnectedError, NotSentError
from tests.support.virtual_loop import run_virtual
from tests.unit._engine.test_stream import Behave, Model, reply

QUERY = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
IDS = [str(n) for n in range(1, 2001)]


class Recorder:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.calls: list[CallBegan] = []
        self.events: list[Event] = []

    def __call__(self, call: CallBegan) -> Observe | None:
        self.calls.append(call)
        return self.events.append

    @property
    def kinds(self) -> Counter[str]:
        return Counter(type(event).__name__ for event in self.events)


def sender_of(model: Model, requests: int = 60_000) -> Sender:
    return Sender(
        transport=model,
        scheduler=LocalScheduler(RateLimit(requests)),
        credentials=BearerCredentials("token"),
        base_url=URL("https://api.example/base"),
        concurrency=4,
        outage_timeout_s=900.0,
        user_agent="test",
    )


async def fetch(model: Model, ids: list[str] = IDS, requests: int = 60_000) -> Merger:
    merger = Merger(QUERY)
    async with AnswerStream(sender_of(model, requests), QUERY, chunk(ids, 250)) as answers:
        async for answer in answers:
            merger.add(answer)
    return merger


def observed(behave: Behave | None = None, ids: list[str] = IDS, requests: int = 60_000) -> tuple[Recorder, Model]:
    recorder, model = Recorder(), Model(behave)
    with observed_by(recorder):
        run_virtual(fetch(model, ids, requests))
    return recorder, model


def test_a_call_is_told_from_its_beginning_to_its_end() -> None:
    recorder, model = observed()

    (call,) = recorder.calls
    assert call[:5] == (TOTALS, "https", "api.example", 443, "/base/insights/engagement/totals")
    assert recorder.kinds == {"Waited": 8, "Sent": 8, "Received": 8, "Decided": 8, "HandedOut": 8, "Ended": 1}
    assert recorder.events[-1] == Ended(None)
    assert sum(sum(event.outcomes) for event in recorder.events if isinstance(event, HandedOut)) == len(IDS)
    assert len(model.requests) == 8


def test_every_attempt_is_sent_received_and_decided_in_that_order() -> None:
    def fail_some(model: Model, _asked: list[str]) -> Response | None:
        return reply(503) if len(model.requests) % 3 == 0 else None

    recorder, model = observed(fail_some)

    of_request: dict[int, list[str]] = {}
    for event in recorder.events:
        if isinstance(event, Sent | Received | Decided):
            of_request.setdefault(id(event.request), []).append(type(event).__name__)
    for kinds in of_request.values():
        assert kinds == ["Sent", "Received", "Decided"] * (len(kinds) // 3)
    assert recorder.kinds["Sent"] == len(model.requests) > 8


def test_the_time_that_is_waited_for_tokens_is_told_of_cancelled_waits_too() -> None:
    recorder, model = Recorder(), Model()

    async def main() -> None:
        async with AnswerStream(sender_of(model, 1), QUERY, chunk(IDS, 250)) as answers:
            await anext(answers)
            await asyncio.sleep(20)

    with observed_by(recorder):
        run_virtual(main())

    waited = [event.seconds for event in recorder.events if isinstance(event, Waited)]
    assert len(model.requests) == 1
    assert len(waited) == 5  # one that was granted a token, and one for each worker
    assert min(waited) == 0
    assert sorted(waited)[1] >= 20
    assert recorder.events[-1] == Ended(None)


def test_the_circuit_is_told_when_it_changes() -> None:
    def down(model: Model, _asked: list[str]) -> Response | None:
        return reply(503) if model.now < 100 else None

    recorder, _ = observed(down)

    assert [event.is_open for event in recorder.events if isinstance(event, CircuitChanged)] == [True, False]
    assert not recorder.calls[0].state.breaker.is_open


def test_a_call_that_ends_with_an_error_is_told_of_it() -> None:
    recorder, model = Recorder(), Model(lambda *_: reply(401))
    with observed_by(recorder), pytest.raises(AuthError):
        run_virtual(fetch(model))

    (ended,) = [event for event in recorder.events if isinstance(event, Ended)]
    assert isinstance(ended.error, AuthError)


def test_two_observers_hear_the_same_and_one_may_decline() -> None:
    first, second = Recorder(), Recorder()
    with observed_by(first), observed_by(lambda _: None), observed_by(second):
        run_virtual(fetch(Model()))

    assert first.events == second.events != []


def test_an_observer_that_fails_costs_the_call_nothing(caplog: pytest.LogCaptureFixture) -> None:
    good = Recorder()
    heard: list[Event] = []

    def fails_later(_call: CallBegan) -> Observe:
        def observe(event: Event) -> None:
            heard.append(event)
            if len(heard) == 3:
                raise RuntimeError("a bug of the observer")

        return observe

    def fails_at_once(_call: CallBegan) -> Observe:
        raise RuntimeError("a bug of another")

    with observed_by(fails_at_once), observed_by(fails_later), observed_by(good), caplog.at_level(logging.WARNING):
        result = run_virtual(fetch(Model())).result()

    assert result.outcomes["answered"] == len(IDS)
    assert len(heard) == 3
    assert good.events[-1] == Ended(None)
    assert [record.getMessage() for record in caplog.records] == [
        "a call is not observed: its observer failed",
        "a call is observed no further: its observer failed",
    ]


@given(st.integers(0, 2**32), st.floats(0, 400) | st.none())
def test_whatever_happens_and_whenever_it_is_cancelled_events_are_in_order(seed: int, cancel_at: float | None) -> None:
    recorder, model = Recorder(), Model(storm(seed), seed=seed)

    async def main() -> bool:
        call = asyncio.create_task(fetch(model, IDS[:1_000], requests=30))
        await asyncio.wait([call], timeout=cancel_at)
        is_whole = call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return is_whole

    with observed_by(recorder):
        is_whole = run_virtual(main())

    if recorder.calls:
        ends = [number for number, event in enumerate(recorder.events) if isinstance(event, Ended)]
        assert ends == [len(recorder.events) - 1]
    under_way: set[int] = set()
    undecided: set[int] = set()
    for event in recorder.events:
        if isinstance(event, Sent):
            assert id(event.request) not in under_way | undecided
            under_way.add(id(event.request))
        elif isinstance(event, Received):
            under_way.remove(id(event.request))
            if event.error is None or isinstance(event.error, EngagementError):
                undecided.add(id(event.request))
        elif isinstance(event, Decided):
            undecided.remove(id(event.request))
    assert not under_way
    if is_whole:
        assert not undecided
        assert sum(sum(event.outcomes) for event in recorder.events if isinstance(event, HandedOut)) == 1_000


def storm(seed: int) -> Behave:
    """Return a behaviour of all kinds of failures, more of them at times."""
    draw = random.Random(seed)
    bad = (reply(503), reply(429), DisconnectedError("cut"), NotSentError("refused"), AttemptTimeoutError("late"))

    def behave(model: Model, _asked: list[str]) -> Response | BaseException | None:
        share = 0.9 if 60 < model.now % 200 < 120 else 0.2
        return draw.choice(bad) if draw.random() < share else None

    return behave


def test_it_is_of_its_context_alone() -> None:
    recorder = Recorder()
    with observed_by(recorder):
        assert recorder in current_observers()

    run_virtual(fetch(Model()))

    assert recorder.calls == []


def test_opentelemetry_is_not_imported_for_its_own_sake() -> None:
    code = """
import asyncio, sys
from engagement_async import BearerCredentials, EngagementClient, RateLimit, Query, TOTALS

async def main():
    query = Query(TOTALS, engagement_types=["favorites"], groupings={"a": ["tweet.id"]})
    async with EngagementClient(BearerCredentials("t"), rate_limit=RateLimit(1), base_url="http://127.0.0.1:9") as client:
        async with client.stream(query, ["1"]):
            pass

asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_opentelemetry_that_is_not_whole_is_told_once_and_costs_nothing() -> None:
    code = """
import asyncio, sys, types
sys.modules["opentelemetry"] = types.ModuleType("opentelemetry")  # a package without the API
from engagement_async._engine.observing import current_observers

print(current_observers(), current_observers())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "() ()"
    assert done.stderr.count("nothing is recorded for OpenTelemetry") == 1
    assert "engagement-async[otel]" in done.stderr


def test_events_hold_errors_of_this_package_or_what_ended_the_call() -> None:
    recorder, _ = observed(lambda model, _: reply(503) if len(model.requests) < 3 else None)

    errors = [event.result for event in recorder.events if isinstance(event, Decided)]
    assert any(isinstance(error, EngagementError) for error in errors)
    assert all(event.error is None for event in recorder.events if isinstance(event, Received))
