"""What a kubelet tells: names and labels that Prometheus, metrics-server and dashboards look for."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netlab.api.core_types import Container, Pod, PodSpec, ResourceRequirements
from netlab.api.meta_types import ObjectMeta
from netlab.node.stats import metrics, summary
from netlab.node.stats.collector import ContainerStats, NodeStats, PodStats
from netlab.node.stats.counters import Reading
from netlab.node.stats.summary import FileSystem, NodeFacts
from netlab.node.stats.usage import Interface, Memory, Throttling, Usage

SECOND = 1_000_000_000
USED = Usage(2 * SECOND, Memory(9000, 7000, 5000, 3000, 70, 11, 1), 2, 3, 4, 1, Throttling(9, 4, SECOND // 2))
ETH0 = Interface("eth0", 580, 6, 1, 2, 1000, 7, 3, 4)


def stats(sandbox: str | None = "u_0") -> NodeStats:
    spec = Container(name="c", image="agnhost", resources=ResourceRequirements(limits={"memory": "10k", "cpu": "500m"}))
    pod = Pod(metadata=ObjectMeta(name="web", namespace="shop", uid="u"), spec=PodSpec(containers=[spec]))
    container = ContainerStats("c", "u_c_0", "agnhost", 1000.5, spec, USED, Reading(2 * SECOND, 5))
    of_pod = PodStats(pod, sandbox, 1000.5, [container], [ETH0] if sandbox else [], USED, Reading(2 * SECOND, None))
    return NodeStats(2000.25, USED, Reading(2 * SECOND, 7), [ETH0], [of_pod])


def samples(body: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, Any]]:
    return {
        (each.name, tuple(sorted((key, value) for key, value in each.labels.items() if value))): (
            each.value,
            each.timestamp,
        )
        for family in text_string_to_metric_families(body.decode())
        for each in family.samples
    }


POD = (("namespace", "shop"), ("pod", "web"))
CONTAINER = (("container", "c"), *POD)


def test_what_metrics_server_reads() -> None:
    told = samples(metrics.of_resources(stats()))
    moment = 2000.25
    assert told == {
        ("node_cpu_usage_seconds_total", ()): (2.0, moment),
        ("node_memory_working_set_bytes", ()): (7000.0, moment),
        ("node_swap_usage_bytes", ()): (70.0, moment),
        ("container_start_time_seconds", CONTAINER): (1000.5, None),
        ("container_cpu_usage_seconds_total", CONTAINER): (2.0, moment),
        ("container_memory_working_set_bytes", CONTAINER): (7000.0, moment),
        ("container_swap_usage_bytes", CONTAINER): (70.0, moment),
        ("pod_cpu_usage_seconds_total", POD): (2.0, moment),
        ("pod_memory_working_set_bytes", POD): (7000.0, moment),
        ("pod_swap_usage_bytes", POD): (70.0, moment),
        ("resource_scrape_error", ()): (0.0, None),
    }


def test_a_machine_that_does_not_answer_is_an_error_to_scrape() -> None:
    assert samples(metrics.of_resources(None)) == {("resource_scrape_error", ()): (1.0, None)}


OF_CONTAINER = (
    *(("container", "c"), ("id", "/kubepods/podu/u_c_0"), ("image", "agnhost"), ("name", "u_c_0")),
    *POD,
)
OF_SANDBOX = (("id", "/kubepods/podu"), ("interface", "eth0"), ("name", "u_0"), *POD)
NODE = (("id", "/"),)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("machine_cpu_cores", (), 2),
        ("machine_memory_bytes", (), 4096),
        ("container_cpu_usage_seconds_total", (("cpu", "total"), *NODE), 2),
        ("container_cpu_usage_seconds_total", (*OF_CONTAINER[:1], ("cpu", "total"), *OF_CONTAINER[1:]), 2),
        ("container_cpu_cfs_throttled_seconds_total", OF_CONTAINER, 0.5),
        ("container_memory_working_set_bytes", OF_CONTAINER, 7000),
        ("container_memory_usage_bytes", OF_CONTAINER, 9000),
        ("container_memory_rss", OF_CONTAINER, 5000),
        ("container_processes", OF_CONTAINER, 2),
        ("container_file_descriptors", OF_CONTAINER, 4),
        ("container_spec_memory_limit_bytes", OF_CONTAINER, 10_000),
        ("container_spec_cpu_quota", OF_CONTAINER, 50_000),
        ("container_network_receive_bytes_total", OF_SANDBOX, 580),
        ("container_network_receive_packets_dropped_total", OF_SANDBOX, 2),
        ("container_network_transmit_errors_total", OF_SANDBOX, 3),
        ("container_network_transmit_packets_total", (*NODE, ("interface", "eth0")), 7),
    ],
)
def test_what_cadvisor_tells(name: str, labels: tuple[tuple[str, str], ...], value: float) -> None:
    told = samples(metrics.of_containers(stats(), processors=2, memory=4096))
    assert told[name, tuple(sorted(labels))][0] == value


FACTS = NodeFacts("node-1", 900.0, 100_000, 32768, FileSystem(1000, 400, 10, 4), {"u_c_0": 4096})


def test_the_summary() -> None:
    told = summary.of_node(stats(), FACTS, cpu_and_memory=False)
    node, (pod,) = told["node"], told["pods"]
    assert node["cpu"] == {"time": "1970-01-01T00:33:20Z", "usageNanoCores": 7, "usageCoreNanoSeconds": 2 * SECOND}
    assert node["memory"]["availableBytes"] == 93_000
    assert node["fs"]["usedBytes"] == 600
    assert node["rlimit"] == {"time": "1970-01-01T00:33:20Z", "maxpid": 32768, "curproc": 2}
    assert pod["podRef"] == {"name": "web", "namespace": "shop", "uid": "u"}
    assert pod["cpu"] == {"time": "1970-01-01T00:33:20Z", "usageCoreNanoSeconds": 2 * SECOND}
    assert "availableBytes" not in pod["memory"]
    assert pod["network"]["interfaces"] == [
        {"name": "eth0", "rxBytes": 580, "rxErrors": 1, "txBytes": 1000, "txErrors": 3}
    ]
    (container,) = pod["containers"]
    assert container["memory"] == {
        "time": "1970-01-01T00:33:20Z",
        "availableBytes": 3000,
        "usageBytes": 9000,
        "workingSetBytes": 7000,
        "rssBytes": 5000,
        "pageFaults": 11,
        "majorPageFaults": 1,
    }
    assert container["logs"]["usedBytes"] == 4096


def test_a_pod_on_the_nodes_network_has_no_network_of_its_own() -> None:
    (pod,) = summary.of_node(stats(sandbox=None), FACTS, cpu_and_memory=False)["pods"]
    assert "network" not in pod
    told = samples(metrics.of_containers(stats(sandbox=None), processors=2, memory=4096))
    assert {dict(labels)["id"] for name, labels in told if "network" in name} == {"/"}


def test_the_short_summary_has_processor_time_and_memory_alone() -> None:
    told = summary.of_node(stats(), FACTS, cpu_and_memory=True)
    assert set(told["node"]) == {"nodeName", "startTime", "cpu", "memory", "swap"}
    assert set(told["pods"][0]) == {"podRef", "startTime", "containers", "cpu", "memory", "swap"}
