"""A picture of a scenario's most telling connection: what was seen of it, and what must have been in between."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from netlab.capture.changes import Change, changes
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import protocol_name, swapped
from netlab.capture.taps import Kind, Tap
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.net.addresses import address_text
from netlab.report.captured import Captured
from netlab.report.messages import Message, lifeline, short
from netlab.report.picture import Picture
from netlab.report.topology import key_of
from netlab.report.translators import is_node, is_translation, translator
from netlab.trace.model import Direction, Hop

NETFILTER = "netfilter"
"""Stands for a node's rules and connection tracking, where nothing can be captured."""

_MOST = 500
"""At most this many packets are examined: each is compared with all later ones."""

_ETHERNET = "eth0"
"""A machine's interface to the fabric."""

_STACK = "IP stack"
"""Stands for a machine that sends or receives a packet itself."""


class Overview(NamedTuple):
    """A packet, its answer if there is one, and their paths; `worth` says how much of the network they show."""

    picture: Picture
    packet: Message
    answer: Message | None
    worth: int


def overviews(found: Captured, told: Sequence[Message], names: Mapping[str, str]) -> Iterator[Overview]:
    """One for each of the first requests, with its first answer; `told` are the journeys' messages."""
    pairs = list(zip(found.journeys, told, strict=True))[:_MOST]
    for index, (journey, message) in enumerate(pairs):
        if journey.reply or message.tone != "request":
            continue
        answer = next(((way, said) for way, said in pairs[index + 1 :] if _answers(way, journey)), None)
        yield _overview(journey, message, answer, found.taps, names)


def most_telling(found: Iterable[Overview]) -> Overview | None:
    """The one that shows most of the network; of equal ones, the first."""
    return max(found, key=lambda each: each.worth, default=None)


def _overview(
    journey: Journey,
    message: Message,
    answer: tuple[Journey, Message] | None,
    taps: Sequence[Tap],
    names: Mapping[str, str],
) -> Overview:
    ways = [journey, answer[0]] if answer else [journey]
    there, *rest = [_hops(way, names, arrives=answer is not None) for way in ways]
    back = rest[0] if rest else []
    watched = {(short(tap.owner), tap.interface) for tap in taps}
    if back and key_of(back[0]) != key_of(there[-1]) and key_of(back[0]) not in watched:
        # The answer starts where the packet went.
        asked = msgspec.structs.replace(there[-1], direction="in", changed=[])
        there = list(
            _through_the_fabric([*there, _stand_in(asked, back[0].node, back[0].interface, back[0].kind, "in")])
        )
    expected: list[Hop] = []
    if message.unseen is not None:
        missed = next(tap for tap in taps if lifeline(tap) == message.unseen)
        there_too = _stand_in(there[-1], missed.machine, missed.interface, missed.kind, "in", owner=short(missed.owner))
        expected = list(_through_the_fabric([*there, there_too]))
    shown = frozenset(map(key_of, (*there, *back, *expected)))
    picture = Picture(message.who, there, back, expected, "there" if expected else "", shown - watched)
    translated = any(is_translation(change) for hop in there for change in hop.changed)
    tunnelled = any(hop.encapsulation for hop in there)
    machines = len({hop.node for hop in (*there, *expected)} - {FABRIC})
    worth = len(shown & watched) + machines + 2 * (translated + tunnelled + bool(expected)) + bool(answer)
    return Overview(picture, message, answer and answer[1], worth)


def _answers(later: Journey, journey: Journey) -> bool:
    """Whether a later packet is from where the earlier one was last seen, or an error about it."""
    last, first = journey.sightings[-1].headers, later.sightings[0].headers
    if first.quoted is not None:
        return first.quoted.flow in {each.headers.flow for each in journey.sightings}
    return first.flow == swapped(last.flow)


def _hops(journey: Journey, names: Mapping[str, str], *, arrives: bool) -> list[Hop]:
    """The packet at each place that saw it, and at those in between that it must have passed."""
    first, last = journey.sightings[0], journey.sightings[-1]
    found = [_hop(first, [])]
    for before, after in itertools.pairwise(journey.sightings):
        done = changes(before.headers, after.headers, reply=journey.reply)
        translated = [change for change in done if is_translation(change)]
        node = translator(before, after, names, reply=journey.reply) if translated else ""
        hop = _hop(after, done)
        if node:
            found.append(_stand_in(hop, node, NETFILTER, "other", "in", translated))
            done = [change for change in done if change not in translated]
        if before.tap.kind == "pod" and any(change.kind == "into" for change in done):
            found.append(_stand_in(found[-1], before.tap.machine, _tunnel(), "vxlan", "out"))
        tunnel = [change for change in done if change.kind == "out of"]
        if tunnel and after.tap.kind == "pod":
            found.append(_stand_in(hop, after.tap.machine, _tunnel(), "vxlan", "in", tunnel))
            done = [change for change in done if change not in tunnel]
        found.append(_hop(after, done))
    sender, recipient = (names.get(address_text(each), "") for each in (first.headers.source, last.headers.destination))
    if _is_machine(sender) and sender != found[0].owner:
        found.insert(0, _stand_in(found[0], sender, *_own(sender, found[0]), "out"))
    if _is_machine(recipient) and recipient != found[-1].owner and arrives:
        found.append(_stand_in(found[-1], recipient, *_own(recipient, found[-1]), "in"))
    return list(_through_the_fabric(found))


def _own(machine: str, hop: Hop) -> tuple[str, Kind]:
    """Where a machine sends or receives the packet of a hop: within one machine there is no interface in between."""
    return (_STACK, "other") if hop.node == machine else (_ETHERNET, "underlay")


def _through_the_fabric(hops: Sequence[Hop]) -> Iterator[Hop]:
    """The hops, with the ports of the fabric inserted: everything that leaves a machine passes them."""
    yield from hops[:1]
    for before, after in itertools.pairwise(hops):
        if before.node != after.node and FABRIC not in (before.node, after.node):
            yield _stand_in(before, FABRIC, before.node, "underlay", "in")
            yield _stand_in(after, FABRIC, after.node, "underlay", "out")
        yield after


def _hop(seen: Sighting, changed: Sequence[Change]) -> Hop:
    headers, tap = seen.headers, seen.tap
    source, sport, destination, dport = headers.flow
    return Hop(
        tap.machine, short(tap.owner), tap.interface, tap.kind, "out" if seen.outgoing else "in", address_text(source),
        sport, address_text(destination), dport, protocol_name(headers.protocol).lower(), headers.ttl,
        str(headers.carrier or ""), list(changed),
    )  # fmt: skip


def _stand_in(
    hop: Hop,
    machine: str,
    interface: str,
    kind: Kind,
    direction: Direction,
    changed: Sequence[Change] = (),
    owner: str = "",
) -> Hop:
    """The packet of a hop at another place, which did not see it; without an `owner` it is the machine's."""
    place = {"node": machine, "owner": owner or machine, "interface": interface, "kind": kind}
    return msgspec.structs.replace(hop, **place, direction=direction, changed=list(changed))


def _tunnel() -> str:
    """The name of a node's tunnel to the others."""
    from netlab.node.pod_network import VXLAN  # with the API's client, 300 ms to import

    return VXLAN


def _is_machine(name: str) -> bool:
    return name == OUTSIDE or is_node(name)
