"""What uses a lab most: its nodes and pods as their kubelets tell, its connections as the nodes' kernels count them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from netlab.api import quantities
from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.resources import NODES
from netlab.capture.headers import protocol_name
from netlab.errors import NotFoundError
from netlab.lab.lab import Lab
from netlab.lab.names import Names
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.net.conntrack.entries import Entry, entries
from netlab.net.namespaces import write_sysctls

_AT_ONCE = 8
"""Kubelets that are asked at the same time."""
_PATIENCE = 5.0
"""Seconds in which one has to answer."""

Subject = Literal["pods", "nodes", "flows"]


@dataclass(frozen=True, slots=True)
class Row:
    """What one pod or node uses: processors, bytes, bytes a second; None where nothing can be said yet."""

    names: tuple[str, ...]
    cpu: float | None
    memory: int
    received: float | None
    sent: float | None
    processes: int
    cpu_share: float | None = None
    memory_share: float | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """Connections of one client to one server: how many there are, and what they carry in a second."""

    client: str
    dialled: str
    server: str
    protocol: str
    connections: int
    packets: float | None
    bytes: float | None


@dataclass(frozen=True, slots=True)
class _Counted:
    moment: float
    received: int
    sent: int


@dataclass(slots=True)
class Usage:
    """Reads a lab's pods and nodes again and again; what is told by the second is between two readings."""

    client: BlockingClient
    _before: dict[tuple[str, ...], _Counted] = field(default_factory=dict)

    def read(self) -> tuple[list[Row], list[Row], list[str]]:
        """Nodes, pods, and the nodes whose kubelets do not answer. Raises what the client raises."""
        nodes = self.client.list(NODES)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            told = list(threads.map(lambda node: _summary(self.client, node.metadata.name), nodes))
        before, self._before = self._before, {}
        of_nodes, of_pods, silent = [], [], []
        for node, answer in zip(nodes, told, strict=True):
            name = node.metadata.name
            if answer is None:
                silent.append(name)
                continue
            moment, summary = answer
            row = self._row((name,), summary["node"], moment, before, summary["node"].get("rlimit", {}).get("curproc"))
            of_nodes.append(_with_shares(row, node.status.allocatable))
            for pod in summary["pods"]:
                names = (pod["podRef"]["namespace"], pod["podRef"]["name"], name)
                processes = pod.get("process_stats", {}).get("process_count")
                of_pods.append(self._row(names, pod, moment, before, processes))
        return of_nodes, of_pods, silent

    def _row(
        self,
        names: tuple[str, ...],
        told: Mapping[str, Any],
        moment: float,
        before: Mapping[tuple[str, ...], _Counted],
        processes: int | None,
    ) -> Row:
        network = told.get("network", {})
        now = _Counted(moment, network.get("rxBytes", 0), network.get("txBytes", 0))
        self._before[names] = now
        rates = _rates(before.get(names), now) if network else (None, None)
        rate = told["cpu"].get("usageNanoCores")
        cpu = None if rate is None else rate / 1e9
        return Row(names, cpu, told["memory"]["workingSetBytes"], *rates, processes or 0)


def _summary(client: BlockingClient, node: str) -> tuple[float, dict[str, Any]] | None:
    """What a node's kubelet tells, and when (on the monotonic clock); None if it does not answer."""
    path = NODES.object_path(None, node, "proxy")
    try:
        answer: dict[str, Any] = client.request("GET", f"{path}/stats/summary", timeout=_PATIENCE)
    except (ApiError, ApiUnavailableError):
        return None
    return time.monotonic(), answer


def _rates(before: _Counted | None, now: _Counted) -> tuple[float | None, float | None]:
    if before is None or now.moment <= before.moment:
        return None, None
    passed = now.moment - before.moment
    # An interface that was made anew counts from nothing.
    return max(now.received - before.received, 0) / passed, max(now.sent - before.sent, 0) / passed


def _with_shares(row: Row, allocatable: Mapping[str, Any]) -> Row:
    cpu, memory = (_amount(allocatable.get(each)) for each in ("cpu", "memory"))
    return Row(
        row.names,
        row.cpu,
        row.memory,
        row.received,
        row.sent,
        row.processes,
        cpu_share=row.cpu / cpu if row.cpu is not None and cpu else None,
        memory_share=row.memory / memory if memory else None,
    )


def _amount(written: object) -> float:
    with contextlib.suppress(ValueError):
        return float(quantities.parse(str(written)))
    return 0.0


# --- flows -----------------------------------------------------------------------------------------------------------

_Key = tuple[int, bytes, int, bytes, int]
"""A connection, whichever namespaces track it: the protocol, its client and its server, each with its port."""


@dataclass(slots=True)
class Flows:
    """Reads what a lab's nodes track. They count bytes and packets from the first reading on."""

    envoy: NetworkEnvoy
    names: Callable[[], Names]
    _before: tuple[float, dict[_Key, Entry]] | None = None

    @classmethod
    def of(cls, lab: Lab, envoy: NetworkEnvoy) -> Flows:
        """The flows of a lab, with present names."""
        from netlab.api.cluster import read

        return cls(envoy, lambda: Names(read(lab.client()), lab.spec().outside_addresses))

    def read(self) -> list[Flow]:
        """The connections, those of one client to one server together. Raises `NetlinkError`, and what `names` does."""
        names = self.names()
        found: dict[_Key, Entry] = {}
        for network in self.envoy.machines()[1:-1]:
            with contextlib.suppress(NotFoundError):
                found |= preferred(found, self._tracked(network))
        moment = time.monotonic()
        before, self._before = self._before, (moment, found)
        passed = None if before is None else moment - before[0]
        return flows(found, {} if before is None else before[1], passed, names)

    def _tracked(self, network: Network) -> list[Entry]:
        return self.envoy.run(network, tracked)


def tracked() -> list[Entry]:
    """What the current network namespace tracks; from now on it counts what new connections carry."""
    write_sysctls({"net/netfilter/nf_conntrack_acct": "1"}, optional=True)
    return entries()


def preferred(known: Mapping[_Key, Entry], found: Iterable[Entry]) -> dict[_Key, Entry]:
    """Of entries, those that say more than the known: of a connection that two nodes track, the one that translates."""
    chosen = {}
    for entry in found:
        client, server = entry.original[:2], entry.reply[:2]
        key = (entry.protocol, *client, *server)
        if key not in known or entry.original[2:] != server:
            chosen[key] = entry
    return chosen


def flows(found: Mapping[_Key, Entry], before: Mapping[_Key, Entry], passed: float | None, names: Names) -> list[Flow]:
    """The connections by client (without its port), what that dialled and who answers. Pure."""
    grouped: dict[tuple[str, str, str, str], list[tuple[Entry, Entry | None]]] = {}
    for key, entry in found.items():
        client, _, dialled, port = entry.original
        ends = (
            names.called(client, 0, entry.protocol),
            names.called(dialled, port, entry.protocol),
            names.called(entry.reply[0], entry.reply[1], entry.protocol),
            protocol_name(entry.protocol),
        )
        grouped.setdefault(ends, []).append((entry, before.get(key)))
    return [
        Flow(*ends, len(pairs), _rate(pairs, "packets", passed), _rate(pairs, "bytes", passed))
        for ends, pairs in grouped.items()
    ]


def _rate(
    pairs: Sequence[tuple[Entry, Entry | None]], field: Literal["packets", "bytes"], passed: float | None
) -> float | None:
    if not passed:
        return None
    counted = [
        (getattr(now, field), getattr(before, field) if before is not None else 0)
        for now, before in pairs
        if getattr(now, field) is not None
    ]
    if not counted:
        return None
    return float(sum(max(now - (earlier or 0), 0) for now, earlier in counted)) / passed
