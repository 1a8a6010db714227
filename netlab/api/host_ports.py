"""The ports of its node that a pod takes, and which of them exclude each other (scheduler, NodePorts)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from netlab.api.core_types import PodSpec

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - as hostIP says it


class HostPort(NamedTuple):
    """A port of a node."""

    protocol: str
    number: int
    address: str
    """Empty: all of the node's."""


def host_ports(spec: PodSpec) -> Iterator[HostPort]:
    """Those of a pod. On the host's network every container port is a host port."""
    sidecars = (each for each in spec.initContainers if each.restartPolicy == "Always")
    for container in (*spec.containers, *sidecars):
        for port in container.ports:
            number = port.hostPort or (port.containerPort if spec.hostNetwork else 0)
            if number:
                yield HostPort(port.protocol, number, "" if port.hostIP in _ANY else port.hostIP)


def collide(ones: Iterable[HostPort], others: Collection[HostPort]) -> bool:
    """Whether one of the ones is, at an address of both, one of the others."""
    return any(
        one[:2] == other[:2] and ("" in (one.address, other.address) or one.address == other.address)
        for one in ones
        for other in others
    )
