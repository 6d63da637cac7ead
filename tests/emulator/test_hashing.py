"""splitmix64 is splitmix64."""

from __future__ import annotations

from engagement_async.emulator.hashing import mix


def test_the_published_sequence() -> None:
    """The first values of the reference implementation with the seed 1234567."""
    step = 0x9E3779B97F4A7C15

    values = [mix(1234567 + number * step) for number in range(3)]

    assert values == [6457827717110365317, 3203168211198807973, 9817491932198370423]
