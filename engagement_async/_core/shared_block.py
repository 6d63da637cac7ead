"""The layout of the memory in which several processes keep one contract: a block of fixed size. Pure.

A block holds a slot for each process, with what that process has in flight, and a bucket for each limit. The rule over it
is in `shared_ledger.py`, what happens within a bucket in `shared_bucket.py`.
"""

from __future__ import annotations

import ctypes
import math

__all__ = [
    "BUCKETS",
    "CAPS",
    "ENDPOINT_BYTES",
    "LATE",
    "MAGIC",
    "RING",
    "SLOTS",
    "Block",
    "Bucket",
    "Slot",
    "block_bytes",
    "is_valid",
    "used_bytes",
]

MAGIC = 0x45_4E_47_41_47_45_30_32
"""Of this layout: another one is another ledger."""
SLOTS = 64
"""Processes (or event loops) that may spend one contract at the same time."""
BUCKETS = 8
RING = 512
LATE = 16
CAPS = 4
ENDPOINT_BYTES = 32


class Cap(ctypes.Structure):
    """The server's word on one bucket: at most `remaining` grants until then."""

    _fields_ = [("until", ctypes.c_double), ("generation", ctypes.c_uint64), ("remaining", ctypes.c_int64)]
    until: float
    generation: int
    remaining: int


class Late(ctypes.Structure):
    """So many tokens that come back later than the ring reaches."""

    _fields_ = [("returns_at", ctypes.c_double), ("count", ctypes.c_uint64)]
    returns_at: float
    count: int


class Bucket(ctypes.Structure):
    """One limit, by its endpoint and its period: which requests of it came back, and when the others will.

    Number `i` of the ring is what returns at `i * quantum_s`, of the quanta after `cursor`.
    """

    _fields_ = [
        ("endpoint", ctypes.c_char * ENDPOINT_BYTES),
        ("period", ctypes.c_double),
        ("window_s", ctypes.c_double),
        ("quantum_s", ctypes.c_double),
        ("paced_at", ctypes.c_double),
        ("least_paced_at", ctypes.c_double),
        ("most_requests", ctypes.c_uint64),
        ("most_burst", ctypes.c_uint64),
        ("returned", ctypes.c_uint64),
        ("cursor", ctypes.c_int64),
        ("in_ring", ctypes.c_uint64),
        ("in_late", ctypes.c_uint64),
        ("caps", Cap * CAPS),
        ("late", Late * LATE),
        ("ring", ctypes.c_uint32 * RING),
    ]
    endpoint: bytes
    period: float
    window_s: float
    quantum_s: float
    paced_at: float
    least_paced_at: float
    most_requests: int
    most_burst: int
    returned: int
    cursor: int
    in_ring: int
    in_late: int
    caps: ctypes.Array[Cap]
    late: ctypes.Array[Late]
    ring: ctypes.Array[ctypes.c_uint32]


class Slot(ctypes.Structure):
    """One process's place: who has it, what that one has in flight in each bucket, and when it wants its turn."""

    _fields_ = [
        ("owner", ctypes.c_uint64),
        ("quarantine_s", ctypes.c_double),
        ("pass_value", ctypes.c_double),
        ("ready_at", ctypes.c_double),
        ("in_flight", ctypes.c_uint32 * BUCKETS),
    ]
    owner: int
    quarantine_s: float
    pass_value: float
    ready_at: float
    in_flight: ctypes.Array[ctypes.c_uint32]


class Block(ctypes.Structure):
    """All that processes of one contract know in common. `number` and `sequence` tell another or an older block."""

    _fields_ = [
        ("magic", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("sequence", ctypes.c_uint64),
        ("boot", ctypes.c_char * 40),
        ("written_at", ctypes.c_double),
        ("written_wall", ctypes.c_double),
        ("generation", ctypes.c_uint64),
        ("held_until", ctypes.c_double),
        ("not_before", ctypes.c_double),
        ("complete_at", ctypes.c_double),
        ("recovers_at", ctypes.c_double),
        ("virtual_time", ctypes.c_double),
        ("slot_count", ctypes.c_uint32),
        ("bucket_count", ctypes.c_uint32),
        ("slots", Slot * SLOTS),
        ("buckets", Bucket * BUCKETS),
    ]
    magic: int
    number: int
    sequence: int
    boot: bytes
    written_at: float
    written_wall: float
    generation: int
    held_until: float
    not_before: float
    complete_at: float
    recovers_at: float
    virtual_time: float
    slot_count: int
    bucket_count: int
    slots: ctypes.Array[Slot]
    buckets: ctypes.Array[Bucket]


def block_bytes() -> int:
    """Return the size of a block."""
    return ctypes.sizeof(Block)


def used_bytes(block: Block) -> int:
    """Return how much of the block is in use: the rest need not be copied."""
    return ctypes.sizeof(Block) - (BUCKETS - min(block.bucket_count, BUCKETS)) * ctypes.sizeof(Bucket)


def is_valid(block: Block) -> bool:
    """Return whether the memory holds a block of this layout."""
    return (
        block.magic == MAGIC
        and block.slot_count <= SLOTS
        and block.bucket_count <= BUCKETS
        and all(
            bucket.quantum_s > 0 and bucket.window_s > 0 and not math.isnan(bucket.paced_at)
            for bucket in block.buckets[: block.bucket_count]
        )
    )
