"""What should happen to a packet in a lab's state: the path through the kernel, hop by hop. Pure.

The walk follows the kernel, in the order in which taps show it (Linux 6.x): from the IP layer of a namespace, in this
module, over links (netlab.trace.links) to that of the next. Where the kernel may choose (an endpoint, an ECMP next
hop) there is a path for each choice.
"""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from netlab.errors import NotFoundError
from netlab.trace.answers import answered, error_about
from netlab.trace.frame import Frame
from netlab.trace.links import Arrival, Departure, Links
from netlab.trace.model import Path, Verdict
from netlab.trace.netfilter import Netfilter
from netlab.trace.routing import forwards, lookup, no_way, source_address, source_trouble
from netlab.trace.segment import link_named
from netlab.trace.state import Link, Namespace, NextHop, Probe, Route, State
from netlab.trace.translation import Packet, Tracked, inverse
from netlab.trace.way import Ended, Way


def predict(state: State, probe: Probe) -> list[Path]:
    """Every path that the probe may take, the likelier ones first.

    Ports that the kernel chooses at random are ANY_PORT. Raises `NotFoundError` if the source is not in the state.
    """
    if probe.source not in state.namespaces:
        raise NotFoundError(f"{probe.source} has no network in the lab; is it running?")
    found: list[Path] = []
    pending: list[tuple[int, ...]] = [()]
    while pending:
        prescribed = pending.pop(0)
        way = Way(state, prescribed)
        path = _Walk(state, probe, way).path()
        if path not in found:
            found.append(path)
        for place in range(len(prescribed), len(way.taken)):
            before = tuple(way.taken[:place])
            pending += [(*before, other) for other in range(1, way.offered[place])]
    return found


class _Walk:
    """The IP layers' part of one path."""

    def __init__(self, state: State, probe: Probe, way: Way) -> None:
        self._state = state
        self._probe = probe
        self._way = way
        self._netfilter = Netfilter(state, way)
        self._links = Links(state, way, self._netfilter)
        self._sent: Packet | None = None

    def path(self) -> Path:
        """The way there and back."""
        ended = self._follow(self._state.namespaces[self._probe.source], _first(self._probe))
        verdict, there = ended.verdict, self._way.told()
        if ended.answer is not None:
            self._way.answering = True
            back = self._follow(ended.namespace, ended.answer).verdict
            if back.outcome != "delivered":
                verdict = Verdict(back.outcome, back.node, f"{verdict.reason}; the answer: {back.reason}")
        return Path(there, self._way.told(), verdict)

    def _follow(self, namespace: Namespace, packet: Packet) -> Ended:
        try:
            departure = self._originate(namespace, packet)
            while True:
                departure = self._receive(self._links.carry(departure))
        except Ended as ended:
            return ended

    def _originate(self, namespace: Namespace, packet: Packet) -> Departure:
        """A packet that the namespace itself sends: output."""
        packet, route, hop = self._routed_out(namespace, packet)
        if self._sent is None:
            self._sent = packet
        tracked, translated = self._netfilter.arrive(namespace, packet, "")
        if translated.destination != packet.destination:
            translated, route, hop = self._routed_out(namespace, translated)
        packet = translated
        self._netfilter.admit(namespace, packet, tracked)
        if route.kind == "local":
            self._loop_back(namespace, packet, tracked)
        link = link_named(namespace, hop.link)
        mtu = route.mtu or link.mtu
        if packet.size > mtu and not packet.fragment:
            why = f"{packet.size} bytes exceed the MTU {mtu} of {link.name} (EMSGSIZE)"
            raise self._way.end(namespace, "dropped", why)
        packet = dataclasses.replace(packet, size=min(packet.size, mtu))
        return Departure(namespace, self._netfilter.leave(namespace, packet, tracked, hop), hop, tracked)

    def _routed_out(self, namespace: Namespace, packet: Packet) -> tuple[Packet, Route, NextHop]:
        route = lookup(namespace, packet.destination, source=packet.source)
        if route is None or route.kind not in ("unicast", "local"):
            raise self._way.end(namespace, "dropped", no_way(route, packet.destination))
        hop = self._way.choose(route.hops) if route.hops else NextHop("", "lo")
        source = packet.source or source_address(namespace, route, hop, packet.destination)
        if not source:
            raise self._way.end(namespace, "dropped", f"no source address for {packet.destination}")
        self._way.because(f"route {route}")
        return dataclasses.replace(packet, source=source), route, hop

    def _loop_back(self, namespace: Namespace, packet: Packet, tracked: Tracked | None) -> NoReturn:
        loopback = next((link for link in namespace.links if link.kind == "loopback"), Link("lo", "loopback"))
        if not loopback.up:
            raise self._way.end(namespace, "dropped", f"{loopback.name} is down")
        packet = self._netfilter.leave(namespace, packet, tracked, NextHop("", loopback.name))
        self._way.see(namespace, loopback, "out", Frame("", packet))
        self._way.see(namespace, loopback, "in", Frame("", packet))
        self._deliver(namespace, packet, tracked)

    def _receive(self, arrival: Arrival) -> Departure:
        """A packet from a link: prerouting (unless the bridge has done it), then input or forward."""
        namespace, link, packet, tracked, translated = arrival
        if not translated:
            tracked, packet = self._netfilter.arrive(namespace, packet, link.name)
        trouble = source_trouble(namespace, link, packet.source, packet.destination)
        if trouble:
            raise self._way.end(namespace, "dropped", trouble)
        route = lookup(namespace, packet.destination, source=packet.source, incoming=link.name)
        if route is not None and route.kind == "local":
            self._deliver(namespace, packet, tracked)
        return self._forward(namespace, link, packet, tracked, route)

    def _forward(
        self, namespace: Namespace, link: Link, packet: Packet, tracked: Tracked | None, route: Route | None
    ) -> Departure:
        if not forwards(namespace, link, packet.version):
            what = "net.ipv4.ip_forward" if packet.version == 4 else "net.ipv6.conf.all.forwarding"
            raise self._way.end(namespace, "dropped", f"{packet.destination} is not its own, and {what} is off")
        if route is None or route.kind != "unicast":
            why = no_way(route, packet.destination)
            if route is not None and route.kind == "blackhole":
                raise self._way.end(namespace, "dropped", why)
            raise self._rejected(namespace, packet, why)
        if packet.ttl <= 1:
            raise self._rejected(namespace, packet, "TTL exceeded")
        hop = self._way.choose(route.hops)
        self._way.because(f"route {route}")
        out = link_named(namespace, hop.link)
        mtu = route.mtu or out.mtu
        if packet.size > mtu and (packet.version == 6 or not packet.fragment):
            why = f"{packet.size} bytes exceed the MTU {mtu} of {out.name} and may not be fragmented"
            raise self._rejected(namespace, packet, why)
        packet = dataclasses.replace(packet, ttl=packet.ttl - 1, size=min(packet.size, mtu))
        self._netfilter.judge(namespace, packet, tracked)
        self._netfilter.admit(namespace, packet, tracked)
        return Departure(namespace, self._netfilter.leave(namespace, packet, tracked, hop), hop, tracked)

    def _rejected(self, namespace: Namespace, packet: Packet, reason: str) -> Ended:
        return self._way.end(namespace, "rejected", reason, error_about(namespace, packet))

    def _deliver(self, namespace: Namespace, packet: Packet, tracked: Tracked | None) -> NoReturn:
        self._netfilter.admit(namespace, packet, tracked)
        packet = self._netfilter.confirm(namespace, packet, tracked)
        if self._way.answering:
            raise self._answer_came(namespace, packet)
        raise self._way.end(namespace, *answered(namespace, packet))

    def _answer_came(self, namespace: Namespace, packet: Packet) -> Ended:
        sent = self._sent
        assert sent is not None
        expected = packet.quoted == sent.ends if packet.quoted else packet.ends == inverse(sent.ends)
        if namespace.owner == self._probe.source and expected:
            return self._way.end(namespace, "delivered", "the answer arrived")
        about = packet.quoted or packet.ends
        return self._way.end(namespace, "dropped", f"{namespace.owner} has no connection {about}")


def _first(probe: Probe) -> Packet:
    """The probe's packet, before the kernel gives it a source."""
    return Packet(
        probe.protocol,
        probe.source_address,
        probe.source_port,
        probe.destination,
        probe.source_port if probe.protocol == "icmp" else probe.port,
        probe.ttl,
        0 if probe.protocol == "tcp" else probe.size,
        probe.fragment,
    )
