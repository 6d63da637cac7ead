"""IDs that look like something else."""

from __future__ import annotations

import pytest

from engagement_async._ids.suspicion import Suspicion


def judged(ids: list[str], size: int = 1000) -> str | None:
    suspicion = Suspicion()
    for at in range(0, len(ids), size):
        finding = suspicion.add(ids[at : at + size])
        if finding is not None:
            return finding
    return suspicion.end()


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([str(n) for n in range(1, 60)], "the IDs count from 1 to 59"),
        (["5", "99999999", "3"], "every ID is below 10^8"),
        ([f"{n}00" for n in range(10**16, 10**16 + 3)], "every ID ends in 00"),
        ([f"{n}00" for n in range(10**16, 10**16 + 400)], "every ID ends in 00"),
    ],
)
def test_what_is_suspicious(ids: list[str], message: str, size: int) -> None:
    assert (judged(ids, size) or "").startswith(message)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        ["1", "2"],
        ["1", "2", "100000000"],
        [f"{n}00" for n in range(10**16, 10**16 + 2)],
        [*(f"{n}00" for n in range(10**16, 10**16 + 50)), "1070059276213702657"],
    ],
)
def test_what_is_not(ids: list[str]) -> None:
    assert judged(ids) is None


def test_rounded_ids_are_told_before_the_end() -> None:
    assert Suspicion().add([f"{n}00" for n in range(10**16, 10**16 + 100)]) is not None


@pytest.mark.parametrize(("rounded", "others", "told"), [(3, 0, True), (2, 0, False), (3, 1, False)])
def test_fractions_that_may_have_been_floats(rounded: int, others: int, told: bool) -> None:
    suspicion = Suspicion()
    suspicion.add(["1070059276213702656"] * (rounded + others))

    assert (suspicion.end(rounded, others) is not None) is told


def test_after_a_finding_there_is_no_second() -> None:
    assert Suspicion.none().end() is None
