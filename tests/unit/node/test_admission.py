"""Which pods a kubelet refuses: a table of their ports."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Pod
from netlab.node.admission import refusal


def pod(*ports: dict[str, Any], **spec: Any) -> Pod:
    container = {"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"} | port for port in ports]}
    return msgspec.convert({"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}, Pod)


ON_80 = {"hostPort": 80}


@pytest.mark.parametrize(
    ("new", "other", "fits"),
    [
        (pod(), pod(ON_80), True),
        (pod(ON_80), pod({}), True),
        (pod(ON_80), pod(ON_80), False),
        (pod(ON_80), pod({"hostPort": 81}), True),
        (pod(ON_80), pod({"hostPort": 80, "protocol": "UDP"}), True),
        (pod(ON_80), pod({"hostPort": 80, "hostIP": "192.0.2.1"}), False),
        (pod({"hostPort": 80, "hostIP": "::"}), pod({"hostPort": 80, "hostIP": "192.0.2.1"}), False),
        (pod({"hostPort": 80, "hostIP": "192.0.2.2"}), pod({"hostPort": 80, "hostIP": "192.0.2.1"}), True),
        (pod(ON_80), pod({}, hostNetwork=True), False),
        (pod({"hostPort": 81}, ON_80), pod({"hostPort": 82}, ON_80), False),
    ],
)
def test_host_ports(new: Pod, other: Pod, fits: bool) -> None:
    assert refusal(new, []) is None
    found = refusal(new, [pod(), other])
    assert (found is None) is fits
    if found is not None:
        reason, message = found
        assert reason == "NodePorts"
        assert message.startswith("Predicate NodePorts failed: node(s) didn't have free ports")
