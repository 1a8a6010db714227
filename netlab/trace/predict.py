"""What ought to become of a packet, by the state of a lab: the way the kernel takes, hop by hop. Pure.

The walk goes where the kernel goes, in the order in which taps show it (Linux 6.x): a frame is seen before its link
drops it; a bridge's own tap shows what is delivered to the node or sent by it, not what only crosses; br_netfilter
translates before that tap. Where the kernel may choose (an endpoint, an ECMP next hop) there is a path for each choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, NoReturn, TypeVar

from netlab.capture.taps import Kind
from netlab.errors import NotFoundError
from netlab.proxy.plan import Target
from netlab.proxy.plan import Verdict as Refusal
from netlab.trace.model import Direction, Hop, Path, Verdict
from netlab.trace.routing import address_on, lookup, source_address, within
from netlab.trace.state import Ends, Forwarding, Link, Namespace, NextHop, Probe, Route, State, Vxlan
from netlab.trace.translation import Packet, Services, Tracked, inverse

T = TypeVar("T")

Outcome = Literal["delivered", "refused", "rejected", "dropped"]

_ALL_ZERO = "00:00:00:00:00:00"
_USABLE = ("reachable", "stale", "delay", "probe", "permanent", "noarp")
_VLAN_TAG = 4
"""A link takes frames that exceed its MTU by as much (is_skb_forwardable): veth and bridge ports drop larger ones."""
_OUTER = {4: 50, 6: 70}
"""What VXLAN adds to an IP packet, by the underlay's version: Ethernet 14, VXLAN 8, UDP 8, IP 20 or 40 (RFC 7348)."""


def predict(state: State, probe: Probe) -> list[Path]:
    """Every way that the probe may take, the likelier ones first.

    Ports that the kernel chooses at random are ANY_PORT. Raises `NotFoundError` if the source is not in the state.
    """
    if probe.source not in state.namespaces:
        raise NotFoundError(f"{probe.source} has no network in the lab: is it running?")
    found: list[Path] = []
    pending: list[tuple[int, ...]] = [()]
    while pending:
        prescribed = pending.pop(0)
        walk = _Walk(state, probe, prescribed)
        path = walk.path()
        if path not in found:
            found.append(path)
        for place in range(len(prescribed), len(walk.taken)):
            before = tuple(walk.taken[:place])
            pending += [(*before, other) for other in range(1, walk.offered[place])]
    return found


class _Carrier(NamedTuple):
    """The VXLAN packet around a frame, and that frame's addresses."""

    vxlan: Vxlan
    source: str
    destination: str
    inner: _Frame

    def __str__(self) -> str:
        return f"VXLAN {self.vxlan.vni} {self.source} > {self.destination}"

    @property
    def version(self) -> int:
        return 6 if ":" in self.destination else 4


class _Frame(NamedTuple):
    """What a link carries: to which MAC address, the packet, and the VXLAN packet around it if there is one."""

    to: str
    packet: Packet
    carrier: _Carrier | None = None

    @property
    def size(self) -> int:
        """Of the outermost IP packet."""
        return self.packet.size + self._around if self.packet.size else 0

    @property
    def version(self) -> int:
        """Of the outermost IP packet."""
        return self.carrier.version if self.carrier else self.packet.version

    @property
    def fragmentable(self) -> bool:
        """Whether it may be taken apart on the way: the kernel lets tunnels' own packets be."""
        return self.carrier is not None or self.packet.fragment

    def fragmented(self, mtu: int) -> _Frame:
        """The frame of the first fragment."""
        return self._replace(packet=dataclasses.replace(self.packet, size=mtu - self._around))

    @property
    def _around(self) -> int:
        return _OUTER[self.carrier.version] if self.carrier else 0


class _Ended(Exception):  # noqa: N818  # not an error: every way ends
    """The way has ended; `answer` is what is sent back from there, if anything."""

    def __init__(self, verdict: Verdict, answer: Packet | None = None) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.answer = answer


class _Walk:
    """One way, for one sequence of choices; choices beyond the prescribed ones are the first of what is offered."""

    def __init__(self, state: State, probe: Probe, prescribed: Sequence[int]) -> None:
        self.taken: list[int] = []
        self.offered: list[int] = []
        self._prescribed = prescribed
        self._state = state
        self._probe = probe
        self._flows = {owner: list(namespace.flows) for owner, namespace in state.namespaces.items()}
        self._hops: list[Hop] = []
        self._by: list[str] = []
        self._before: tuple[Packet, str] | None = None
        self._sent: Packet | None = None
        self._answering = False

    def path(self) -> Path:
        """The way there and back."""
        probe = self._probe
        port = probe.source_port if probe.protocol == "icmp" else probe.port
        size = 0 if probe.protocol == "tcp" else probe.size
        packet = Packet(
            probe.protocol,
            probe.source_address,
            probe.source_port,
            probe.destination,
            port,
            probe.ttl,
            size,
            probe.fragment,
        )
        verdict, answer, where = self._follow(self._state.namespaces[probe.source], packet)
        there, self._hops, self._before, self._by = self._hops, [], None, []
        if answer is not None:
            self._answering = True
            back, _, _ = self._follow(where, answer)
            if back.outcome != "delivered":
                verdict = Verdict(back.outcome, back.node, f"{verdict.reason}; the answer: {back.reason}")
        return Path(there, self._hops, verdict)

    def _follow(self, namespace: Namespace, packet: Packet) -> tuple[Verdict, Packet | None, Namespace]:
        self._here = namespace
        try:
            self._originate(namespace, packet)
        except _Ended as ended:
            return ended.verdict, ended.answer, self._here

    # --- how a way is told -------------------------------------------------------------------------------------------

    def _see(self, namespace: Namespace, link: Link, direction: Direction, frame: _Frame) -> None:
        self._here = namespace
        packet, carrier = frame.packet, str(frame.carrier or "")
        hop = Hop(
            node=namespace.machine,
            owner=namespace.owner,
            interface=link.name,
            kind=_kind(self._state, namespace, link),
            direction=direction,
            src=packet.source,
            sport=packet.sport,
            dst=packet.destination,
            dport=packet.dport,
            protocol=packet.protocol,
            ttl=packet.ttl,
            encapsulation=carrier,
            changed=_changes(self._before, packet, carrier, reply=self._answering),
            by=self._by,
        )
        self._hops.append(hop)
        self._before, self._by = (packet, carrier), []

    def _end(self, namespace: Namespace, outcome: Outcome, reason: str, answer: Packet | None = None) -> _Ended:
        """The end of the way, to be raised."""
        self._here = namespace
        # An error about an error, or about an answer, changes nothing any more.
        return _Ended(Verdict(outcome, namespace.machine, reason), None if self._answering else answer)

    def _choose(self, options: Sequence[T]) -> T:
        if len(options) == 1:
            return options[0]
        place = len(self.taken)
        chosen = self._prescribed[place] if place < len(self._prescribed) else 0
        self.taken.append(chosen)
        self.offered.append(len(options))
        return options[chosen]

    # --- IP ----------------------------------------------------------------------------------------------------------

    def _originate(self, namespace: Namespace, packet: Packet) -> NoReturn:
        """A packet of the namespace's own: output."""
        packet, route, hop = self._routed_out(namespace, packet)
        if self._sent is None:
            self._sent = packet
        tracked, translated = self._translate(namespace, packet, "")
        if translated.destination != packet.destination:
            translated, route, hop = self._routed_out(namespace, translated)
        packet = translated
        self._refuse(namespace, packet, tracked, "")
        if route.kind == "local":
            loopback = next((link for link in namespace.links if link.kind == "loopback"), Link("lo", "loopback"))
            if not loopback.up:
                raise self._end(namespace, "dropped", f"{loopback.name} is down")
            packet = self._leave(namespace, packet, tracked, NextHop("", loopback.name))
            self._see(namespace, loopback, "out", _Frame("", packet))
            self._see(namespace, loopback, "in", _Frame("", packet))
            self._deliver(namespace, packet, tracked, loopback.name)
        link = self._link(namespace, hop.link)
        mtu = route.mtu or link.mtu
        if packet.size > mtu and not packet.fragment:
            raise self._end(namespace, "dropped", f"{packet.size} bytes exceed the MTU {mtu} of {link.name} (EMSGSIZE)")
        packet = dataclasses.replace(packet, size=min(packet.size, mtu))
        self._transmit(namespace, self._leave(namespace, packet, tracked, hop), hop, tracked)

    def _routed_out(self, namespace: Namespace, packet: Packet) -> tuple[Packet, Route, NextHop]:
        route = lookup(namespace, packet.destination, source=packet.source)
        if route is None or route.kind not in ("unicast", "local"):
            raise self._end(namespace, "dropped", _no_way(route, packet.destination))
        hop = self._choose(route.hops) if route.hops else NextHop("", "lo")
        source = packet.source or source_address(namespace, route, hop, packet.destination)
        if not source:
            raise self._end(namespace, "dropped", f"no address to speak to {packet.destination} by")
        self._by.append(f"route {route}")
        return dataclasses.replace(packet, source=source), route, hop

    def _receive(
        self, namespace: Namespace, link: Link, packet: Packet, tracked: Tracked | None, *, translated: bool
    ) -> NoReturn:
        """A packet from a link: prerouting (unless the bridge has done it), then input or forward."""
        if not translated:
            tracked, packet = self._translate(namespace, packet, link.name)
        route = lookup(namespace, packet.destination, source=packet.source, incoming=link.name)
        if packet.version == 4:
            self._validate_source(namespace, link, packet)
        if route is not None and route.kind == "local":
            self._deliver(namespace, packet, tracked, link.name)
        if not _forwards(namespace, link, packet.version):
            what = "net.ipv4.ip_forward" if packet.version == 4 else "net.ipv6.conf.all.forwarding"
            raise self._end(namespace, "dropped", f"{packet.destination} is not its own, and {what} is off")
        if route is None or route.kind != "unicast":
            answer = None if route and route.kind == "blackhole" else self._error(namespace, packet)
            raise self._end(namespace, "rejected" if answer else "dropped", _no_way(route, packet.destination), answer)
        if packet.ttl <= 1:
            raise self._end(namespace, "rejected", "TTL exceeded", self._error(namespace, packet))
        hop = self._choose(route.hops)
        self._by.append(f"route {route}")
        out = self._link(namespace, hop.link)
        mtu = route.mtu or out.mtu
        if packet.size > mtu and (packet.version == 6 or not packet.fragment):
            why = f"{packet.size} bytes exceed the MTU {mtu} of {out.name} and may not be fragmented"
            raise self._end(namespace, "rejected", why, self._error(namespace, packet))
        packet = dataclasses.replace(packet, ttl=packet.ttl - 1, size=min(packet.size, mtu))
        self._refuse(namespace, packet, tracked, link.name)
        self._transmit(namespace, self._leave(namespace, packet, tracked, hop), hop, tracked)

    def _validate_source(self, namespace: Namespace, link: Link, packet: Packet) -> None:
        """What fib_validate_source does: IPv4 alone knows it."""
        if any(one.address == packet.source for one in namespace.addresses):
            raise self._end(namespace, "dropped", f"source {packet.source} is its own address (martian source)")
        key = "net/ipv4/conf/{}/rp_filter"
        mode = max(namespace.sysctls.get(key.format(name), 0) for name in ("all", link.name))
        if not mode:
            return
        back = lookup(namespace, packet.source, source=packet.destination)
        unicast = back is not None and back.kind == "unicast"
        if not unicast or (mode == 1 and back and all(hop.link != link.name for hop in back.hops)):
            way = f"leads to {', '.join(hop.link for hop in back.hops)}" if unicast and back else "is missing"
            why = f"rp_filter {mode} of {link.name}: the route back to {packet.source} {way}"
            raise self._end(namespace, "dropped", why)

    def _deliver(self, namespace: Namespace, packet: Packet, tracked: Tracked | None, incoming: str) -> NoReturn:
        self._refuse(namespace, packet, tracked, incoming)
        if tracked:
            packet = tracked.leaving(packet)
            self._confirm(namespace, packet, tracked)
        if self._answering:
            self._end_answer(namespace, packet)
        if packet.protocol == "icmp":
            if namespace.sysctls.get("net/ipv4/icmp_echo_ignore_all", 0) and packet.version == 4:
                raise self._end(namespace, "dropped", f"{namespace.owner} does not answer echo requests")
            echoed = Packet("icmp", *inverse(packet.ends), size=packet.size)
            raise self._end(namespace, "delivered", f"{namespace.owner} answers the echo", echoed)
        where = f"{_at(packet.destination, packet.dport)}/{packet.protocol} of {namespace.owner}"
        if any(_listens(one, packet) for one in namespace.listeners):
            raise self._end(namespace, "delivered", f"reached {where}", Packet(packet.protocol, *inverse(packet.ends)))
        refusal = Packet("tcp", *inverse(packet.ends)) if packet.protocol == "tcp" else self._error(namespace, packet)
        raise self._end(namespace, "refused", f"nobody listens at {where}", refusal)

    def _end_answer(self, namespace: Namespace, packet: Packet) -> NoReturn:
        sent = self._sent
        assert sent is not None
        expected = packet.quoted == sent.ends if packet.quoted else packet.ends == inverse(sent.ends)
        if namespace.owner == self._probe.source and expected:
            raise self._end(namespace, "delivered", "the answer came")
        about = packet.quoted or packet.ends
        who = f"{_at(about.source, about.sport)} > {_at(about.destination, about.dport)}"
        raise self._end(namespace, "dropped", f"{namespace.owner} has no connection {who}")

    def _error(self, namespace: Namespace, packet: Packet) -> Packet:
        """The ICMP error about a packet, as it is here (RFC 1812, 4.3.2.4: the source is who says it)."""
        own = any(one.address == packet.destination for one in namespace.addresses)
        source = packet.destination if own else ""
        return Packet("icmp", source, 0, packet.source, 0, quoted=packet.ends)

    # --- netfilter ---------------------------------------------------------------------------------------------------

    def _tracks(self, namespace: Namespace) -> bool:
        owner = namespace.owner
        return owner in self._state.proxies or bool(self._state.masquerades.get(owner) or namespace.flows)

    def _translate(self, namespace: Namespace, packet: Packet, incoming: str) -> tuple[Tracked | None, Packet]:
        """Prerouting, or output: conntrack, and for the first packet of a flow the proxy."""
        if not self._tracks(namespace):
            return None, packet
        tracked = Tracked(packet, self._flows[namespace.owner])
        proxy = self._state.proxies.get(namespace.owner)
        if tracked.new and proxy is not None:
            self._ask_proxy(namespace, Services(proxy, packet.version), packet, tracked, incoming)
        elif tracked.translated and not self._answering:
            self._by.append(f"conntrack: {_flow(tracked.original)} became {_flow(inverse(tracked.answer))} before")
        return tracked, tracked.arriving(packet)

    def _ask_proxy(
        self, namespace: Namespace, services: Services, packet: Packet, tracked: Tracked, incoming: str
    ) -> None:
        own = _is_local(namespace, packet.destination)
        backends, refusal = services.choices(packet, incoming, own=own)
        name = services.named(packet, incoming, own=own)
        if refusal is not None:
            target = services.target(packet, incoming, own=own)
            tracked.refusal = refusal, _why_refused(name, target, refusal, packet)
            if refusal is Refusal.DROP and target is not None and services.drops_early:
                raise self._end(namespace, "dropped", _refused(*tracked.refusal))
        if backends:
            backend = self._choose(backends)
            tracked.redirect(*backend)
            self._by.append(name)
            if services.masquerades(packet, incoming, own=own, backend=backend):
                tracked.masquerade.append(f"{name}: masquerade")

    def _refuse(self, namespace: Namespace, packet: Packet, tracked: Tracked | None, incoming: str) -> None:
        """The proxy's filter chains, which only first packets meet."""
        if tracked is None or tracked.refusal is None or not tracked.new:
            return
        refusal, name = tracked.refusal
        if refusal is Refusal.DROP:
            raise self._end(namespace, "dropped", _refused(refusal, name))
        self._by.append(name)
        raise self._end(namespace, "rejected", _refused(refusal, name), self._error(namespace, packet))

    def _leave(self, namespace: Namespace, packet: Packet, tracked: Tracked | None, hop: NextHop) -> Packet:
        """Postrouting."""
        if tracked is None:
            return packet
        if tracked.new:
            reasons = list(tracked.masquerade)
            for rule in self._state.masquerades.get(namespace.owner, ()):
                outward = not within(packet.destination, rule.cluster) and hop.link == rule.link
                if within(packet.source, rule.source) and outward:
                    reasons.append(f"{rule.name}: masquerade {rule.source} on {rule.link}")
            if reasons:
                tracked.disguise(address_on(namespace, hop.link, hop.gateway or packet.destination, packet.destination))
                self._by.append(reasons[0])
        packet = tracked.leaving(packet)
        self._confirm(namespace, packet, tracked)
        return packet

    def _confirm(self, namespace: Namespace, packet: Packet, tracked: Tracked) -> None:
        """From its leaving on, a flow is known (nf_conntrack_confirm)."""
        if tracked.new:
            tracked.new = False
            self._flows[namespace.owner].append(tracked.flow(packet.protocol))

    # --- links -------------------------------------------------------------------------------------------------------

    def _link(self, namespace: Namespace, name: str) -> Link:
        return next(link for link in namespace.links if link.name == name)

    def _transmit(self, namespace: Namespace, packet: Packet, hop: NextHop, tracked: Tracked | None) -> NoReturn:
        link = self._link(namespace, hop.link)
        mac = self._neighbour(namespace, link, hop.gateway or packet.destination)
        self._send(namespace, link, _Frame(mac, packet), tracked)

    def _neighbour(self, namespace: Namespace, link: Link, address: str) -> str:
        for entry in namespace.neighbours:
            if (entry.address, entry.link) == (address, link.name) and entry.mac and entry.state in _USABLE:
                return entry.mac
        if link.kind == "vxlan" and not any(e.link == link.name and e.mac == _ALL_ZERO for e in namespace.forwarding):
            why = f"no neighbour entry for {address} on {link.name}, and nothing in its FDB that could be asked"
            raise self._end(namespace, "dropped", why)
        for station, end in self._stations(namespace, link):
            # Linux answers for any of its addresses on any link (arp_ignore 0); NDP for those of the link.
            if any(
                one.address == address and (":" not in address or one.link == end.name) for one in station.addresses
            ):
                return end.mac
        raise self._end(namespace, "dropped", f"no neighbour {address}: nobody answers for it on {link.name}")

    def _send(self, namespace: Namespace, link: Link, frame: _Frame, tracked: Tracked | None) -> NoReturn:
        if not link.up:
            raise self._end(namespace, "dropped", f"{link.name} is down")
        # A second after the carrier went, the queueing discipline (noop) drops what a tap would have seen before.
        if link.carrier or self._choose((True, False)):
            self._see(namespace, link, "out", frame)
        if not link.carrier:
            raise self._end(namespace, "dropped", f"{link.name} has no carrier: nothing at its other end is up")
        if link.kind == "vxlan" and link.vxlan:
            self._encapsulate(namespace, link, link.vxlan, frame)
        if link.kind == "bridge":
            self._bridge(namespace, link, None, frame, tracked)
        self._wire(namespace, link, frame)

    def _wire(self, namespace: Namespace, link: Link, frame: _Frame) -> NoReturn:
        """To the other end of a veth pair. What that does not take was last seen here."""
        other = self._state.namespaces.get(link.peer[0]) if link.peer else None
        if link.peer is None or other is None:
            raise self._end(namespace, "dropped", f"where {link.name} leads is not known")
        end = self._link(other, link.peer[1])
        if not end.up:
            raise self._end(namespace, "dropped", f"{end.name} of {other.owner}, where {link.name} leads, is down")
        if frame.size > end.mtu + _VLAN_TAG:
            raise self._end(namespace, "dropped", _too_long(frame, end, other))
        self._see(other, end, "in", frame)
        if end.master:
            self._enter_bridge(other, end, frame)
        if frame.to != end.mac:
            raise self._end(
                other, "dropped", f"the frame is for {frame.to}, but {end.name} of {other.owner} is {end.mac}"
            )
        if frame.carrier:
            self._decapsulate(other, end, frame.carrier)
        self._receive(other, end, frame.packet, None, translated=False)

    def _encapsulate(self, namespace: Namespace, link: Link, vxlan: Vxlan, frame: _Frame) -> NoReturn:
        listed = [entry for entry in namespace.forwarding if entry.link == link.name and entry.destination]
        entries = [e for e in listed if e.mac == frame.to] or [e for e in listed if e.mac == _ALL_ZERO]
        if not entries:
            raise self._end(
                namespace, "dropped", f"no FDB entry for {frame.to} on {link.name}: it has no tunnel to go by"
            )
        entry: Forwarding = self._choose(entries)
        self._by.append(f"FDB {entry.mac} dst {entry.destination} dev {link.name}")
        route = lookup(namespace, entry.destination, source=vxlan.local, outgoing=vxlan.link)
        if route is None or route.kind != "unicast":
            raise self._end(
                namespace, "dropped", f"the tunnel to {entry.destination}: {_no_way(route, entry.destination)}"
            )
        hop = self._choose(route.hops)
        underlay = self._link(namespace, hop.link)
        mac = self._neighbour(namespace, underlay, hop.gateway or entry.destination)
        outer = _Frame(mac, frame.packet, _Carrier(vxlan, vxlan.local, entry.destination, frame))
        mtu = route.mtu or underlay.mtu
        self._send(namespace, underlay, outer.fragmented(mtu) if outer.size > mtu else outer, None)

    def _decapsulate(self, namespace: Namespace, link: Link, carrier: _Carrier) -> NoReturn:
        if not _is_local(namespace, carrier.destination):
            raise self._end(namespace, "dropped", f"the tunnel's end {carrier.destination} is none of its addresses")
        if carrier.version == 4:
            outer = Packet("udp", carrier.source, 0, carrier.destination, carrier.vxlan.port)
            self._validate_source(namespace, link, outer)
        wanted = (carrier.vxlan.vni, carrier.vxlan.port)
        for end in namespace.links:
            if end.vxlan is None or (end.vxlan.vni, end.vxlan.port) != wanted or not end.up:
                continue
            self._see(namespace, end, "in", carrier.inner)
            if carrier.inner.to != end.mac:
                why = f"the frame is for {carrier.inner.to}, but {end.name} is {end.mac}: the FDB named another node"
                raise self._end(namespace, "dropped", why)
            self._receive(namespace, end, carrier.inner.packet, None, translated=False)
        raise self._end(namespace, "dropped", f"no VXLAN device with VNI {wanted[0]} and port {wanted[1]} is up")

    # --- bridges -----------------------------------------------------------------------------------------------------

    def _enter_bridge(self, namespace: Namespace, port: Link, frame: _Frame) -> NoReturn:
        bridge = self._link(namespace, port.master)
        if not bridge.up or port.blocked:
            why = f"port {port.name} is not forwarding" if bridge.up else f"{bridge.name} is down"
            raise self._end(namespace, "dropped", why)
        tracked: Tracked | None = None
        netfilter = _bridge_calls(namespace, frame)
        if netfilter:
            tracked, packet = self._translate(namespace, frame.packet, bridge.name)
            redirected = packet.destination != frame.packet.destination
            frame = frame._replace(packet=packet)
            if redirected:
                frame = self._redirected(namespace, bridge, frame)
        if frame.to == bridge.mac or any(
            entry.mac == frame.to and entry.local
            for entry in namespace.forwarding
            if entry.link == bridge.name or self._link(namespace, entry.link).master == bridge.name
        ):
            self._see(namespace, bridge, "in", frame)
            self._receive(namespace, bridge, frame.packet, tracked, translated=netfilter)
        self._bridge(namespace, bridge, port, frame, tracked)

    def _redirected(self, namespace: Namespace, bridge: Link, frame: _Frame) -> _Frame:
        """DNAT on a bridge port (br_nf_pre_routing_finish): the kernel asks its routes where the frame is to go now.

        What goes back out of the same bridge is only bridged: no TTL is taken. Unless the kernel has the neighbour's
        header at hand it sends it by way of the bridge's own device, where a tap sees it.
        """
        packet = frame.packet
        route = lookup(namespace, packet.destination, source=packet.source, incoming=bridge.name)
        if packet.version == 4:
            self._validate_source(namespace, bridge, packet)
        if route is None or route.kind not in ("unicast", "local"):
            raise self._end(namespace, "dropped", _no_way(route, packet.destination))
        hop = next((hop for hop in route.hops if hop.link == bridge.name), None) if route.kind == "unicast" else None
        if hop is None:
            return frame._replace(to=bridge.mac)
        address = hop.gateway or packet.destination
        frame = frame._replace(to=self._neighbour(namespace, bridge, address))
        known = next((e.state for e in namespace.neighbours if (e.address, e.link) == (address, bridge.name)), "")
        # The header of one that is stale, or not known before this packet, is not used as it stands.
        slow = known == "stale" or (not known and not self._answering)
        if self._choose((False, True) if known == "reachable" else (True,) if slow else (True, False)):
            self._see(namespace, bridge, "out", frame)
        return frame

    def _bridge(
        self, namespace: Namespace, bridge: Link, ingress: Link | None, frame: _Frame, tracked: Tracked | None
    ) -> NoReturn:
        egress = self._egress(namespace, bridge, frame)
        if ingress is not None and egress.name == ingress.name and not egress.hairpin:
            raise self._end(namespace, "dropped", f"port {egress.name} of {bridge.name} is not in hairpin mode")
        if ingress is not None and ingress.isolated and egress.isolated:
            raise self._end(
                namespace, "dropped", f"ports {ingress.name} and {egress.name} of {bridge.name} are isolated"
            )
        if egress.blocked or not egress.up or not egress.carrier:
            raise self._end(namespace, "dropped", f"port {egress.name} of {bridge.name} is down or blocked")
        if ingress is not None and _bridge_calls(namespace, frame):
            self._refuse(namespace, frame.packet, tracked, bridge.name)
            frame = frame._replace(packet=self._leave(namespace, frame.packet, tracked, NextHop("", bridge.name)))
        if ingress is not None and _netfilter(namespace, frame.version) and frame.size > egress.mtu:
            # br_netfilter, which puts fragments together, takes apart as a router would (br_nf_dev_queue_xmit).
            if not frame.fragmentable:
                raise self._end(namespace, "dropped", _too_long(frame, egress, namespace))
            self._by.append(f"fragmented for the MTU {egress.mtu} of {egress.name}")
            frame = frame.fragmented(egress.mtu)
        if frame.size > egress.mtu + _VLAN_TAG:
            raise self._end(namespace, "dropped", _too_long(frame, egress, namespace))
        self._see(namespace, egress, "out", frame)
        self._wire(namespace, egress, frame)

    def _egress(self, namespace: Namespace, bridge: Link, frame: _Frame) -> Link:
        """The port for a frame: by the FDB; else it is flooded, and the port that leads to its addressee counts."""
        ports = [link for link in namespace.links if link.master == bridge.name]
        learned = {entry.link for entry in namespace.forwarding if entry.mac == frame.to and not entry.local}
        for port in ports:
            if port.name in learned:
                return port
        for port in ports:
            if port.up and any(end.mac == frame.to for _, end in self._beyond(namespace, port, set())):
                return port
        raise self._end(namespace, "dropped", f"no port of {bridge.name} leads to {frame.to}")

    def _stations(self, namespace: Namespace, link: Link) -> Iterator[tuple[Namespace, Link]]:
        """Who is on the segment of a link."""
        if link.kind != "bridge":
            yield from self._beyond(namespace, link, set())
            return
        for port in namespace.links:
            if port.master == link.name:
                yield from self._beyond(namespace, port, set())

    def _beyond(
        self, namespace: Namespace, port: Link, passed: set[tuple[str, str]]
    ) -> Iterator[tuple[Namespace, Link]]:
        """Who is at the other end of a veth pair: a station, or a bridge and all behind its other ports."""
        other = self._state.namespaces.get(port.peer[0]) if port.peer and port.up and port.carrier else None
        if other is None or port.peer is None or port.peer in passed:
            return
        passed.add(port.peer)
        end = self._link(other, port.peer[1])
        if not end.master:
            yield other, end
            return
        yield other, self._link(other, end.master)
        for another in other.links:
            if another.master == end.master and another.name != end.name and not another.blocked:
                yield from self._beyond(other, another, passed)


def _kind(state: State, namespace: Namespace, link: Link) -> Kind:
    """As netlab.lab.taps tells it."""
    if link.kind == "loopback":
        return "loopback"
    if namespace.is_pod:
        return "pod"
    if link.kind == "bridge":
        return "bridge"
    if link.kind == "vxlan":
        return "vxlan"
    peer = state.namespaces.get(link.peer[0]) if link.peer else None
    if peer is None:
        return "other"
    return "veth" if peer.is_pod else "underlay"


def _changes(before: tuple[Packet, str] | None, packet: Packet, carrier: str, *, reply: bool) -> list[str]:
    """In the words of netlab.capture.correlate.changes."""
    if before is None:
        return []
    was, carried = before
    found = [f"out of {carried}"] if carried and carried != carrier else []
    old, new = was.ends, packet.ends
    if (old.destination, old.dport) != (new.destination, new.dport):
        verb = "un-SNAT" if reply else "DNAT"
        found.append(f"{verb} {_at(old.destination, old.dport)} -> {_at(new.destination, new.dport)}")
    if (old.source, old.sport) != (new.source, new.sport):
        verb = "un-DNAT" if reply else "SNAT"
        found.append(f"{verb} {_at(old.source, old.sport)} -> {_at(new.source, new.sport)}")
    if was.ttl != packet.ttl:
        found.append(f"TTL {was.ttl} -> {packet.ttl}")
    if carrier and carried != carrier:
        found.append(f"into {carrier}")
    return found


def _at(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port or '*'}"


def _flow(ends: Ends) -> str:
    return f"{_at(ends.source, ends.sport)} > {_at(ends.destination, ends.dport)}"


def _no_way(route: Route | None, destination: str) -> str:
    return f"no route to {destination}" if route is None else f"route {route}"


def _refused(refusal: Refusal, name: str) -> str:
    return f"{name}: {'rejected' if refusal is Refusal.REJECT else 'dropped'} by kube-proxy"


def _why_refused(name: str, target: Target | None, refusal: Refusal, packet: Packet) -> str:
    if target is None:
        return name
    if target.sources and not any(within(packet.source, one) for one in target.sources):
        return f"{name} is not for {packet.source} (loadBalancerSourceRanges)"
    return f"{name} has no endpoint{' on this node' if refusal is Refusal.DROP else ''}"


def _too_long(frame: _Frame, link: Link, namespace: Namespace) -> str:
    return f"{frame.size} bytes exceed the MTU {link.mtu} of {link.name} of {namespace.owner}: dropped without a word"


def _is_local(namespace: Namespace, address: str) -> bool:
    route = lookup(namespace, address)
    return route is not None and route.kind == "local"


def _forwards(namespace: Namespace, link: Link, version: int) -> bool:
    if version == 4:
        general = namespace.sysctls.get("net/ipv4/ip_forward", 0)
        return bool(namespace.sysctls.get(f"net/ipv4/conf/{link.name}/forwarding", general))
    return bool(namespace.sysctls.get("net/ipv6/conf/all/forwarding", 0))


def _bridge_calls(namespace: Namespace, frame: _Frame) -> bool:
    """Whether a frame that crosses a bridge meets the rules of IP; what a tunnel carries does not."""
    return frame.carrier is None and _netfilter(namespace, frame.version)


def _netfilter(namespace: Namespace, version: int) -> bool:
    """Whether br_netfilter works on bridges."""
    suffix = "iptables" if version == 4 else "ip6tables"
    return bool(namespace.sysctls.get(f"net/bridge/bridge-nf-call-{suffix}", 0))


def _listens(listener: tuple[str, str, int], packet: Packet) -> bool:
    protocol, address, port = listener
    everywhere = "0.0.0.0" if packet.version == 4 else "::"  # noqa: S104  # a socket's address, read
    return (protocol, port) == (packet.protocol, packet.dport) and address in (packet.destination, everywhere)
