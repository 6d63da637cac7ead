"""Workers: which request is next. What they do with outcomes: test_stream.py. What outcomes mean: test_recovery.py."""

from __future__ import annotations

from engagement_async import RateLimit
from engagement_async._engine.transport import Response
from tests.unit._engine.test_stream import Model, check, reply, run


def test_a_request_that_is_due_again_goes_before_new_batches() -> None:
    def fail_the_first(model: Model, asked: list[str]) -> Response | None:
        return reply(503) if len(model.requests) == 1 else None

    model = Model(fail_the_first)
    result = run(model, 10_000, RateLimit(60), concurrency=1)

    check(result, 10_000)
    assert len(model.requests) == 41
    assert model.requests.index(model.requests[0], 1) <= 2
