"""The wires of a lab: machines and pods, their interfaces, and what each is connected to. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from netlab.trace.state import Link, Namespace


class End(msgspec.Struct, frozen=True):
    """The other end of a veth pair: an interface of a machine or pod (`owner`)."""

    owner: str
    interface: str


class Tunnel(msgspec.Struct, frozen=True):
    """The VXLAN tunnel of an interface: it sends from `local` by `interface` (empty: any) to `remotes`."""

    vni: int
    port: int
    local: str
    interface: str
    remotes: list[str]


class Interface(msgspec.Struct, frozen=True):
    """An interface. `kind` is the kernel's (veth, bridge, vxlan, loopback ...); addresses have their prefix length.

    `bridge` is the one that it is a port of (empty: none), `ports` are those of a bridge.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    addresses: list[str]
    peer: End | None
    bridge: str
    ports: list[str]
    vxlan: Tunnel | None


class Place(msgspec.Struct, frozen=True):
    """A pod: its NAMESPACE/NAME, and its interfaces."""

    name: str
    interfaces: list[Interface]


class Machine(msgspec.Struct, frozen=True):
    """A node, the fabric or the outside world, with its pods."""

    name: str
    interfaces: list[Interface]
    pods: list[Place]


def machines(namespaces: Mapping[str, Namespace]) -> list[Machine]:
    """The machines in the order given, each with its pods by name."""
    pods: dict[str, list[Place]] = {}
    for owner, namespace in sorted(namespaces.items()):
        if namespace.is_pod:
            pods.setdefault(namespace.machine, []).append(Place(owner, interfaces(namespace)))
    return [
        Machine(owner, interfaces(namespace), pods.get(owner, []))
        for owner, namespace in namespaces.items()
        if not namespace.is_pod
    ]


def interfaces(namespace: Namespace) -> list[Interface]:
    """The interfaces of a namespace, in the order of the kernel's indexes."""
    return [_interface(namespace, link) for link in namespace.links]


def _interface(namespace: Namespace, link: Link) -> Interface:
    return Interface(
        name=link.name,
        kind=link.kind,
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        addresses=[f"{each.address}/{each.length}" for each in namespace.addresses if each.link == link.name],
        peer=End(*link.peer) if link.peer else None,
        bridge=link.master,
        ports=[each.name for each in namespace.links if each.master == link.name],
        vxlan=_tunnel(namespace, link),
    )


def _tunnel(namespace: Namespace, link: Link) -> Tunnel | None:
    if link.vxlan is None:
        return None
    vni, local, port, through = link.vxlan
    remotes = {each.destination for each in namespace.forwarding if each.link == link.name and each.destination}
    return Tunnel(vni, port, local, through, sorted(remotes))
