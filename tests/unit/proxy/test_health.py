"""Whether a proxy is healthy, against a clock of the test's own; and how its log reads."""

from __future__ import annotations

import json
import logging

import pytest

from netlab.api.core_types import Node, NodeSpec, Taint
from netlab.api.meta_types import ObjectMeta
from netlab.proxy.health import TO_BE_DELETED, Health
from netlab.proxy.logs import JsonFormatter, TextFormatter, fields


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_change_that_waits_too_long_is_a_failure_of_its_family_alone_until_it_is_in_force() -> None:
    clock = Clock()
    health = Health(60, clock)
    assert health.is_healthy(), "while it starts"
    health.updated("IPv4")
    health.updated("IPv6")
    clock.now += 3600
    assert health.is_healthy(), "nothing waits"
    health.queued("IPv4")
    clock.now += 59
    health.queued("IPv4")
    health.updated("IPv6")
    assert health.is_healthy(), "it waits, but not too long"
    clock.now += 1
    assert not health.is_healthy(), "the oldest change counts"
    now = "1970-01-12T14:47:40.000000Z"
    old = {"lastUpdated": "1970-01-12T13:46:40.000000Z", "currentTime": now, "healthy": False}
    assert health.report() == {
        **old,
        "status": {"IPv4": old, "IPv6": {"lastUpdated": now, "currentTime": now, "healthy": True}},
    }
    health.updated("IPv4")
    assert health.is_healthy()
    assert health.report()["lastUpdated"] == health.report()["currentTime"]


def test_a_proxy_that_never_synced_says_so() -> None:
    clock = Clock()
    health = Health(60, clock)
    health.queued("IPv4")
    clock.now += 61
    assert not health.is_healthy()
    assert health.report()["lastUpdated"] == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("node", "eligible"),
    [
        (Node(), True),
        (Node(spec=NodeSpec(taints=[Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")])), True),
        (Node(spec=NodeSpec(taints=[Taint(key=TO_BE_DELETED, effect="NoSchedule")])), False),
        (Node(metadata=ObjectMeta(deletionTimestamp="2026-01-01T00:00:00Z")), False),
    ],
    ids=["a node", "another taint", "the autoscaler's taint", "being deleted"],
)
def test_a_node_that_goes_gets_no_more_traffic(node: Node, eligible: bool) -> None:
    health = Health(60)
    health.node(node)
    assert health.node_eligible is eligible
    health.node(Node())
    assert health.node_eligible


def record(message: str, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("netlab.proxy.plane", logging.INFO, "plane.py", 1, message, (), None)
    made.created = 1_000_000.25
    vars(made).update(fields(**values))
    return made


def test_a_log_line_reads_as_text() -> None:
    line = TextFormatter().format(
        record("rules are\nin force", family="IPv4", seconds=0.1234567, reason='a "b"', no="")
    )
    assert line == (
        "1970-01-12T13:46:40.250Z INFO netlab.proxy.plane: rules are\\nin force"
        ' family=IPv4 seconds=0.123457 reason="a \\"b\\"" no=""'
    )


def test_a_log_line_reads_as_json() -> None:
    line = JsonFormatter().format(record("rules are\nin force", family="IPv4", seconds=0.25))
    assert json.loads(line) == {
        "ts": "1970-01-12T13:46:40.250Z",
        "level": "info",
        "logger": "netlab.proxy.plane",
        "msg": "rules are\nin force",
        "family": "IPv4",
        "seconds": 0.25,
    }
    assert "\n" not in line
