"""Measurements, each a module that runs alone (`python -m benchmarks.throughput`); `python -m benchmarks` runs them all."""
