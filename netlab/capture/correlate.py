"""Which sightings show the same packet: from hop to hop, through DNAT, SNAT and VXLAN, and back.

Packets are first told apart by what nothing on the way changes (`_identity`): TCP's numbers, IP's identification, the
payload. Among equal ones, connection tracking says which belong to one connection, and the order in time which to one
transmission. Without connection tracking, equal sightings that follow each other are taken for one packet if there is
no other possibility.
"""

from __future__ import annotations

import bisect
import collections
import functools
import itertools
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from netlab.capture.connections import Connections, Sent, Translation, known, sent, told
from netlab.capture.headers import TCP, Flow, Headers, parse, swapped
from netlab.capture.taps import HANDED_UP, Tap

__all__ = ["Correlator", "Journey", "Sighting", "Translation", "journeys", "known", "sighting", "told"]

SETTLED = 500_000_000
"""Nanoseconds after which a packet is no longer expected at another tap."""

CAPACITY = 200_000
"""How many sightings may wait for others of their packet: 1 KiB each."""

TRANSLATIONS = 1 << 15
"""How many translations are remembered: 3 KiB each."""

_FRAGMENTED = 4096
"""For how many fragmented packets the ports are remembered."""


class Sighting(NamedTuple):
    """A packet at a tap: when (nanoseconds since the epoch), whether the tap's owner sent it there, and its headers."""

    tap: Tap
    time: int
    outgoing: bool
    headers: Headers


class Journey(NamedTuple):
    """One packet: its sightings in the order of its path.

    `client` is the flow of its connection as the client sends it before any translation, the same for both directions
    and for ICMP errors about it; `reply` says that this packet goes back to the client. Where conntrack reassembles
    fragments on their way, the fragments after that are new packets.
    """

    sightings: tuple[Sighting, ...]
    client: Flow
    reply: bool


class _Waiting(NamedTuple):
    """Sightings of one identity, and when to resolve them."""

    until: int
    seen: list[Sighting]


def sighting(tap: Tap, time: int, outgoing: bool, data: bytes) -> Sighting | None:
    """A captured frame as a sighting; None if it is not an IP packet."""
    headers = parse(data)
    return None if headers is None else Sighting(tap, time, outgoing, headers)


def journeys(sightings: Iterable[Sighting], translations: Iterable[Translation] = ()) -> list[Journey]:
    """One journey for each packet, in the order in which they began."""
    told_of = list(translations)
    correlator = Correlator(translations=len(told_of) + TRANSLATIONS, capacity=None)
    for translation in told_of:
        correlator.learn(translation)
    found = []
    for each in sorted(sightings, key=_time):
        found += correlator.add(each)
    found += correlator.flush()
    return sorted(found, key=_begin)


class Correlator:
    """Finds journeys while packets and translations arrive.

    Sightings must arrive roughly in order of time, and a translation before its packets have settled; a later sighting
    becomes a separate journey. Memory is bounded: beyond the capacity, the oldest sightings are taken as settled.
    """

    def __init__(
        self, *, settled: int = SETTLED, capacity: int | None = CAPACITY, translations: int = TRANSLATIONS
    ) -> None:
        self._settled = settled
        self._capacity = capacity
        self._connections = Connections(translations)
        self._waiting: collections.OrderedDict[Hashable, _Waiting] = collections.OrderedDict()
        self._count = 0
        self._ports: collections.OrderedDict[Hashable, tuple[int, int]] = collections.OrderedDict()

    def learn(self, translation: Translation) -> None:
        """Add a translation: an existing one, a new one (with a start), or one that is gone (with an end)."""
        self._connections.learn(translation)

    def add(self, seen: Sighting) -> list[Journey]:
        """Add a sighting. Returns the journeys that have ended by its time."""
        headers = seen.headers
        if headers.more and not headers.fragment:
            self._ports[_fragmented(headers)] = (headers.sport, headers.dport)
            if len(self._ports) > _FRAGMENTED:
                self._ports.popitem(last=False)
        self._wait(_identity(headers), [seen], seen.time + self._settled)
        found = self.advance(seen.time)
        while self._capacity is not None and self._count > self._capacity:
            found += self._resolve(None)
        return found

    def advance(self, time: int) -> list[Journey]:
        """The journeys that have ended by that time, if no earlier sighting will come."""
        found: list[Journey] = []
        while self._waiting and next(iter(self._waiting.values())).until <= time:
            found += self._resolve(time)
        return sorted(found, key=_begin)

    def flush(self) -> list[Journey]:
        """The journeys that had not ended."""
        found: list[Journey] = []
        while self._waiting:
            found += self._resolve(None)
        return sorted(found, key=_begin)

    def _wait(self, identity: Hashable, seen: list[Sighting], until: int) -> None:
        waiting = self._waiting.get(identity)
        if waiting is None:
            self._waiting[identity] = _Waiting(until, seen)
        else:
            waiting.seen.extend(seen)
        self._count += len(seen)

    def _resolve(self, time: int | None) -> list[Journey]:
        """The journeys of the sightings that have waited longest. Those that may continue at that time wait again."""
        identity, waiting = self._waiting.popitem(last=False)
        self._count -= len(waiting.seen)
        found = []
        for origin, packet in self._packets(waiting.seen):
            if time is not None and max(each.time for each in packet) + self._settled > time:
                # Wait for the last one, not the first: a flood of equal packets would be searched for each of them.
                self._wait(identity, packet, time + self._settled)
            else:
                found.append(self._journey(origin, packet))
        return found

    def _packets(self, seen: list[Sighting]) -> Iterator[tuple[Sent, list[Sighting]]]:
        """Sightings of one identity, divided by connection and transmission, with the flow as it was sent."""
        groups: dict[Sent, list[Sighting]] = {}
        for each in seen:
            groups.setdefault(self._connections.origin(self._sent(each), each.time), []).append(each)
        if len(groups) > 1:
            groups = self._joined(groups)
        for origin, group in groups.items():
            for packet in _transmissions(group, self._settled):
                yield origin, packet

    def _sent(self, seen: Sighting) -> Sent:
        """The flow of a packet where it was seen; for an ICMP error, that of the packet it is about."""
        headers = seen.headers.quoted or seen.headers
        flow = headers.flow
        if headers.fragment:
            sport, dport = self._ports.get(_fragmented(headers), (0, 0))
            flow = (headers.source, sport, headers.destination, dport)
        return sent(headers.protocol, flow, seen.tap.owner)

    def _joined(self, groups: dict[Sent, list[Sighting]]) -> dict[Sent, list[Sighting]]:
        """The groups, after merging those that can only be the same packet with an unknown translation."""
        while True:
            pairs = [
                (origin, other)
                for origin, other in _related(groups)
                if not (self._connections.knows(origin) and self._connections.knows(other))
                and not (origin.scope and other.scope and origin.scope != other.scope)
                and _continues(groups[origin], groups[other])
            ]
            before = collections.Counter(origin for origin, _ in pairs)
            behind = collections.Counter(other for _, other in pairs)
            sure = [(origin, other) for origin, other in pairs if before[origin] == behind[other] == 1]
            if not sure:
                return groups
            for origin, other in sure:
                if origin in groups and other in groups:  # otherwise the next round handles it
                    later = groups.pop(other)
                    self._infer(groups[origin][-1], later[0])
                    groups[origin] = sorted(groups[origin] + later, key=_time)

    def _infer(self, before: Sighting, behind: Sighting) -> None:
        """Remember the translation between two sightings that can only be the same packet."""
        headers = before.headers
        if headers.quoted or headers.fragment:
            return
        was, now = headers.flow, behind.headers.flow
        one_end = was[:2] == now[:2] or was[2:] == now[2:]
        if not (headers.protocol == TCP or headers.identification or one_end):
            return  # certain enough for this packet, but not for all later ones
        original, reply = was, swapped(now)
        if headers.answers:
            original, reply = reply, original
        self._connections.learn(Translation(behind.tap.machine, headers.protocol, original, reply))

    def _journey(self, origin: Sent, packet: list[Sighting]) -> Journey:
        headers, time = packet[0].headers, packet[0].time
        client, reply = self._connections.client(origin, headers.quoted or headers, time)
        return Journey(tuple(packet), client.flow, not reply if headers.quoted else reply)


def _identity(headers: Headers) -> Hashable:
    """What no router, translation or tunnel changes."""
    quoted = headers.quoted
    return (
        headers.protocol,
        headers.identification,
        headers.fragment,
        headers.more,
        headers.flags,
        headers.seq,
        headers.ack,
        headers.timestamp,
        headers.icmp_type,
        headers.icmp_code,
        headers.icmp_seq,
        headers.mtu,
        headers.payload,
        headers.digest,
        quoted and (quoted.protocol, quoted.identification, quoted.fragment, quoted.seq, quoted.icmp_seq),
    )


def _fragmented(headers: Headers) -> Hashable:
    """What the fragments of one packet have in common (RFC 791, section 2.3; RFC 8200, section 4.5)."""
    return (headers.protocol, headers.source, headers.destination, headers.identification)


def _time(seen: Sighting) -> int:
    return seen.time


def _begin(journey: Journey) -> int:
    return journey.sightings[0].time


# --- By identity alone -----------------------------------------------------------------------------------------------

_MANY = 16
"""If more groups of one identity share an end, they are not matched without connection tracking."""


def _related(groups: dict[Sent, list[Sighting]]) -> Iterator[tuple[Sent, Sent]]:
    """Pairs of groups that may be the same packet: they share an end, or there are only these two groups."""
    sharing: dict[Hashable, list[Sent]] = {}
    for origin, group in groups.items():
        for seen in (group[0], group[-1]):
            source, sport, destination, dport = (seen.headers.quoted or seen.headers).flow
            for end in (("source", source, sport), ("destination", destination, dport)):
                members = sharing.setdefault(end, [])
                if origin not in members:
                    members.append(origin)
    candidates = [members for members in sharing.values() if len(members) <= _MANY]
    if len(groups) == 2:
        candidates.append(list(groups))
    yield from {pair: None for members in candidates for pair in itertools.permutations(members, 2)}


def _continues(group: list[Sighting], later: list[Sighting]) -> bool:
    """Whether `later` may be the same packets further on, after a translation."""
    headers = group[0].headers.quoted or group[0].headers
    if not (headers.protocol == TCP or headers.identification or headers.payload):
        return False  # all empty datagrams look the same
    if group[0].time > later[0].time or group[-1].time > later[-1].time:
        return False
    if min(each.headers.ttl for each in group) < max(each.headers.ttl for each in later):
        return False
    if any(each.tap.kind == "pod" and not each.outgoing for each in group):
        return False  # they had arrived
    if any(each.tap.kind == "pod" and each.outgoing for each in later):
        return False  # they were sent there
    return {(each.tap, each.outgoing) for each in group}.isdisjoint((each.tap, each.outgoing) for each in later)


# --- Transmissions of the same ---------------------------------------------------------------------------------------


def _transmissions(group: list[Sighting], settled: int) -> list[list[Sighting]]:
    """Sightings of one connection and identity, by packet: a tap sees each once, or with a lower TTL in a loop."""
    group = sorted(group, key=_time)
    places: dict[Hashable, list[Sighting]] = {}
    for each in group:
        places.setdefault((each.tap, each.outgoing, each.headers.ttl), []).append(each)
    packets: list[list[Sighting]] = []
    if len(places) == len(group) and all(b.time - a.time <= settled for a, b in itertools.pairwise(group)):
        packets = [group]
    else:
        for place in sorted(places.values(), key=functools.cmp_to_key(_before)):
            packets = _matched(packets, place, settled)
    return [sorted(packet, key=_along) for packet in packets]


def _along(seen: Sighting) -> tuple[int, int, int]:
    """The order along a path."""
    return (-seen.headers.ttl, seen.time, 0 if seen.outgoing else HANDED_UP.get(seen.tap.kind, 0))


def _matched(packets: list[list[Sighting]], place: list[Sighting], settled: int) -> list[list[Sighting]]:
    """The packets, extended by what was seen at the next place on their path.

    Packets do not overtake each other: going backwards, each sighting here is the last packet not yet matched. A
    sighting without a match was missed before.
    """
    rest, missed = list(packets), []
    for seen in reversed(place):
        while rest and rest[-1][-1].time > seen.time:
            rest.pop()
        if rest and seen.time - rest[-1][-1].time <= settled:
            rest.pop().append(seen)
        else:
            missed.append([seen])
    return sorted(packets + missed, key=lambda packet: packet[0].time)


def _before(one: list[Sighting], other: list[Sighting]) -> int:
    """Which of two places comes first: negative for `one`. Both saw the same packets, or one of them missed some."""
    if one[0].headers.ttl != other[0].headers.ttl:
        return other[0].headers.ttl - one[0].headers.ttl
    if len(one) == len(other):
        return sum(each.time for each in one) - sum(each.time for each in other)
    if len(one) > len(other):
        return -_before(other, one)
    times = [each.time for each in other]
    return sum(near.time - _nearest(times, near.time) for near in one)


def _nearest(times: list[int], time: int) -> int:
    index = bisect.bisect(times, time)
    return min(times[max(index - 1, 0) : index + 1], key=lambda each: abs(each - time))
