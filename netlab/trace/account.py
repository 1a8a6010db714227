"""Turns what was observed of a probe into a path: a line for each hop, who did what there, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netlab.capture.changes import Change, changes
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import Headers
from netlab.capture.icmp import words
from netlab.net.addresses import address_text
from netlab.proxy.plan import Plan
from netlab.trace.compare import OF_STATE
from netlab.trace.fate import Fate
from netlab.trace.model import Direction, Hop, Path
from netlab.trace.observe import Observation
from netlab.trace.rules import Decision, decisions
from netlab.trace.state import State

_NAMES = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_ECHO_REPLIES = {(1, 0), (58, 129)}


class Account:
    """What was observed of a probe from `source` (the owner of a network namespace).

    `state` is the lab's state that the prediction used.
    """

    def __init__(self, source: str, observed: Observation, state: State) -> None:
        self._source = source
        self._observed = observed
        self._state = state
        self._forward = next((each for each in observed.journeys if not _is_reply(each)), None)
        self._reply = next((each for each in observed.journeys if _is_reply(each)), None)
        self._decisions: dict[str, list[Decision]] = {}
        for passage in observed.passages:
            owner = passage.machine
            version = 6 if any(len(flow[0]) == 16 for flow in passage.flows) else 4
            texts, networks = observed.texts.get(owner, {}), observed.networks.get(owner, {})
            found = decisions(passage, texts, self._plan(owner, version), networks, state.refusal)
            self._decisions.setdefault(owner, []).extend(found)

    def path(self, expected: Path | None = None) -> Path:
        """The way there and back, and the verdict.

        `expected` is the predicted path that is most like it, if there is one: only it knows the routes, and what ends
        a packet silently.
        """
        there = list(self._hops(self._forward, expected.hops if expected else []))
        back = list(self._hops(self._reply, expected.reply if expected else []))
        fate = Fate(self._source, self._forward, self._reply, self._observed, self._state, expected, self._decided)
        return Path(there, back, fate.verdict())

    def _hops(self, journey: Journey | None, expected: Sequence[Hop]) -> Iterator[Hop]:
        if journey is None:
            return
        begin = (self._forward or journey).sightings[0].time
        known = {(hop.owner, hop.interface, hop.direction): hop for hop in expected}
        before = None if journey.reply else _dialled(journey)
        entered = ""
        for seen in journey.sightings:
            headers, tap = seen.headers, seen.tap
            direction: Direction = "out" if seen.outgoing else "in"
            changed = changes(before.headers, headers, reply=journey.reply) if before else []
            if before:
                changed = [self._credited(before, tap.owner, each, reply=journey.reply) for each in changed]
            by = list(self._by(before, tap.owner, changed, reply=journey.reply)) if before else _sent_by(headers)
            # A packet that a bridge redirects (br_netfilter) is past postrouting only at the port.
            bridged = before is not None and tap.kind == "bridge" and before.headers.ttl == headers.ttl
            if entered and tap.owner == entered and seen.outgoing and not bridged:
                by += self._kept(tap.owner, journey)
                entered = ""
            elif not seen.outgoing:
                entered = "" if journey.reply else tap.owner
            foreseen = known.get((tap.owner, tap.interface, direction))
            yield Hop(
                node=tap.machine,
                owner=tap.owner,
                interface=tap.interface,
                kind=tap.kind,
                direction=direction,
                src=address_text(headers.source),
                sport=headers.flow[1],
                dst=address_text(headers.destination),
                dport=headers.flow[3],
                protocol=_NAMES.get(headers.protocol, str(headers.protocol)),
                ttl=headers.ttl,
                encapsulation=str(headers.carrier or ""),
                changed=changed,
                by=by + [each for each in (foreseen.by if foreseen else []) if each.startswith(OF_STATE)],
                nanoseconds=seen.time - begin,
            )
            before = seen

    def _by(self, before: Sighting, owner: str, changed: Sequence[Change], *, reply: bool) -> Iterator[str]:
        """Who translated a packet between two taps."""
        for each in changed:
            decision = self._decision(before, owner, each, reply=reply)
            if reply and each.kind.startswith("un-"):
                yield f"connection tracking of {owner}{f', which undoes: {decision.by[0]}' if decision else ''}"
            elif decision:
                yield from decision.by

    def _decision(self, before: Sighting, owner: str, change: Change, *, reply: bool) -> Decision | None:
        """The rule that made a change, or that made the change it undoes."""
        found = [each for each in self._decided(owner) if each.kind == change.kind.removeprefix("un-")]
        if change.kind == "DNAT" and not reply:
            found = [each for each in found if each.flow == before.headers.flow]
        return found[0] if found else None

    def _credited(self, before: Sighting, owner: str, change: Change, *, reply: bool) -> Change:
        """A change with the Service that made it."""
        decision = self._decision(before, owner, change, reply=reply)
        return msgspec.structs.replace(change, service=decision.service) if decision else change

    def _kept(self, owner: str, journey: Journey) -> Iterator[str]:
        """The rules that left a source as it was: after such a rule no other can change it."""
        leaving = [each.headers.flow for each in journey.sightings if each.tap.owner == owner and each.outgoing]
        for each in self._decided(owner):
            if each.kind == "SNAT" and leaving and each.flow == leaving[-1]:
                yield from each.by

    def _decided(self, owner: str) -> Iterator[Decision]:
        return iter(self._decisions.get(owner, ()))

    def _plan(self, owner: str, version: int) -> Plan:
        proxy = self._state.proxies.get(owner)
        return proxy.plans.get("IPv6" if version == 6 else "IPv4", {}) if proxy else {}


def _dialled(journey: Journey) -> Sighting | None:
    """The packet as it was before the first tap, if translated: a node's own packet has passed its output chains."""
    first = journey.sightings[0]
    source, sport, destination, dport = journey.client
    if first.headers.flow == journey.client:
        return None
    return first._replace(
        headers=first.headers._replace(source=source, sport=sport, destination=destination, dport=dport, carrier=None)
    )


def _is_reply(journey: Journey) -> bool:
    """When a host pings itself, the two directions differ only in the ICMP type."""
    headers = journey.sightings[0].headers
    return journey.reply or (headers.protocol, headers.icmp_type) in _ECHO_REPLIES


def _sent_by(headers: Headers) -> list[str]:
    return [f"ICMP {words(headers)}"] if headers.quoted else []
