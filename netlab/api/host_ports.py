"""The ports of its node that a pod takes, and which of them exclude each other (scheduler, NodePorts)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netlab.api.core_types import Pod

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - as hostIP says it


class HostPort(NamedTuple):
    """A port of a node."""

    protocol: str
    number: int
    address: str
    """Empty: all of the node's."""


def host_ports(pod: Pod) -> Iterator[HostPort]:
    """Those of a pod. On the host's network every container port is a host port."""
    for container in pod.spec.containers:
        for port in container.ports:
            number = port.hostPort or (port.containerPort if pod.spec.hostNetwork else 0)
            if number:
                yield HostPort(port.protocol, number, "" if port.hostIP in _ANY else port.hostIP)


def collide(ones: Iterable[HostPort], others: Iterable[HostPort]) -> bool:
    """Whether a port of the ones is one of the others."""
    found = list(others)
    return any(
        one[:2] == other[:2] and ("" in (one.address, other.address) or one.address == other.address)
        for one in ones
        for other in found
    )
