"""What became of a probe, and why: from the rules that it met, the answer, the kernel's counters, and the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import TCP, Headers
from netlab.capture.icmp import words
from netlab.net.addresses import address_text
from netlab.trace.model import Path, Verdict
from netlab.trace.observe import Observation
from netlab.trace.rules import Decision
from netlab.trace.state import State

_RST = 0x04
_PORT_UNREACHABLE = {(1, 3, 3), (58, 1, 4)}
_ANSWER = "; the answer: "
"""In a predicted reason, it separates what became of the probe from what became of its answer."""
_LOST = ", but the answer is lost: "
"""The same in an observed reason."""


class Fate:
    """Where a probe from `source` (the owner of a network namespace) and its answer ended.

    `forward` and `reply` are their journeys, as far as they were seen; `expected` is the predicted path that is most
    like theirs; `decided` returns the decisions of nftables in a namespace, given its owner.
    """

    def __init__(
        self,
        source: str,
        forward: Journey | None,
        reply: Journey | None,
        observed: Observation,
        state: State,
        expected: Path | None,
        decided: Callable[[str], Iterator[Decision]],
    ) -> None:
        self._source = source
        self._forward = forward
        self._reply = reply
        self._observed = observed
        self._state = state
        self._expected = expected
        self._decided = decided

    def verdict(self) -> Verdict:
        """Where it ended and why."""
        if self._reply is None:
            return self._unanswered() if self._forward else self._unseen()
        fate = self._answered(self._reply.sightings[0])
        last = self._reply.sightings[-1]
        if last.tap.owner == self._source and not last.outgoing:
            return fate
        lost = self._lost(self._reply)
        return Verdict("dropped", lost.node, f"{fate.reason}{_LOST}{lost.reason}")

    def _answered(self, first: Sighting) -> Verdict:
        """The verdict by the answer, as first seen."""
        headers, owner, machine = first.headers, first.tap.owner, first.tap.machine
        if headers.quoted is not None:
            return self._error(headers, headers.quoted, owner, machine)
        who = f"{_end(headers.source, headers.sport)} of {owner}"
        if headers.protocol == TCP and headers.flags & _RST:
            return Verdict("refused", machine, f"nothing listens at {who}: it answers with a reset")
        return Verdict("delivered", machine, f"{who} answers")

    def _error(self, headers: Headers, about: Headers, owner: str, machine: str) -> Verdict:
        rule = next((each for each in self._decided(owner) if each.kind == "rejected"), None)
        if rule is not None:
            return _by(rule, machine)
        said = f"ICMP {words(headers)}"
        unreachable = (headers.protocol, headers.icmp_type, headers.icmp_code) in _PORT_UNREACHABLE
        if unreachable and self._has(owner, address_text(about.destination)):
            where = f"{_end(about.destination, about.dport)} of {owner}"
            return Verdict("refused", machine, f"nothing listens at {where}: it answers with {said}")
        why = self._foreseen(machine)
        return Verdict("rejected", machine, f"{f'{why}; ' if why else ''}{said}, from {address_text(headers.source)}")

    def _unseen(self) -> Verdict:
        """No tap saw it: it did not leave its namespace."""
        machine, result = self._machine(self._source), self._observed.result
        if stop := self._stop(self._source, []):
            return _by(stop, machine)
        if result.outcome == "refused":
            return Verdict("refused", machine, f"nothing listens there: {result.reason}")
        if result.outcome == "answered":
            return Verdict("delivered", machine, "it was answered, but no tap saw it")
        why = [result.reason, self._foreseen(machine)]
        return Verdict("dropped", machine, ": ".join(filter(None, why)) or "it was never seen to leave")

    def _unanswered(self) -> Verdict:
        """It was seen to leave, and nothing came back."""
        assert self._forward is not None
        last = self._forward.sightings[-1]
        owner, headers = last.tap.owner, last.headers
        arrived = not last.outgoing and not headers.carrier and self._has(owner, address_text(headers.destination))
        if arrived and not self._stop(owner, self._forward.sightings) and not self._filtered(owner):
            reached = f"reached {_end(headers.destination, headers.dport)} of {owner}"
            if lost := self._answer_unsent(last.tap.machine):
                return Verdict("dropped", last.tap.machine, f"{reached}{_LOST}{lost}")
            # No counter shows these by namespace, and with accept_local there is another reason for the silence.
            martian = self._has(owner, address_text(headers.source)) and last.tap.kind != "loopback"
            why = f": {address_text(headers.source)} is also its own address (martian source)" if martian else ""
            return Verdict("delivered", last.tap.machine, f"{reached}; there was no answer{why}")
        return self._lost(self._forward)

    def _lost(self, journey: Journey) -> Verdict:
        """Why a packet was not seen again: a rule, the state of the last place, or counters."""
        last = journey.sightings[-1]
        # A packet that left by a veth pair may have been dropped at either end.
        owners = [last.tap.owner]
        if last.outgoing and last.tap.peer:
            owners.append(last.tap.peer.rpartition(" ")[0])
        for owner in owners:
            if stop := self._stop(owner, journey.sightings):
                return _by(stop, self._machine(owner))
        where = f"last seen at {last.tap.name} ({'out' if last.outgoing else 'in'})"
        for machine in map(self._machine, owners):
            if why := self._foreseen(machine):
                return Verdict("dropped", machine, f"{why}; {where}")
        thrown = [reason for owner in owners for reason in self._observed.thrown.get(owner, [])]
        return Verdict("dropped", last.tap.machine, f"{'; '.join(thrown) or 'no evidence why'}; {where}")

    def _stop(self, owner: str, sightings: Sequence[Sighting]) -> Decision | None:
        """The rule of a namespace that ended a packet seen as `sightings`; if empty, any of the probe's packets."""
        headers = [each.headers for each in sightings]
        flows = {each.flow for each in headers}
        carried = {(each.carrier.source, each.carrier.destination) for each in headers if each.carrier}
        for each in self._decided(owner):
            concerned = not sightings or each.flow in flows or (each.flow[0], each.flow[2]) in carried
            if each.kind in ("rejected", "dropped") and concerned:
                return each
        return None

    def _filtered(self, owner: str) -> bool:
        """Whether rp_filter may have dropped what arrived: it acts after the taps."""
        return any(each.startswith("rp_filter") for each in self._observed.thrown.get(owner, []))

    # --- The state ---------------------------------------------------------------------------------------------------

    def _foreseen(self, machine: str) -> str:
        """Why, by the state, the packet must end on that machine; empty if it need not."""
        if self._expected is None or self._expected.verdict.node != machine:
            return ""
        verdict = self._expected.verdict
        return "" if verdict.outcome == "delivered" else verdict.reason.rpartition(_ANSWER)[2]

    def _answer_unsent(self, machine: str) -> str:
        """Why, by the state, the answer must end on that machine before any tap; empty if it need not."""
        if self._expected is None or self._expected.reply or _ANSWER not in self._expected.verdict.reason:
            return ""
        return self._foreseen(machine)

    def _has(self, owner: str, address: str) -> bool:
        namespace = self._state.namespaces.get(owner)
        return namespace is not None and any(each.address == address for each in namespace.addresses)

    def _machine(self, owner: str) -> str:
        namespace = self._state.namespaces.get(owner)
        return namespace.machine if namespace else owner


def _by(decision: Decision, machine: str) -> Verdict:
    return Verdict("rejected" if decision.kind == "rejected" else "dropped", machine, "; ".join(decision.by))


def _end(address: bytes, port: int) -> str:
    return f"{address_text(address)}{f' port {port}' if port else ''}"
