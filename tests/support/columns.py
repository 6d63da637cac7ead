"""Whether the tables of a columnar answer are those of its dicts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from engagement_async import Answer, ColumnarAnswer, Merger, Query

__all__ = ["as_dicts", "check_tables"]


def as_dicts(answer: Answer) -> Answer:
    """Return the same answer with nested dicts."""
    return Answer(**{field.name: getattr(answer, field.name) for field in fields(Answer)})


def check_tables(answer: ColumnarAnswer, query: Query, expected: Answer | None = None) -> None:
    """Compare all tables of an answer with those of a result that holds it alone."""
    merger = Merger(query)
    merger.add(expected or as_dicts(answer))
    result = merger.result()
    for name, group_by in query.groupings.items():
        for wide in (False, True) if "engagement.type" in group_by else (False,):
            for observed_at in (False, True):
                options: dict[str, Any] = {"wide": wide, "observed_at": observed_at}
                actual, wanted = answer.to_arrow(name, **options), result.to_arrow(name, **options)
                assert actual.schema == wanted.schema, (name, options)
                assert _sorted(actual) == _sorted(wanted), (name, options)


def _sorted(table: Any) -> list[dict[str, Any]]:
    """Return the rows in an order of their own: sums of a result are sorted, and an answer's metrics are as the API's."""
    return sorted(table.to_pylist(), key=lambda row: str(list(row.values())))
