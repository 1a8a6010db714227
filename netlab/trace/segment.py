"""Who is on a segment: what a link's veth pairs and bridges lead to. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.trace.state import Announced, Link, Namespace, State


def link_named(namespace: Namespace, name: str) -> Link:
    """The link of that name. It exists: the name was read together with it."""
    return next(link for link in namespace.links if link.name == name)


def ports(namespace: Namespace, bridge: str) -> list[Link]:
    """The ports of a bridge."""
    return [link for link in namespace.links if link.master == bridge]


def answerer(state: State, namespace: Namespace, link: Link, address: str) -> tuple[Namespace, Link] | None:
    """The namespace and link that answer a question (ARP, NDP) for an address from a link; None if none does."""
    for station, end in _stations(state, namespace, link):
        # Linux answers ARP for any of its addresses on any link (arp_ignore 0), but NDP only for those of the link.
        if any(one.address == address and (":" not in address or one.link == end.name) for one in station.addresses):
            return station, end
        if Announced(address, end.name) in station.announced:
            return station, end
    return None


def port_towards(state: State, namespace: Namespace, bridge: Link, mac: str) -> Link | None:
    """A bridge's port for a frame, from the FDB. If the frame is flooded: the port that leads to its destination."""
    own = ports(namespace, bridge.name)
    learned = {entry.link for entry in namespace.forwarding if entry.mac == mac and not entry.local}
    for port in own:
        if port.name in learned:
            return port
    for port in own:
        if port.up and any(end.mac == mac for _, end in _beyond(state, port, set())):
            return port
    return None


def _stations(state: State, namespace: Namespace, link: Link) -> Iterator[tuple[Namespace, Link]]:
    for one in ports(namespace, link.name) if link.kind == "bridge" else [link]:
        yield from _beyond(state, one, set())


def _beyond(state: State, port: Link, passed: set[tuple[str, str]]) -> Iterator[tuple[Namespace, Link]]:
    """Who is at the other end of a veth pair: a station, or a bridge and everything behind its other ports."""
    other = state.namespaces.get(port.peer[0]) if port.peer and port.up and port.carrier else None
    if other is None or port.peer is None or port.peer in passed:
        return
    passed.add(port.peer)
    end = link_named(other, port.peer[1])
    if not end.master:
        yield other, end
        return
    yield other, link_named(other, end.master)
    for another in ports(other, end.master):
        if another.name != end.name and not another.blocked:
            yield from _beyond(state, another, passed)
