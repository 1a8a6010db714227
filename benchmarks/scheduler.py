"""How many decisions the scheduler makes in a second, apart from the API: 1,000 pods on 99 nodes in three zones.

    python benchmarks/scheduler.py [--json] [--pods 1000] [--nodes 99]

Each kind of pod is placed on nodes that have only pods of its kind, and the more of them the longer it takes. The floor
is reading the same pods from their JSON, which every scheduler must. The last figure is one preemption: the pod finds
all nodes full, and may take the place of any of the pods.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from netlab.api.core_types import Node, Pod
from netlab.api.selectors import from_labels
from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.decision import Unschedulable, choose
from netlab.controlplane.scheduler.podinfo import PodInfo
from netlab.controlplane.scheduler.preemption import Preemption, preempt

_DECODER = msgspec.json.Decoder(Pod)

_HOST, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_WEB = {"app": "web"}
_TERM = {"topologyKey": _ZONE, "labelSelector": {"matchLabels": _WEB}}
_APART = {"weight": 1, "podAffinityTerm": _TERM | {"topologyKey": _HOST}}
_EVEN = {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": _WEB}}

KINDS: dict[str, dict[str, Any]] = {
    "of a Service": {},
    "spread": {"topologySpreadConstraints": [_EVEN | {"topologyKey": key} for key in (_HOST, _ZONE)]},
    "near": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_TERM]}}},
    "apart": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_APART]}}},
}


def _cache(nodes: int) -> Cache:
    cache = Cache(lambda: {"default": {}}, lambda pod: from_labels(dict(pod.labels)))
    for number in range(nodes):
        name = f"node-{number}"
        manifest = {
            "metadata": {"name": name, "labels": {_HOST: name, _ZONE: str(number % 3)}},
            "status": {
                "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        cache.set_node(msgspec.convert(manifest, Node))
    return cache


def _pod(name: str, cpu: str, **spec: Any) -> bytes:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "10Mi"}}}
    meta = {"name": name, "uid": name, "namespace": "default", "labels": _WEB}
    return msgspec.json.encode({"metadata": meta, "spec": {"containers": [container]} | spec})


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _read(raw: Iterable[bytes]) -> list[Pod]:
    return [_DECODER.decode(each) for each in raw]


def _place(raw: Iterable[bytes], cache: Cache) -> None:
    for each in raw:
        info = PodInfo.of(_DECODER.decode(each))
        choice = choose(info, cache)
        assert isinstance(choice, str), choice
        cache.place(info, choice)


def _make_room(cache: Cache) -> None:
    important = PodInfo.of(_DECODER.decode(_pod("important", "64", priority=1)))
    found = choose(important, cache)
    assert isinstance(found, Unschedulable)
    assert isinstance(preempt(important, cache, found, []), Preemption)


def measure(pods: int, nodes: int) -> dict[str, float]:
    """Decisions a second for each kind of pod, and milliseconds of one that takes the place of others."""
    results: dict[str, float] = {}
    for kind, spec in KINDS.items():
        cache = _cache(nodes)
        raw = [_pod(f"{kind}-{number}", "10m", **spec) for number in range(pods)]
        results[f"{kind}: a second"] = round(pods / _timed(functools.partial(_place, raw, cache)))
    results["preemption: ms"] = round(1000 * _timed(functools.partial(_make_room, cache)), 1)
    results["floor: a second"] = round(pods / _timed(functools.partial(_read, raw)))
    return results


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=99)
    arguments = parser.parse_args()
    results = measure(arguments.pods, arguments.nodes)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
