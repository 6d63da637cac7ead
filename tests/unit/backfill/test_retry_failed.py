"""A second request for failed IDs leaves what one request for all would have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import Answer, Merger, Query
from engagement_async._core.endpoints import LAST_28_HOURS
from engagement_async.backfill.retry_failed import pack_failed, patch
from tests.support.jobs import BY_TWEET, MIXED, TYPES, make_ids


@given(st.data())
def test_failed_ids_that_are_answered_later_make_the_answer_that_would_have_been(data: Any) -> None:
    ids = make_ids(12)
    batches = {0: tuple(ids[:4]), 1: tuple(ids[4:8]), 2: tuple(ids[8:])}
    failed = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))
    gone = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))

    def answer(number: int, asked: tuple[str, ...], down: set[str]) -> Answer:
        told = [i for i in asked if i not in gone | down]
        by_tweet = {i: {"favorites": int(i) % 97, "replies": 2} for i in told}
        return Answer(
            number,
            asked,
            {
                "by_tweet": by_tweet,
                "by_type": {kind: {i: by_tweet[i][kind] for i in told} for kind in TYPES} if told else {},
                "all": {kind: sum(by_tweet[i][kind] for i in told) for kind in TYPES} if told else {},
            },
            unavailable_tweet_ids=tuple(i for i in asked if i in gone - down),
            failed_tweet_ids={i: "down" for i in asked if i in down},
        )

    answers = {number: answer(number, asked, failed) for number, asked in batches.items()}
    small = Query(LAST_28_HOURS, engagement_types=["favorites", "replies"], groupings=MIXED.groupings)
    asked: list[str] = []
    for again in pack_failed([a for a in answers.values() if a.failed_tweet_ids], small):
        assert len(again.tweet_ids) <= 25
        asked += again.tweet_ids
        assert len(again.origins) == 1  # else a sum would be of several batches
        for number, chosen in again.origins:
            new = answer(0, again.tweet_ids, set())
            answers[number] = patch(answers[number], new, chosen, MIXED)

    assert sorted(asked) == sorted(failed)
    expected, actual = Merger(MIXED), Merger(MIXED)
    for number, batch in batches.items():
        expected.add(answer(number, batch, set()))
        actual.add(answers[number])
    assert actual.result().groupings == expected.result().groupings
    assert actual.result().outcomes == expected.result().outcomes
    assert actual.result().unavailable_tweet_ids == expected.result().unavailable_tweet_ids


@pytest.mark.parametrize(("query", "requests"), [(BY_TWEET, [(0, 1, 2)]), (MIXED, [(0,), (1,), (2,)])])
def test_ids_of_several_batches_share_a_request_unless_there_are_sums(
    query: Query, requests: list[tuple[int, ...]]
) -> None:
    ids = make_ids(12)
    batches = [tuple(ids[:4]), tuple(ids[4:8]), tuple(ids[8:])]
    answers = [Answer(n, batch, {}, failed_tweet_ids={batch[1]: "down"}) for n, batch in enumerate(batches)]

    packed = list(pack_failed(answers, query))

    assert [tuple(number for number, _ in again.origins) for again in packed] == requests
    assert [i for again in packed for i in again.tweet_ids] == [batch[1] for batch in batches]


@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_each_id_keeps_the_instant_of_its_own_answer(first: set[int], second: set[int]) -> None:
    """However often IDs are asked again: those that were answered then were observed then, and the others before."""
    ids = tuple(make_ids(6))
    instants = [datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=day) for day in range(3)]
    answer = Answer(0, ids, {}, unavailable_tweet_ids=ids, observed_at=instants[0])
    expected = dict.fromkeys(ids, instants[0])
    for chosen, at in ((first, instants[1]), (second, instants[2])):
        again = tuple(ids[n] for n in sorted(chosen))
        new = Answer(7, again, {}, unavailable_tweet_ids=again, observed_at=at)
        answer = patch(answer, new, frozenset(again), MIXED)
        expected |= dict.fromkeys(again, at)

    assert {i: answer.observed_at_of(i) for i in ids} == expected
    assert answer.observed_at == min(expected.values())
