"""What a kubelet says of its node."""

from __future__ import annotations

from netlab.api.meta_types import Condition
from netlab.node.registration import node_labels, node_status, ready_condition

LONG_AGO = "2020-01-01T00:00:00Z"


def test_labels_are_the_well_known_ones_and_its_own() -> None:
    labels = node_labels("node-1", {"zone": "a"})
    assert labels["kubernetes.io/hostname"] == "node-1"
    assert labels["kubernetes.io/os"] == "linux"
    assert labels["zone"] == "a"


def test_status_has_every_address_and_no_more_pods_than_allowed() -> None:
    status = node_status("node-1", ["192.0.2.1", "2001:db8::1"], 42, "boot-1", "", [])
    assert [each.address for each in status.addresses] == ["192.0.2.1", "2001:db8::1", "node-1"]
    assert status.allocatable["pods"] == "42"
    assert status.nodeInfo is not None
    assert status.nodeInfo.bootID == "boot-1"
    assert status.conditions[0].status == "True"


def test_condition_says_why_and_since_when() -> None:
    before = [Condition(type="Ready", status="False", lastTransitionTime=LONG_AGO)]
    unready = ready_condition("no conflist", before)
    assert (unready.status, unready.reason, unready.lastTransitionTime) == ("False", "KubeletNotReady", LONG_AGO)
    assert unready.message.endswith("cni config uninitialized: no conflist")
    ready = ready_condition("", before)
    assert ready.status == "True"
    assert ready.lastTransitionTime != LONG_AGO
