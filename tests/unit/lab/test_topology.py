import ipaddress
from typing import Any

import pytest

from netlab.lab.spec import Join, LabSpec, from_values
from netlab.lab.topology import NODE_INTERFACE, POD_SEGMENT_INTERFACE, plan

SPECS: list[dict[str, Any]] = [
    {"nodes": 1},
    {"nodes": 3, "network": "bridge"},
    {"nodes": 100, "network": "routed", "families": ["IPv4", "IPv6"]},
    {"nodes": 2, "families": ["IPv6"]},
]


@pytest.mark.parametrize("values", SPECS)
def test_every_host_is_wired_and_addressed_in_each_family(values: dict[str, Any]) -> None:
    spec = from_values(values)
    topology = plan(spec)
    assert topology.machines == (*spec.node_names, "outside")
    assert {w.machine for w in topology.wires if w.interface == NODE_INTERFACE} == set(topology.machines)
    for machine in topology.machines:
        addresses = [ipaddress.ip_interface(a) for owner, a in topology.addresses if owner == machine]
        assert [f"IPv{a.version}" for a in addresses] == list(spec.families)
    assert all(len(wire.port) < 16 for wire in topology.wires)
    assert len({wire.port for wire in topology.wires}) == len(topology.wires)


def test_only_the_flat_network_has_a_segment_of_its_own() -> None:
    for network, wires in (("vxlan", 0), ("routed", 0), ("bridge", 3)):
        topology = plan(from_values({"network": network}))
        assert sum(wire.interface == POD_SEGMENT_INTERFACE for wire in topology.wires) == wires


def test_the_outside_routes_external_addresses_to_every_node_and_nothing_else() -> None:
    routes = [r for r in plan(from_values({"nodes": 3})).routes if r.machine == "outside"]
    assert [(r.destination, r.gateways) for r in routes] == [
        ("198.51.100.0/24", ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    ]


def test_nodes_forward_and_the_outside_does_not() -> None:
    topology = plan(from_values({"nodes": 1}))
    assert topology.sysctls["node-1"]["net/ipv4/ip_forward"] == "1"
    assert topology.sysctls["outside"]["net/ipv4/ip_forward"] == "0"


def joined(address: str) -> LabSpec:
    spec = from_values({"nodes": 1, "network": "routed"})
    spec.joins = Join(node="guest", url="https://api.example:6443/c", serverName="api.example", address=address, port=7)
    return spec


@pytest.mark.parametrize(
    ("address", "own"),
    [("203.0.113.1", ["192.0.2.1/24", "203.0.113.1/32"]), ("127.0.0.1", ["192.0.2.1/24"])],
    ids=["of the host", "of its loopback"],
)
def test_a_node_of_another_cluster_is_alone_and_has_the_address_by_which_that_knows_it(
    address: str, own: list[str]
) -> None:
    spec = joined(address)
    assert spec.joins is not None
    assert spec.joins.server == ("api.example", 6443)
    topology = plan(spec)
    assert topology.machines == ("guest",)
    assert [each for owner, each in topology.addresses if owner == "guest"] == own
    assert [(route.machine, route.gateways) for route in topology.routes] == [("guest", ("192.0.2.254",))]
    assert topology.sysctls["guest"]["net/ipv4/ip_forward"] == "1"
