"""What of a lab is not the same at two times, and what is dialled without being ready."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.cluster import Cluster
from netlab.api.core_types import Pod, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.capture.taps import Tap
from netlab.lab.network_envoy import Network
from netlab.trace.scene import Scene, met, rules_met, unready

_TAP = Tap("node-1", "node-1", "veth1", "veth")


def _pod(ready: str = "True", **changed: Any) -> dict[str, Any]:
    status = {"phase": "Running", "podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "Ready", "status": ready}]}
    about = {"name": "web", "namespace": "default", "uid": "1"}
    return {"metadata": about, "spec": {"containers": [{"name": "c"}]}, "status": status | changed}


def _service(**changed: Any) -> dict[str, Any]:
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
    spec = {"clusterIPs": ["10.96.0.10"], "externalIPs": ["198.51.100.1"], "ports": ports}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec | changed}


def _slice(ready: bool = True, annotation: str = "") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "web"}
    endpoints = [{"addresses": ["10.244.1.2"], "conditions": {"ready": ready}}]
    about = {"name": "web-x", "namespace": "default", "labels": labels, "annotations": {"a": annotation}}
    return {"metadata": about, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]}


def _scene(
    pods: list[dict[str, Any]], services: list[dict[str, Any]], slices: list[dict[str, Any]], *taps: Tap
) -> Scene:
    return Scene(
        Cluster(
            [
                *msgspec.convert(pods, list[Pod]),
                *msgspec.convert(services, list[Service]),
                *msgspec.convert(slices, list[EndpointSlice]),
            ]
        ),
        dict.fromkeys(taps, Network("node-1", "node-1")),
    )


_CALM = _scene([_pod()], [_service()], [_slice()], _TAP)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (_CALM, []),
        (_scene([_pod()], [_service()], [_slice(annotation="only that")], _TAP), []),
        (_scene([_pod("False")], [_service()], [_slice()], _TAP), ["pod default/web changed"]),
        (_scene([_pod(podIPs=[])], [_service()], [_slice()], _TAP), ["pod default/web changed"]),
        (_scene([], [_service()], [_slice()]), ["pod default/web disappeared", "interface node-1 veth1 disappeared"]),
        (_scene([_pod()], [_service(externalIPs=[])], [_slice()], _TAP), ["Service default/web changed"]),
        (_scene([_pod()], [_service()], [_slice(False)], _TAP), ["the endpoint list of default/web changed"]),
    ],
)
def test_what_decides_a_way_is_compared(now: Scene, words: list[str]) -> None:
    assert list(met(_CALM, now)) == words
    turned = [word.replace("disappeared", "appeared") for word in words]
    assert list(met(now, _CALM)) == turned


def test_rules_are_compared_by_their_generation() -> None:
    assert list(rules_met({"node-1": 4, "node-2": 9}, {"node-1": 5, "node-2": 9})) == ["the rules of node-1 changed"]


@pytest.mark.parametrize(
    ("address", "port", "words"),
    [
        ("10.244.1.2", 8080, ["pod default/web is not ready (Running)"]),
        ("10.96.0.10", 80, ["Service default/web has endpoints, but none is ready"]),
        ("198.51.100.1", 80, ["Service default/web has endpoints, but none is ready"]),
        ("192.0.2.1", 30080, ["Service default/web has endpoints, but none is ready"]),
        ("192.0.2.1", 80, []),
    ],
)
def test_what_is_dialled_and_not_ready_is_named(address: str, port: int, words: list[str]) -> None:
    assert list(unready(_scene([_pod("False")], [_service()], [_slice(False)]), address, port)) == words
    assert list(unready(_CALM, address, port)) == []
