"""Netfilter's part of a path: what the hooks of a network namespace do to a packet, with conntrack and the proxy."""

from __future__ import annotations

from netlab.proxy.plan import Target
from netlab.proxy.plan import Verdict as Refusal
from netlab.trace.answers import error_about
from netlab.trace.routing import address_on, is_local, within
from netlab.trace.state import Namespace, NextHop, State
from netlab.trace.translation import Packet, Services, Tracked, inverse
from netlab.trace.way import Way


class Netfilter:
    """The hooks of every namespace on one path, and the flows that they know so far."""

    def __init__(self, state: State, way: Way) -> None:
        self._state = state
        self._way = way
        self._flows = {owner: list(namespace.flows) for owner, namespace in state.namespaces.items()}

    def arrive(self, namespace: Namespace, packet: Packet, incoming: str) -> tuple[Tracked | None, Packet]:
        """Prerouting, or output (if `incoming` is empty): conntrack, and for a flow's first packet the proxy."""
        if not self._tracks(namespace):
            return None, packet
        tracked = Tracked(packet, self._flows[namespace.owner])
        proxy = self._state.proxies.get(namespace.owner)
        if tracked.new and proxy is not None:
            self._ask_proxy(namespace, Services(proxy, packet.version), packet, tracked, incoming)
        elif tracked.translated and not self._way.answering:
            self._way.because(f"conntrack: {tracked.original} became {inverse(tracked.answer)} before")
        return tracked, tracked.arriving(packet)

    def admit(self, namespace: Namespace, packet: Packet, tracked: Tracked | None) -> None:
        """Input, forward or output: the proxy's filter chains, which see only first packets. Raises `Ended`."""
        if tracked is None or tracked.refusal is None or not tracked.new:
            return
        refusal, name = tracked.refusal
        if refusal is Refusal.DROP:
            raise self._way.end(namespace, "dropped", _refused(refusal, name))
        self._way.because(name)
        raise self._way.end(namespace, "rejected", _refused(refusal, name), error_about(namespace, packet))

    def judge(self, namespace: Namespace, packet: Packet, tracked: Tracked | None) -> None:
        """Forward: the policies about pods of the node, which judge first packets. Raises `Ended`."""
        if tracked is None or not tracked.new or self._way.answering:
            return
        why = self._state.refusal(namespace.owner, packet.source, packet.destination, packet.protocol, packet.dport)
        if why:
            raise self._way.end(namespace, "dropped", why)

    def leave(self, namespace: Namespace, packet: Packet, tracked: Tracked | None, hop: NextHop) -> Packet:
        """Postrouting."""
        if tracked is not None and tracked.new:
            reasons = [*tracked.masquerade, *self._masquerades(namespace, packet)]
            if reasons:
                tracked.disguise(address_on(namespace, hop.link, hop.gateway or packet.destination, packet.destination))
                self._way.because(reasons[0])
                self._way.translates("SNAT", tracked.service if tracked.masquerade else "")
        return self.confirm(namespace, packet, tracked)

    def confirm(self, namespace: Namespace, packet: Packet, tracked: Tracked | None) -> Packet:
        """The packet after the last hook; from then on its flow is known (nf_conntrack_confirm)."""
        if tracked is None:
            return packet
        packet = tracked.leaving(packet)
        if tracked.new:
            tracked.new = False
            self._flows[namespace.owner].append(tracked.flow(packet.protocol))
        return packet

    def _tracks(self, namespace: Namespace) -> bool:
        owner = namespace.owner
        return owner in self._state.proxies or bool(self._state.masquerades.get(owner) or namespace.flows)

    def _ask_proxy(
        self, namespace: Namespace, services: Services, packet: Packet, tracked: Tracked, incoming: str
    ) -> None:
        own = is_local(namespace, packet.destination)
        backends, refusal = services.choices(packet, incoming, own=own)
        name = services.named(packet, incoming, own=own)
        if refusal is not None:
            target = services.target(packet, incoming, own=own)
            tracked.refusal = refusal, _why_refused(name, target, refusal, packet)
            if refusal is Refusal.DROP and target is not None and services.drops_early:
                raise self._way.end(namespace, "dropped", _refused(*tracked.refusal))
        if backends:
            backend = self._way.choose(backends)
            tracked.redirect(*backend)
            target = services.target(packet, incoming, own=own)
            tracked.service = target.service if target else ""
            self._way.because(name)
            self._way.translates("DNAT", tracked.service)
            if services.masquerades(packet, incoming, own=own, backend=backend):
                tracked.masquerade.append(f"{name}: masquerade")

    def _masquerades(self, namespace: Namespace, packet: Packet) -> list[str]:
        return [
            f"ipMasq of the pod network: {rule.source} is masqueraded beyond {rule.cluster}"
            for rule in self._state.masquerades.get(namespace.owner, ())
            if within(packet.source, rule.source) and not within(packet.destination, rule.cluster)
        ]


def _refused(refusal: Refusal, name: str) -> str:
    return f"{name}: {'rejected' if refusal is Refusal.REJECT else 'dropped'} by kube-proxy"


def _why_refused(name: str, target: Target | None, refusal: Refusal, packet: Packet) -> str:
    if target is None:
        return name
    if target.sources and not any(within(packet.source, one) for one in target.sources):
        return f"{name} is not for {packet.source} (loadBalancerSourceRanges)"
    return f"{name} has no endpoint{' on this node' if refusal is Refusal.DROP else ''}"
