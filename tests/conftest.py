"""What every test shares: how hard hypothesis looks."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Machines that run tests are shared and noisy: an example has no deadline. `make nightly` looks much harder.
settings.register_profile("usual", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("usual"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))
