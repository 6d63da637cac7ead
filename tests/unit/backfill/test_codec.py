"""IDs and answers as bytes: they come back as they were."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from engagement_async import Answer, Window
from engagement_async._core.answer import ReceivedAnswer
from engagement_async._core.batches import MAX_TWEET_ID
from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.codec import EncodedAnswer, decode_answer, encode_answer, pack_ids, unpack_ids
from tests.support.jobs import TYPES, fill, merged, started

INSTANTS = st.datetimes(timezones=st.just(UTC))
COUNTS = st.dictionaries(st.sampled_from(TYPES), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.integers(1, MAX_TWEET_ID), unique=True, max_size=50))
def test_ids_come_back(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(ids)) == tuple(map(str, ids))


@given(st.data())
def test_answers_come_back(data: DataObject) -> None:
    ids = tuple(map(str, data.draw(st.lists(st.integers(1, MAX_TWEET_ID), unique=True, min_size=1, max_size=8))))
    place = data.draw(st.lists(st.sampled_from("auvfx"), min_size=len(ids), max_size=len(ids)))
    chosen = {kind: tuple(i for i, at in zip(ids, place, strict=True) if at == kind) for kind in "auvfx"}
    at = st.datetimes(timezones=st.just(UTC)).map(lambda t: t.replace(microsecond=0))
    answer = Answer(
        3,
        ids,
        {"by_tweet": {i: data.draw(COUNTS) for i in chosen["a"]}},
        windows=tuple(Window(*data.draw(st.tuples(at, at))) for _ in range(data.draw(st.integers(0, 2)))),
        unavailable_tweet_ids=chosen["u"],
        forbidden_tweet_ids=chosen["f"],
        unsupported_tweet_ids=dict.fromkeys(TYPES, chosen["v"]) if chosen["v"] else {},
        failed_tweet_ids=data.draw(st.fixed_dictionaries({i: st.text() for i in chosen["x"]})),
        notes=tuple(data.draw(st.lists(st.text(), max_size=2))),
    )
    plain = encode_answer(answer, TYPES)
    answer.observed_at = data.draw(st.none() | INSTANTS)
    if answer.observed_at is not None:
        answer.observed_later = data.draw(st.dictionaries(st.sampled_from(ids), INSTANTS))
    stored = encode_answer(answer, TYPES)

    assert decode_answer(stored, ids) == answer
    assert stored.outcomes == Outcomes(*(len(chosen[kind]) for kind in "auvfx"))
    assert stored.size == plain.size  # by which exports are cut: they must not depend on when it was answered


def test_an_answer_of_a_journal_from_before_there_were_instants_has_none() -> None:
    body = zlib.compress(b'{"groupings":{"by_tweet":{"1":{"favorites":2}}}}')
    answer = decode_answer(EncodedAnswer(0, Outcomes(1), 0, 48, body), ("1",))

    assert (answer.observed_at, answer.observed_later) == (None, {})
    assert answer.groupings == {"by_tweet": {"1": {"favorites": 2}}}


def test_a_number_that_json_readers_would_round_fails_instead() -> None:
    stored = encode_answer(Answer(0, ("1",), {"by_tweet": {"1": {"favorites": 2**64}}}), TYPES)

    assert decode_answer(stored, ("1",)).failed_tweet_ids == {"1": "a value does not fit into 64 bits"}


def test_a_journal_can_be_read_without_this_package(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 300)
    fill(folder)
    found: dict[str, Any] = {}
    connection = sqlite3.connect(folder.journal_path)
    for _, body in connection.execute("SELECT number, body FROM answer"):
        found |= json.loads(zlib.decompress(body))["groupings"]["by_tweet"]
    connection.close()

    assert found == merged(folder).groupings["by_tweet"]


def test_a_response_is_kept_as_it_came() -> None:
    groupings = {"by_tweet": {"1": {"favorites": 2, "replies": 3}}}
    whole = ReceivedAnswer(0, ("1", "2"), unavailable_tweet_ids=("2",)).keep(b"wire", 2, lambda: groupings)
    plain = Answer(0, ("1", "2"), groupings, unavailable_tweet_ids=("2",))
    other = ReceivedAnswer.of(plain, b"wire")  # one whose values are not the response's alone

    kept = encode_answer(whole, TYPES, keep_response=True)
    both = encode_answer(other, TYPES, keep_response=True)
    without = encode_answer(whole, TYPES)

    assert (kept.response, both.response, without.response) == (b"wire", b"wire", None)
    assert kept.size == both.size == without.size == encode_answer(plain, TYPES).size  # by which exports are cut
    assert kept.outcomes == both.outcomes == without.outcomes == (1, 1, 0, 0, 0)
    assert b"groupings" not in zlib.decompress(kept.body)
    assert len({each.checksum() for each in (kept, both, without, replace(kept, response=b"wirf"))}) == 4
    decoded = decode_answer(kept, ("1", "2"), lambda response: {b"wire": groupings}[response])
    assert decoded == decode_answer(both, ("1", "2")) == decode_answer(without, ("1", "2")) == plain
    assert encode_answer(decoded, TYPES, keep_response=True) == kept
