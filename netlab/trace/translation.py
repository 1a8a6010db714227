"""Connection tracking as far as it decides a path: what is translated to what, and how answers are changed back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from netlab.net.addresses import Family
from netlab.proxy.model import Model
from netlab.proxy.model import Packet as Dialled
from netlab.proxy.plan import Scope, Target, Verdict
from netlab.trace.state import ANY_PORT, Ends, Flow, Proxy


@dataclasses.dataclass(frozen=True)
class Packet:
    """An IP packet at some point of its path.

    For ICMP both ports are the echo's identifier; `quoted` is the packet that an ICMP error is about, and the error has
    no ports. `size` is in bytes; 0 fits anywhere.
    """

    protocol: str
    source: str
    sport: int
    destination: str
    dport: int
    ttl: int = 64
    size: int = 0
    fragment: bool = True
    quoted: Ends | None = None

    @property
    def ends(self) -> Ends:
        """Source and destination, as in conntrack's tuples."""
        return Ends(self.source, self.sport, self.destination, self.dport)

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.destination else 4


def inverse(ends: Ends) -> Ends:
    """The ends of an answer to these."""
    return Ends(ends.destination, ends.dport, ends.source, ends.sport)


class Tracked:
    """What a network namespace knows about a packet's flow: an existing entry, or one about to be made."""

    def __init__(self, packet: Packet, flows: Iterable[Flow]) -> None:
        self.reply = False
        self._echo = packet.protocol == "icmp"
        self.original = packet.ends
        self.answer = inverse(packet.ends)
        self.service = ""
        """`NAMESPACE/NAME:PORT` of the Service that redirected it."""
        self.masquerade: list[str] = []
        """Why its source must be rewritten when it leaves."""
        self.refusal: tuple[Verdict, str] | None = None
        """How the proxy refuses it after routing, and why."""
        self.new = packet.quoted is None
        for flow in flows:
            if flow.protocol != packet.protocol and packet.quoted is None:
                continue
            answers = inverse(packet.quoted) == flow.reply if packet.quoted else packet.ends == flow.reply
            if answers or packet.ends == flow.original:
                self.original, self.answer, self.reply, self.new = flow.original, flow.reply, answers, False
                break
        self.invalid = packet.quoted is not None and not self.reply
        """An error about an unknown connection: nothing translates it."""

    def flow(self, protocol: str) -> Flow:
        """The conntrack entry of this flow."""
        return Flow(protocol, self.original, self.answer)

    @property
    def translated(self) -> bool:
        """Whether anything in it is rewritten."""
        return self.answer != inverse(self.original)

    def redirect(self, address: str, port: int) -> None:
        """DNAT."""
        self.answer = Ends(address, port, self.answer.destination, self.answer.dport)

    def disguise(self, address: str) -> None:
        """Masquerade, to a port or identifier that the kernel chooses."""
        source, sport, _, _ = self.answer
        self.answer = Ends(source, ANY_PORT if self._echo else sport, address, ANY_PORT)

    def arriving(self, packet: Packet) -> Packet:
        """The packet after prerouting or output: its destination is rewritten."""
        if self.invalid:
            return packet
        to = (self.original.source, self.original.sport) if self.reply else (self.answer.source, self.answer.sport)
        if packet.quoted is not None:
            return dataclasses.replace(packet, destination=to[0])
        return dataclasses.replace(packet, destination=to[0], dport=to[1], sport=to[1] if self._echo else packet.sport)

    def leaving(self, packet: Packet) -> Packet:
        """The packet after postrouting or input: its source is rewritten."""
        if self.invalid:
            return packet
        original, answer = self.original, self.answer
        of = (original.destination, original.dport) if self.reply else (answer.destination, answer.dport)
        if packet.quoted is not None:
            redirected = answer.source != original.destination
            source = original.destination if redirected else packet.source
            return dataclasses.replace(packet, source=source, quoted=original)
        return dataclasses.replace(packet, source=of[0], sport=of[1], dport=of[1] if self._echo else packet.dport)


class Services:
    """A node's proxy, asked about first packets."""

    def __init__(self, proxy: Proxy, version: int) -> None:
        family: Family = "IPv6" if version == 6 else "IPv4"
        self._proxy = proxy
        self._model = Model(proxy.plans.get(family, {}), family, proxy.config)

    @property
    def drops_early(self) -> bool:
        """nftables drops where it translates. iptables may not drop in its nat table, and does so after routing."""
        return self._proxy.config.mode == "nftables"

    def choices(self, packet: Packet, incoming: str, *, own: bool) -> tuple[Sequence[tuple[str, int]], Verdict | None]:
        """The endpoints that a first packet may be sent to, or the verdict instead (None: it passes unchanged).

        `own`: its destination is one of the node's addresses.
        """
        dialled = Dialled(packet.source, packet.destination, packet.protocol, packet.dport, incoming, own)
        self._remember(dialled)
        outcome = self._model.trace(dialled)
        return sorted(outcome.endpoints), outcome.verdict

    def masquerades(self, packet: Packet, incoming: str, *, own: bool, backend: tuple[str, int]) -> bool:
        """Whether the source is rewritten on the way to that endpoint."""
        dialled = Dialled(packet.source, packet.destination, packet.protocol, packet.dport, incoming, own)
        target = self.target(packet, incoming, own=own)
        endpoints = {*target.cluster, *target.local} if target else set()
        chosen = next((each for each in endpoints if each.backend == backend), None)
        return self._model.trace(dialled, backend=chosen).masquerade

    def target(self, packet: Packet, incoming: str, *, own: bool) -> Target | None:
        """The target that the packet dials; None if no Service has it."""
        dialled = Dialled(packet.source, packet.destination, packet.protocol, packet.dport, incoming, own)
        frontend = self._model.frontend(dialled)
        return self._model.plan[frontend] if frontend else None

    def named(self, packet: Packet, incoming: str, *, own: bool) -> str:
        """The Service's port and its policy, in words; if no Service has the address, that."""
        target = self.target(packet, incoming, own=own)
        if target is None:
            return f"no Service has {packet.destination} port {packet.dport}"
        field = "internalTrafficPolicy" if target.scope is Scope.INTERNAL else "externalTrafficPolicy"
        return f"Service {target.service} ({field} {target.policy})"

    def _remember(self, dialled: Dialled) -> None:
        frontend = self._model.frontend(dialled)
        if frontend is None:
            return
        service = self._model.plan[frontend].service
        for one in self._proxy.affinities:
            if (one.service, one.protocol, one.client) == (service, dialled.protocol, dialled.source):
                self._model.remember(dialled, one.address, at=0)
