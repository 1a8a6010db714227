from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.errors import UsageError
from netlab.lab.paths import LabPaths
from netlab.lab.spec import LabSpec, from_values, load

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nodes": 0}, "nodes: 0 is not between 1 and 100"),
    ({"nodes": 101}, "nodes: 101 is not between"),
    ({"nodes": "3"}, "spec.nodes: expected int, got str"),
    ({"network": "geneve"}, "spec.network: 'geneve' is not one of vxlan, routed, bridge"),
    ({"nodez": 1}, "spec.nodez: there is no such field: did you mean nodes?"),
    ({"podCIDR": "10.0.0.0/8"}, "spec.podCIDR: there is no such field: did you mean podCIDRs?"),
    ({"colour": 1}, "spec.colour: there is no such field: the fields are nodes, network, proxy, families, podCIDRs"),
    ({"a b": 1}, "spec.'a b': there is no such field"),
    ({"families": ["IPv4", "IPv5"]}, "spec.families[1]: 'IPv5' is not one of IPv4, IPv6"),
    ({"families": [4]}, "spec.families[0]: 4 is not one of IPv4, IPv6"),
    ({"families": []}, "families"),
    ({"families": ["IPv4", "IPv4"]}, "families"),
    ({"families": ["IPv6"], "podCIDRs": ["10.244.0.0/16"]}, "is not IPv6"),
    ({"podCIDRs": ["10.244.0.0/16", "fd00::/48"]}, "podCIDRs: expected one for each"),
    ({"podCIDRs": ["10.244.0.1/16"]}, "has host bits set"),
    ({"podCIDRs": ["192.0.0.0/16"]}, "overlaps"),
    ({"serviceCIDRs": ["10.244.7.0/24"]}, "overlaps"),
    ({"serviceCIDRs": ["198.51.100.0/24"]}, "overlaps external IPs"),
    ({"nodeCIDRMaskSizes": [15]}, "nodeCIDRMaskSizes[0]: 15"),
    ({"nodeCIDRMaskSizes": [31]}, "nodeCIDRMaskSizes[0]: 31"),
    ({"podCIDRs": ["10.244.0.0/23"], "nodes": 3}, "has 2 subnets of /24, too few for 3 nodes"),
    ({"podCIDRs": ["10.244.0.0/24"], "nodes": 2}, "has 1 subnet of /24, too few for 2 nodes"),
    ({"maxPods": 0}, "maxPods"),
    ({"loadBalancerPools": ["192.0.2.0/25"]}, "192.0.2.0/25 has 192.0.2.1, the address of node-1"),
    ({"loadBalancerPools": ["192.0.2.252/31"]}, "has 192.0.2.253, the address of the outside"),
    ({"loadBalancerPools": ["203.0.113.0/24"]}, "203.0.113.0/24 is not in the underlay 192.0.2.0/24"),
    ({"loadBalancerPools": ["2001:db8::1:0/112"]}, "is IPv6, and the lab is IPv4"),
    ({"loadBalancerPools": ["192.0.2.128/26", "192.0.2.130"]}, "overlaps"),
    ({"loadBalancerPools": ["192.0.2.130/26"]}, "has host bits set"),
    ({"loadBalancerProtocol": "ospf"}, "'ospf' is not one of arp, bgp"),
    ({"loadBalancerProtocol": "bgp", "loadBalancerPools": ["192.0.2.128/26"]}, "overlaps underlay"),
    ({"loadBalancerProtocol": "bgp", "loadBalancerPools": ["10.96.7.0/24"]}, "overlaps serviceCIDRs[0]"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_by_its_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_values(values, "lab.yaml")
    assert message in str(refused.value)
    assert str(refused.value).startswith("lab.yaml: spec")


MTUS = [
    ("vxlan", ["IPv4"], 1450),
    ("vxlan", ["IPv6"], 1430),
    ("vxlan", ["IPv4", "IPv6"], 1450),
    ("vxlan", ["IPv6", "IPv4"], 1430),
    ("routed", ["IPv6"], 1500),
    ("bridge", ["IPv4"], 1500),
]


@pytest.mark.parametrize(("network", "families", "mtu"), MTUS)
def test_the_pods_mtu_leaves_room_for_what_the_network_adds(network: str, families: list[str], mtu: int) -> None:
    assert from_values({"network": network, "families": families}).pod_mtu == mtu


@given(st.integers(1, 100), st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]]))
def test_no_two_hosts_share_an_address(nodes: int, families: list[str]) -> None:
    spec = from_values({"nodes": nodes, "families": families})
    addresses = [a for number in range(1, nodes + 1) for a in spec.node_addresses(number)] + spec.outside_addresses
    assert len(set(addresses)) == (nodes + 1) * len(families)


def test_a_lab_file_holds_one_lab_and_manifests(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("kind: Lab\napiVersion: netlab/v1\nspec: {nodes: 1}\n---\nkind: Pod\napiVersion: v1\n")
    assert load(file) == ({"nodes": 1}, [{"kind": "Pod", "apiVersion": "v1"}])
    file.write_text("kind: Lab\napiVersion: netlab/v1\nspec: [1]\n")
    with pytest.raises(UsageError, match=r"lab\.yaml: spec: expected fields"):
        load(file)
    file.write_text("kind: Lab\napiVersion: netlab/v1\nspec: {joins: {node: guest}}\n")
    with pytest.raises(UsageError, match=r"spec\.joins: a node joins a cluster by `netlab node join`"):
        load(file)
    file.write_text("kind: Lab\napiVersion: netlab/v1\n---\nkind: Lab\napiVersion: netlab/v1\n")
    with pytest.raises(UsageError, match="expected one document of kind Lab"):
        assert load(file) is None or load(file)


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "a" * 33, "-a", "a."])
def test_a_lab_is_named_by_a_dns_label(name: str) -> None:
    with pytest.raises(UsageError, match="not a DNS label"):
        LabPaths.of(name)


def test_a_home_too_long_for_a_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETLAB_HOME", "/" + "x" * 90)
    with pytest.raises(UsageError, match="too long for a Unix socket"):
        LabPaths.of("lab")


def test_a_specification_survives_being_written_down(tmp_path: Path) -> None:
    import msgspec

    spec = from_values({"nodes": 2, "network": "bridge", "families": ["IPv6", "IPv4"]})
    assert msgspec.json.decode(msgspec.json.encode(spec), type=LabSpec) == spec
