from __future__ import annotations

import pytest

from engagement_async._core.batches import OwnedTweet
from engagement_async._core.refusal_detector import RefusalDetector, same_refusal
from engagement_async.errors import APIError


def refused(text: str, status: int = 400) -> APIError:
    return APIError(text, status=status, texts=(text,))


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("no (12ab)", "no (99cd)", True),
        ("trace 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "trace 00000000-4f89-11d3-9a0c-0305e82c3301", True),
        ("no (took 504ms)", "no (took 61ms)", True),
        ("no [2026-11-26T12:00:00.187Z]", "no [2026-11-26T12:00:01.390Z]", True),
        ("no (request req_hipfHRIQomJVAabs)", "no (request req_MfnQ9vLGbuipVQce)", True),
        ("no. RequestId: FfNoWNOwMPUspibSbSFS=", "no. RequestId: 1z/Y1Pz5E7J6EBLujL2r=", True),
        ("no", "not allowed", False),
        ("groupBys you have specified", "metrics you have specified", False),
    ],
)
def test_refusals_are_compared_without_their_request_ids(one: str, other: str, are_same: bool) -> None:
    assert (same_refusal(refused(one)) == same_refusal(refused(other))) is are_same
    assert same_refusal(refused(one)) != same_refusal(refused(one, 403))


def tweets(ids: str) -> list[OwnedTweet]:
    return [OwnedTweet(i) for i in ids]


def suspecting() -> RefusalDetector:
    detector = RefusalDetector()
    for batch_number in range(3):
        assert not detector.is_suspecting
        detector.record_refusal(refused("no"), batch_number, tweets("abc"))
    return detector


def test_three_witnesses_that_are_refused_alike_convict_the_request() -> None:
    detector = suspecting()

    assert detector.is_suspecting
    assert [detector.next_witness() for _ in range(3)] == tweets("abc")
    assert [detector.convicts(refused("no")) for _ in range(3)] == [False, False, True]


def test_a_witness_that_is_answered_clears_the_request_and_doubles_the_patience() -> None:
    detector = suspecting()

    detector.record_answer()

    for batch_number in range(6):
        assert not detector.is_suspecting
        detector.record_refusal(refused("no"), batch_number, tweets("abc"))
    assert detector.is_suspecting


def test_parts_of_one_batch_raise_the_suspicion_later_than_batches() -> None:
    detector = RefusalDetector()

    for _ in range(5):
        assert not detector.is_suspecting
        detector.record_refusal(refused("no"), 0, tweets("abc"))

    assert detector.is_suspecting


def test_different_refusals_raise_no_suspicion() -> None:
    detector = RefusalDetector()

    for batch_number in range(20):
        detector.record_refusal(refused("no" if batch_number % 2 else "not allowed"), batch_number, tweets("abc"))

    assert not detector.is_suspecting


def test_with_too_few_witnesses_nothing_can_be_proved() -> None:
    detector = RefusalDetector()

    for batch_number in range(20):
        detector.record_refusal(refused("no"), batch_number, tweets("ab"))

    assert not detector.is_suspecting


def test_witnesses_that_run_out_end_the_suspicion() -> None:
    detector = suspecting()
    for _ in range(3):
        detector.next_witness()
        detector.convicts(refused("something else"))

    assert detector.next_witness() is None
    assert not detector.is_suspecting
