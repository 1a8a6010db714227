"""Endpoints made of slices, and slices made of Endpoints."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.config_types import Endpoints
from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.controlplane.endpoints.planner import OVER_CAPACITY, endpoints_of, is_mirrored, slices_of


def service(selector: dict[str, str] | None = None, **spec: Any) -> Service:
    manifest = {
        "metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}},
        "spec": {"ipFamilies": ["IPv4"], "clusterIP": "10.96.0.9", "selector": selector or {}} | spec,
    }
    return msgspec.convert(manifest, Service)


def found(
    *addresses: tuple[str, dict[str, bool]], ports: tuple[int, ...] = (80,), name: str = "web-1", family: str = "IPv4"
) -> EndpointSlice:
    manifest = {
        "metadata": {"name": name, "namespace": "default"},
        "addressType": family,
        "ports": [{"name": f"p{port}", "protocol": "TCP", "port": port} for port in ports],
        "endpoints": [
            {"addresses": [address], "conditions": conditions, "nodeName": "n"} for address, conditions in addresses
        ],
    }
    return msgspec.convert(manifest, EndpointSlice)


READY, UNREADY = {"ready": True}, {"ready": False}
ENDING = {"ready": False, "serving": True, "terminating": True}


@pytest.mark.parametrize(
    ("slices", "subsets"),
    [
        ([], []),
        ([found()], []),
        ([found(("10.0.0.2", READY), ("10.0.0.1", READY))], [(["10.0.0.1", "10.0.0.2"], [], [80])]),
        ([found(("10.0.0.1", READY), ("10.0.0.2", UNREADY))], [(["10.0.0.1"], ["10.0.0.2"], [80])]),
        ([found(("10.0.0.1", ENDING))], []),
        ([found(("fd00::1", READY), family="IPv6")], []),
        (
            [found(("10.0.0.1", READY)), found(("10.0.0.2", READY), name="web-2")],
            [(["10.0.0.1", "10.0.0.2"], [], [80])],
        ),
        (
            [found(("10.0.0.1", READY)), found(("10.0.0.2", READY), name="web-2", ports=(80, 81))],
            [(["10.0.0.2"], [], [80, 81]), (["10.0.0.1"], [], [80])],
        ),
        ([found(("10.0.0.1", READY), ports=())], [(["10.0.0.1"], [], [])]),
    ],
)
def test_endpoints_of_slices(slices: list[EndpointSlice], subsets: list[Any]) -> None:
    made = endpoints_of(service({"app": "x"}), slices)
    assert [
        ([each.ip for each in one.addresses], [each.ip for each in one.notReadyAddresses], [p.port for p in one.ports])
        for one in made.subsets
    ] == sorted(subsets, key=lambda each: str([(f"p{port}", "TCP", port, None) for port in each[2]]))
    assert made.metadata.labels == {"a": "b", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}


def test_a_headless_service_says_so() -> None:
    made = endpoints_of(service({"app": "x"}, clusterIP="None"), [])
    assert made.metadata.labels["service.kubernetes.io/headless"] == ""


def test_a_thousand_addresses_are_enough() -> None:
    many = found(*((f"10.0.{number // 250}.{number % 250}", READY) for number in range(1001)))
    made = endpoints_of(service({"app": "x"}), [many])
    assert len(made.subsets[0].addresses) == 1000
    assert made.metadata.annotations == {OVER_CAPACITY: "truncated"}


def written(*subsets: dict[str, Any], **metadata: Any) -> Endpoints:
    meta = {"name": "web", "namespace": "default", "uid": "u"} | metadata
    made = msgspec.convert({"metadata": meta, "subsets": list(subsets)}, Endpoints)
    made.apiVersion, made.kind = "v1", "Endpoints"
    return made


def test_slices_of_endpoints() -> None:
    one = {
        "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
        "notReadyAddresses": [{"ip": "192.0.2.2", "nodeName": "n"}],
        "ports": [{"name": "http", "port": 80}],
    }
    other = {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"name": "http", "port": 81}]}
    made = slices_of(written(one, other, labels={"a": "b"}))
    assert [(each.addressType, [e.addresses[0] for e in each.endpoints], each.ports[0].port) for each in made] == [
        ("IPv4", ["192.0.2.1", "192.0.2.2"], 80),
        ("IPv6", ["2001:db8::1"], 80),
        ("IPv4", ["192.0.2.3"], 81),
    ]
    assert [each.conditions.ready for each in made[0].endpoints] == [True, False]
    assert made[0].metadata.labels == {
        "a": "b",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert made[0].metadata.ownerReferences[0].kind == "Endpoints"
    assert len({each.metadata.name for each in made}) == 3
    assert [each.metadata.name for each in slices_of(written(one, other))] == [each.metadata.name for each in made]


@pytest.mark.parametrize(
    ("endpoints", "of", "mirrored"),
    [
        (written(), service(), True),
        (written(), service({"app": "x"}), False),
        (written(), None, False),
        (written(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), service(), False),
        (written(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}), service(), False),
    ],
)
def test_which_endpoints_are_mirrored(endpoints: Endpoints, of: Service | None, mirrored: bool) -> None:
    assert is_mirrored(endpoints, of) is mirrored
