"""What a probe may meet in a lab, at two times: if it has changed, what was seen of the probe proves little."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from netlab.api.blocking import BlockingClient
from netlab.api.cluster import Cluster, read
from netlab.capture.taps import Tap
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.taps import tapped
from netlab.lab.trouble import is_ready
from netlab.net.nftables.socket import Nfnetlink


class Scene(NamedTuple):
    """The objects that decide a path, and the interfaces that are up, each with its network namespace."""

    cluster: Cluster
    taps: Mapping[Tap, Network]


def scene(client: BlockingClient, envoy: NetworkEnvoy) -> Scene:
    """A lab as it is now. Raises what the client raises, and `UnavailableError` when the lab has ended."""
    return Scene(read(client), tapped(envoy))


def met(before: Scene, after: Scene) -> Iterator[str]:
    """What has changed between two times, in words. Pure."""
    was, now = _telling(before), _telling(after)
    for name in dict.fromkeys([*was, *now]):
        if name not in was:
            yield f"{name} appeared"
        elif name not in now:
            yield f"{name} disappeared"
        elif was[name] != now[name]:
            yield f"{name} changed"
    yield from (f"interface {name} appeared" for name in _names(after.taps, before.taps))
    yield from (f"interface {name} disappeared" for name in _names(before.taps, after.taps))


def unready(now: Scene, address: str, port: int) -> Iterator[str]:
    """The pods and Services at an address and port that are not ready, in words. Pure."""
    for pod in now.cluster.pods.values():
        if address in [each.ip for each in pod.status.podIPs] and not pod.spec.hostNetwork and not is_ready(pod):
            yield f"pod {pod.key} is not ready ({pod.status.phase or 'Pending'})"
    for service in now.cluster.services.values():
        ingress = [each.ip for each in service.status.loadBalancer.ingress]
        dialled = address in [*service.spec.clusterIPs, *service.spec.externalIPs, *ingress]
        if not dialled and port not in [each.nodePort for each in service.spec.ports if each.nodePort]:
            continue
        listed = [each for one in now.cluster.slices.get(service.key, ()) for each in one.endpoints]
        if listed and not any(each.conditions.ready is not False for each in listed):
            yield f"Service {service.key} has endpoints, but none is ready"


def _telling(one: Scene) -> dict[str, Any]:
    """By name, the part of each object that decides a path."""
    found: dict[str, Any] = {}
    for pod in one.cluster.pods.values():
        addresses = [each.ip for each in pod.status.podIPs]
        leaving = pod.metadata.deletionTimestamp is not None
        found[f"pod {pod.key}"] = (pod.metadata.uid, addresses, pod.status.phase, is_ready(pod), leaving)
    for service in one.cluster.services.values():
        found[f"Service {service.key}"] = (service.spec, service.status.loadBalancer)
    for service_key, slices in one.cluster.slices.items():
        for each in slices:
            key = each.key if service_key.endswith("/") else service_key
            found.setdefault(f"the endpoint list of {key}", {})[each.metadata.name] = (each.endpoints, each.ports)
    return found


def rules(envoy: NetworkEnvoy, machines: Iterable[Network]) -> dict[str, int]:
    """The generation of each machine's nftables ruleset: every change makes it a new number."""
    return {machine.owner: envoy.run(machine, _generation) for machine in machines}


def rules_met(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """Whose rules have changed between two times, in words. Pure."""
    return (f"the rules of {name} changed" for name, number in before.items() if after.get(name) != number)


def _generation() -> int:
    with Nfnetlink() as kernel:
        return kernel.generation()


def _names(one: Collection[Tap], other: Collection[Tap]) -> list[str]:
    return sorted({tap.name for tap in one} - {tap.name for tap in other})
