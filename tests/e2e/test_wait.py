"""Waiting: for objects, and until every node has put in force what was done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Netlab, eventually

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: agnhost, args: [netexec]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, type: NodePort, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {clusterIP: %s, ports: [{port: 80}]}
"""

NEVER = """
apiVersion: v1
kind: Pod
metadata: {name: never, labels: {app: never}}
spec:
  containers:
  - name: web
    image: agnhost
    args: [netexec]
    readinessProbe: {exec: {command: [cat, /there-is-none]}, periodSeconds: 1}
"""


@pytest.fixture(autouse=True)
def _clean(lab: Netlab) -> Iterator[None]:
    yield
    for kind in ("deployments", "pods", "services"):
        lab.run("delete", kind, "--all", "--grace-period", "0")


def _signal_proxy(lab: Netlab, name: str) -> None:
    lab.ok("exec", "node/node-2", "--", "pkill", f"-{name}", "kube-proxy")


def test_what_was_applied_is_in_force_when_apply_returns(lab: Netlab) -> None:
    for _ in range(3):
        lab.ok("apply", "--wait", "-f", "-", stdin=WEB)
        for node in ("192.0.2.1", "192.0.2.2"):
            answer = lab.ok("exec", "outside", "--", "/agnhost", "connect", "--timeout=10s", f"{node}:30080")
            assert answer == ""
        lab.ok("delete", "deployment,service", "web")
        lab.ok("wait", "pods", "-l", "app=web", "--for=delete")


def test_a_proxy_that_hangs_lags_and_is_named(lab: Netlab) -> None:
    assert "synced at revision" in lab.ok("wait", "--synced")
    _signal_proxy(lab, "STOP")
    try:
        lab.ok("apply", "-f", "-", stdin=SERVICE % ("late", "10.96.7.7"))
        message = lab.fails(8, "wait", "--synced", "--timeout", "1")
        assert "node-2: kube-proxy is at revision " in message
        assert "node-1" not in message
        found = lab.json("status")
        assert [(lag["component"], lag["node"]) for lag in found["lagging"]] == [("kube-proxy", "node-2")]
        revisions = {node["name"]: node["revisions"]["kubeProxy"] for node in found["nodes"]}
        assert revisions["node-2"] < found["revision"] <= revisions["node-1"]
        assert "Ready,Lagging" in lab.ok("status")
    finally:
        _signal_proxy(lab, "CONT")
    lab.ok("wait", "--synced")
    assert lab.json("status")["lagging"] == []
    assert "10.96.7.7" in lab.ok("exec", "node/node-2", "--", "nft", "list", "table", "ip", "kube-proxy")


def test_a_proxy_that_was_killed_is_synced_when_its_rules_are_in_force(lab: Netlab) -> None:
    for number in range(3):
        restarts = _restarts(lab)
        _signal_proxy(lab, "KILL")
        address = f"10.96.8.{number + 1}"
        lab.ok("apply", "-f", "-", stdin=SERVICE % (f"after-{number}", address))
        lab.ok("wait", "--synced")
        assert address in lab.ok("exec", "node/node-2", "--", "nft", "list", "table", "ip", "kube-proxy")
        assert _restarts(lab) > restarts


def _restarts(lab: Netlab) -> int:
    listed = lab.json("status")["components"]
    return next(int(each["restarts"]) for each in listed if each["name"] == "kube-proxy-node-2")


def test_controllers_that_were_killed_are_waited_for(lab: Netlab) -> None:
    lab.ok("exec", "fabric", "--", "pkill", "-KILL", "controller-man")
    lab.ok("apply", "--wait", "-f", "-", stdin=WEB)
    lab.ok("exec", "outside", "--", "/agnhost", "connect", "--timeout=10s", "192.0.2.1:30080")


def test_objects_are_waited_for_as_with_kubectl(lab: Netlab) -> None:
    lab.ok("apply", "-f", "-", stdin=WEB)
    assert lab.ok("wait", "deployment/web", "--for=condition=Available") == "deployment/web condition met\n"
    assert lab.ok("wait", "pods", "-l", "app=web", "--for=condition=ready", "--timeout=1m").count("condition met") == 2
    assert lab.ok("wait", "pods", "--all", "--for=condition=Ready").count("condition met") == 2
    lab.ok("delete", "deployment", "web", "--no-wait")
    lab.ok("wait", "pods", "--all", "--for=delete", "--timeout=60")
    assert lab.json("get", "pods")["items"] == []
    lab.ok("apply", "-f", "-", stdin=NEVER)
    lab.ok("wait", "pod/never", "--for=jsonpath={.status.phase}=Running")
    assert ".status.phase is Running" in lab.fails(8, *_WAIT, "pod/never", "--for=jsonpath={.status.phase}=Failed")
    assert lab.ok("wait", "pod/gone", "--for=delete") == "pod/gone condition met\n"


def test_what_does_not_happen_is_said_with_the_reason(lab: Netlab) -> None:
    message = lab.fails(8, "apply", "--wait", "--timeout", "2", "-f", "-", stdin=NEVER)
    assert "pod/never: condition Ready is False after 2 s" in message
    lab.ok("wait", "pod/never", "--for=condition=Ready=False")
    eventually(lambda: "containers with unready status" in lab.fails(8, *_WAIT, "pod/never", "--for=condition=Ready"))
    assert "still there" in lab.fails(8, *_WAIT, "pods", "-l", "app=never", "--for=delete")


_WAIT = ("wait", "--timeout", "0.1s")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "or --synced"),
        (["pod/web"], 2, "--for=condition=Ready"),
        (["--for=delete"], 2, "name the objects"),
        (["pods", "--for=delete"], 2, "-l SELECTOR"),
        (["pods", "--all", "--for=condition="], 2, "--for=condition="),
        (["pods", "--all", "--for=jsonpath={.status}"], 2, "condition=TYPE"),
        (["nonsense/web", "--for=delete"], 2, "there is no kind 'nonsense'"),
        (["pod/web", "--for=condition=Ready"], 3, "web"),
        (["pods", "-l", "app=nobody", "--for=condition=Ready"], 3, "there are no pods with app=nobody"),
    ],
)
def test_a_wrong_question_is_refused(lab: Netlab, arguments: list[str], status: int, message: str) -> None:
    assert message in lab.fails(status, "wait", *arguments)
