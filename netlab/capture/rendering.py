"""A followed packet as text for people, and as plain values for programs."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from netlab.capture.changes import Change
from netlab.capture.correlate import Journey, Sighting
from netlab.capture.headers import ICMP, ICMPV6, TCP, Flow, Headers, endpoint_text, protocol_name, swapped
from netlab.capture.icmp import words
from netlab.net.addresses import address_text


class Addresses(NamedTuple):
    """The four ends of a connection, with ports: the client and what it dialled, and both as the far end sees them.

    Without translation `source` is `client` and `endpoint` is `dialled`.
    """

    client: str
    dialled: str
    source: str
    endpoint: str


def addresses(journey: Journey) -> Addresses:
    """The addresses of the packet's connection, the same for both directions."""
    client, flow = journey.client, reached(journey)
    return Addresses(
        endpoint_text(client[0], client[1]),
        endpoint_text(client[2], client[3]),
        endpoint_text(flow[0], flow[1]),
        endpoint_text(flow[2], flow[3]),
    )


def reached(journey: Journey) -> Flow:
    """The flow of the client's packets as the far end receives them."""
    # The sighting farthest from the client shows what the endpoint received, or sent in a reply.
    far = journey.sightings[0 if journey.reply else -1].headers
    # An ICMP error quotes a packet that went the other way.
    flow = (far.quoted or far).flow
    return swapped(flow) if journey.reply != (far.quoted is not None) else flow


def said(headers: Headers) -> str:
    """A packet in a few words: TCP's flags, ICMP's type, the bytes it carries."""
    if headers.protocol in (ICMP, ICMPV6) and not headers.fragment:
        return words(headers)
    flags = f"[{headers.flag_letters}]" if headers.protocol == TCP and not headers.fragment else ""
    part = f"fragment at {headers.fragment}," if headers.fragment or headers.more else ""
    return " ".join(filter(None, (flags, part, f"{headers.payload} B" if headers.payload else "")))


def clock(nanoseconds: int) -> str:
    """The time of day of a timestamp, to the microsecond."""
    when = datetime.datetime.fromtimestamp(nanoseconds // 1_000_000_000)
    return f"{when:%H:%M:%S}.{nanoseconds % 1_000_000_000 // 1000:06}"


def way(sightings: Sequence[Sighting]) -> str:
    """The taps on a packet's path by name, grouped by owner: `default/a eth0 > node-1 veth1 cni0 > ...`."""
    groups = itertools.groupby(sightings, key=lambda each: each.tap.owner)
    parts = []
    for owner, group in groups:
        names = [each.tap.interface for each in group]
        parts.append(" ".join([owner, *(name for name, _ in itertools.groupby(names))]))
    return " > ".join(parts)


def hop(seen: Sighting, changed: Sequence[Change], began: int) -> dict[str, Any]:
    """A sighting as plain values, in the form of `netlab trace -o json`."""
    headers = seen.headers
    source, sport, destination, dport = headers.flow
    return {
        "node": seen.tap.machine,
        "owner": seen.tap.owner,
        "interface": seen.tap.interface,
        "kind": seen.tap.kind,
        "direction": "out" if seen.outgoing else "in",
        "src": address_text(source),
        "sport": sport,
        "dst": address_text(destination),
        "dport": dport,
        "protocol": protocol_name(headers.protocol).lower(),
        "ttl": headers.ttl,
        "encapsulation": str(headers.carrier or ""),
        "changed": [msgspec.to_builtins(each) for each in changed],
        "nanoseconds": seen.time - began,
    }


def values(journey: Journey, changed: Sequence[Sequence[Change]]) -> dict[str, Any]:
    """A journey as plain values; `time` is in nanoseconds since the epoch."""
    first = journey.sightings[0]
    return {
        "time": first.time,
        "protocol": protocol_name(first.headers.protocol).lower(),
        "reply": journey.reply,
        **addresses(journey)._asdict(),
        "about": said(first.headers),
        "bytes": first.headers.length,
        "hops": [hop(each, new, first.time) for each, new in zip(journey.sightings, changed, strict=True)],
    }
