"""What happened to a packet between two places where it was seen."""

from __future__ import annotations

from typing import Literal

import msgspec

from netlab.capture.headers import Headers, endpoint_text

Kind = Literal["DNAT", "SNAT", "un-DNAT", "un-SNAT", "TTL", "ICMP id", "into", "out of"]
"""`into` and `out of` concern tunnels. In a reply, translations are undone: un-SNAT, un-DNAT."""


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One change: the value before, and the value after (empty outside a tunnel).

    `service` is the Service (NAMESPACE/NAME, with :PORT if its name is known) that translated; `machine` is the one
    whose address replaced the source, so that the answer comes back through it. Both are empty if unknown.
    """

    kind: Kind
    before: str = ""
    after: str = ""
    service: str = ""
    machine: str = ""

    def __str__(self) -> str:
        if self.kind in ("into", "out of"):
            return f"{self.kind} {self.after or self.before}"
        return f"{self.kind} {self.before} -> {self.after}"

    @property
    def comment(self) -> str:
        """The change and what made it, for people."""
        if self.service:
            return f"{self} by Service {self.service}"
        return f"{self} to be answered through {self.machine}" if self.machine else str(self)


def changes(before: Headers, after: Headers, *, reply: bool = False) -> list[Change]:
    """What happened to a packet between two sightings; empty if it was only passed on."""
    found = []
    if before.carrier and before.carrier != after.carrier:
        found.append(Change("out of", before=str(before.carrier)))
    if (before.destination, before.dport) != (after.destination, after.dport):
        old, new = endpoint_text(before.destination, before.dport), endpoint_text(after.destination, after.dport)
        found.append(Change("un-SNAT" if reply else "DNAT", old, new))
    if (before.source, before.sport) != (after.source, after.sport):
        old, new = endpoint_text(before.source, before.sport), endpoint_text(after.source, after.sport)
        found.append(Change("un-DNAT" if reply else "SNAT", old, new))
    if before.icmp_id != after.icmp_id:
        found.append(Change("ICMP id", str(before.icmp_id), str(after.icmp_id)))
    if before.ttl != after.ttl:
        found.append(Change("TTL", str(before.ttl), str(after.ttl)))
    if after.carrier and before.carrier != after.carrier:
        found.append(Change("into", after=str(after.carrier)))
    return found
