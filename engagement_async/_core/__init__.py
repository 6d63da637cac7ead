"""The pure core: no clock, no event loop, no I/O and no randomness of its own. `tests/test_house.py` holds it to that."""
