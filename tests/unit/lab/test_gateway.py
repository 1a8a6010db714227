"""Where pods of a node that has joined another cluster reach its API server."""

from __future__ import annotations

import pytest

from netlab.api.discovery_types import Endpoint, EndpointPort, EndpointSlice
from netlab.lab.gateway import places


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["203.0.113.1", "203.0.113.2"], {("203.0.113.1", 6443), ("203.0.113.2", 6443)}),
        (["2001:db8::1"], {("2001:db8::1", 6443)}),
        (["127.0.0.1", "::1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "no address"], set()),
    ],
)
def test_the_endpoints_of_the_service_but_a_pods_own(addresses: list[str], expected: set[tuple[str, int]]) -> None:
    found = EndpointSlice(
        addressType="IPv4", endpoints=[Endpoint(addresses=addresses)], ports=[EndpointPort(port=6443)]
    )
    assert places(found) == expected
