from __future__ import annotations

import gc

from engagement_async._engine.gc_pressure import GC_THRESHOLD, relaxed_gc


def test_the_threshold_is_raised_while_any_stream_is_open_and_restored() -> None:
    before = gc.get_threshold()

    with relaxed_gc():
        with relaxed_gc():
            assert gc.get_threshold()[0] == GC_THRESHOLD
        assert gc.get_threshold()[0] == GC_THRESHOLD

    assert gc.get_threshold() == before


def test_a_threshold_that_somebody_else_set_meanwhile_is_kept() -> None:
    before = gc.get_threshold()
    try:
        with relaxed_gc():
            gc.set_threshold(123)
        assert gc.get_threshold()[0] == 123
    finally:
        gc.set_threshold(*before)
