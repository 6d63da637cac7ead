"""States of batches: what a transaction changed shows after its commit, and not at all without one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engagement_async.backfill.batch_states import BatchStates
from engagement_async.backfill.totals import ANSWERED, FAILED, PENDING

CHANGES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([ANSWERED, ANSWERED | FAILED, ANSWERED | PENDING])), max_size=12
)


def made(count: int = 10) -> BatchStates:
    """Return the states of new batches."""
    states = BatchStates()
    states.add(count)
    states.commit()
    return states


@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=5))
def test_it_says_what_a_dict_says(transactions: list[tuple[list[tuple[int, int]], bool]]) -> None:
    states, known = made(), dict.fromkeys(range(10), 0)
    for changes, is_committed in transactions:
        for number, state in changes:
            states.answered(number, state)
        if is_committed:
            states.commit()
            known.update(changes)
        else:
            states.roll_back()

        assert list(bytes(states)) == list(known.values())
        assert states.unsettled(-1, 99) == [n for n, state in known.items() if not state or state & PENDING]
        assert states.failed(2, 3) == [n for n, state in known.items() if n > 2 and state & FAILED][:3]
        assert [n for n in known if states.has_answer(n)] == [n for n, state in known.items() if state]


def test_batches_that_were_added_go_with_their_transaction() -> None:
    states = made(2)
    states.add(3)
    states.roll_back()

    assert bytes(states) == bytes(2)


def test_parts_are_seen_by_their_own_transaction() -> None:
    states = made()
    states.set_parts(3, {0: 5})

    assert (dict(states.parts_of(3)), dict(states.parts)) == ({0: 5}, {})
    states.commit()
    assert dict(states.parts) == {3: {0: 5}}
    states.set_parts(3, {})
    assert dict(states.parts_of(3)) == {}
    states.roll_back()
    assert dict(states.parts_of(3)) == {0: 5}
    states.set_parts(3, {})
    states.commit()
    assert dict(states.parts) == {}


def test_a_sample_comes_from_far_apart() -> None:
    states = made(100)
    for number in range(40):
        states.answered(number, ANSWERED)
    states.commit()

    assert states.sample(4) == ([0, 10, 20, 30], [40, 70, 99])
    assert made(0).sample(4) == ([], [])
