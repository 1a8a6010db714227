"""From what was observed of a probe to an account of it: a line for each hop, who did what there, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netlab.capture.correlate import Journey, Sighting, changes
from netlab.capture.headers import TCP, Flow, Headers, address_text
from netlab.proxy.plan import Plan
from netlab.trace.model import Hop, Path, Verdict
from netlab.trace.observe import Observation
from netlab.trace.rules import Decision, Kind, Passage, decisions
from netlab.trace.state import Probe, State

_RST = 0x04
_NAMES = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_TRANSLATED: Mapping[str, Kind] = {"DNAT": "DNAT", "SNAT": "SNAT"}
_PORT_UNREACHABLE = {(1, 3, 3), (58, 1, 4)}
_ECHO_REPLIES = {(1, 0), (58, 129)}
_TOO_BIG = {(1, 3, 4), (58, 2, 0)}
_ERRORS = {
    (1, 3, 0): "network unreachable",
    (1, 3, 1): "host unreachable",
    (1, 3, 2): "protocol unreachable",
    (1, 3, 3): "port unreachable",
    (1, 3, 9): "network administratively prohibited",
    (1, 3, 10): "host administratively prohibited",
    (1, 3, 13): "administratively prohibited",
    (1, 11, 0): "TTL exceeded",
    (58, 1, 0): "no route",
    (58, 1, 1): "administratively prohibited",
    (58, 1, 3): "address unreachable",
    (58, 1, 4): "port unreachable",
    (58, 3, 0): "hop limit exceeded",
}


class Account:
    """What became of a probe, as it was observed.

    `state` is what the lab was when it was predicted. `expected` is the predicted path that is most like
    it, if there is one: it knows routes, which the kernel does not tell of.
    """

    def __init__(self, probe: Probe, observed: Observation, state: State) -> None:
        self._probe = probe
        self._observed = observed
        self._state = state
        self._forward = next((each for each in observed.journeys if not _is_reply(each)), None)
        self._reply = next((each for each in observed.journeys if _is_reply(each)), None)
        self._decided = {id(passage): self._decisions(passage) for passage in observed.passages}

    def path(self, expected: Path | None = None) -> Path:
        """The way there and back, and the verdict."""
        there = list(self._hops(self._forward, expected.hops if expected else []))
        back = list(self._hops(self._reply, expected.reply if expected else []))
        return Path(there, back, self._verdict(there, back, expected))

    # --- Hops --------------------------------------------------------------------------------------------------------

    def _hops(self, journey: Journey | None, expected: Sequence[Hop]) -> Iterator[Hop]:
        if journey is None:
            return
        begin = self._forward.sightings[0].time if self._forward else journey.sightings[0].time
        before: Sighting | None = None
        known = {(hop.owner, hop.interface, hop.direction): hop for hop in expected}
        for seen in journey.sightings:
            headers, tap = seen.headers, seen.tap
            changed = changes(before.headers, headers, reply=journey.reply) if before else []
            by = list(self._by(before, seen, changed, reply=journey.reply)) if before else _complaint(headers)
            foreseen = known.get((tap.owner, tap.interface, "out" if seen.outgoing else "in"))
            # The kernel tells which rules it met, not which routes it took: those are the state's.
            routes = [each for each in foreseen.by if each.startswith(_OF_STATE)] if foreseen else []
            yield Hop(
                node=tap.machine,
                owner=tap.owner,
                interface=tap.interface,
                kind=tap.kind,
                direction="out" if seen.outgoing else "in",
                src=address_text(headers.source),
                sport=headers.flow[1],
                dst=address_text(headers.destination),
                dport=headers.flow[3],
                protocol=_NAMES.get(headers.protocol, str(headers.protocol)),
                ttl=headers.ttl,
                encapsulation=str(headers.carrier or ""),
                changed=changed,
                by=[*by, *routes],
                nanoseconds=seen.time - begin,
            )
            before = seen

    def _by(self, before: Sighting, seen: Sighting, changed: Sequence[str], *, reply: bool) -> Iterator[str]:
        """Who translated a packet between two taps of a machine."""
        owner = seen.tap.owner
        for verb in [each.partition(" ")[0] for each in changed]:
            kind = _TRANSLATED.get(verb.removeprefix("un-"))
            if kind is None:
                continue
            if reply:
                said = self._translations(owner, kind)
                yield f"connection tracking of {owner}: undoes {said[0]}" if said else f"connection tracking of {owner}"
            else:
                met = before.headers.flow if kind == "DNAT" else None
                yield from next(
                    (each.by for each in self._of(owner) if each.kind == kind and met in (None, each.flow)), ()
                )

    def _translations(self, owner: str, kind: Kind) -> list[str]:
        return [each.by[0] for each in self._of(owner) if each.kind == kind]

    def _of(self, owner: str) -> Iterator[Decision]:
        for passage in self._observed.passages:
            if passage.machine == owner:
                yield from self._decided[id(passage)]

    def _decisions(self, passage: Passage) -> list[Decision]:
        observed = self._observed
        owner = passage.machine
        version = 6 if passage.flows and len(passage.flows[0][0]) == 16 else 4
        return decisions(
            passage,
            observed.texts.get(owner, {}),
            self._plan(owner, version),
            observed.networks.get(owner, {}),
        )

    # --- The verdict -------------------------------------------------------------------------------------------------

    def _verdict(self, there: Sequence[Hop], back: Sequence[Hop], expected: Path | None) -> Verdict:
        fate = self._fate(there, expected)
        if not back or self._reply is None:
            return fate
        last = back[-1]
        if last.owner == self._probe.source and last.direction == "in":
            return fate
        why = self._why(self._reply, last, expected)
        return Verdict("dropped", why.node, f"{fate.reason}; the answer: {why.reason}")

    def _fate(self, there: Sequence[Hop], expected: Path | None) -> Verdict:
        """What became of the probe itself."""
        if self._reply is not None:
            return self._answered(self._reply)
        if not there:
            return self._at_home(expected)
        last = there[-1]
        if last.direction == "in" and self._has(last.owner, last.dst) and not self._stopped(last):
            at = f"{last.dst}{f' port {last.dport}' if last.protocol != 'icmp' else ''}"
            return Verdict("delivered", last.node, f"reached {at} of {last.owner}; nobody answered")
        assert self._forward is not None
        return self._why(self._forward, last, expected)

    def _answered(self, reply: Journey) -> Verdict:
        first = reply.sightings[0]
        headers, owner, machine = first.headers, first.tap.owner, first.tap.machine
        if headers.quoted is not None:
            return self._error(headers, owner, machine)
        who = f"{address_text(headers.source)}{f' port {headers.sport}' if headers.sport else ''} of {owner}"
        if headers.protocol == TCP and headers.flags & _RST:
            return Verdict("refused", machine, f"nobody listens at {who}: it answers with a reset")
        return Verdict("delivered", machine, f"{who} answers")

    def _error(self, headers: Headers, owner: str, machine: str) -> Verdict:
        """What an ICMP error says, and which rule had it sent."""
        rule = next((each for each in self._of(owner) if each.kind == "rejected"), None)
        if rule is not None:
            return Verdict("rejected", machine, "; ".join(rule.by))
        said = (headers.protocol, headers.icmp_type, headers.icmp_code)
        source = address_text(headers.source)
        if said in _TOO_BIG:
            why = f"it is too large for an MTU of {headers.mtu}, and may not be fragmented"
            return Verdict("rejected", machine, f"{why} (ICMP from {source})")
        text = _ERRORS.get(said, f"type {said[1]} code {said[2]}")
        about = headers.quoted
        if said in _PORT_UNREACHABLE and about and self._has(owner, address_text(about.destination)):
            port = f"{address_text(about.destination)} port {about.dport} of {owner}"
            return Verdict("refused", machine, f"nobody listens at {port}: it answers with ICMP {text}")
        return Verdict("rejected", machine, f"ICMP {text}, from {source} of {owner}")

    def _at_home(self, expected: Path | None) -> Verdict:
        """It never left its namespace."""
        source, result = self._probe.source, self._observed.result
        rule = next((each for each in self._of(source) if each.kind in ("rejected", "dropped")), None)
        machine = self._machine(source)
        if rule is not None:
            return Verdict("rejected" if rule.kind == "rejected" else "dropped", machine, "; ".join(rule.by))
        if result.outcome == "refused":
            return Verdict("refused", machine, f"nobody listens there: {result.reason}")
        foreseen = f": {expected.verdict.reason}" if expected and expected.verdict.node == machine else ""
        return Verdict("dropped", machine, f"{result.reason or 'it was never seen to leave'}{foreseen}")

    def _why(self, journey: Journey, last: Hop, expected: Path | None) -> Verdict:
        """Why a packet was seen no more behind a hop: by a rule, what the state says of there, or counters."""
        flows = {journey.sightings[-1].headers.flow, journey.sightings[0].headers.flow}
        rule = next((each for each in self._stops(last.owner, flows)), None)
        if rule is not None:
            return Verdict("rejected" if rule.kind == "rejected" else "dropped", last.node, "; ".join(rule.by))
        where = f"last seen at {last.owner} {last.interface} ({last.direction})"
        return Verdict("dropped", last.node, f"{self._here(last.owner, expected, 'nothing says why')}; {where}")

    def _here(self, owner: str, expected: Path | None, else_: str) -> str:
        foreseen = expected is not None and expected.verdict.node == self._machine(owner)
        if foreseen and expected is not None and expected.verdict.outcome != "delivered":
            return expected.verdict.reason
        return "; ".join(self._observed.thrown.get(owner, [])) or else_

    def _stopped(self, last: Hop) -> bool:
        """Whether something says that a packet was thrown away in the namespace that it had reached."""
        return any(True for _ in self._stops(last.owner, None)) or any(
            "rp_filter" in each for each in self._observed.thrown.get(last.owner, [])
        )

    def _stops(self, owner: str, flows: set[Flow] | None) -> Iterator[Decision]:
        for each in self._of(owner):
            if each.kind in ("rejected", "dropped") and (flows is None or each.flow in flows or not flows):
                yield each

    # --- The state ---------------------------------------------------------------------------------------------------

    def _plan(self, owner: str, version: int) -> Plan:
        proxy = self._state.proxies.get(owner)
        return proxy.plans.get("IPv6" if version == 6 else "IPv4", {}) if proxy else {}

    def _has(self, owner: str, address: str) -> bool:
        namespace = self._state.namespaces.get(owner)
        return namespace is not None and any(each.address == address for each in namespace.addresses)

    def _machine(self, owner: str) -> str:
        namespace = self._state.namespaces.get(owner)
        return namespace.machine if namespace else owner


def _is_reply(journey: Journey) -> bool:
    """Of an echo to oneself both directions look alike but for the type."""
    headers = journey.sightings[0].headers
    return journey.reply or (headers.protocol, headers.icmp_type) in _ECHO_REPLIES


def _complaint(headers: Headers) -> list[str]:
    """What an ICMP error is about, where it is sent."""
    if headers.quoted is None:
        return []
    said = (headers.protocol, headers.icmp_type, headers.icmp_code)
    text = f"packet too big for MTU {headers.mtu}" if said in _TOO_BIG else _ERRORS.get(said, f"{said[1]}/{said[2]}")
    return [f"ICMP {text}"]


_OF_STATE = ("route ", "neighbour ", "FDB ")
