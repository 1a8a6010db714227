"""Endpoints of a Service's port, and the servers that stand for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.ingress.endpoints import Endpoint, endpoints_of, port_of
from netlab.ingress.haproxy import slots
from tests.unit.ingress.objects import endpoint_slice, service


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


ENDING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("endpoints", "addresses"),
    [
        ([endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False)], {"10.0.0.1"}),
        ([endpoint("10.0.0.1", ready=True), endpoint("10.0.0.2", **ENDING)], {"10.0.0.1"}),
        ([endpoint("10.0.0.2", **ENDING), endpoint("10.0.0.3", ready=False)], {"10.0.0.2"}),
        ([endpoint("10.0.0.2", ready=False, serving=False, terminating=True)], set()),
        ([endpoint("10.0.0.1; shutdown"), endpoint("fe80::1%eth0")], set()),
    ],
)
def test_which_endpoints_take_connections(endpoints: list[dict[str, Any]], addresses: set[str]) -> None:
    web = service("web")
    port = port_of(web, name="http")
    assert port is not None
    found = endpoints_of(web, port, [endpoint_slice("web", *endpoints)])
    assert found == {Endpoint(each, 8080) for each in addresses}


def test_of_two_families_the_first_counts() -> None:
    web = service("web", ipFamilies=["IPv6", "IPv4"])
    port = port_of(web, number=80)
    assert port is not None
    slices = [endpoint_slice("web", endpoint("10.0.0.1")), endpoint_slice("web", endpoint("fd00::1"), family="IPv6")]
    assert endpoints_of(web, port, slices) == {Endpoint("fd00::1", 8080)}


_ENDPOINTS = st.sets(st.builds(Endpoint, st.just("10.0.0.1"), st.integers(1, 40)), max_size=12)


@given(st.lists(_ENDPOINTS, min_size=1, max_size=8))
def test_servers_follow_endpoints_and_those_that_stay_keep_theirs(wanted: list[set[Endpoint]]) -> None:
    present = slots.fresh(wanted[0])
    for endpoints in wanted:
        new = slots.moved(present, endpoints)
        if new is None:
            assert len(endpoints - set(present)) > present.count(None)
            new = slots.fresh(endpoints)
            assert len(new) >= 2 * len(endpoints)
        else:
            assert len(new) == len(present)
            for was, now in zip(present, new, strict=True):
                assert was not in endpoints or now == was
        assert {each for each in new if each} == endpoints
        assert len([each for each in new if each]) == len(endpoints)
        present = new


def test_a_server_is_not_given_away_while_it_goes() -> None:
    a, b, c = (Endpoint("10.0.0.1", port) for port in (1, 2, 3))
    assert slots.moved((a, b, None), {b, c}) == (None, b, c)
    assert slots.moved((a, b), {b, c}) is None


def test_what_haproxy_is_told() -> None:
    old, new = Endpoint("10.0.0.1", 80), Endpoint("fd00::2", 81)
    assert list(slots.commands("d:web:80", (old, None, old), (None, new, old))) == [
        "set server d:web:80/s2 addr fd00::2 port 81",
        "set server d:web:80/s2 state ready",
        "set server d:web:80/s1 state maint",
    ]
    assert slots.line(3, None) == "server s3 0.0.0.0:1 disabled"
    assert slots.line(1, new) == "server s1 ipv6@fd00::2:81"
