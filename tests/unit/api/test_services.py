"""Addresses, families and ports of Services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netlab.api.resources import SERVICES
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, opened, refused, service, update

V4, V6 = ("10.96.0.0/24",), ("fd00:10:96::/112",)


def test_defaults(registry: Registry) -> None:
    spec = create(registry, SERVICES, service())["spec"]
    assert spec == {
        "selector": {"app": "x"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
        "clusterIP": spec["clusterIP"],
        "clusterIPs": [spec["clusterIP"]],
    }
    assert spec["clusterIP"].startswith("10.96.0.")


@pytest.mark.parametrize(
    ("asked", "families"),
    [
        ({}, ["IPv4"]),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"]),
        ({"ipFamilies": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"]),
        ({"clusterIP": "fd00:10:96::77"}, ["IPv6"]),
        ({"clusterIPs": ["10.96.0.7", "fd00:10:96::77"]}, ["IPv4", "IPv6"]),
    ],
)
def test_families_of_a_dual_stack_cluster(registry: Registry, asked: Any, families: list[str]) -> None:
    spec = create(registry, SERVICES, service(**asked))["spec"]
    assert spec["ipFamilies"] == families
    assert [("IPv6" if ":" in ip else "IPv4") for ip in spec["clusterIPs"]] == families
    assert spec["clusterIP"] == spec["clusterIPs"][0]


@pytest.mark.parametrize(
    ("cidrs", "asked", "message"),
    [
        (V4, {"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        (V6, {"clusterIP": "10.96.0.7"}, "not configured on this cluster"),
        (V4, {"ipFamilyPolicy": "RequireDualStack"}, "this cluster is not configured for dual-stack services"),
        (V4, {"clusterIP": "10.97.0.7"}, "the provided IP is not in the valid range 10.96.0.0/24"),
        (V4, {"clusterIP": "10.96.0.0"}, "not in the valid range"),
        (V4, {"clusterIP": "10.96.0.255"}, "not in the valid range"),
        ((*V4, *V6), {"ipFamilies": ["IPv4"], "clusterIP": "fd00:10:96::77"}, "expected an IPv4 value"),
        ((*V4, *V6), {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"}, "spec.ipFamilyPolicy: Invalid"),
        (V4, {"type": "NodePort", "ports": [{"port": 1, "nodePort": 29999}]}, "The range of valid ports is"),
    ],
)
def test_what_cannot_be_had(tmp_path: Path, cidrs: tuple[str, ...], asked: Any, message: str) -> None:
    with opened(tmp_path / "x.db", cidrs) as registry, refused(422, message):
        create(registry, SERVICES, service(**asked))


def test_prefer_dual_stack_makes_do_with_one(tmp_path: Path) -> None:
    with opened(tmp_path / "x.db", V6) as registry:
        spec = create(registry, SERVICES, service(ipFamilyPolicy="PreferDualStack"))["spec"]
        assert spec["ipFamilies"] == ["IPv6"]


def test_headless_and_external_name_have_no_address(registry: Registry) -> None:
    headless = create(registry, SERVICES, service("a", clusterIP="None"))["spec"]
    assert (headless["clusterIPs"], headless["ipFamilies"]) == (["None"], ["IPv4"])
    without_selector = create(registry, SERVICES, service("b", clusterIP="None", selector={}))["spec"]
    assert without_selector["ipFamilyPolicy"] == "RequireDualStack"
    alias = create(registry, SERVICES, service("c", type="ExternalName", externalName="example.org", ports=[]))["spec"]
    assert "clusterIP" not in alias
    assert "ipFamilies" not in alias


def test_an_address_is_one_services_until_it_is_deleted(registry: Registry) -> None:
    create(registry, SERVICES, service("a", clusterIP="10.96.0.10"))
    with refused(422, "spec.clusterIPs[0]: Invalid value", "provided IP is already allocated"):
        create(registry, SERVICES, service("b", clusterIP="10.96.0.10"))
    registry.delete(SERVICES, "default", "a", DeleteOptions())  # type: ignore[arg-type]
    create(registry, SERVICES, service("b", clusterIP="10.96.0.10"))


def test_a_node_port_is_one_services_for_each_protocol(registry: Registry) -> None:
    def wanting(name: str, protocol: str) -> dict[str, Any]:
        return service(name, type="NodePort", ports=[{"port": 53, "protocol": protocol, "nodePort": 30053}])

    create(registry, SERVICES, wanting("a", "TCP"))
    create(registry, SERVICES, wanting("b", "UDP"))
    with refused(422, "spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated"):
        create(registry, SERVICES, wanting("c", "TCP"))


def test_an_exhausted_range_says_so_and_recovers(tmp_path: Path) -> None:
    with opened(tmp_path / "x.db", ("10.96.0.0/28",)) as registry:
        # 14 hosts but .1 and .10.
        for number in range(12):
            create(registry, SERVICES, service(f"s{number}"))
        with refused(507, "range 10.96.0.0/28 is full"):
            create(registry, SERVICES, service("last"))
        registry.delete(SERVICES, "default", "s5", DeleteOptions())  # type: ignore[arg-type]
        create(registry, SERVICES, service("last"))


def test_allocations_are_known_again_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "x.db") as registry:
        made = create(registry, SERVICES, service("a", type="NodePort"))["spec"]
    with opened(tmp_path / "x.db") as registry, refused(422, "already allocated"):
        create(registry, SERVICES, service("b", clusterIP=made["clusterIP"]))
    with opened(tmp_path / "x.db") as registry, refused(422, "already allocated"):
        ports = [{"port": 1, "nodePort": made["ports"][0]["nodePort"]}]
        create(registry, SERVICES, service("c", type="NodePort", ports=ports))


def test_a_refused_service_leaves_nothing_allocated(registry: Registry) -> None:
    with refused(422):
        create(
            registry, SERVICES, service("a", clusterIP="10.96.0.9", type="NodePort", ports=[{"port": 1, "nodePort": 1}])
        )
    create(registry, SERVICES, service("b", clusterIP="10.96.0.9"))
    registry.create(SERVICES, "default", service("c", clusterIP="10.96.0.8"), dry_run=True)  # type: ignore[arg-type]
    create(registry, SERVICES, service("d", clusterIP="10.96.0.8"))


def test_sending_a_service_back_without_what_it_was_given_keeps_it(registry: Registry) -> None:
    made = create(registry, SERVICES, service(type="NodePort"))
    again = update(registry, SERVICES, service(type="NodePort") | {"metadata": {"name": "s", "namespace": "default"}})
    assert again["spec"] == made["spec"]
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_from_node_port_to_cluster_ip_to_external_name_and_back(registry: Registry) -> None:
    made = create(registry, SERVICES, service(type="NodePort"))
    address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    made["spec"]["type"] = "ClusterIP"
    del made["spec"]["externalTrafficPolicy"]
    made = update(registry, SERVICES, made)
    assert "nodePort" not in made["spec"]["ports"][0]
    create(registry, SERVICES, service("b", type="NodePort", ports=[{"port": 80, "nodePort": port}]))
    made["spec"] |= {"type": "ExternalName", "externalName": "example.org"}
    del made["spec"]["internalTrafficPolicy"]
    made = update(registry, SERVICES, made)
    create(registry, SERVICES, service("c", clusterIP=address))
    made["spec"]["type"] = "ClusterIP"
    assert update(registry, SERVICES, made)["spec"]["clusterIP"] not in ("", address)


def test_the_second_family_comes_and_goes(registry: Registry) -> None:
    made = create(registry, SERVICES, service())
    made["spec"]["ipFamilyPolicy"] = "PreferDualStack"
    made = update(registry, SERVICES, made)
    assert made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    second = made["spec"]["clusterIPs"][1]
    made["spec"]["ipFamilyPolicy"] = "SingleStack"
    made = update(registry, SERVICES, made)
    assert len(made["spec"]["clusterIPs"]) == len(made["spec"]["ipFamilies"]) == 1
    create(registry, SERVICES, service("b", clusterIP=second))


def test_a_local_load_balancer_has_a_health_check_port(registry: Registry) -> None:
    made = create(registry, SERVICES, service(type="LoadBalancer", externalTrafficPolicy="Local"))
    port = made["spec"]["healthCheckNodePort"]
    assert 30000 <= port <= 30099
    assert made["spec"]["ports"][0]["nodePort"] != port
    with refused(422, "provided port is already allocated"):
        create(registry, SERVICES, service("b", type="NodePort", ports=[{"port": 1, "nodePort": port}]))
    made["spec"]["externalTrafficPolicy"] = "Cluster"
    assert "healthCheckNodePort" not in update(registry, SERVICES, made)["spec"]
