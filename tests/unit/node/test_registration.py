"""What a kubelet says of its node."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from netlab.api.core_types import NodeStatus
from netlab.api.endpoint import Endpoint
from netlab.api.meta_types import Condition
from netlab.node.context import KubeletConfig, ServingConfig
from netlab.node.registration import extended_resources, node_status, ready_condition

LONG_AGO = "2020-01-01T00:00:00Z"


def test_status_has_every_address_and_no_more_pods_than_allowed(tmp_path: Path) -> None:
    nowhere = Path("/nonexistent")
    config = KubeletConfig(
        node_name="node-1",
        api=Endpoint.of_socket(nowhere),
        machine_socket=nowhere,
        node_ips=["192.0.2.1", "2001:db8::1"],
        cni_conf_dir=nowhere,
        cni_plugin_dirs=[],
        cni_cache_dir=nowhere,
        log_dir=tmp_path,
        boot_id="boot-1",
        max_pods=42,
        memory=1 << 30,
    )
    status = node_status(config, "", [], [])
    assert [each.address for each in status.addresses] == ["192.0.2.1", "2001:db8::1", "node-1"]
    assert status.allocatable["pods"] == "42"
    assert status.allocatable["memory"] == "1048576Ki"
    assert status.capacity["memory"] != "1048576Ki"
    assert set(status.capacity) == {"cpu", "memory", "ephemeral-storage", "pods"}
    assert status.nodeInfo is not None
    assert status.nodeInfo.bootID == "boot-1"
    assert status.conditions[0].status == "True"
    assert status.daemonEndpoints is None, "it has no server"

    relayed = dataclasses.replace(config, client_ca="a certificate", serving=ServingConfig(nowhere, 7))
    for kubelet, port in ((relayed, 7), (dataclasses.replace(relayed, serving=None), 10250)):
        told = node_status(kubelet, "", [], []).daemonEndpoints
        assert told is not None
        assert told.kubeletEndpoint.Port == port


def test_what_others_announce_may_be_used() -> None:
    told = NodeStatus(
        capacity={"cpu": "1", "a.b/new": "2", "a.b/same": "1"},
        allocatable={"cpu": "1", "a.b/old": "1", "a.b/same": "1"},
    )
    assert extended_resources(told) == {"a.b/old": None, "a.b/new": "2", "a.b/same": "1"}


def test_condition_says_why_and_since_when() -> None:
    before = [Condition(type="Ready", status="False", lastTransitionTime=LONG_AGO)]
    unready = ready_condition("no conflist", before)
    assert (unready.status, unready.reason, unready.lastTransitionTime) == ("False", "KubeletNotReady", LONG_AGO)
    assert unready.message.endswith("cni config uninitialized: no conflist")
    ready = ready_condition("", before)
    assert ready.status == "True"
    assert ready.lastTransitionTime != LONG_AGO
