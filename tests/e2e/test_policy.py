"""Policies in a lab: what is enforced, explained, traced and repaired, and that a pod's first packet is judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab, eventually

_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  restartPolicy: Never
  containers:
  - name: c
    image: agnhost
    args: {args}
    ports: [{{name: http, containerPort: 8080}}]
---
"""
_SERVER = "[netexec, --http-port=8080]"
_POLICIES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mute}
spec: {podSelector: {matchLabels: {app: hasty}}, policyTypes: [Egress]}
"""


@pytest.fixture(scope="module")
def lab(netlab: Netlab) -> Iterator[Netlab]:
    netlab.ok("up", "--nodes", "2", "--dual-stack")
    pods = [("web", "node-1"), ("friend", "node-2"), ("stranger", "node-1")]
    manifest = "".join(_POD.format(name=name, node=node, args=_SERVER) for name, node in pods)
    netlab.ok("apply", "-f", "-", "--wait", stdin=manifest + _POLICIES)
    yield netlab
    netlab.ok("down")


def test_a_policy_lets_through_what_it_says_and_the_trace_names_it(lab: Netlab) -> None:
    assert "as predicted" in lab.ok("trace", "friend", "web:8080")
    done = lab.run("trace", "stranger", "web:8080")
    assert done.returncode == 11
    assert "dropped on node-1: NetworkPolicy default/web: ingress of default/web does not admit" in done.stdout
    assert "as predicted" in done.stdout


def test_the_first_packet_of_a_pod_is_judged(lab: Netlab) -> None:
    (address,) = {each["ip"] for each in lab.json("get", "pod", "friend")["status"]["podIPs"] if "." in each["ip"]}
    manifest = _POD.format(name="hasty", node="node-2", args=f"[connect, --timeout=1s, '{address}:8080']")
    lab.ok("apply", "-f", "-", stdin=manifest)
    eventually(lambda: lab.json("get", "pod", "hasty")["status"]["phase"] == "Failed")
    assert "TIMEOUT" in lab.ok("logs", "hasty")


def test_it_is_explained_shown_and_compared(lab: Netlab, tmp_path: Path) -> None:
    assert "let through" in lab.ok("policy", "explain", "friend", "web:8080")
    done = lab.run("policy", "explain", "stranger", "web:8080")
    assert done.returncode == 1
    assert "add {podSelector: {matchLabels: {app: stranger}}}" in done.stdout
    # Of a Service, the endpoints: policies see no other address.
    of_dns = "policy", "explain", "stranger", "svc/kube-dns.kube-system:53/udp"
    eventually(lambda: "kube-system/coredns" in lab.run(*of_dns).stdout)
    rows = {(each["source"], each["destination"]): each["ports"] for each in lab.json("policy", "show")}
    assert rows["default/friend", "default/web"] == "TCP 8080"
    assert rows["default/stranger", "default/web"] == "nothing"
    page = tmp_path / "matrix.html"
    assert "TCP 8080" in lab.ok("policy", "show", "-n", "default", "--report", str(page))
    assert "default/stranger to default/web: nothing" in page.read_text()
    assert "no connection opens or closes" in lab.run("policy", "diff", "-f", "-", stdin=_POLICIES).stdout
    closing = _POLICIES.replace("[{port: http}]", "[{port: 80}]")
    done = lab.run("policy", "diff", "-f", "-", stdin=closing)
    assert done.returncode == 1
    (row,) = [line.split("   ") for line in done.stdout.splitlines() if line.startswith("default/friend")]
    assert [part.strip() for part in row if part] == ["default/friend", "default/web", "TCP 8080", "TCP 80"]


_GUARD = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}
  ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: friend}}}}]}]
"""


def test_the_cluster_judges_before_a_namespace(lab: Netlab) -> None:
    lab.ok("apply", "-f", "-", "--wait", stdin=_GUARD)
    done = lab.run("trace", "friend", "web:8080")
    assert done.returncode == 11
    assert "ClusterNetworkPolicy guard" in done.stdout
    assert "a rule denies pods app in (friend)" in lab.run("policy", "explain", "friend", "web:8080").stdout
    wrong = _GUARD.replace("action: Deny", "action: Reject")
    assert "Unsupported value" in lab.fails(2, "apply", "-f", "-", stdin=wrong)
    lab.ok("delete", "cnp", "guard")
    assert "let through" in lab.ok("policy", "explain", "friend", "web:8080")


def test_a_flushed_table_is_made_again(lab: Netlab) -> None:
    lab.ok("exec", "node/node-1", "--", "nft", "delete", "table", "ip", "netlab-policy")
    eventually(lambda: "netlab-policy" in lab.ok("exec", "node/node-1", "--", "nft", "list", "tables", "ip"))
    assert lab.run("trace", "stranger", "web:8080").returncode == 11
