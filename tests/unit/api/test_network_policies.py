"""NetworkPolicies: what an API server fills in, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import NETWORKPOLICIES
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused


def made(registry: Registry, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = create(registry, NETWORKPOLICIES, {"metadata": {"name": "p"}, "spec": spec})["spec"]
    return found


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"ingress": [{}]}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"egress": [{}], "policyTypes": ["Egress"]}, ["Egress"]),
    ],
)
def test_whoever_speaks_of_egress_means_it(registry: Registry, spec: dict[str, Any], types: list[str]) -> None:
    assert made(registry, **spec)["policyTypes"] == types


def test_a_port_is_one_of_tcp(registry: Registry) -> None:
    assert made(registry, ingress=[{"ports": [{"port": 80}]}])["ingress"][0]["ports"] == [
        {"port": 80, "protocol": "TCP"}
    ]


_BLOCK = {"cidr": "10.0.0.0/8"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"policyTypes": ["Both"]}, 'spec.policyTypes[0]: Unsupported value: "Both"'),
        ({"policyTypes": ["Ingress", "Egress", "Ingress"]}, "may not specify more than two policyTypes"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "spec.podSelector"),
        ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]: Required value: must specify a peer"),
        (
            {"egress": [{"to": [{"ipBlock": _BLOCK, "podSelector": {}}]}]},
            "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]}, "from[0].ipBlock.cidr: Invalid value"),
        (
            {"ingress": [{"from": [{"ipBlock": _BLOCK | {"except": ["11.0.0.0/8"]}}]}]},
            "ipBlock.except[0]: Invalid value",
        ),
        ({"ingress": [{"from": [{"ipBlock": _BLOCK | {"except": ["10.0.0.0/8"]}}]}]}, "must be a strict subset"),
        ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, "ports[0].protocol: Unsupported value"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "ports[0].port: Invalid value"),
        ({"ingress": [{"ports": [{"port": "No Name"}]}]}, "ports[0].port: Invalid value"),
        ({"ingress": [{"ports": [{"endPort": 90}]}]}, "must be specified when endPort is set"),
        ({"ingress": [{"ports": [{"port": "http", "endPort": 90}]}]}, "when `port` is non-numeric"),
        ({"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}, "must be greater than or equal to `port`"),
    ],
)
def test_what_makes_no_sense_is_refused(registry: Registry, spec: dict[str, Any], said: str) -> None:
    with refused(422, said):
        made(registry, **spec)
