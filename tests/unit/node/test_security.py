"""What a container may do and what it shares."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Pod
from netlab.errors import UsageError
from netlab.machine.security_context import NamespaceOption
from netlab.node import security
from netlab.node.podstate import PodState, Run

TARGETING = {"name": "x", "targetContainerName": "c"}


def _pod(**spec: Any) -> Pod:
    body = {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c"}], **spec}}
    return msgspec.convert(body, Pod)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_pod(), NamespaceOption()),
        (_pod(hostPID=True, hostIPC=True), NamespaceOption(pid="NODE", ipc="NODE")),
        (_pod(shareProcessNamespace=True), NamespaceOption(pid="POD")),
        (_pod(ephemeralContainers=[TARGETING]), NamespaceOption(pid="TARGET", target_id="u_c_2")),
        (_pod(ephemeralContainers=[TARGETING], shareProcessNamespace=True), NamespaceOption(pid="POD")),
    ],
)
def test_namespaces(pod: Pod, expected: NamespaceOption) -> None:
    state = PodState(runs={"c": Run(attempt=2, started_at=1.0)})
    (*_, last) = pod.spec.all_containers()
    assert security.of_container(pod, last, state).namespace_options == expected


def test_a_target_runs() -> None:
    pod = _pod(ephemeralContainers=[TARGETING])
    with pytest.raises(UsageError, match='unable to find target container "c"'):
        security.of_container(pod, pod.spec.ephemeralContainers[0], PodState())
