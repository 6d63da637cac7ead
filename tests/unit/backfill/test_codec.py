"""IDs and answers as bytes: they come back as they were."""

from __future__ import annotations

import json
import sqlite3
import zlib
from datetime import UTC
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from engagement_async import Answer, Window
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
