"""The table of faults: complete, in order, described."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from engagement_async.emulator import FAULTS, Fault, FaultKind, Reaction, Requires, faults

ALL = list(FAULTS.values())


def test_names_are_keys_and_fit_a_command_line() -> None:
    assert all(name == fault.name for name, fault in FAULTS.items())
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in FAULTS)


def test_each_kind_is_one_file_and_stands_together() -> None:
    folder = Path(faults.__path__[0])

    for kind, group in groupby(ALL, key=lambda fault: fault.kind):
        modules = {fault.inject.__module__.rpartition(".")[2] for fault in group}
        assert modules == {kind.name.lower()}
        assert (folder / f"{kind.name.lower()}.py").exists()
    assert len([kind for kind, _ in groupby(ALL, key=lambda fault: fault.kind)]) == len(FaultKind)


def test_descriptions_are_one_line_and_differ() -> None:
    assert len({fault.description for fault in ALL}) == len(ALL)
    assert all(len(fault.description) < 90 and "\n" not in fault.description for fault in ALL)


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize("data", [True, False])
def test_what_a_fault_requires(fault: Fault, reused: bool, data: bool) -> None:
    expected = {Requires.NOTHING: True, Requires.DATA: data, Requires.REUSED_CONNECTION: reused}

    assert fault.fits(reused=reused, data=data) is expected[fault.requires]


def test_only_what_a_good_client_survives_is_drawn() -> None:
    drawn = {fault.name for fault in ALL if fault.is_drawn}

    assert {FAULTS[name].expected for name in drawn} == {Reaction.RETRY, Reaction.ACCEPT}
    assert not drawn & {"hang-before-headers", "hang-mid-body", "drip", "slow", "bomb", "endless-chunks", "negative"}
