"""Faults of the document: none of them passes as data."""

from __future__ import annotations

import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import meet, names_of


@pytest.mark.parametrize("name", names_of(FaultKind.CONTENT))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)
