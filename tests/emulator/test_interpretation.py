"""The table of interpretations: each has a meaning of its own, combinations add up, contradictions are refused."""

from __future__ import annotations

import dataclasses

import pytest

from engagement_async.emulator import INTERPRETATIONS, Interpretation, Leniency


def test_the_default_is_the_strict_one() -> None:
    assert Interpretation.named() == Interpretation()
    assert not Interpretation().accepts


def test_every_name_changes_something_and_no_two_change_the_same() -> None:
    made = [Interpretation.named(name) for name in INTERPRETATIONS]

    assert Interpretation() not in made
    assert len(set(made)) == len(made)


def test_every_field_and_every_leniency_has_a_name() -> None:
    fields = {field for each in INTERPRETATIONS.values() for field in each.changes}

    assert fields == {field.name for field in dataclasses.fields(Interpretation)}
    assert {each.value for each in Leniency} <= INTERPRETATIONS.keys()


def test_names_combine() -> None:
    combined = Interpretation.named("bare-hours", "number-ids", "forbidden-by-author", "padded-ids", "bare-hours")

    assert combined == Interpretation(
        hours="bare", forbidden="authors", accepts=frozenset({Leniency.NUMBER_IDS, Leniency.PADDED_IDS})
    )
    assert Interpretation.named("older-clients", "number-ids").accepts == frozenset(Leniency)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="'unavailable-400' and 'unavailable-400-when-none-left' contradict"):
        Interpretation.named("unavailable-400", "bare-hours", "unavailable-400-when-none-left")
    assert Interpretation.named("window-28", "window-28-past") == Interpretation.named("window-28-past")


def test_an_unknown_name_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"no interpretation is called 'bare'; there are: bare-hours, window-28, "):
        Interpretation.named("bare")
