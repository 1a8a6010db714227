"""`/stats/summary` (k8s.io/kubelet, pkg/apis/stats/v1alpha1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netlab.api.meta_types import format_time
from netlab.node import resources
from netlab.node.stats.collector import NodeStats, PodStats
from netlab.node.stats.counters import Reading
from netlab.node.stats.usage import Interface, Memory

_FIRST = "eth0"
"""The interface of a pod, or a node, that stands for all."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Where a node keeps what its containers write: bytes and inodes."""

    capacity: int
    available: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What does not come from counting: since when (seconds since the epoch) the node runs, and what it has."""

    name: str
    started_at: float
    memory: int
    processes: int
    file_system: FileSystem
    logs: Mapping[str, int]
    """Bytes on the disk of a container's logs, by its id."""


def of_node(stats: NodeStats, facts: NodeFacts, *, cpu_and_memory: bool) -> dict[str, Any]:
    """The whole; with `cpu_and_memory` (`?only_cpu_and_memory=true`) that alone."""
    time = format_time(stats.moment)
    node = {
        "nodeName": facts.name,
        "startTime": format_time(facts.started_at),
        "cpu": _cpu(time, stats.cpu),
        "memory": _memory(time, stats.usage.memory, facts.memory),
        "swap": {"time": time, "swapUsageBytes": stats.usage.memory.swap},
    }
    if not cpu_and_memory:
        disk = _file_system(time, facts.file_system)
        node |= {
            "network": _network(time, stats.interfaces),
            "fs": disk,
            "runtime": {"imageFs": disk, "containerFs": disk},
            "rlimit": {"time": time, "maxpid": facts.processes, "curproc": stats.usage.processes},
        }
    pods = [_pod(time, each, facts, cpu_and_memory=cpu_and_memory) for each in stats.pods]
    return {"node": node, "pods": pods}


def _pod(time: str, stats: PodStats, facts: NodeFacts, *, cpu_and_memory: bool) -> dict[str, Any]:
    meta = stats.pod.metadata
    containers = []
    for each in stats.containers:
        limit = resources.memory_limit(each.spec)
        container = {
            "name": each.name,
            "startTime": format_time(each.started_at),
            "cpu": _cpu(time, each.cpu),
            "memory": _memory(time, each.usage.memory, limit),
            "swap": {"time": time, "swapUsageBytes": each.usage.memory.swap},
        }
        if not cpu_and_memory:
            container["logs"] = _file_system(time, facts.file_system) | {"usedBytes": facts.logs.get(each.id, 0)}
        containers.append(container)
    pod = {
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": stats.pod.status.startTime or format_time(stats.started_at),
        "containers": containers,
        "cpu": _cpu(time, stats.cpu),
        "memory": _memory(time, stats.usage.memory, None),
        "swap": {"time": time, "swapUsageBytes": stats.usage.memory.swap},
    }
    if not cpu_and_memory:
        pod["process_stats"] = {"process_count": stats.usage.processes}
        if stats.sandbox is not None:
            pod["network"] = _network(time, stats.interfaces)
    return pod


def _cpu(time: str, reading: Reading) -> dict[str, Any]:
    rate = {} if reading.rate is None else {"usageNanoCores": reading.rate}
    return {"time": time, **rate, "usageCoreNanoSeconds": reading.total}


def _memory(time: str, memory: Memory, most: int | None) -> dict[str, Any]:
    available = {} if most is None else {"availableBytes": max(most - memory.working_set, 0)}
    return {
        "time": time,
        **available,
        "usageBytes": memory.usage,
        "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss,
        "pageFaults": memory.faults,
        "majorPageFaults": memory.major_faults,
    }


def _network(time: str, interfaces: Sequence[Interface]) -> dict[str, Any]:
    listed = [
        {
            "name": each.name,
            "rxBytes": each.rx_bytes,
            "rxErrors": each.rx_errors,
            "txBytes": each.tx_bytes,
            "txErrors": each.tx_errors,
        }
        for each in interfaces
    ]
    first = next((each for each in listed if each["name"] == _FIRST), listed[0] if listed else {"name": ""})
    return {"time": time, **first, "interfaces": listed}


def _file_system(time: str, disk: FileSystem) -> dict[str, Any]:
    return {
        "time": time,
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.capacity - disk.available,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free,
    }
