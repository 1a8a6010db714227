"""kubectl debug: a container beside those of a pod, a pod like another, and a pod that sees its node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import Kubectl, kubectl_in

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: busybox, command: [sleep, '4711']}]
"""
LOOK = ("sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; ip -br link; hostname; ls /host")


@pytest.fixture(scope="module")
def kubectl(lab: Netlab) -> Iterator[Kubectl]:
    with kubectl_in(lab, "package", "debug") as found:
        found.ok("apply", "-f", "-", stdin=WEB)
        found.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
        yield found
        found.ok("delete", "pod", "--all")


def _ended(kubectl: Kubectl, pod: str, container: str) -> str:
    """What a debugger has printed, once it has ended."""

    def end() -> Any:
        status = kubectl.json("get", "pod", pod)["status"]
        listed = status.get("ephemeralContainerStatuses", []) + status.get("containerStatuses", [])
        return next((each["state"].get("terminated") for each in listed if each["name"] == container), None)

    eventually(lambda: end() is not None)
    return kubectl.ok("logs", pod, "-c", container)


def test_a_container_beside_the_others(kubectl: Kubectl) -> None:
    kubectl.ok("debug", "web", "--image=busybox", "--target=c", "-c", "looks", "--", *LOOK)
    seen = _ended(kubectl, "web", "looks")
    assert "sleep 4711" in seen
    assert "eth0" in seen
    assert "\nweb\n" in seen
    kubectl.ok("debug", "web", "--image=busybox", "-c", "alone", "--", *LOOK)
    assert "sleep 4711" not in _ended(kubectl, "web", "alone")
    said = kubectl.ok(
        "debug", "web", "-i", "--image=busybox", "-c", "asked", "--", "sh", stdin="echo $((6 * 7)); exit\n"
    )
    assert "42" in said or "42" in _ended(kubectl, "web", "asked")
    pod = kubectl.json("get", "pod", "web")
    assert [each["name"] for each in pod["spec"]["ephemeralContainers"]] == ["looks", "alone", "asked"]
    assert pod["metadata"]["generation"] == 4
    assert [each["ready"] for each in pod["status"]["containerStatuses"]] == [True]


def test_a_pod_like_another(kubectl: Kubectl) -> None:
    kubectl.ok("debug", "web", "--image=busybox", "--copy-to=copy", "-c", "looks", "--", *LOOK)
    eventually(lambda: "sleep 4711" in kubectl.run("logs", "copy", "-c", "looks").stdout)
    assert kubectl.json("get", "pod", "copy")["spec"]["shareProcessNamespace"] is True


def test_a_pod_that_sees_its_node(kubectl: Kubectl) -> None:
    made = kubectl.ok("debug", "node/node-2", "--image=busybox", "--", *LOOK)
    name = next(word for word in made.split() if word.startswith("node-debugger-"))
    seen = _ended(kubectl, name, "debugger")
    assert "cni0" in seen
    assert "\nnode-2\n" in seen
    assert {"etc", "proc", "usr"} <= {*seen.split()}
