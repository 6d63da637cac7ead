"""An answer's time is that of its windows together, and each ID knows when it was answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engagement_async import Answer, Window
from engagement_async._core.answer import ReceivedAnswer, merge_observations

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_an_answer_without_windows_has_no_time() -> None:
    answer = Answer(0, ("20",))

    assert (answer.start, answer.end) == (None, None)


def test_several_windows_are_one_span() -> None:
    windows = (Window(MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR), Window(MIDNIGHT, MIDNIGHT + 2 * HOUR))
    answer = Answer(0, ("20",), windows=windows)

    assert (answer.start, answer.end) == (MIDNIGHT, MIDNIGHT + 3 * HOUR)


def test_each_id_knows_when_it_was_answered() -> None:
    answer = Answer(0, ("20", "21", "22"), observed_at=MIDNIGHT, observed_later={"21": MIDNIGHT + HOUR})
    answer.failed_tweet_ids = {"22": "no"}

    assert [answer.observed_at_of(i) for i in answer.tweet_ids] == [MIDNIGHT, MIDNIGHT + HOUR, None]
    assert answer.observation.last_at == MIDNIGHT + HOUR
    assert Answer(0, ("20",)).observed_at_of("20") is None


INSTANTS = st.none() | st.integers(0, 3).map(lambda n: MIDNIGHT + n * HOUR)
PARTS = st.lists(st.tuples(st.lists(st.sampled_from("abcde"), unique=True), INSTANTS), max_size=4)


@given(PARTS, st.permutations("abcde"))
def test_what_is_made_of_several_answers_keeps_the_last_instant_of_each_id(
    parts: list[tuple[list[str], datetime | None]], tweet_ids: list[str]
) -> None:
    answers = [Answer(0, tuple(ids), observed_at=at) for ids, at in parts]
    whole = Answer(0, tuple(tweet_ids))
    whole.observed_at, whole.observed_later = merge_observations(answers, tweet_ids)

    expected = {i: max((at for ids, at in parts if at and i in ids), default=None) for i in tweet_ids}
    known = [at for at in expected.values() if at is not None]
    assert whole.observed_at == min(known, default=None)
    assert all(whole.observed_at_of(i) == at for i, at in expected.items() if at is not None)
    assert merge_observations([whole], tweet_ids) == (whole.observed_at, whole.observed_later) or len(known) < 5


def test_a_received_answer_reads_its_response_when_its_groupings_are_wanted() -> None:
    reads: list[int] = []

    def read() -> dict[str, dict[str, int]]:
        reads.append(1)
        return {"g": {"20": 7}}

    answer = ReceivedAnswer(0, ("20",)).keep(b"response", 1, read)

    assert not reads
    assert answer == Answer(0, ("20",), {"g": {"20": 7}}) == answer
    assert answer != Answer(0, ("20",), {"g": {"20": 8}})
    assert answer != "answer"
    assert (reads, answer.response, answer.values) == ([1], b"response", 1)


def test_what_is_made_of_a_received_answer_keeps_no_response() -> None:
    answer = ReceivedAnswer(0, ("20",)).keep(b"response", 1, lambda: {"g": {"20": 7}})

    assert (made := replace(answer, batch_number=1)) == Answer(1, ("20",), {"g": {"20": 7}})
    assert isinstance(made, ReceivedAnswer)
    assert (made.response, made.values) == (None, None)
    answer.groupings = {}
    assert (answer.response, answer.values) == (b"response", None)
    assert ReceivedAnswer.of(Answer(3, ("20",), notes=("a",)), b"response") == Answer(3, ("20",), notes=("a",))
