"""The endpoints' data agrees with itself, with the documented numbers, and with the types that editors complete."""

from __future__ import annotations

from typing import get_args

import pytest

from engagement_async._core.endpoints import ENDPOINTS, HISTORICAL, LAST_28_HOURS, TOTALS, Endpoint, GroupBy, Metric


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_an_endpoint_is_found_by_the_last_part_of_its_path(endpoint: Endpoint) -> None:
    assert ENDPOINTS[endpoint.name] is endpoint
    assert endpoint.path == f"/insights/engagement/{endpoint.name}"


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_public_metrics_are_metrics(endpoint: Endpoint) -> None:
    assert set(endpoint.public_metrics) <= set(endpoint.metrics)
    assert len(set(endpoint.metrics)) == len(endpoint.metrics)


def test_the_documented_numbers() -> None:
    assert {endpoint.name: endpoint.ids_per_request for endpoint in ENDPOINTS.values()} == {
        "totals": 250,
        "28hr": 25,
        "historical": 25,
    }
    assert (len(TOTALS.metrics), len(LAST_28_HOURS.metrics), len(HISTORICAL.metrics)) == (7, 17, 17)


def test_the_types_name_every_metric_and_group_by_value_and_no_other() -> None:
    endpoints = ENDPOINTS.values()

    assert set(get_args(Metric)) == {metric for endpoint in endpoints for metric in endpoint.metrics}
    assert set(get_args(GroupBy)) == {value for endpoint in endpoints for value in endpoint.group_by}
