"""Pods as people write them: how soon one is Ready, how many a second start, what each holds, a kubelet at rest."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._nodes import Processes
from netlab.api.blocking import BlockingClient
from netlab.api.resources import DEPLOYMENTS, PODS

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


def _template(*, written: bool) -> dict[str, Any]:
    """A pod's spec: bare, or with what people write."""
    container = {"name": "c", "image": "agnhost", "args": ["pause"]} | (_WRITTEN if written else {})
    volumes = {"volumes": _VOLUMES} if written else {}
    return {"terminationGracePeriodSeconds": 0, "containers": [container], **volumes}


@contextlib.contextmanager
def _lab(home: Path, nodes: int) -> Iterator[BlockingClient]:
    environment = os.environ | {"NETLAB_HOME": str(home)}
    netlab = [sys.executable, "-m", "netlab"]
    subprocess.run([*netlab, "up", "--nodes", str(nodes)], env=environment, stdout=subprocess.DEVNULL, check=True)
    try:
        client = BlockingClient(home / "default/api.sock")
        client.request("POST", "/api/v1/namespaces/default/configmaps", _CONFIG)
        yield client
    finally:
        subprocess.run([*netlab, "down"], env=environment, stdout=subprocess.DEVNULL, check=True)


def start(home: Path, rounds: int) -> dict[str, float]:
    """Milliseconds from the write of one pod, with volumes and variables, until the API says that it is Ready."""
    found = []
    with _lab(home, 1) as client:
        for number in range(rounds + 3):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number}"},
                "spec": _template(written=True),
            }
            began = time.perf_counter()
            made = client.request("POST", PODS.path("default"), pod)
            _until_ready(client, made)
            found.append(time.perf_counter() - began)
            client.request("DELETE", PODS.object_path("default", f"pod-{number}"), {"gracePeriodSeconds": 0})
    measured = found[3:]  # what is loaded for the first pods stays loaded
    return {
        "median": round(statistics.median(measured) * 1000, 1),
        "p99": round(statistics.quantiles(measured, n=100)[98] * 1000, 1),
    }


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


def report(figures: dict[str, Any]) -> None:
    """Print."""
    begun, rate, resting = figures["start"], figures["many"], figures["rest"]
    print(f"a pod is Ready after {begun['median']} ms (median), {begun['p99']} ms (p99)")
    print(
        f"{rate['pods']} pods: {rate['pods_per_second']} a second, bare ones {rate['floor']}; "
        f"{rate['cpu_ms_per_pod']} ms of a processor each, bare ones {rate['floor_cpu_ms']} ms ({rate['ratio']}); "
        f"{rate['mib_per_pod']} MiB each"
    )
    print(f"a kubelet at rest: {resting['per_cent']} % of a processor, without pods {resting['floor']} %")
