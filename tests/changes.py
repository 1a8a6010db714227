"""Changes of a packet, written as they are shown."""

from __future__ import annotations

import re
from typing import cast

from netlab.capture.changes import Change, Kind


def change(text: str) -> Change:
    """`DNAT 10.96.0.10:80 -> 10.244.2.2:8080`, `TTL 64 -> 63`, `into VXLAN 1 ...`, as a value."""
    kind, rest = re.match(r"(ICMP id|out of|\S+) ?(.*)", text).groups()  # type: ignore[union-attr]
    if kind == "into":
        return Change("into", after=rest)
    before, _, after = rest.partition(" -> ")
    return Change(cast(Kind, kind), before, after)
