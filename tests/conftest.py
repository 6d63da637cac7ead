"""What every test shares: how hard hypothesis looks, and that no test finds what another one spent."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from engagement_async._engine.contracts import forget_contracts

# Machines that run tests are shared and noisy: an example has no deadline. `make nightly` looks much harder.
settings.register_profile("usual", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("usual"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


@pytest.fixture(autouse=True)
def _fresh_contracts() -> Iterator[None]:
    """As in a new process: clients of one process share what they spent of a contract."""
    yield
    forget_contracts()
