"""The links' part of a path: from one IP layer to the next, by veth pairs, bridges and tunnels.

A tap sees a frame before its link drops it. The tap of a bridge shows what is delivered to the node or sent by it, not
what only crosses; br_netfilter translates before that tap (Linux 6.x).
"""

from __future__ import annotations

from typing import NamedTuple

from netlab.trace.frame import Carrier, Frame
from netlab.trace.netfilter import Netfilter
from netlab.trace.routing import address_on, is_local, lookup, no_way, source_trouble
from netlab.trace.segment import answerer, link_named, port_towards
from netlab.trace.state import Announced, Forwarding, Link, Namespace, NextHop, State, Vxlan
from netlab.trace.translation import Packet, Tracked
from netlab.trace.way import Ended, Way

_ALL_ZERO = "00:00:00:00:00:00"
_USABLE = ("reachable", "stale", "delay", "probe", "permanent", "noarp")
_VLAN_TAG = 4
"""By how many bytes a frame may exceed the MTU (is_skb_forwardable): veth and bridge ports drop larger ones."""


class Departure(NamedTuple):
    """A packet that leaves the IP layer of a namespace, and what conntrack there knows about it."""

    namespace: Namespace
    packet: Packet
    hop: NextHop
    tracked: Tracked | None


class Arrival(NamedTuple):
    """A packet that arrives at the IP layer of a namespace. `translated`: the bridge has already done prerouting."""

    namespace: Namespace
    link: Link
    packet: Packet
    tracked: Tracked | None = None
    translated: bool = False


class Links:
    """All links of a lab, on one path. Every method raises `Ended` where the path ends."""

    def __init__(self, state: State, way: Way, netfilter: Netfilter) -> None:
        self._state = state
        self._way = way
        self._netfilter = netfilter

    def carry(self, departure: Departure) -> Arrival:
        """Where a packet arrives."""
        namespace, packet, hop, tracked = departure
        link = link_named(namespace, hop.link)
        mac = self._neighbour(namespace, link, hop.gateway or packet.destination, packet.source)
        return self._send(namespace, link, Frame(mac, packet), tracked)

    def _drop(self, namespace: Namespace, reason: str) -> Ended:
        return self._way.end(namespace, "dropped", reason)

    def _neighbour(self, namespace: Namespace, link: Link, address: str, source: str) -> str:
        """The MAC address of a neighbour, for sending a packet from `source`."""
        for entry in namespace.neighbours:
            if (entry.address, entry.link) == (address, link.name) and entry.mac and entry.state in _USABLE:
                return entry.mac
        if link.kind == "vxlan" and not any(e.link == link.name and e.mac == _ALL_ZERO for e in namespace.forwarding):
            why = f"no neighbour entry for {address} on {link.name}, and nothing in its FDB to ask"
            raise self._drop(namespace, why)
        asked = answerer(self._state, namespace, link, address)
        if asked is None:
            raise self._drop(namespace, f"no neighbour {address}: nothing answers for it on {link.name}")
        station, end = asked
        if Announced(address, end.name) in station.announced:
            return end.mac  # a packet socket answers, and not the kernel
        # arp_solicit asks with the packet's source, if that is an address of this namespace. arp_process does not
        # answer a source whose packets it would drop; a question without a source is always answered (RFC 5227, 1.1).
        own = bool(source) and is_local(namespace, source)
        asker = source if own else address_on(namespace, link.name, address, address)
        if asker and (trouble := source_trouble(station, end, asker, address)):
            raise self._drop(namespace, f"no neighbour {address}: {station.owner} does not answer: {trouble}")
        return end.mac

    def _send(self, namespace: Namespace, link: Link, frame: Frame, tracked: Tracked | None) -> Arrival:
        if not link.up:
            raise self._drop(namespace, f"{link.name} is down")
        # A second after the carrier is lost, the queueing discipline (noop) drops packets before a tap sees them.
        if link.carrier or self._way.choose((True, False)):
            self._way.see(namespace, link, "out", frame)
        if not link.carrier:
            raise self._drop(namespace, f"{link.name} has no carrier: nothing at its other end is up")
        if link.vxlan is not None:
            return self._encapsulate(namespace, link, link.vxlan, frame)
        if link.kind == "bridge":
            return self._leave_bridge(namespace, self._egress(namespace, link, None, frame), frame)
        return self._wire(namespace, link, frame)

    def _wire(self, namespace: Namespace, link: Link, frame: Frame) -> Arrival:
        """To the other end of a veth pair. A packet that the other end does not take is last seen here."""
        other = self._state.namespaces.get(link.peer[0]) if link.peer else None
        if link.peer is None or other is None:
            raise self._drop(namespace, f"the other end of {link.name} is unknown")
        end = link_named(other, link.peer[1])
        if not end.up:
            raise self._drop(namespace, f"{end.name} of {other.owner}, where {link.name} leads, is down")
        if frame.size > end.mtu + _VLAN_TAG:
            raise self._drop(namespace, _too_long(frame, end, other))
        self._way.see(other, end, "in", frame)
        if end.master:
            return self._enter_bridge(other, end, frame)
        if frame.to != end.mac:
            raise self._drop(other, f"the frame is for {frame.to}, but {end.name} of {other.owner} is {end.mac}")
        if frame.carrier:
            return self._decapsulate(other, end, frame.carrier)
        return Arrival(other, end, frame.packet)

    # --- tunnels -----------------------------------------------------------------------------------------------------

    def _encapsulate(self, namespace: Namespace, link: Link, vxlan: Vxlan, frame: Frame) -> Arrival:
        listed = [entry for entry in namespace.forwarding if entry.link == link.name and entry.destination]
        entries = [e for e in listed if e.mac == frame.to] or [e for e in listed if e.mac == _ALL_ZERO]
        if not entries:
            raise self._drop(namespace, f"no FDB entry for {frame.to} on {link.name}: there is no tunnel for it")
        entry: Forwarding = self._way.choose(entries)
        self._way.because(f"FDB {entry.mac} dst {entry.destination} dev {link.name}")
        route = lookup(namespace, entry.destination, source=vxlan.local, outgoing=vxlan.link)
        if route is None or route.kind != "unicast":
            raise self._drop(namespace, f"the tunnel to {entry.destination}: {no_way(route, entry.destination)}")
        hop = self._way.choose(route.hops)
        underlay = link_named(namespace, hop.link)
        mac = self._neighbour(namespace, underlay, hop.gateway or entry.destination, vxlan.local)
        outer = Frame(mac, frame.packet, Carrier(vxlan, vxlan.local, entry.destination, frame))
        mtu = route.mtu or underlay.mtu
        return self._send(namespace, underlay, outer.fragmented(mtu) if outer.size > mtu else outer, None)

    def _decapsulate(self, namespace: Namespace, link: Link, carrier: Carrier) -> Arrival:
        if not is_local(namespace, carrier.destination):
            raise self._drop(namespace, f"the tunnel's end {carrier.destination} is not one of its addresses")
        self._validate_source(namespace, link, carrier.source, carrier.destination)
        wanted = (carrier.vxlan.vni, carrier.vxlan.port)
        for end in namespace.links:
            if end.vxlan is None or (end.vxlan.vni, end.vxlan.port) != wanted or not end.up:
                continue
            self._way.see(namespace, end, "in", carrier.inner)
            if carrier.inner.to != end.mac:
                why = f"the frame is for {carrier.inner.to}, but {end.name} is {end.mac}: the FDB named another node"
                raise self._drop(namespace, why)
            return Arrival(namespace, end, carrier.inner.packet)
        raise self._drop(namespace, f"no VXLAN device with VNI {wanted[0]} and port {wanted[1]} is up")

    def _validate_source(self, namespace: Namespace, link: Link, source: str, destination: str) -> None:
        trouble = source_trouble(namespace, link, source, destination)
        if trouble:
            raise self._drop(namespace, trouble)

    # --- bridges -----------------------------------------------------------------------------------------------------

    def _enter_bridge(self, namespace: Namespace, port: Link, frame: Frame) -> Arrival:
        bridge = link_named(namespace, port.master)
        if not bridge.up or port.blocked:
            why = f"port {port.name} is not forwarding" if bridge.up else f"{bridge.name} is down"
            raise self._drop(namespace, why)
        tracked: Tracked | None = None
        translated = _calls(namespace, frame)
        if translated:
            tracked, packet = self._netfilter.arrive(namespace, frame.packet, bridge.name)
            redirected = packet.destination != frame.packet.destination
            frame = frame._replace(packet=packet)
            if redirected:
                frame = self._redirected(namespace, bridge, frame)
        if _is_own(namespace, bridge, frame.to):
            self._way.see(namespace, bridge, "in", frame)
            return Arrival(namespace, bridge, frame.packet, tracked, translated)
        return self._cross(namespace, bridge, port, frame, tracked)

    def _redirected(self, namespace: Namespace, bridge: Link, frame: Frame) -> Frame:
        """DNAT on a bridge port (br_nf_pre_routing_finish): the kernel looks up the route of the new destination.

        A frame that leaves by the same bridge is only bridged: its TTL stays. Unless the kernel has the neighbour's
        header cached, it sends the frame through the bridge's own device, where a tap sees it.
        """
        packet = frame.packet
        route = lookup(namespace, packet.destination, source=packet.source, incoming=bridge.name)
        self._validate_source(namespace, bridge, packet.source, packet.destination)
        if route is None or route.kind not in ("unicast", "local"):
            raise self._drop(namespace, no_way(route, packet.destination))
        hop = next((hop for hop in route.hops if hop.link == bridge.name), None) if route.kind == "unicast" else None
        if hop is None:
            return frame._replace(to=bridge.mac)
        address = hop.gateway or packet.destination
        frame = frame._replace(to=self._neighbour(namespace, bridge, address, packet.source))
        known = next((e.state for e in namespace.neighbours if (e.address, e.link) == (address, bridge.name)), "")
        # The cached header is not used if the neighbour is stale, or was not known before this packet.
        slow = known == "stale" or (not known and not self._way.answering)
        if self._way.choose((False, True) if known == "reachable" else (True,) if slow else (True, False)):
            self._way.see(namespace, bridge, "out", frame)
        return frame

    def _cross(
        self, namespace: Namespace, bridge: Link, ingress: Link, frame: Frame, tracked: Tracked | None
    ) -> Arrival:
        """From one port to another."""
        egress = self._egress(namespace, bridge, ingress, frame)
        if _calls(namespace, frame):
            self._netfilter.judge(namespace, frame.packet, tracked)
            self._netfilter.admit(namespace, frame.packet, tracked)
            packet = self._netfilter.leave(namespace, frame.packet, tracked, NextHop("", bridge.name))
            frame = frame._replace(packet=packet)
        if _has_netfilter(namespace, frame.version) and frame.size > egress.mtu:
            # br_netfilter reassembles fragments, and fragments again as a router would (br_nf_dev_queue_xmit).
            if not frame.fragmentable:
                raise self._drop(namespace, _too_long(frame, egress, namespace))
            self._way.because(f"fragmented for the MTU {egress.mtu} of {egress.name}")
            frame = frame.fragmented(egress.mtu)
        return self._leave_bridge(namespace, egress, frame)

    def _egress(self, namespace: Namespace, bridge: Link, ingress: Link | None, frame: Frame) -> Link:
        egress = port_towards(self._state, namespace, bridge, frame.to)
        if egress is None:
            raise self._drop(namespace, f"no port of {bridge.name} leads to {frame.to}")
        if ingress is not None and egress.name == ingress.name and not egress.hairpin:
            raise self._drop(namespace, f"port {egress.name} of {bridge.name} is not in hairpin mode")
        if ingress is not None and ingress.isolated and egress.isolated:
            raise self._drop(namespace, f"ports {ingress.name} and {egress.name} of {bridge.name} are isolated")
        if egress.blocked or not egress.up or not egress.carrier:
            raise self._drop(namespace, f"port {egress.name} of {bridge.name} is down or blocked")
        return egress

    def _leave_bridge(self, namespace: Namespace, egress: Link, frame: Frame) -> Arrival:
        if frame.size > egress.mtu + _VLAN_TAG:
            raise self._drop(namespace, _too_long(frame, egress, namespace))
        self._way.see(namespace, egress, "out", frame)
        return self._wire(namespace, egress, frame)


def _too_long(frame: Frame, link: Link, namespace: Namespace) -> str:
    return f"{frame.size} bytes exceed the MTU {link.mtu} of {link.name} of {namespace.owner}: dropped silently"


def _is_own(namespace: Namespace, bridge: Link, mac: str) -> bool:
    """Whether a frame is for the bridge itself: its address, or that of one of its ports."""
    return mac == bridge.mac or any(
        entry.mac == mac and entry.local
        for entry in namespace.forwarding
        if entry.link == bridge.name or link_named(namespace, entry.link).master == bridge.name
    )


def _calls(namespace: Namespace, frame: Frame) -> bool:
    """Whether a frame that crosses a bridge meets the rules of IP; the inner packets of a tunnel do not."""
    return frame.carrier is None and _has_netfilter(namespace, frame.version)


def _has_netfilter(namespace: Namespace, version: int) -> bool:
    """Whether br_netfilter is active on bridges."""
    suffix = "iptables" if version == 4 else "ip6tables"
    return bool(namespace.sysctls.get(f"net/bridge/bridge-nf-call-{suffix}", 0))
