"""The layout of the memory that processes share."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from engagement_async._core.shared_block import BUCKETS, MAGIC, SLOTS, Block, Bucket, block_bytes, is_valid, used_bytes


def block(**values: int) -> Block:
    made = Block()
    made.magic = MAGIC
    for name, value in values.items():
        setattr(made, name, value)
    for bucket in made.buckets:
        bucket.window_s = bucket.quantum_s = 1.0
    return made


def test_no_more_is_in_use_than_its_buckets() -> None:
    sizes = [used_bytes(block(bucket_count=count)) for count in range(BUCKETS + 1)]

    assert sizes[-1] == block_bytes()
    assert len({larger - smaller for smaller, larger in pairwise(sizes)}) == 1
    assert sizes[0] == Block.buckets.offset  # type: ignore[attr-defined]
    assert used_bytes(block(bucket_count=10**9)) == block_bytes()


@pytest.mark.parametrize(
    "values", [{"magic": 7}, {"magic": 0}, {"slot_count": SLOTS + 1}, {"bucket_count": BUCKETS + 1}]
)
def test_what_is_no_block_of_this_layout_is_seen(values: dict[str, int]) -> None:
    assert is_valid(block(slot_count=SLOTS, bucket_count=BUCKETS))
    assert not is_valid(block(**values))


@pytest.mark.parametrize(("name", "value"), [("quantum_s", 0.0), ("window_s", -1.0), ("paced_at", math.nan)])
def test_a_bucket_of_nonsense_is_seen_where_it_is_in_use(name: str, value: float) -> None:
    made = block(bucket_count=1)
    broken: Bucket = made.buckets[1]
    setattr(broken, name, value)
    assert is_valid(made)

    made.bucket_count = 2

    assert not is_valid(made)
