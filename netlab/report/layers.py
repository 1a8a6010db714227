"""A packet's headers from the outermost to the innermost, and which of their fields are new.

Ethernet is left out: a hop does not record its header.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from netlab.net.route.vxlan import VXLAN_PORT
from netlab.report.markup import Markup, element
from netlab.trace.model import Hop

_VXLAN = re.compile(r"VXLAN (\d+) (\S+) > (\S+)")


class Field(NamedTuple):
    """A part of a header; `new` if it differs from the hop before."""

    text: str
    new: bool = False


class Layer(NamedTuple):
    """A header: its protocol, and its fields in words."""

    name: str
    fields: list[Field]
    outer: bool = False


def layers(hop: Hop, before: Hop | None) -> list[Layer]:
    """The headers that the packet has at a hop."""
    wrapped = hop.encapsulation
    fresh = before is not None and before.encapsulation != wrapped
    found: list[Layer] = []
    if match := _VXLAN.fullmatch(wrapped):
        network, source, destination = match.groups()
        found += [
            Layer(_ip(source), [Field(f"{source} → {destination}", fresh)], outer=True),
            Layer("UDP", [Field(f"→ {VXLAN_PORT}", fresh)], outer=True),
            Layer("VXLAN", [Field(f"VNI {network}", fresh)], outer=True),
        ]
    elif wrapped:
        found += [Layer(wrapped, [Field("", fresh)], outer=True)]
    addresses = [
        Field(hop.src, before is not None and before.src != hop.src),
        Field("→"),
        Field(hop.dst, before is not None and before.dst != hop.dst),
    ]
    if hop.ttl:
        limit = "hop limit" if ":" in hop.src else "TTL"
        addresses.append(Field(f"{limit} {hop.ttl}", before is not None and before.ttl not in (0, hop.ttl)))
    found.append(Layer(_ip(hop.src), addresses))
    found.append(Layer(hop.protocol.upper(), _ports(hop, before) if hop.sport or hop.dport else []))
    return found


def _ports(hop: Hop, before: Hop | None) -> list[Field]:
    source = before is not None and before.sport != hop.sport
    if hop.protocol == "icmp":
        # The echo's identifier is in the place of ports.
        return [Field(f"id {hop.sport}", source)]
    return [
        Field(str(hop.sport), source),
        Field("→"),
        Field(str(hop.dport), before is not None and before.dport != hop.dport),
    ]


def draw(found: list[Layer]) -> Markup:
    """The headers side by side, in the frame's order."""
    return element(
        "ol", (_draw_layer(layer) for layer in found), class_="layers", aria_label="headers, outermost first"
    )


def _draw_layer(layer: Layer) -> Markup:
    fields = [element("span", field.text, class_="new" if field.new else None) for field in layer.fields if field.text]
    classes = f"layer {'outer' if layer.outer else layer.name.lower()}"
    return element(
        "li", element("b", layer.name), fields and element("span", _spaced(fields), class_="fields"), class_=classes
    )


def _spaced(items: list[Markup]) -> list[str]:
    return [part for item in items for part in (item, " ")][:-1]


def _ip(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"
