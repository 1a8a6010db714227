"""How fast a lab is: up, thirty pods reachable, a thousand pods, down. Each beside the machine's own floor.

    python benchmarks/lab.py [--json] [--pods 1000] [--repeat 5]
    python benchmarks/lab.py --nodes 10,25,50,100 [--json] [--curves FILE.svg]

The floors are measured in the same run, alternating with what they are compared to:
- up: one Python interpreter loading the libraries that a lab's daemon loads, which no lab can do without;
- pods: network namespaces with a veth pair each and a forked process in it, made in a plain loop;
- down: the end of those processes and namespaces, left to the kernel.

With --nodes: how a lab grows with them. Its floor is that interpreter, and then as many bare nodes in a plain loop:
each a set of namespaces, a veth pair and three forked processes. The last figure is the processor time that one
kube-proxy takes for one endpoint that changes in a Service of 1,500.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import _nodes
from netlab.api.blocking import BlockingClient
from netlab.api.resources import DEPLOYMENTS, PODS
from netlab.net import syscalls

_LIBRARIES = "import asyncio, aiohttp, pyroute2, msgspec"
_FLOOR_PODS = 200
_PODS_OF_A_SUBNET = 253

_DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - {{name: web, image: agnhost, args: [netexec]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


class Bench:
    """The netlab program in a home of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._environment = os.environ | {"NETLAB_HOME": str(home)}

    def netlab(self, *arguments: str, stdin: str | None = None) -> float:
        """Run a command that must succeed; the seconds it took."""
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "netlab", *arguments],
            env=self._environment,
            input=stdin,
            text=True,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - began

    def client(self) -> BlockingClient:
        """The API of the lab called default."""
        return BlockingClient(self._home / "default/api.sock")

    def pids(self) -> list[int]:
        """The containers: processes whose program is agnhost."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "comm").read_text().strip() == "agnhost":
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def node_pidfd(self) -> int:
        """The first node."""
        from netlab.machine.client import Machine

        with Machine(self._home / "default/machines/node-1.sock") as machine:
            return machine.open()


def up_and_down(bench: Bench, repeat: int) -> dict[str, Any]:
    """`netlab up --nodes 3` from nothing to all nodes Ready, and the way back."""
    ups, downs, floors = [], [], []
    for _ in range(repeat):
        floors.append(_timed(lambda: subprocess.run([sys.executable, "-c", _LIBRARIES], check=True)))
        ups.append(bench.netlab("up", "--nodes", "3"))
        downs.append(bench.netlab("down"))
    return {
        "up_3_nodes_seconds": _summary(ups, statistics.median(floors)),
        "down_3_nodes_seconds": {"median": round(statistics.median(downs), 3), "runs": len(downs)},
    }


def thirty_pods(bench: Bench, home: Path, repeat: int) -> dict[str, Any]:
    """From nothing to 30 pods on 3 nodes that each answered a TCP connection."""
    file = home / "thirty.yaml"
    file.write_text("apiVersion: netlab/v1\nkind: Lab\nspec: {nodes: 3}\n---" + _DEPLOYMENT.format(replicas=30))
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        bench.netlab("up", "-f", str(file))
        addresses = _wait_pods(bench.client(), 30)
        _connect_to_all(bench.node_pidfd(), addresses)
        times.append(time.perf_counter() - began)
        bench.netlab("down")
    file.unlink()
    return {"thirty_pods_reachable_seconds": {"median": round(statistics.median(times), 3), "runs": len(times)}}


def many_pods(bench: Bench, home: Path, pods: int) -> dict[str, Any]:
    """A Deployment of many pods, on as few nodes as their /24 subnets allow, and its end."""
    floor_rate, floor_down = _floor_of_pods()
    file = home / "many.yaml"
    nodes = -(-pods // _PODS_OF_A_SUBNET)
    file.write_text(
        f"apiVersion: netlab/v1\nkind: Lab\nspec: {{nodes: {nodes}, maxPods: {_PODS_OF_A_SUBNET}, dns: false}}\n"
    )
    bench.netlab("up", "-f", str(file))
    file.unlink()
    began = time.perf_counter()
    bench.netlab("apply", "-f", "-", stdin=_DEPLOYMENT.format(replicas=pods))
    client = bench.client()
    while True:
        if (
            client.request("GET", DEPLOYMENTS.object_path("default", "web")).get("status", {}).get("availableReplicas")
            == pods
        ):
            break
        time.sleep(0.1)
    rate = pods / (time.perf_counter() - began)
    private = [_private_kib(pid) for pid in bench.pids()]
    down = bench.netlab("down")
    return {
        "pods": pods,
        "pods_per_second": {
            "value": round(rate, 1),
            "floor": round(floor_rate, 1),
            "ratio": round(floor_rate / rate, 2),
        },
        "private_kib_per_container": {"median": statistics.median(private), "largest": max(private)},
        "down_seconds": {"value": round(down, 2), "floor": round(floor_down * pods / _FLOOR_PODS, 2)},
    }


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _summary(values: list[float], floor: float) -> dict[str, float]:
    median = statistics.median(values)
    return {
        "median": round(median, 3),
        "floor": round(floor, 3),
        "ratio": round(median / floor, 2),
        "runs": len(values),
    }


def _wait_pods(client: BlockingClient, count: int) -> list[str]:
    while True:
        pods = client.request("GET", PODS.path("default"))["items"]
        addresses = [pod.get("status", {}).get("podIP") for pod in pods]
        if len(addresses) == count and all(addresses):
            return addresses
        time.sleep(0.02)


def _connect_to_all(pidfd: int, addresses: list[str]) -> None:
    child = os.fork()
    if child == 0:
        try:
            from netlab.machine.join import join

            join(pidfd)
            for address in addresses:
                _connect(address)
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a pod does not answer"


def _connect(address: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address, 8080), timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def _floor_of_pods() -> tuple[float, float]:
    """Bare pods a second, and the seconds that ending them took: made and ended in a child's own namespaces."""
    read_end, write_end = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        _keep_bare_pods(write_end)
    first, rate = os.read(read_end, 64).decode().split()
    pidfd = os.pidfd_open(int(first))
    began = time.perf_counter()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [])
    seconds = time.perf_counter() - began
    os.waitpid(keeper, 0)
    return float(rate), seconds


def _keep_bare_pods(report: int) -> NoReturn:
    """Become the parent of a new pid namespace's first process, which makes the bare pods, and wait for its end."""
    try:
        if os.geteuid() != 0:
            from tests.sandbox import enter

            enter()
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET)
        read_end, write_end = os.pipe()
        first = os.fork()
        if first == 0:
            os.write(write_end, str(_make_bare_pods()).encode())
            signal.pause()
        os.write(report, f"{first} {os.read(read_end, 32).decode()}".encode())
        os.waitpid(first, 0)
    finally:
        os._exit(0)


def _make_bare_pods() -> float:
    from pyroute2 import IPRoute

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    with IPRoute() as ip:
        began = time.perf_counter()
        for number in range(_FLOOR_PODS):
            syscalls.unshare(syscalls.CLONE_NEWNET)
            if os.fork() == 0:
                signal.pause()
            own = os.open("/proc/self/ns/net", os.O_RDONLY)
            syscalls.setns(home, syscalls.CLONE_NEWNET)
            ip.link("add", ifname=f"v{number}", kind="veth", peer={"ifname": "eth0", "net_ns_fd": own})
            os.close(own)
        return _FLOOR_PODS / (time.perf_counter() - began)


def _grow(sizes: list[int], curves: Path | None, *, as_json: bool) -> None:
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
            found.append(_nodes.measure(Path(directory) / "labs", size))
        if not as_json:
            print(", ".join(f"{name} {value}" for name, value in found[-1].items()), flush=True)
    if as_json:
        print(json.dumps(found, indent=2))
    if curves:
        curves.write_text(_nodes.curves(found))


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--nodes", type=lambda text: [int(part) for part in text.split(",")], metavar="N,N,...")
    parser.add_argument("--curves", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    if arguments.nodes:
        _grow(arguments.nodes, arguments.curves, as_json=arguments.json)
        return
    with tempfile.TemporaryDirectory(prefix="netlab-") as directory:
        home = Path(directory) / "labs"
        bench = Bench(home)
        results = up_and_down(bench, arguments.repeat)
        results |= thirty_pods(bench, Path(directory), arguments.repeat)
        results |= many_pods(bench, Path(directory), arguments.pods)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:34} {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}")


if __name__ == "__main__":
    main()
