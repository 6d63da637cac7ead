"""A file of metrics as Prometheus' own parser reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["Scraped"]


class Scraped:
    """The families of a text. Raises `ValueError` for one that is not valid or not whole."""

    def __init__(self, text: str) -> None:
        if not text.endswith("\n"):
            raise ValueError("the text does not end with its last line")
        self.families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(text):
            if family.name in self.families or not family.documentation or family.type == "unknown":
                raise ValueError(f"{family.name} stands there twice, or without HELP or TYPE")
            self.families[family.name] = family
        seen = Counter((each.name, *sorted(each.labels.items())) for each in self.samples)
        if seen and max(seen.values()) > 1:
            raise ValueError("a sample stands there twice")

    @classmethod
    def of(cls, path: Path) -> Scraped:
        return cls(path.read_text())

    @property
    def samples(self) -> list[Sample]:
        return [sample for family in self.families.values() for sample in family.samples]

    def numbers(self, name: str, by: str) -> dict[str, float]:
        """Return the values of one name by a label, added up over the others."""
        numbers: defaultdict[str, float] = defaultdict(float)
        for sample in self.samples:
            if sample.name == name:
                numbers[sample.labels.get(by, "")] += sample.value
        return dict(numbers)

    def total(self, name: str) -> float:
        """Return the sum of the values of one name; raise `KeyError` when there is none."""
        if not (found := self.numbers(name, "none of them")):
            raise KeyError(name)
        return sum(found.values())

    def has(self, name: str) -> bool:
        return bool(self.numbers(name, ""))

    @property
    def ids(self) -> dict[str, int]:
        return {name: int(number) for name, number in self.numbers("engagement_ids", "outcome").items()}
