"""The sums over a journal, held against its rows."""

from __future__ import annotations

import pytest

from engagement_async import Batch
from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.codec import EncodedAnswer
from engagement_async.backfill.journal_rows import DamagedRowError
from engagement_async.backfill.totals import Audit, JobTotals, Snapshot, parts_of, state_of, states_of

ROWS = [(0, 248, 1, 0, 0, 1, 0, 10), (2, 200, 0, 0, 0, 0, 50, 20)]
TOTALS = JobTotals(
    batches=4, ids=1000, answers=2, outcomes=Outcomes(448, 1, 0, 0, 1), unsettled=50, size=30, documents=3
)


def test_each_batch_has_a_state() -> None:
    assert list(states_of(ROWS, TOTALS)) == [3, 0, 5, 0]
    assert state_of((1, 0, 0, 0, 0), 0) == 1
    assert TOTALS.pending == 1000 - 450


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],
        [*ROWS, (3, 250, 0, 0, 0, 0, 0, 1)],
        [(0, 249, 1, 0, 0, 1, 0, 10), ROWS[1]],
        [(0, 248, 1, 0, 0, 1, 0, 11), ROWS[1]],
        [ROWS[0], (2, 200, 0, 0, 0, 0, 0, 20)],
        [ROWS[0], (4, 200, 0, 0, 0, 0, 50, 20)],
        [ROWS[1], ROWS[0]],
        [ROWS[0], ROWS[0]],
        [ROWS[0], (2, 200, 0, 0, 0, None, 50, 20)],
        [ROWS[0], (2, 200.0, 0, 0, 0, 0, 50, 20)],
        [ROWS[0], (-1, 200, 0, 0, 0, 0, 50, 20)],
    ],
)
def test_rows_that_do_not_add_up_are_damage(rows: list[tuple[int, ...]]) -> None:
    with pytest.raises(DamagedRowError):
        states_of(rows, TOTALS)


def test_parts_are_counted_by_span() -> None:
    totals = JobTotals(batches=4, parts=3, part_size=6)
    rows = [(1, 0, 0, 0, 0, 0, 7, 1), (2, 0, 0, 0, 0, 0, 0, 2), (9, 0, 0, 0, 0, 0, 0, 3)]
    assert parts_of(rows, totals, 3) == {0: {1: 7, 2: 0}, 3: {0: 0}}
    for broken in (rows[:2], [*rows[:2], (12, *rows[2][1:])], [rows[1], rows[0], rows[2]]):
        with pytest.raises(DamagedRowError):
            parts_of(broken, totals, 3)


def test_a_pass_over_all_batches_is_held_against_the_totals() -> None:
    audit = Audit(Snapshot(TOTALS, bytes(states_of(ROWS, TOTALS))))
    batches = [Batch(n, tuple(map(str, range(n * 250, n * 250 + 250)))) for n in range(4)]
    answers = {row[0]: EncodedAnswer(row[0], Outcomes(*row[1:6]), row[6], row[7], b"") for row in ROWS}
    for batch in batches:
        audit.add(batch, answers.get(batch.number))
    assert audit.difference is None

    audit.add(batches[0], answers[0])
    assert audit.difference is not None
    uneven = Audit(Snapshot(TOTALS, b""))
    uneven.add(batches[0], EncodedAnswer(0, Outcomes(249), 0, 1, b""))
    assert uneven.difference == "the outcomes of batch 0 do not add up"


def test_totals_come_back_from_a_document() -> None:
    import orjson

    totals = TOTALS.with_windows((3600.0, 7200.0)).with_windows(None).with_windows((0.0, 3600.0))
    assert JobTotals.from_document(orjson.loads(orjson.dumps(totals.to_document(), default=tuple))) == totals
    assert totals.windows_differ() == ("1970-01-01T00:00:00Z", "1970-01-01T02:00:00Z")
    assert totals.windows_differ(by_s=7200) is None
    assert TOTALS.windows_differ() is None
