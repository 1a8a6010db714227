"""`/metrics/resource` and `/metrics/cadvisor`: names and labels are upstream's. Pure.

Sources: pkg/kubelet/metrics/collectors/resource_metrics.go, cAdvisor's docs/storage/prometheus.md, and the labels that
a kubelet gives to cAdvisor (pkg/kubelet/server/server.go).
"""

from __future__ import annotations

from collections.abc import Sequence

from netlab.node import resources
from netlab.node.stats.collector import ContainerStats, NodeStats, PodStats
from netlab.node.stats.exposition import Families
from netlab.node.stats.usage import Interface, Usage

_SECOND = 1_000_000_000
_PERIOD = 100_000
"""Microseconds of the period in which a limit of processor time counts."""

_OF_INTERFACES = (
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", "rx_bytes"),
    ("container_network_receive_packets_total", "Cumulative count of packets received", "rx_packets"),
    ("container_network_receive_errors_total", "Cumulative count of errors while receiving", "rx_errors"),
    (
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        "rx_dropped",
    ),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "tx_bytes"),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", "tx_packets"),
    ("container_network_transmit_errors_total", "Cumulative count of errors while transmitting", "tx_errors"),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        "tx_dropped",
    ),
)


def of_resources(stats: NodeStats | None) -> bytes:
    """`/metrics/resource`, which metrics-server reads; None: nothing could be read."""
    families = Families()
    if stats is not None:
        _resources(families, "node", "node", {}, stats.usage, stats.moment)
        for pod in stats.pods:
            labels = {"pod": pod.pod.metadata.name, "namespace": pod.pod.metadata.namespace}
            for each in pod.containers:
                of_container = {"container": each.name, **labels}
                families.add(
                    "container_start_time_seconds",
                    "Start time of the container since unix epoch in seconds",
                    each.started_at,
                    of_container,
                )
                _resources(families, "container", "container", of_container, each.usage, stats.moment)
            _resources(families, "pod", "pod", labels, pod.usage, stats.moment)
    text = "1 if there was an error while getting container metrics, 0 otherwise"
    families.add("resource_scrape_error", text, stats is None)
    return families.text()


def _resources(families: Families, prefix: str, what: str, labels: dict[str, str], usage: Usage, moment: float) -> None:
    for name, text, value in (
        ("cpu_usage_seconds_total", f"Cumulative cpu time consumed by the {what} in core-seconds", usage.cpu / _SECOND),
        ("memory_working_set_bytes", f"Current working set of the {what} in bytes", usage.memory.working_set),
        ("swap_usage_bytes", f"Current swap usage of the {what} in bytes", usage.memory.swap),
    ):
        families.add(f"{prefix}_{name}", text, value, labels, moment)


def of_containers(stats: NodeStats, processors: int, memory: int) -> bytes:
    """`/metrics/cadvisor`: the node (id /), its pods and their containers. `memory` is the machine's, in bytes."""
    families = Families()
    families.add("machine_cpu_cores", "Number of logical CPU cores.", processors)
    families.add("machine_memory_bytes", "Amount of memory installed on the machine.", memory)
    own = _labels("/")
    _used(families, own, stats.usage, stats.moment)
    _network(families, own, stats.interfaces, stats.moment)
    for pod in stats.pods:
        _pod(families, pod, stats.moment)
    return families.text()


def _pod(families: Families, pod: PodStats, moment: float) -> None:
    meta = pod.pod.metadata
    place = f"/kubepods/pod{meta.uid}"
    named = {"namespace": meta.namespace, "pod": meta.name}
    labels = _labels(place) | named
    _used(families, labels, pod.usage, moment)
    if pod.sandbox is not None:
        _network(families, labels | {"name": pod.sandbox}, pod.interfaces, moment)
    for each in pod.containers:
        labels = _labels(f"{place}/{each.id}") | named | {"container": each.name, "image": each.image, "name": each.id}
        _used(families, labels, each.usage, moment)
        families.add(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds.",
            each.started_at,
            labels,
            moment,
        )
        _limits(families, labels, each, moment)


def _labels(place: str) -> dict[str, str]:
    return {"container": "", "id": place, "image": "", "name": "", "namespace": "", "pod": ""}


def _used(families: Families, labels: dict[str, str], usage: Usage, moment: float) -> None:
    memory = usage.memory
    cpu_text = "Cumulative cpu time consumed in seconds."
    families.add("container_cpu_usage_seconds_total", cpu_text, usage.cpu / _SECOND, labels | {"cpu": "total"}, moment)
    for name, text, value in (
        ("container_memory_usage_bytes", "Current memory usage in bytes, including all memory.", memory.usage),
        ("container_memory_working_set_bytes", "Current working set in bytes.", memory.working_set),
        ("container_memory_rss", "Size of RSS in bytes.", memory.rss),
        ("container_memory_cache", "Number of bytes of page cache memory.", memory.cache),
        ("container_memory_swap", "Container swap usage in bytes.", memory.swap),
        ("container_processes", "Number of processes running inside the container.", usage.processes),
        ("container_threads", "Number of threads running inside the container", usage.threads),
        ("container_file_descriptors", "Number of open file descriptors for the container.", usage.descriptors),
        ("container_sockets", "Number of open sockets for the container.", usage.sockets),
        ("container_last_seen", "Last time a container was seen by the exporter", moment),
    ):
        families.add(name, text, value, labels, moment)
    for kind, value in (("pgfault", memory.faults), ("pgmajfault", memory.major_faults)):
        families.add(
            "container_memory_failures_total",
            "Cumulative count of memory allocation failures.",
            value,
            labels | {"failure_type": kind, "scope": "container"},
            moment,
        )
    if (throttling := usage.throttling) is not None:
        for name, text, count in (
            ("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", throttling.periods),
            (
                "container_cpu_cfs_throttled_periods_total",
                "Number of throttled period intervals.",
                throttling.throttled,
            ),
            (
                "container_cpu_cfs_throttled_seconds_total",
                "Total time duration the container has been throttled.",
                throttling.nanoseconds / _SECOND,
            ),
        ):
            families.add(name, text, count, labels, moment)


def _network(families: Families, labels: dict[str, str], interfaces: Sequence[Interface], moment: float) -> None:
    for interface in interfaces:
        for name, text, field in _OF_INTERFACES:
            value = getattr(interface, field)
            families.add(name, text, value, labels | {"interface": interface.name}, moment)


def _limits(families: Families, labels: dict[str, str], container: ContainerStats, moment: float) -> None:
    memory, cpu = resources.memory_limit(container.spec), resources.cpu_limit(container.spec)
    families.add("container_spec_memory_limit_bytes", "Memory limit for the container.", memory or 0, labels, moment)
    families.add("container_spec_cpu_period", "CPU period of the container.", _PERIOD, labels, moment)
    if cpu is not None:
        families.add("container_spec_cpu_quota", "CPU quota of the container.", cpu * _PERIOD // 1000, labels, moment)
