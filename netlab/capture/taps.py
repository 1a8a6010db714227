"""Taps: the places where packets are watched."""

from __future__ import annotations

import dataclasses
from typing import Literal

Kind = Literal["pod", "veth", "bridge", "vxlan", "underlay", "loopback", "other"]
"""The role of an interface: a pod's own (`pod`), its other end on the node (`veth`), the node's bridge of pods
(`bridge`), its tunnel (`vxlan`), a link to other machines (`underlay`: a node's or the outside's eth0, and the fabric's
ports)."""

HANDED_UP: dict[Kind, int] = {"vxlan": 1, "bridge": 2}
"""The order of incoming frames with the same timestamp: a frame that a port hands up to a tunnel or a bridge may keep
the timestamp of its arrival (skb->tstamp). All others are first."""


def kind_of(link: str, *, in_pod: bool, to_pod: bool | None) -> Kind:
    """The role of a link whose kind in the kernel is `link`. `to_pod`: its other end is in a pod; None if unknown."""
    if in_pod:
        return "pod"
    if link == "bridge":
        return "bridge"
    if link == "vxlan":
        return "vxlan"
    if to_pod is None:
        return "other"
    return "veth" if to_pod else "underlay"


@dataclasses.dataclass(frozen=True)
class Tap:
    """One interface of one network namespace.

    `machine` is the node (or `outside`, `fabric`) it is on; `owner` is the owner of its network namespace:
    `NAMESPACE/NAME` for a pod, otherwise the machine's name. `peer` names the other end of a veth pair, if known.
    """

    machine: str
    owner: str
    interface: str
    kind: Kind
    peer: str = ""

    @property
    def name(self) -> str:
        """Its name for people, unique in a lab: `default/web-1 eth0`, `node-1 cni0`."""
        return f"{self.owner} {self.interface}"

    @property
    def description(self) -> str:
        """A sentence that explains the name in Wireshark."""
        where = "" if self.owner == self.machine else f" of pod {self.owner}"
        end = f", whose other end is with {self.peer}" if self.peer else ""
        return f"{self.kind} interface {self.interface}{where} on {self.machine}{end}"
