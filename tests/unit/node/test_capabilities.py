from __future__ import annotations

from typing import Any

import pytest

from netlab.api.core_types import Container, ContainerPort, Pod, PodSpec
from netlab.api.meta_types import ObjectMeta
from netlab.cni.runtime.configurations import NetworkList
from netlab.errors import UsageError
from netlab.node.capabilities import needed, runtime_config


def pod(*ports: ContainerPort, **annotations: str) -> Pod:
    names = {f"kubernetes.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return Pod(
        metadata=ObjectMeta(name="p", annotations=names),
        spec=PodSpec(containers=[Container(name="c", ports=list(ports))]),
    )


def test_most_pods_ask_for_nothing() -> None:
    assert runtime_config(pod(ContainerPort(containerPort=80))) == {}


def test_annotations_are_rates_in_bits_and_a_tenth_of_a_second_may_come_at_once() -> None:
    asked = runtime_config(pod(ingress_bandwidth="100M", egress_bandwidth="1.5k"))
    assert asked == {
        "bandwidth": {
            "ingressRate": 100_000_000,
            "ingressBurst": 10_000_000,
            "egressRate": 1_500,
            "egressBurst": 262_144,
        }
    }


WRONG = [
    ("", "is no quantity"),
    ("fast", "'fast' is no quantity"),
    ("999", "unreasonably small"),
    ("-1M", "unreasonably small"),
    ("2P", "unreasonably large"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_an_annotation_that_makes_no_sense_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        runtime_config(pod(egress_bandwidth=text))
    assert "annotation kubernetes.io/egress-bandwidth" in str(refused.value)


def test_host_ports() -> None:
    ports = [
        ContainerPort(containerPort=80, hostPort=8080),
        ContainerPort(containerPort=53, protocol="UDP", hostPort=53, hostIP="192.0.2.1"),
        ContainerPort(containerPort=81, hostPort=81, hostIP="0.0.0.0"),
        ContainerPort(containerPort=82),
    ]
    assert runtime_config(pod(*ports)) == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
            {"hostPort": 81, "containerPort": 81, "protocol": "tcp"},
        ]
    }


BRIDGE: dict[str, Any] = {"type": "netlab"}
PORTMAP: dict[str, Any] = {"type": "netlab-portmap", "capabilities": {"portMappings": True}}
BANDWIDTH: dict[str, Any] = {"type": "netlab-bandwidth", "capabilities": {"bandwidth": True}}
ALWAYS = BANDWIDTH | {"ingressRate": 1, "ingressBurst": 1}
FOREIGN: dict[str, Any] = {"type": "tuning", "capabilities": {"mac": True}}

CHAINS: list[tuple[list[Any], dict[str, Any], list[Any]]] = [
    ([BRIDGE, PORTMAP, BANDWIDTH], {}, [BRIDGE]),
    ([BRIDGE, PORTMAP, BANDWIDTH], {"bandwidth": {}}, [BRIDGE, BANDWIDTH]),
    ([BRIDGE, PORTMAP, BANDWIDTH], {"bandwidth": {}, "portMappings": []}, [BRIDGE, PORTMAP, BANDWIDTH]),
    ([BRIDGE, ALWAYS, FOREIGN], {}, [BRIDGE, ALWAYS, FOREIGN]),
]


@pytest.mark.parametrize(("chain", "asked", "executed"), CHAINS)
def test_plugins_that_have_nothing_to_do_are_not_executed(chain: Any, asked: Any, executed: Any) -> None:
    network = NetworkList("n", "1.0.0", tuple(chain), text=b"whole")
    found = needed(network, asked)
    assert list(found.plugins) == executed
    assert found.text == b"whole"
