"""A quick play of every case of the matrix; `python -m tests.matrix` plays them with 16 times the Tweets."""

from __future__ import annotations

import pytest

from engagement_async.emulator import FAULTS
from tests.matrix.__main__ import END, PAGE, START, table
from tests.matrix.cases import CASES
from tests.support.cases import CANARIES, Bench, Case, Played, play

SEED = 20_261_122
SECRETS = (*vars(CANARIES).values(), "oauth_signature")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    played = play(case, SEED, 1_250)

    assert not played.problem
    assert not [secret for secret in SECRETS if secret in played.logged], "a secret was logged"


def test_every_fault_of_the_emulator_is_a_case_and_no_name_is_there_twice() -> None:
    names = [case.name for case in CASES]

    assert set(FAULTS) <= set(names)
    assert len(set(names)) == len(names)


def test_the_page_shows_every_case() -> None:
    page = PAGE.read_text()
    shown = page[page.index(START) : page.index(END)]

    missing = [case.name for case in CASES if f"| `{case.name}` |" not in shown]

    assert not missing, "run `make faults`"


def test_a_case_that_was_not_survived_is_told() -> None:
    case = CASES[0]

    told = table(
        [Played(case, Bench(1, 10, tries=3, ids_in=10, accounted=9), "AssertionError: an ID is in no place", "")]
    )

    assert "| `close-before-headers` |" in told
    assert "| 3 | **no** | 10 | 9 |" in told
