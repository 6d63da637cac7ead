"""pytest plugin: the fixture `engagement_emulator`, a local Engagement API for each test that takes it, and its marker.

pytest imports this file in every run, so the emulator is imported only when a test uses it. The emulator runs in a thread
of its own: tests may be async, with any plugin, or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .server import Emulator

_MARKER = "engagement_emulator"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{_MARKER}(**options): options of the Emulator that the fixture starts.")


@pytest.fixture
def engagement_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Run an `Emulator` for one test.

    Its options come from `@pytest.mark.engagement_emulator(requests_per_minute=60, ...)`. Marks of the test's class and
    module count too; the nearest one wins, option by option.
    """
    from .server import Emulator

    options: dict[str, Any] = {}
    for mark in request.node.iter_markers(_MARKER):
        if mark.args:
            raise pytest.UsageError(f"{_MARKER} takes keyword arguments alone, such as requests_per_minute=60")
        options = {**mark.kwargs, **options}
    with Emulator(**options) as emulator:
        yield emulator
