"""One path of a packet: the choices on it, what each tap would show, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from netlab.capture.changes import Change
from netlab.capture.taps import Kind, kind_of
from netlab.trace.frame import Frame
from netlab.trace.model import Direction, Hop, Verdict
from netlab.trace.state import Link, Namespace, State, end_text
from netlab.trace.translation import Packet

T = TypeVar("T")

Outcome = Literal["delivered", "refused", "rejected", "dropped"]


class Ended(Exception):  # noqa: N818  # not an error: every path ends
    """The path has ended at `namespace`; `answer` is what is sent back from there, if anything."""

    def __init__(self, verdict: Verdict, namespace: Namespace, answer: Packet | None) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.namespace = namespace
        self.answer = answer


class Way:
    """One path there and back. After the prescribed choices, it takes the first option of each."""

    def __init__(self, state: State, prescribed: Sequence[int]) -> None:
        self.state = state
        self.taken: list[int] = []
        self.offered: list[int] = []
        self.answering = False
        """Whether this is the way back."""
        self._prescribed = prescribed
        self._hops: list[Hop] = []
        self._by: list[str] = []
        self._before: tuple[Packet, str] | None = None
        self._services: dict[str, str] = {}

    def choose(self, options: Sequence[T]) -> T:
        """One of several options; the others are on other paths."""
        if len(options) == 1:
            return options[0]
        place = len(self.taken)
        chosen = self._prescribed[place] if place < len(self._prescribed) else 0
        self.taken.append(chosen)
        self.offered.append(len(options))
        return options[chosen]

    def because(self, reason: str) -> None:
        """Record a reason for the next hop."""
        self._by.append(reason)

    def translates(self, kind: Literal["DNAT", "SNAT"], service: str) -> None:
        """Record the Service for which the flow is translated, there and on the way back."""
        self._services[kind] = service

    def see(self, namespace: Namespace, link: Link, direction: Direction, frame: Frame) -> None:
        """Record that the frame passes a tap."""
        packet, carrier = frame.packet, str(frame.carrier or "")
        hop = Hop(
            node=namespace.machine,
            owner=namespace.owner,
            interface=link.name,
            kind=_kind(self.state, namespace, link),
            direction=direction,
            src=packet.source,
            sport=packet.sport,
            dst=packet.destination,
            dport=packet.dport,
            protocol=packet.protocol,
            ttl=packet.ttl,
            encapsulation=carrier,
            changed=_changes(self._before, packet, carrier, self._services, reply=self.answering),
            by=self._by,
        )
        self._hops.append(hop)
        self._before, self._by = (packet, carrier), []

    def end(self, namespace: Namespace, outcome: Outcome, reason: str, answer: Packet | None = None) -> Ended:
        """The end of the path, as an exception to raise."""
        # An error about an error, or about an answer, makes no difference.
        return Ended(Verdict(outcome, namespace.machine, reason), namespace, None if self.answering else answer)

    def told(self) -> list[Hop]:
        """The hops since the last call."""
        hops, self._hops, self._before, self._by = self._hops, [], None, []
        return hops


def _kind(state: State, namespace: Namespace, link: Link) -> Kind:
    if link.kind == "loopback":
        return "loopback"
    peer = state.namespaces.get(link.peer[0]) if link.peer else None
    return kind_of(link.kind, in_pod=namespace.is_pod, to_pod=peer.is_pod if peer else None)


def _changes(
    before: tuple[Packet, str] | None, packet: Packet, carrier: str, services: Mapping[str, str], *, reply: bool
) -> list[Change]:
    """The same as netlab.capture.changes.changes. `services` are those that translate, by the kind of change."""
    if before is None:
        return []
    was, carried = before
    found = [Change("out of", before=carried)] if carried and carried != carrier else []
    old, new = was.ends, packet.ends
    if (old.destination, old.dport) != (new.destination, new.dport):
        ends = end_text(old.destination, old.dport), end_text(new.destination, new.dport)
        found.append(Change("un-SNAT" if reply else "DNAT", *ends, services.get("SNAT" if reply else "DNAT", "")))
    if (old.source, old.sport) != (new.source, new.sport):
        ends = end_text(old.source, old.sport), end_text(new.source, new.sport)
        found.append(Change("un-DNAT" if reply else "SNAT", *ends, services.get("DNAT" if reply else "SNAT", "")))
    if was.ttl != packet.ttl:
        found.append(Change("TTL", str(was.ttl), str(packet.ttl)))
    if carrier and carried != carrier:
        found.append(Change("into", after=carrier))
    return found
