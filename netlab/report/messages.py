"""Journeys in words: who sent what to whom, where it was seen, and what was done to it on the way."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from netlab.capture.changes import changes
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import ICMP, ICMPV6, RST, TCP, Headers, protocol_name
from netlab.capture.icmp import words
from netlab.capture.taps import Tap
from netlab.lab.paths import OUTSIDE
from netlab.net.addresses import address_text, end_text
from netlab.report.translators import is_translation, translator

Tone = Literal["request", "reply", "bad"]

_FLAGS = {"S": "SYN", "A": "ACK", "F": "FIN", "R": "RST", "P": "PSH", "U": "URG", "E": "ECE", "C": "CWR"}


class Lifeline(NamedTuple):
    """A place where packets were seen. If not `watched`, it sends, receives or translates them unseen."""

    name: str
    where: str
    watched: bool
    machine: bool = False


class Stop(NamedTuple):
    """A packet at a lifeline, `after` nanoseconds since it was first seen, and how it differs from the stop before.

    Where a node `translates` it, it is not seen, but must have been there.
    """

    lifeline: Lifeline
    after: int = 0
    changes: tuple[str, ...] = ()
    translates: bool = False


class Message(NamedTuple):
    """A packet: `time` in nanoseconds since the epoch, `who` sent it to whom, and `what` it is, in short.

    `unseen` is its destination, if that was watched and did not see it. `exact` has the headers in full.
    """

    time: int
    who: str
    what: str
    tone: Tone
    stops: tuple[Stop, ...]
    exact: str
    unseen: Lifeline | None = None


def messages(journeys: Iterable[Journey], names: Mapping[str, str], taps: Iterable[Tap] = ()) -> list[Message]:
    """A message for each journey; `names` has the owners of addresses, `taps` all places that were watched."""
    listed = list(journeys)
    names = {**_own_names(listed), **names}
    places = dict.fromkeys(map(lifeline, [*(each.tap for journey in listed for each in journey.sightings), *taps]))
    # A node has many interfaces: what one of them did not see may have passed through another.
    nodes = {place.name for place in places if place.machine and place.name != OUTSIDE}
    watched: dict[str, Lifeline] = {}
    for place in places:
        if place.name not in nodes:
            watched.setdefault(place.name, place)
    unwatched = {name: Lifeline(name, "another interface", watched=False) for name in nodes}
    return [_message(journey, names, watched, unwatched) for journey in listed]


def _own_names(journeys: Iterable[Journey]) -> dict[str, str]:
    """Names learnt from the packets: a pod forwards nothing, so it sends from and receives at its own address."""
    found: dict[str, str] = {}
    for sighting in itertools.chain.from_iterable(journey.sightings for journey in journeys):
        tap, headers = sighting.tap, sighting.headers
        own = headers.source if sighting.outgoing else headers.destination
        if tap.kind == "pod" and not _is_loopback(own) and not _for_many(own):
            found[address_text(own)] = short(tap.owner)
    return found


def _message(
    journey: Journey, names: Mapping[str, str], watched: Mapping[str, Lifeline], unwatched: Mapping[str, Lifeline]
) -> Message:
    first, last = journey.sightings[0], journey.sightings[-1]
    sender, recipient = (
        _party(first.headers.source, first.tap, names),
        _party(last.headers.destination, last.tap, names),
    )

    def elsewhere(name: str) -> Lifeline:
        return unwatched.get(name) or Lifeline(name, "not watched", watched=False)

    stops: list[Stop] = []
    if short(first.tap.owner) != sender and sender not in watched:
        stops.append(Stop(elsewhere(sender)))
    before: Sighting | None = None
    for sighting in journey.sightings:
        done = changes(before.headers, sighting.headers, reply=journey.reply) if before else []
        if before and any(map(is_translation, done)):
            node = translator(before, sighting, names, reply=journey.reply)
            if node and node not in (before.tap.owner, sighting.tap.owner):
                stops.append(Stop(elsewhere(node), translates=True))
        stops.append(Stop(lifeline(sighting.tap), sighting.time - first.time, tuple(map(str, done))))
        before = sighting
    unseen = None
    if short(last.tap.owner) != recipient and not _for_many(last.headers.destination):
        unseen = watched.get(recipient)
        if unseen is None:
            stops.append(Stop(elsewhere(recipient)))
    return Message(
        first.time, _who(first.headers, names), _what(first.headers), _tone(journey), tuple(stops), str(first.headers),
        unseen,
    )  # fmt: skip


def lifeline(tap: Tap) -> Lifeline:
    """A tap's line in a diagram."""
    where = tap.interface if tap.owner == tap.machine else f"{tap.interface} on {tap.machine}"
    return Lifeline(short(tap.owner), where, watched=True, machine=tap.owner == tap.machine)


def short(owner: str) -> str:
    """A pod's name without its Namespace, which is the same for all pods of a scenario."""
    return owner.rpartition("/")[2]


def _name(address: bytes, names: Mapping[str, str]) -> str:
    text = address_text(address)
    return names.get(text, text)


def _party(address: bytes, tap: Tap, names: Mapping[str, str]) -> str:
    """The owner of an address that was seen at a tap."""
    return short(tap.owner) if _is_loopback(address) else _name(address, names)


def _is_loopback(address: bytes) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _for_many(address: bytes) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_multicast or address == b"\xff\xff\xff\xff"


def _who(headers: Headers, names: Mapping[str, str]) -> str:
    source, destination = _name(headers.source, names), _name(headers.destination, names)
    return f"{end_text(source, headers.sport)} → {end_text(destination, headers.dport)}"


def _what(headers: Headers) -> str:
    protocol = protocol_name(headers.protocol)
    part = f", fragment at {headers.fragment}" if headers.fragment or headers.more else ""
    if headers.protocol == TCP and not headers.fragment:
        said = " ".join(_FLAGS[letter] for letter in headers.flag_letters)
        return f"{protocol} {said}{_bytes(headers)}{part}"
    if headers.protocol in (ICMP, ICMPV6) and not headers.fragment:
        return f"{protocol} {words(headers)}{part}"
    return f"{protocol}{_bytes(headers)}{part}"


def _bytes(headers: Headers) -> str:
    return f" {headers.payload} B" if headers.payload else ""


def _tone(journey: Journey) -> Tone:
    headers = journey.sightings[0].headers
    if headers.quoted is not None or (headers.protocol == TCP and headers.flags & RST):
        return "bad"
    return "reply" if journey.reply else "request"
