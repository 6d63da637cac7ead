"""Who has a place in the memory that processes share, and what becomes of it over kills, files and boots."""

from __future__ import annotations

import pytest

from engagement_async import RateLimit, UsageError
from engagement_async._core.shared_block import block_bytes
from engagement_async._core.shared_ledger import SharedLedger, SharedToken
from engagement_async._core.shared_slots import check_limits
from tests.support.shared_ledgers import QUARANTINE_S, ledgers, taken


def test_a_contract_of_many_limits_or_long_names_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 4 limits"):
        check_limits([RateLimit(1, period=number) for number in range(1, 6)])
    with pytest.raises(UsageError, match="no endpoint"):
        check_limits([RateLimit(1, endpoint="x" * 40)])


def test_what_a_killed_process_had_in_flight_counts_until_it_may_have_arrived() -> None:
    limit = RateLimit(2, period=10, burst=2)
    first, second = ledgers([limit], [limit])
    taken(first, 0.0)
    taken(first, 0.0)
    assert second.others_in_flight() == [0]

    second.abandon_slot(0, 5.0)

    assert second.others_in_flight() == []
    back_at = second.reserve(6.0, None)
    assert isinstance(back_at, float)
    assert back_at == pytest.approx(5.0 + QUARANTINE_S + limit.window_s, abs=0.03)


def test_a_limit_that_is_new_counts_what_others_know() -> None:
    minute = RateLimit(10, burst=10)
    first, other = ledgers([minute], [minute])
    for _ in range(4):
        first.settle(taken(first, 0.0, "28hr"), 0.0)
    out = taken(first, 1.0, "totals")

    other.limits = (minute, RateLimit(6, period=120, burst=6), RateLimit(5, endpoint="28hr", burst=5))
    other.join(1, 2.0, owner=77)

    assert [other.available(limit, 2.0, None) for limit in other.limits] == [5, 1, 0]
    first.settle(out, 3.0)
    assert [other.available(limit, 3.0, None) for limit in other.limits] == [5, 1, 0]


def test_limits_that_nobody_uses_any_more_make_room() -> None:
    memory = bytearray(block_bytes())
    SharedLedger([], memory).begin("boot", 0.0, 0.0, number=1)
    for number in range(30):
        ledger = SharedLedger([RateLimit(1, period=1.0 + number)], memory)
        ledger.join(0, 100.0 * number, owner=1)
        ledger.settle(taken(ledger, 100.0 * number), 100.0 * number)
        ledger.leave(100.0 * number)

    *some, one_too_many = [SharedLedger([RateLimit(1, period=1.0 + number)], memory) for number in range(9)]
    for number, ledger in enumerate(some):
        ledger.join(number, 10_000.0, owner=number + 1)
    with pytest.raises(UsageError, match="different limits"):
        one_too_many.join(8, 10_000.0, owner=9)


@pytest.mark.parametrize(
    ("wall_passed_s", "boot_s", "back_in_s"),
    [
        (3.0, 1.0, 67.0),  # 70 s of window and quarantine, less 3 s
        (-500.0, 10.0, 60.0),  # a clock that went back: no time has passed but that since the boot
        (30.0, 45.0, 25.0),  # nothing is younger than this boot
        (500.0, 10.0, 57.0),  # the disk may lack a request that was sent just before the boot
        (500.0, 70.0, 0.0),
    ],
)
def test_a_boot_is_crossed_by_the_wall_clock(wall_passed_s: float, boot_s: float, back_in_s: float) -> None:
    limit = RateLimit(1, period=70 - QUARANTINE_S)
    (ledger,) = ledgers([limit])
    taken(ledger, 1_000.0)
    ledger.stamp(1_000.0, 5_000.0)
    assert ledger.is_of_boot("boot")
    assert not ledger.is_of_boot("another")

    ledger.cross_boot("another", boot_s, 5_000.0 + wall_passed_s)
    ledger.join(0, boot_s, owner=9)

    token = ledger.reserve(boot_s, None)
    wait_s = 0.0 if isinstance(token, SharedToken) else token - boot_s
    assert wait_s == pytest.approx(back_in_s, abs=0.3)


def test_what_a_power_cut_kept_from_the_disk_counts_as_spent() -> None:
    """The block is an older one, and says so by nothing: all that may have been granted since is missing there."""
    limit = RateLimit(10_000, period=86_400, burst=20)
    (ledger,) = ledgers([limit])
    ledger.stamp(1_000.0, 5_000.0)
    assert ledger.available(limit, 1_000.0, None) == 10_000

    ledger.cross_boot("another", 10.0, 5_060.0)
    ledger.join(0, 10.0, owner=9)

    assert 10_000 - 30 <= ledger.available(limit, 10.0, None) <= 10_000 - 20
    assert ledger.available(limit, limit.window_s * 1.01, None) == 10_000


def test_another_block_or_an_older_copy_of_it_is_noticed() -> None:
    memory = bytearray(block_bytes())
    ledger, newcomer = (SharedLedger([RateLimit(1)], memory) for _ in range(2))
    ledger.begin("boot", 0.0, 0.0, number=5)
    assert not ledger.is_another()
    ledger.stamp(1.0, 1.0)
    ledger.note_seen()
    older = bytes(memory)
    ledger.stamp(2.0, 2.0)
    ledger.note_seen()
    assert not ledger.is_another()

    memory[:] = older
    assert ledger.is_another()
    assert not newcomer.is_another()
    ledger.stamp(3.0, 3.0)
    ledger.note_seen()
    ledger.begin("boot", 4.0, 4.0, number=6)
    assert ledger.is_another()


def test_memory_that_holds_no_ledger_is_seen() -> None:
    memory = bytearray(block_bytes())
    ledger = SharedLedger([RateLimit(1)], memory)
    assert not ledger.is_valid()
    ledger.begin("boot", 0.0, 0.0, number=1)
    assert ledger.is_valid()
    memory[:8] = b"nonsense"
    assert not ledger.is_valid()
