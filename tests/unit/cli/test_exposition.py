"""Prometheus' text format, as its own parser reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from engagement_async.cli.exposition import Family, Histogram, Kind, Sample, exposition

LABELS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(st.characters(exclude_categories=["Cs"])))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(-1e12, 1e12).map(lambda number: round(number, 6))


def test_families_have_help_type_and_samples() -> None:
    families = [
        Family(
            "waited_seconds_total", Kind.COUNTER, "How long.\nIn \\ seconds.", [Sample(1.5, {"endpoint": "totals"})]
        ),
        Family("empty", Kind.GAUGE, "Nothing.", []),
        Family("at_seconds", Kind.GAUGE, "When.", [Sample(1_795_656_892.395892)]),
    ]

    assert exposition(families, {"task": "nightly"}) == (
        "# HELP waited_seconds_total How long.\\nIn \\\\ seconds.\n"
        "# TYPE waited_seconds_total counter\n"
        'waited_seconds_total{task="nightly",endpoint="totals"} 1.5\n'
        "# HELP at_seconds When.\n"
        "# TYPE at_seconds gauge\n"
        'at_seconds{task="nightly"} 1795656892.395892\n'
    )


@given(st.lists(st.tuples(NUMBERS, LABELS), min_size=1), LABELS)
def test_what_is_written_is_what_is_read(samples: list[tuple[float, dict[str, str]]], labels: dict[str, str]) -> None:
    text = exposition([Family("x", Kind.GAUGE, "A number.", [Sample(*sample) for sample in samples])], labels)

    (family,) = text_string_to_metric_families(text)
    read = [(sample.value, sample.labels) for sample in family.samples]
    assert read == [(value, {**labels, **own}) for value, own in samples]


def test_text_that_is_no_unicode_is_written_all_the_same() -> None:
    text = exposition([Family("x", Kind.GAUGE, "A number.", [Sample(1, {"file": "caf\udce9"})])], {})

    (family,) = text_string_to_metric_families(text.encode().decode())
    assert family.samples[0].labels == {"file": "caf?"}


@given(st.lists(st.floats(0, 20)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram([0.5, 1, 10])
    for value in values:
        histogram.add(value)

    text = exposition([Family("x", Kind.HISTOGRAM, "Sizes.", histogram.samples({"a": "b"}))], {})
    (family,) = text_string_to_metric_families(text)
    found = {sample.labels.get("le", sample.name): sample.value for sample in family.samples}
    for bound in ("0.5", "1", "10", "+Inf"):
        assert found[bound] == sum(value <= float(bound) for value in values)
    assert found["x_count"] == len(values)
    assert abs(found["x_sum"] - sum(values)) < 1e-5
