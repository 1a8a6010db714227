"""What a container may do and what it shares."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Pod
from netlab.errors import UsageError
from netlab.machine.security_context import NamespaceOption, SecurityContext
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


OF_POD = {"runAsUser": 1000, "runAsGroup": 2000, "supplementalGroups": [5], "fsGroup": 6, "runAsNonRoot": True}
SYSCTLS = {"sysctls": [{"name": "net.ipv4.tcp_fin_timeout", "value": "9"}]}


@pytest.mark.parametrize(
    ("of_pod", "own", "expected"),
    [
        (None, None, {}),
        ({}, None, {}),
        (OF_POD, None, {"run_as_user": 1000, "run_as_group": 2000, "supplemental_groups": [5, 6], "non_root": True}),
        (
            OF_POD,
            {"runAsUser": 0, "runAsNonRoot": False},
            {"run_as_user": 0, "run_as_group": 2000, "supplemental_groups": [5, 6]},
        ),
        (
            None,
            {"capabilities": {"add": ["NET_ADMIN", "cap_sys_time"], "drop": ["ALL"]}},
            {"add_capabilities": ["NET_ADMIN", "SYS_TIME"], "drop_capabilities": ["ALL"]},
        ),
        (None, {"privileged": True, "readOnlyRootFilesystem": True}, {"privileged": True, "readonly_rootfs": True}),
        ({"seccompProfile": {"type": "Unconfined"}}, None, {"seccomp": "Unconfined"}),
        ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "RuntimeDefault"}}, {}),
        (SYSCTLS, None, {"sysctls": {"net.ipv4.tcp_fin_timeout": "9"}}),
    ],
)
def test_what_a_container_may_do(of_pod: Any, own: Any, expected: dict[str, Any]) -> None:
    pod = _pod(securityContext=of_pod, containers=[{"name": "c", "securityContext": own}])
    assert security.of_container(pod, pod.spec.containers[0], PodState()) == SecurityContext(**expected)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"seccompProfile": {"type": "Localhost"}}, "no profiles of type Localhost"),
    ],
)
def test_a_container_that_cannot_be_run_so(own: Any, message: str) -> None:
    pod = _pod(containers=[{"name": "c", "securityContext": own}])
    with pytest.raises(UsageError, match=message):
        security.of_container(pod, pod.spec.containers[0], PodState())


@pytest.mark.parametrize(
    ("name", "spec", "unsafe"),
    [
        ("net.ipv4.tcp_syncookies", {}, False),
        ("net/ipv4/tcp_syncookies", {}, False),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, True),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, True),
        ("kernel.msgmax", {}, True),
    ],
)
def test_sysctls_that_are_not_the_pods_alone(name: str, spec: dict[str, Any], unsafe: bool) -> None:
    pod = _pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec)
    assert security.unsafe_sysctl(pod) == (name if unsafe else None)


@pytest.mark.parametrize(
    ("own", "image_user", "why"),
    [
        ({"runAsUser": 0}, "1000", "container's runAsUser breaks non-root policy"),
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0:5", "container has runAsNonRoot and image will run as root"),
        (
            {},
            "web",
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
        ),
        ({"runAsUser": 7}, "", None),
        ({"runAsNonRoot": False, "runAsUser": 0}, "", None),
        ({}, "1000:0", None),
    ],
)
def test_who_is_root_and_may_not_be(own: Any, image_user: str, why: str | None) -> None:
    of_pod = {"runAsNonRoot": True}
    pod = _pod(containers=[{"name": "c", "securityContext": own}], securityContext=of_pod)
    if why is None:
        security.verify_non_root(pod, pod.spec.containers[0], image_user)
        return
    with pytest.raises(UsageError) as refused:
        security.verify_non_root(pod, pod.spec.containers[0], image_user)
    assert str(refused.value) == f'{why} (pod: "p_(u)", container: c)'
