"""Which pods a ReplicaSet gives up first, what its status says, and what it waits for."""

from __future__ import annotations

import datetime
from collections import Counter

import msgspec
import pytest

from netlab.api.apps_types import ReplicaSet
from netlab.api.core_types import Pod
from netlab.controlplane import expectations
from netlab.controlplane.availability import next_available
from netlab.controlplane.expectations import Expectations
from netlab.controlplane.replicaset import deletion_order, new_status
from netlab.errors import NetlabError
from tests.unit.controlplane.build import pod

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def replica_set(**spec: object) -> ReplicaSet:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}
    return msgspec.convert(
        {"metadata": {"generation": 3}, "spec": {"selector": {}, "template": template, **spec}}, ReplicaSet
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod(), pod(on="a")),
        (pod(on="a", phase="Pending"), pod(on="a")),
        (pod(on="a"), pod(on="a", ready=True)),
        (
            pod(on="a", ready=True, annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
            pod(on="a", ready=True),
        ),
        (pod(on="crowded", ready=True), pod(on="a", ready=True)),
        (pod(on="a", ready=True, ready_since="2026-01-01T23:59:00Z"), pod(on="a", ready=True)),
        (pod(on="a", created="2026-01-01T23:59:00Z"), pod(on="a")),
    ],
    ids=["unassigned", "pending", "not ready", "cost", "crowded", "ready since", "age"],
)
def test_the_pod_given_up_first(first: Pod, second: Pod) -> None:
    on_node = Counter({"a": 1, "crowded": 2})
    for pods in ([first, second], [second, first]):
        assert [p.metadata.name for p in deletion_order(pods, on_node, NOW)] == [
            first.metadata.name,
            second.metadata.name,
        ]


def test_status_counts_what_is_ready_and_for_long_enough() -> None:
    rs = replica_set(minReadySeconds=60)
    pods = [
        pod(),
        pod(ready=True, labels={"app": "web"}),
        pod(ready=True, ready_since="2026-01-01T23:59:30Z", labels={"app": "web"}),
    ]
    status = new_status(rs, pods, 0, None, NOW)
    counts = (status.replicas, status.fullyLabeledReplicas, status.readyReplicas, status.availableReplicas)
    assert counts == (3, 2, 2, 1)
    assert status.observedGeneration == 3
    assert next_available(pods, rs.spec.minReadySeconds, NOW) == 30


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    rs = replica_set()
    rs.status = new_status(rs, [], -1, NetlabError("refused"), NOW)
    (condition,) = rs.status.conditions
    assert (condition.type, condition.reason, condition.message) == ("ReplicaFailure", "FailedCreate", "refused")
    assert new_status(rs, [], -1, NetlabError("refused"), NOW) == rs.status
    assert new_status(rs, [], -1, None, NOW).conditions == []


def test_expectations_hold_until_all_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Expectations()
    assert expected.satisfied("a")
    expected.expect("a", creations=2)
    expected.created("a")
    assert not expected.satisfied("a")
    expected.created("a")
    assert expected.satisfied("a")
    expected.expect("a", deletions={"u-1", "u-2"})
    expected.deleted("a", "u-1")
    expected.deleted("a", "u-1")
    assert not expected.satisfied("a")
    monkeypatch.setattr(expectations, "TIMEOUT", -1.0)
    assert expected.satisfied("a")
