"""What of Pods and Namespaces decides about connections. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netlab.api.core_types import Pod
from netlab.net.addresses import address_text, packed
from netlab.policy.book import PodFacts
from netlab.policy.rules import PodPort

_ENDED = ("Succeeded", "Failed")


def facts(pod: Pod, node: str | None = None, given: Iterable[str] = ()) -> PodFacts:
    """A pod's facts for an enforcer on a node.

    `given` are the addresses that this node has given it: the API has them later. Pods of the host's network, whose
    addresses are the node's, have none here: to policies they are the node.
    """
    ended = pod.status.phase in _ENDED
    listed = list(given) or [each.ip for each in pod.status.podIPs] or [each for each in [pod.status.podIP] if each]
    return PodFacts(
        pod.metadata.namespace,
        pod.metadata.labels,
        () if ended or pod.spec.hostNetwork else tuple(_normal(listed)),
        local=node is not None and pod.spec.nodeName == node,
        ports=tuple(_ports(pod)),
        claim=(pod.metadata.deletionTimestamp is None, pod.metadata.creationTimestamp or ""),
    )


def _normal(addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        try:
            yield address_text(packed(address))
        except OSError:
            continue


def _ports(pod: Pod) -> Iterator[PodPort]:
    # Ports of sidecars count (KEP-753); other init containers have ended when anybody connects.
    sidecars = (each for each in pod.spec.initContainers if each.restartPolicy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        yield from (PodPort(each.name, each.protocol, each.containerPort) for each in container.ports if each.name)
