"""Pods as people write them: how soon one is Ready, how many a second start, what each holds, a kubelet at rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._nodes import Processes
from netlab.api.blocking import BlockingClient
from netlab.api.resources import DEPLOYMENTS, PODS
from netlab.errors import UnsupportedError
from netlab.machine.async_client import AsyncMachine
from netlab.machine.docker import engine
from netlab.machine.protocol import ContainerSpec
from tests import images

_OF_A_NODE, _RESTING = 110, 105
"""How many a node takes, and how many there are beside those of the lab's own for a kubelet at rest."""
_REST = 20.0
"""Seconds in which a kubelet is watched that has nothing to do."""

_CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings"},
    "data": {"COLOUR": "blue", "a": "b"},
}
_WRITTEN = {
    "env": [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "COLOUR"}}}],
    "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "ALL_"}],
    "volumeMounts": [{"name": "settings", "mountPath": "/settings"}, {"name": "scratch", "mountPath": "/scratch"}],
}
_VOLUMES = [{"name": "settings", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}]


def _template(*, written: bool, image: str = "agnhost") -> dict[str, Any]:
    """A pod's spec: bare, or with what people write."""
    args = {"args": ["pause"]} if image == "agnhost" else {}
    container = {"name": "c", "image": image, **args} | (_WRITTEN if written else {})
    volumes = {"volumes": _VOLUMES} if written else {}
    return {"terminationGracePeriodSeconds": 0, "containers": [container], **volumes}


@contextlib.contextmanager
def _lab(home: Path, nodes: int, *options: str) -> Iterator[BlockingClient]:
    environment = os.environ | {"NETLAB_HOME": str(home)}
    netlab = [sys.executable, "-m", "netlab"]
    up = [*netlab, "up", "--nodes", str(nodes), *options]
    subprocess.run(up, env=environment, stdout=subprocess.DEVNULL, check=True)
    try:
        client = BlockingClient(home / "default/api.sock")
        client.request("POST", "/api/v1/namespaces/default/configmaps", _CONFIG)
        yield client
    finally:
        subprocess.run([*netlab, "down"], env=environment, stdout=subprocess.DEVNULL, check=True)


RUNTIMES = {"built-in": "builtin", "image": "builtin", "docker": "docker"}
"""What pods are made of, and the lab's runtime for them."""


def start(home: Path, rounds: int, kind: str) -> dict[str, float]:
    """Milliseconds from the write of one pod, with volumes and variables, until the API says that it is Ready.

    The floor is a sandbox and a container by the runtime alone: no API, no network, no volumes.
    """
    found = []
    with _lab(home, 1, "--runtime", RUNTIMES[kind]) as client:
        image = _image(home) if kind == "image" else "agnhost"
        for number in range(rounds + 3):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number}"},
                "spec": _template(written=True, image=image),
            }
            began = time.perf_counter()
            made = client.request("POST", PODS.path("default"), pod)
            _until_ready(client, made)
            found.append(time.perf_counter() - began)
            client.request("DELETE", PODS.object_path("default", f"pod-{number}"), {"gracePeriodSeconds": 0})
        socket = home / "default" / ("runtimes/node-1/docker.sock" if kind == "docker" else "machines/node-1.sock")
        floor = asyncio.run(_bare(socket, home / "default/nodes/node-1/bare.log", image, rounds, held=kind == "docker"))
    measured = found[3:]  # what is loaded for the first pods stays loaded
    return {
        "median": round(statistics.median(measured) * 1000, 1),
        "p99": round(statistics.quantiles(measured, n=100)[98] * 1000, 1),
        "floor": round(statistics.median(floor) * 1000, 1),
    }


def _image(home: Path) -> str:
    """An image of the store, with busybox-static: its name."""
    name = "bench.example/pause:1"
    with tempfile.TemporaryDirectory() as folder:
        archive = images.docker_archive(Path(folder, "a.tar"), name, [images.busybox()], Entrypoint=["sleep", "1000"])
        load = [sys.executable, "-m", "netlab", "image", "load", str(archive)]
        environment = os.environ | {"NETLAB_HOME": str(home)}
        subprocess.run(load, env=environment, stdout=subprocess.DEVNULL, check=True)
    return name


async def _bare(socket: Path, log: Path, image: str, rounds: int, *, held: bool) -> list[float]:
    """The seconds of a sandbox and a container by what runs them; an engine holds sandboxes."""
    found = []
    argv = [] if image == "agnhost" else ["sleep", "1000"]
    async with AsyncMachine(socket) as machine:
        for number in range(rounds):
            sandbox, name = f"bare-{number}", f"bare-{number}-c"
            spec = ContainerSpec(id=name, image=image, log=str(log), sandbox=sandbox, command=argv)
            began = time.perf_counter()
            if held:
                os.close(await machine.hold_sandbox(sandbox, sandbox))
            else:
                await machine.create_sandbox(sandbox)
            await machine.run_container(spec)
            found.append(time.perf_counter() - began)
            await machine.kill(name, 9)
            async for ended in machine.events():
                if ended.id == name:
                    break
            await machine.remove(name)
            await machine.remove_sandbox(sandbox)
    return found


def starts(home: Path, rounds: int) -> dict[str, dict[str, float] | str]:
    """The figures of each kind of pod, or why there are none."""
    found: dict[str, dict[str, float] | str] = {}
    for kind in RUNTIMES:
        lacking = _lacking(kind)
        found[kind] = lacking or start(home, rounds, kind)
    return found


def _lacking(kind: str) -> str:
    if kind == "image":
        return "" if images.BUSYBOX.exists() else "the host has no busybox-static"
    if kind == "docker":
        if os.geteuid() != 0:
            return "needs root"
        try:
            engine.connect(engine.address()).close()
        except UnsupportedError as error:
            return str(error)
    return ""


def _until_ready(client: BlockingClient, pod: dict[str, Any]) -> None:
    meta = pod["metadata"]
    params = {"fieldSelector": f"metadata.name={meta['name']}", "resourceVersion": meta["resourceVersion"]}
    for event in client.watch(PODS.path("default"), params=params, idle_timeout=60):
        told = {each["type"]: each["status"] for each in event["object"].get("status", {}).get("conditions", ())}
        if told.get("Ready") == "True":
            return


def many(home: Path, pods: int) -> dict[str, float]:
    """Pods a second until all are available, as written; the floor is as many bare ones, in a lab like it."""
    rates, cpu, memory = {}, {}, 0.0
    for written in (False, True):
        with _lab(home, -(-pods // _OF_A_NODE)) as client:
            monitor = int((home / "default/monitor.pid").read_text().split()[0])
            before, used = _proportional(monitor), sum(Processes(monitor).cpu.values())
            began = time.perf_counter()
            client.request("POST", DEPLOYMENTS.path("default"), _deployment(pods, written=written))
            _until_available(client, pods)
            rates[written] = pods / (time.perf_counter() - began)
            cpu[written] = (sum(Processes(monitor).cpu.values()) - used) / pods * 1000
            memory = (_proportional(monitor) - before) / pods
    return {
        "pods": pods,
        "pods_per_second": round(rates[True], 1),
        "floor": round(rates[False], 1),
        "cpu_ms_per_pod": round(cpu[True], 1),
        "floor_cpu_ms": round(cpu[False], 1),
        "ratio": round(cpu[True] / cpu[False], 2),
        "mib_per_pod": round(memory / 1024, 2),
    }


def _deployment(pods: int, *, written: bool) -> dict[str, Any]:
    labels = {"app": "many"}
    template = {"metadata": {"labels": labels}, "spec": _template(written=written)}
    spec = {"replicas": pods, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec}


def _until_available(client: BlockingClient, pods: int) -> None:
    path = DEPLOYMENTS.object_path("default", "many")
    while client.request("GET", path).get("status", {}).get("availableReplicas") != pods:
        time.sleep(0.1)


def _proportional(first: int) -> float:
    """KiB that the processes beneath one hold, with their share of what they have in common with others (Pss)."""
    total = 0
    for pid in Processes(first).cpu:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def rest(home: Path) -> dict[str, float]:
    """What a kubelet with 105 pods takes when nothing happens, in per cent of a processor; the floor is with none."""
    with _lab(home, 1) as client:
        monitor = int((home / "default/monitor.pid").read_text().split()[0])
        (kubelet,) = (pid for pid in Processes(monitor).cpu if _name(pid).startswith("kubelet"))
        floor = _share(kubelet)
        client.request("POST", DEPLOYMENTS.path("default"), _deployment(_RESTING, written=True))
        _until_available(client, _RESTING)
        time.sleep(_REST / 4)
        return {"per_cent": round(_share(kubelet) * 100, 2), "floor": round(floor * 100, 2)}


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def _share(pid: int) -> float:
    def used() -> float:
        fields = [
            int(task.joinpath("schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
        ]
        return sum(fields) / 1e9

    before = used()
    time.sleep(_REST)
    return (used() - before) / _REST


def report_starts(begun: dict[str, Any]) -> None:
    """Print."""
    for kind, each in begun.items():
        if isinstance(each, str):
            print(f"a pod, {kind}: {each}")
        else:
            median, p99, floor = each["median"], each["p99"], each["floor"]
            print(f"a pod, {kind}, is Ready after {median} ms (median), {p99} ms (p99); floor {floor} ms")


def report(figures: dict[str, Any]) -> None:
    """Print."""
    rate, resting = figures["many"], figures["rest"]
    report_starts(figures["start"])
    print(
        f"{rate['pods']} pods: {rate['pods_per_second']} a second, bare ones {rate['floor']}; "
        f"{rate['cpu_ms_per_pod']} ms of a processor each, bare ones {rate['floor_cpu_ms']} ms ({rate['ratio']}); "
        f"{rate['mib_per_pod']} MiB each"
    )
    print(f"a kubelet at rest: {resting['per_cent']} % of a processor, without pods {resting['floor']} %")
