"""Which node translated a packet between two places that saw it; the translation itself is not captured."""

from __future__ import annotations

import re
from collections.abc import Mapping

from netlab.capture.changes import Change
from netlab.capture.correlate import Sighting
from netlab.net.addresses import address_text

_NODE = re.compile(r"node-\d+")


def is_translation(change: Change) -> bool:
    """Whether a change concerns addresses or ports."""
    return change.kind in ("DNAT", "SNAT", "un-DNAT", "un-SNAT")


def translator(before: Sighting, after: Sighting, names: Mapping[str, str], *, reply: bool) -> str:
    """The node that changed `before` to `after`, or empty if unknown; `names` has the owners of addresses.

    It is the first node on the path of the client's packets. Answers are translated back at the same node, where
    conntrack has the connection, so both directions are judged from the client's side.
    """
    near, far = (after, before) if reply else (before, after)
    if near.tap.kind == "pod" or is_node(near.tap.machine):
        return near.tap.machine
    # From outside it is the node that was dialled, or the one whose address replaced the client's.
    dialled, client = near.headers.flow[2], far.headers.flow[0]
    if reply:
        dialled, client = near.headers.flow[0], far.headers.flow[2]
    for address in (client, dialled):
        name = names.get(address_text(address), "")
        if is_node(name):
            return name
    return far.tap.machine if is_node(far.tap.machine) else ""


def is_node(name: str) -> bool:
    """Whether it is the name of a node."""
    return _NODE.fullmatch(name) is not None
