"""How a lab grows with its nodes: its start, what it holds, and what a change in a large Service costs each node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks._plot import plot
from netlab.api.blocking import BlockingClient
from netlab.api.resources import ENDPOINTSLICES, SERVICES
from netlab.net import syscalls

_LIBRARIES = "import asyncio, aiohttp, pyroute2, msgspec"
_PROCESSES_OF_A_NODE = 3
_NAMESPACES = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC

_ENDPOINTS, _IN_A_SLICE = 1500, 100
_CHANGES = 20
_SETTLED = 1.0
"""Seconds in which the proxies carry out what was written last."""


def measure(home: Path, nodes: int) -> dict[str, Any]:
    """One lab, up and down again, beside the floor of the same run."""
    floor = _floor(nodes)
    environment = os.environ | {"NETLAB_HOME": str(home)}
    netlab = [sys.executable, "-m", "netlab"]
    began = time.perf_counter()
    up = [*netlab, "up", "--nodes", str(nodes), "--no-dns"]  # its pod starts while others are counted
    subprocess.run(up, env=environment, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - began
    try:
        lab = Processes(int((home / "default/monitor.pid").read_text().split()[0]))
        found = {
            "nodes": nodes,
            "up_seconds": round(seconds, 2),
            "floor_seconds": round(floor, 2),
            "ratio": round(seconds / floor, 1),
            "cpu_seconds": round(sum(lab.cpu.values()), 2),
            "descriptors": lab.descriptors(),
            "change_ms_of_each_proxy": round(_change(home, nodes) * 1e3, 2),
        }
    finally:
        subprocess.run([*netlab, "down"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return found


def curves(found: Sequence[dict[str, Any]]) -> str:
    """The plot of start and floor."""
    lines = [
        (name, colour, [(float(each["nodes"]), float(each[key])) for each in found])
        for name, colour, key in (
            ("up", "#1f6feb", "up_seconds"),
            ("processor time", "#8250df", "cpu_seconds"),
            ("floor", "#6e7781", "floor_seconds"),
        )
    ]
    return plot(lines, "nodes")


class Processes:
    """The processes beneath one, and the processor time that each has used."""

    def __init__(self, first: int) -> None:
        children: defaultdict[int, list[int]] = defaultdict(list)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                    children[int(parent)].append(int(entry.name))
        self.cpu: dict[int, float] = {}
        waiting = [first]
        while waiting:
            pid = waiting.pop()
            waiting += children[pid]
            with contextlib.suppress(OSError):
                self.cpu[pid] = sum(_running_time(task) for task in Path(f"/proc/{pid}/task").iterdir())

    def descriptors(self) -> int:
        """How many they have open."""
        return sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in self.cpu)

    def named(self, prefix: str) -> Iterator[float]:
        """The processor time of those of which the name begins so."""
        for pid, seconds in self.cpu.items():
            if Path(f"/proc/{pid}/comm").read_text().startswith(prefix):
                yield seconds


def _running_time(task: Path) -> float:
    return int((task / "schedstat").read_text().split()[0]) / 1e9


def _change(home: Path, nodes: int) -> float:
    """Seconds of processor time for each kube-proxy and change of one endpoint, of a Service that has many."""
    client = BlockingClient(home / "default/api.sock")
    spec = {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "large"}, "spec": spec}
    client.request("POST", SERVICES.path("default"), service)
    slices = [_slice(number, nodes) for number in range(_ENDPOINTS // _IN_A_SLICE)]
    for made in slices:
        client.request("POST", ENDPOINTSLICES.path("default"), made)
    time.sleep(5 * _SETTLED)
    monitor = int((home / "default/monitor.pid").read_text().split()[0])
    before = sum(Processes(monitor).named("kube-proxy"))
    for number in range(_CHANGES):
        changed = slices[number % len(slices)]
        changed["endpoints"][number]["conditions"]["ready"] ^= True
        client.request("PUT", ENDPOINTSLICES.object_path("default", changed["metadata"]["name"]), changed)
        time.sleep(0.2)
    time.sleep(_SETTLED)
    return (sum(Processes(monitor).named("kube-proxy")) - before) / nodes / _CHANGES


def _slice(number: int, nodes: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"large-{number}", "labels": {"kubernetes.io/service-name": "large"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.244.{each % nodes + 1}.{number * 10 + each // 10 + 2}"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node-{each % nodes + 1}",
            }
            for each in range(_IN_A_SLICE)
        ],
    }


def _floor(nodes: int) -> float:
    """An interpreter that loads the libraries, and then bare nodes: namespaces, a veth pair, and forked processes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _LIBRARIES], check=True)
    keeper = os.fork()
    if keeper == 0:
        try:
            _make_bare_nodes(nodes)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(keeper, 0)
    assert status == 0, "the bare nodes could not be made"
    return time.perf_counter() - began


def _make_bare_nodes(nodes: int) -> None:
    from pyroute2 import IPRoute

    if os.geteuid() != 0:
        from tests.sandbox import enter

        enter()
    syscalls.unshare(_NAMESPACES)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    pids = []
    with IPRoute() as ip:
        for number in range(nodes):
            syscalls.unshare(_NAMESPACES)
            for _ in range(_PROCESSES_OF_A_NODE):
                pids.append(os.fork())
                if pids[-1] == 0:
                    signal.pause()
            own = os.open("/proc/self/ns/net", os.O_RDONLY)
            syscalls.setns(home, syscalls.CLONE_NEWNET)
            ip.link("add", ifname=f"v{number}", kind="veth", peer={"ifname": "eth0", "net_ns_fd": own})
            os.close(own)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
