"""What is told to Redis and when, under virtual time: the script is a stand-in that grants what it is told to."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import Counter
from typing import Any

import pytest

from engagement_async import RateLimit, UsageError
from engagement_async._engine.scheduler import LaneScheduler, loop_clock
from engagement_async.distributed.redis_ledger import HORIZON_S, LIVES_S, RedisLedger, RedisToken
from engagement_async.distributed.redis_link import RedisUnavailableError

pytestmark = pytest.mark.virtual_time

LIMIT = RateLimit(300)
CALM = {
    "granted": [],
    "available": [300],
    "next_in": 0.25,
    "ready_in": -1,
    "held": 0,
    "capped": 0,
    "complete_in": 0,
    "generation": 4,
    "owners": 1,
    "is_lost": False,
}


class Script:
    """Stands for Redis and its script: grants as many tokens as are wanted, and keeps what it was told."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.replies: list[dict[str, Any] | Exception] = []
        self.at: list[float] = []
        self.latency_s = 0.0
        self.clock_ahead_s = 0.0
        self.is_closed = False

    async def exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self.requests.append(copy.deepcopy(request))
        self.at.append(loop.time())
        now = loop.time() + self.clock_ahead_s
        reply = self.replies.pop(0) if self.replies else {}
        await asyncio.sleep(self.latency_s)
        if isinstance(reply, Exception):
            raise reply
        granted = [[name, 0.0] for name, count in request["wants"] for _ in range(count)]
        return {**CALM, "now": now, "granted": granted, **reply}

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def events(self) -> list[tuple[Any, ...]]:
        return [tuple(event) for request in self.requests for event in request["events"]]


class Scheduler(LaneScheduler):
    def __init__(self, script: Script, *limits: RateLimit) -> None:
        self.ledger = RedisLedger(
            limits or (LIMIT,),
            connect=lambda: script,  # type: ignore[arg-type, return-value]
            wanted=lambda: self.count_waiting(64),
            on_change=self.reconsider,
            on_error=self.fail_waiting,
            quarantine_s=60.0,
            place="redis://somewhere",
            clock=loop_clock(),
        )
        super().__init__(self.ledger)

    async def __aenter__(self) -> Scheduler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ledger.aclose()


async def test_one_exchange_brings_tokens_for_all_who_wait() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        totals, hours = scheduler.lane("totals"), scheduler.lane("28hr")
        tokens = await asyncio.gather(*(scheduler.acquire(lane) for lane in (totals, totals, hours)))
        assert script.requests[0]["wants"] in ([("totals", 2), ("28hr", 1)], [("totals", 1)])
        assert Counter(token.endpoint for token in tokens) == {"totals": 2, "28hr": 1}
    assert script.is_closed


async def test_what_happened_is_told_soon_together_and_in_order() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        tokens = [await scheduler.acquire(lane) for _ in range(6)]
        before = len(script.requests)
        scheduler.settle(tokens[0])
        scheduler.settle(tokens[1])
        scheduler.abandon(tokens[2], within_s=90.0)
        scheduler.settle(tokens[3])
        scheduler.refund(tokens[4])
        for token in tokens[:5]:
            scheduler.settle(token)  # a second time
        await asyncio.sleep(0.06)

        assert len(script.requests) == before + 1
        assert script.requests[-1]["out"] == {"totals": 6}  # as of before
        assert script.requests[-1]["quarantine"] == 90.0
        assert script.events == [
            ("settle", "totals", 2, 0.0),
            ("abandon", "totals", 1, 90.0),
            ("settle", "totals", 1, 0.0),
            ("refund", "totals", 1, 4),
        ]


async def test_an_exchange_without_a_reply_is_repeated_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        token = await scheduler.acquire(lane)
        script.replies = [RedisUnavailableError("TimeoutError")] * 3
        scheduler.settle(token)
        waiting = asyncio.create_task(scheduler.acquire(lane))
        await waiting

        first, *repeated = script.requests[1:5]
        assert [request["n"] for request in script.requests[:5]] == [1, 2, 2, 2, 2]
        assert repeated == [first] * 3
        assert script.events.count(("settle", "totals", 1, 0.0)) == 4
    assert caplog.text.count("nothing is granted until it does") == 1
    assert caplog.text.count("answers again") == 1


async def test_a_pause_between_repetitions_grows_to_a_second() -> None:
    script = Script()
    script.replies = [RedisUnavailableError("ConnectionError")] * 12
    async with Scheduler(script) as scheduler:
        await scheduler.acquire(scheduler.lane())

    pauses = [later - sooner for sooner, later in zip(script.at, script.at[1:], strict=False)][:12]
    assert pauses[0] == pytest.approx(0.05)
    assert max(pauses) == pytest.approx(1.0)


async def test_what_only_an_operator_can_mend_is_raised_to_those_who_wait_and_tried_again_later() -> None:
    script = Script()
    script.replies = [UsageError("Redis refuses: WRONGPASS")]
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane()
        results = await asyncio.gather(*(scheduler.acquire(lane) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(result, UsageError) for result in results)

        assert isinstance(await scheduler.acquire(lane), RedisToken)


async def test_a_bug_in_an_exchange_is_raised_to_those_who_wait() -> None:
    script = Script()
    script.replies = [KeyError("now")]
    async with Scheduler(script) as scheduler:
        with pytest.raises(KeyError):
            await scheduler.acquire(scheduler.lane())


async def test_a_token_ahead_of_its_time_is_used_at_its_time() -> None:
    script = Script()
    script.latency_s = 0.1
    script.replies = [{"granted": [["totals", 0.05], ["totals", 0.15]]}]
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        calls = [asyncio.create_task(scheduler.acquire(lane)) for _ in range(2)]
        at = []
        for call in calls:
            await call
            at.append(asyncio.get_running_loop().time())

    assert at == [pytest.approx(0.15), pytest.approx(0.25)]  # from the reply on: when the script ran is not known


async def test_tokens_that_nobody_takes_go_back() -> None:
    script = Script()
    script.replies = [{"granted": [["totals", 0.0]] * 5}]
    async with Scheduler(script) as scheduler:
        token = await scheduler.acquire(scheduler.lane("totals"))
        await asyncio.sleep(0.5)
        assert ("refund", "totals", 4, 4) in script.events
        assert script.requests[-1]["out"]["totals"] <= 5
        scheduler.settle(token)


async def test_a_cancelled_wait_gives_its_token_back() -> None:
    script = Script()
    script.latency_s = 0.05
    async with Scheduler(script) as scheduler:
        call = asyncio.create_task(scheduler.acquire(scheduler.lane("totals")))
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.sleep(0.5)

        assert ("refund", "totals", 1, 4) in script.events


async def test_a_token_is_not_used_when_its_process_may_count_as_gone() -> None:
    """A process that was suspended wakes with a token in its hand."""
    script = Script()
    script.replies = [{"granted": [["totals", 0.0], ["totals", LIVES_S - 1.0]]}]
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        await scheduler.acquire(lane)
        ledger = scheduler.ledger

        assert ledger.reserve(LIVES_S - 1.0, "totals") == math.inf
        await asyncio.sleep(LIVES_S)
        assert ("refund", "totals", 1, 4) in script.events


async def test_a_hold_is_kept_at_once_and_told_at_once() -> None:
    script = Script()
    script.replies = [{"granted": [["totals", 0.0]] * 3}]
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        await scheduler.acquire(lane)
        scheduler.hold(10.0)
        assert scheduler.held_s == 10.0
        await asyncio.sleep(0)
        call = asyncio.create_task(scheduler.acquire(lane))
        await asyncio.sleep(0.01)

        assert not call.done()
        assert script.events == [("refund", "totals", 2, 4), ("hold", 10.0, 0, 0.0)]
        await call
        assert asyncio.get_running_loop().time() >= 10.0


async def test_a_hold_of_another_process_holds_this_one() -> None:
    script = Script()
    script.replies = [{"held": 5.0, "granted": []}]
    async with Scheduler(script) as scheduler:
        await scheduler.acquire(scheduler.lane())
        assert asyncio.get_running_loop().time() >= 5.0


async def test_a_cap_is_kept_at_once_and_told_with_its_limit() -> None:
    script = Script()
    limits = RateLimit(20, period=1), LIMIT
    script.replies = [{"available": [20, 300], "granted": [["", 0.0]] * 3}]
    async with Scheduler(script, *limits) as scheduler:
        token = await scheduler.acquire(scheduler.lane())
        scheduler.cap(LIMIT, -3, 60.0)

        assert scheduler.available(LIMIT) == 0
        await asyncio.sleep(0.01)
        assert script.events == [("refund", "", 2, 4), ("cap", 2, -3, 60.0)]
        scheduler.settle(token)
        with pytest.raises(ValueError, match="not in this ledger"):
            scheduler.cap(RateLimit(7), 1, 60.0)


async def test_another_consumer_is_looked_for_only_when_no_other_process_is_there() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        token = await scheduler.acquire(scheduler.lane())
        assert scheduler.available(LIMIT, since=token) == 300
        script.replies = [{"owners": 2, "available": [250]}] * 2
        scheduler.settle(token)
        await asyncio.sleep(0.1)

        assert scheduler.available(LIMIT) == 250
        assert scheduler.available(LIMIT, since=token) == 0


@pytest.mark.parametrize(("step_s", "is_doubted"), [(0.02, False), (0.05, True), (-5.0, False), (3_600.0, True)])
async def test_a_clock_that_steps_ahead_is_doubted(step_s: float, is_doubted: bool) -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane()
        scheduler.settle(await scheduler.acquire(lane))
        await asyncio.sleep(1)
        script.clock_ahead_s = step_s
        scheduler.settle(await scheduler.acquire(lane))
        await asyncio.sleep(1)

    assert (("doubt", 0, 0, 0.0) in script.events) is is_doubted


async def test_what_a_clock_granted_that_ran_ahead_is_not_used() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        lane = scheduler.lane("totals")
        scheduler.settle(await scheduler.acquire(lane))
        await asyncio.sleep(1)
        script.clock_ahead_s = 3_600.0
        script.replies = [{"granted": [["totals", 0.0]] * 3}, {"granted": [], "ready_in": 60.0}]
        asked_at = asyncio.get_running_loop().time()
        token = await scheduler.acquire(lane)

    assert script.events[1:3] == [("refund", "totals", 3, 4), ("doubt", 0, 0, 0.0)]
    assert asyncio.get_running_loop().time() > asked_at
    assert isinstance(token, RedisToken)


async def test_a_contract_that_redis_does_not_know_is_spoken_of_once(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    script.replies = [
        {"granted": [], "complete_in": 60.0 - n, "ready_in": 60.0 - n, "is_lost": n == 0} for n in range(5)
    ]
    async with Scheduler(script) as scheduler:
        call = asyncio.create_task(scheduler.acquire(scheduler.lane()))
        await asyncio.sleep(0.1)
        assert scheduler.waiting_s == pytest.approx(60.0, abs=5)
        await call

    assert caplog.text.count("does not know what was spent of this contract before: waiting 60 s") == 1


async def test_who_waits_asks_as_often_as_it_is_told_to() -> None:
    script = Script()
    script.replies = [{"granted": [], "next_in": 0.2}] * 20
    async with Scheduler(script) as scheduler:
        await scheduler.acquire(scheduler.lane())

    assert len(script.requests) == pytest.approx(21, abs=2)
    assert asyncio.get_running_loop().time() == pytest.approx(4.0, abs=0.3)


async def test_a_process_with_something_out_is_heard_of_every_second() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        token = await scheduler.acquire(scheduler.lane())
        await asyncio.sleep(10)
        assert len(script.requests) == pytest.approx(11, abs=1)
        scheduler.settle(token)
        await asyncio.sleep(0.1)
        count = len(script.requests)
        await asyncio.sleep(100)
        assert len(script.requests) == count  # and one with nothing is not


async def test_who_leaves_gives_everything_back_first() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        tokens = [await scheduler.acquire(scheduler.lane("totals")) for _ in range(2)]
        scheduler.settle(tokens[0])

    assert script.requests[-1]["leaves"]
    assert ("settle", "totals", 1, 0.0) in script.events


async def test_who_leaves_while_redis_is_down_does_not_wait_for_it() -> None:
    script = Script()
    async with Scheduler(script) as scheduler:
        await scheduler.acquire(scheduler.lane("totals"))
        script.replies = [RedisUnavailableError("TimeoutError")] * 1_000
        left_at = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() <= left_at + 2.0


async def test_what_is_asked_for_has_its_figures() -> None:
    script = Script()
    limit = RateLimit(100, period=2.0, burst=7)
    async with Scheduler(script, limit) as scheduler:
        await scheduler.acquire(scheduler.lane("totals"))

    request = script.requests[0]
    assert request["limits"] == [
        {
            "key": " 2",
            "endpoint": "",
            "requests": 100,
            "window": limit.window_s,
            "interval": limit.interval_s,
            "burst": limit.burst_s,
        }
    ]
    assert request["longest"] == limit.window_s
    assert request["horizon"] == HORIZON_S
    assert request["share"] == pytest.approx(HORIZON_S / limit.interval_s)
