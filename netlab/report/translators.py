"""Which node translated a packet between two places that saw it: nothing is captured there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from netlab.capture.changes import Change
from netlab.capture.correlate import Sighting
from netlab.capture.headers import address_text

_NODE = re.compile(r"node-\d+")


def is_translation(change: Change) -> bool:
    """Whether a change is of addresses or ports."""
    return change.kind in ("DNAT", "SNAT", "un-DNAT", "un-SNAT")


def translator(before: Sighting, after: Sighting, names: Mapping[str, str], *, reply: bool) -> str:
    """The node that made `after` of `before`; `names` says whose an address is. Empty if that is not known.

    It is the first node that the client's packets come to, and answers are translated back where connection tracking
    remembers them: so both directions are looked at from the client's side.
    """
    near, far = (after, before) if reply else (before, after)
    if near.tap.kind == "pod" or is_node(near.tap.machine):
        return near.tap.machine
    # From outside it is the node that was dialled, or the one whose address stands for the client's.
    dialled, client = near.headers.flow[2], far.headers.flow[0]
    if reply:
        dialled, client = near.headers.flow[0], far.headers.flow[2]
    for address in (client, dialled):
        name = names.get(address_text(address), "")
        if is_node(name):
            return name
    return far.tap.machine if is_node(far.tap.machine) else ""


def is_node(name: str) -> bool:
    """Whether it is the name of a lab's node."""
    return _NODE.fullmatch(name) is not None
