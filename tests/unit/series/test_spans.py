from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engagement_async.series.spans import HOUR, LONGEST_SPAN, Span, cover, hour_after, hour_of, missing, union

ZERO = datetime(2026, 3, 1, tzinfo=UTC)


def span(first: int, end: int) -> Span:
    return Span(ZERO + first * HOUR, ZERO + end * HOUR)


SPANS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)).map(lambda ends: span(min(ends), max(ends))))


def hours(spans: list[Span]) -> set[datetime]:
    return {each.starts_at + n * HOUR for each in spans for n in range(each.hours)}


def test_the_hour_of_an_instant_and_the_one_after() -> None:
    at = ZERO + timedelta(minutes=12)
    assert (hour_of(at), hour_after(at)) == (ZERO, ZERO + HOUR)
    assert hour_of(ZERO) == hour_after(ZERO) == ZERO


@given(SPANS)
def test_a_union_has_the_same_hours_and_no_two_spans_that_meet(spans: list[Span]) -> None:
    merged = union(spans)

    assert hours(merged) == hours(spans)
    assert all(before.ends_at < after.starts_at for before, after in pairwise(merged))


@given(SPANS)
def test_what_is_missing_is_what_no_span_covers(spans: list[Span]) -> None:
    wanted = span(10, 70)

    assert hours(missing(wanted, spans)) == hours([wanted]) - hours(spans)


@given(SPANS, st.integers(1, 30))
def test_a_cover_has_every_hour_in_spans_that_are_short_enough(gaps: list[Span], longest: int) -> None:
    spans = cover(gaps, longest * HOUR)

    assert hours(gaps) <= hours(spans)
    assert all(0 < each.hours <= longest for each in spans)
    assert sum(each.hours for each in spans) == len(hours(spans))
    # The fewest there can be: from the first hour that is not covered yet, as far as a span reaches.
    fewest, at = 0, None
    for hour in sorted(hours(gaps)):
        if at is None or hour >= at + longest * HOUR:
            fewest, at = fewest + 1, hour
    assert len(spans) == fewest


def test_days_that_were_missed_one_by_one_are_one_request() -> None:
    gaps = [span(0, 20), span(48, 60), span(120, 140)]
    assert cover(gaps) == [span(0, 140)]
    assert [each.hours for each in cover([span(0, 700)])] == [LONGEST_SPAN // HOUR, 28]
