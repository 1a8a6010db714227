"""Real kubectl, old and new, with kinds beyond those of a network: created, shown, changed, deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab
from tests.e2e.test_kubectl_verbs import BINARIES, Kubectl


@pytest.fixture(scope="module", params=BINARIES)
def kubectl(request: pytest.FixtureRequest, lab: Netlab) -> Iterator[Kubectl]:
    """One kubectl, with an empty namespace of its own."""
    find, why = BINARIES[request.param]
    binary = find()
    if binary is None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="kubectl-") as home:
        made = Kubectl(binary, lab.ok("kubeconfig"), Path(home), f"kinds-{request.param}")
        made.ok("create", "namespace", made.namespace)
        yield made
        made.ok("delete", "namespace", made.namespace)


_UNUSED = "stored and returned, but nothing in netlab acts upon it"


def test_what_nothing_acts_upon_is_stored_and_shown(kubectl: Kubectl) -> None:
    done = kubectl.run("create", "quota", "small", "--hard=pods=3")
    assert (done.returncode, done.stdout) == (0, "resourcequota/small created\n")
    assert f"Warning: ResourceQuota: {_UNUSED}" in done.stderr
    assert kubectl.json("get", "quota", "small")["spec"] == {"hard": {"pods": "3"}}
    assert kubectl.header("get", "quota") == ["NAME", "REQUEST", "LIMIT", "AGE"]
    kubectl.ok("patch", "quota", "small", "-p", '{"spec":{"hard":{"pods":"4"}}}')
    assert kubectl.json("get", "quota", "small")["spec"] == {"hard": {"pods": "4"}}
    kubectl.ok("delete", "quota", "small")
    assert kubectl.fails("get", "quota", "small") == 'Error from server (NotFound): resourcequotas "small" not found\n'


_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
"""


def test_a_manifest_is_applied_checked_and_explained(kubectl: Kubectl) -> None:
    assert kubectl.ok("apply", "-f", "-", stdin=_POLICY) == "networkpolicy.networking.k8s.io/closed created\n"
    assert kubectl.ok("apply", "-f", "-", stdin=_POLICY) == "networkpolicy.networking.k8s.io/closed unchanged\n"
    changed = _POLICY.replace("[Ingress]", "[Egress]")
    assert kubectl.ok("apply", "-f", "-", stdin=changed) == "networkpolicy.networking.k8s.io/closed configured\n"
    assert kubectl.ok("get", "netpol", "closed").split()[3:5] == ["closed", "app=web"]
    assert "Policy Types: Egress" in kubectl.ok("describe", "netpol", "closed")
    assert "policyTypes" in kubectl.fails("apply", "-f", "-", stdin=_POLICY.replace("policyTypes", "policyType"))
    assert "podSelector" in kubectl.ok("explain", "networkpolicy.spec")


def test_events_are_in_both_groups(kubectl: Kubectl) -> None:
    core = {each["metadata"]["uid"] for each in kubectl.json("get", "events", "-A")["items"]}
    later = kubectl.json("get", "events.events.k8s.io", "-A")["items"]
    assert core & {each["metadata"]["uid"] for each in later}
    assert all("regarding" in each and "involvedObject" not in each for each in later)
