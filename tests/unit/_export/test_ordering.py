"""Answers in the order of the input."""

from __future__ import annotations

import pytest

from engagement_async import Query
from engagement_async._core.endpoints import LAST_28_HOURS
from engagement_async._export.ordering import TableOrder
from engagement_async.backfill import JobError


def test_hours_now_with_days_and_now_without_are_told() -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["engagement.hour"]})
    order = TableOrder(query, "g")
    order.order({"2026-01-01": {"17": 1}})
    with pytest.raises(JobError, match="now with days, now without"):
        order.order({"17": 1})
