"""What a family's table has regardless of policies: sets, maps and the chains that decide. Text for `nft`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple

from netlab.net.addresses import Family
from netlab.net.nftables.schemas import (
    NFT_FAMILY,
    PORT,
    PROTOCOL,
    Chain,
    Field,
    Schema,
    address,
    layout_comment,
    script,
)

TABLE = "netlab-policy"


def _number(order: Literal["big", "little"]) -> Field:
    """A priority, which nft writes as a handle of traffic control."""

    def handle(packed: bytes) -> str:
        number = int.from_bytes(packed[:4], order)
        return f"{number >> 16:x}:{number & 0xFFFF:x}"

    return Field("meta priority", 4, handle)


_NUMBER, _NUMBER_OF_RANGE = _number(sys.byteorder), _number("big")


class Layout(NamedTuple):
    """The part of a family's table that does not depend on the plan."""

    family: Family

    @property
    def ip(self) -> str:
        """nft's name for the family, and for its header."""
        return NFT_FAMILY[self.family]

    @property
    def comment(self) -> str:
        """The comment of a table of this layout."""
        return _comment(self.family)

    @property
    def schemas(self) -> dict[str, Schema]:
        """The sets and maps, by name."""
        return _schemas(self.family)

    @property
    def ranges(self) -> frozenset[str]:
        """The names of the sets and maps of ranges."""
        return frozenset([name for name, schema in self.schemas.items() if schema.interval])

    def chains(self) -> Iterator[Chain]:
        """The chains that decide."""
        ip = self.ip
        yield Chain("admitted", ("meta priority set 0:0",))
        yield Chain("refused-ingress", ("drop",))
        yield Chain("refused-egress", ("drop",))
        yield from self._judge("ingress", peer=f"{ip} saddr", judge=f"{ip} daddr")
        yield from self._judge("egress", peer=f"{ip} daddr", judge=f"{ip} saddr")
        # Neighbour discovery passes a bridge as any packet does; without it nobody could even be refused.
        discovery = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
        forward = (
            "ct state established,related accept",
            *((f"icmpv6 type {{ {discovery} }} accept",) if ip == "ip6" else ()),
            f"{ip} saddr @egress-pods jump egress",
            f"{ip} daddr @ingress-pods jump ingress",
        )
        yield Chain("forward", forward, "type filter hook forward priority 0")

    def _judge(self, direction: str, peer: str, judge: str) -> Iterator[Chain]:
        profile = f"meta priority set meta priority . {judge} map @{direction}-profiles"
        admit = "meta priority . meta l4proto . th dport @ports goto admitted"
        rules = (
            # A pod reaches itself whatever its policies say, through a Service as well.
            f"{self.ip} saddr . {self.ip} daddr @{direction}-themselves return",
            "meta priority set 0:0",
            f"meta priority set meta priority . {peer} map @{direction}-blocks",
            f"meta priority set {peer} map @{direction}-peers",
            profile,
            admit,
            f"meta priority @profiles goto refused-{direction}",
            # The class has no profile of its own here: that of everybody.
            "meta priority set 0:0",
            profile,
            admit,
            f"goto refused-{direction}",
        )
        yield Chain(direction, rules)

    def script(self, *, dormant: bool = False) -> str:
        """A script that makes or repairs the layout and leaves elements alone. A dormant table has no effect."""
        return _script(self.family, ("flags dormant",) if dormant else (), self.comment)


@functools.cache
def _schemas(family: Family) -> dict[str, Schema]:
    source, destination = address(family, "saddr"), address(family, "daddr")
    schemas = {
        "ports": Schema((_NUMBER_OF_RANGE, PROTOCOL, PORT), interval=True),
        "profiles": Schema((_NUMBER,)),
    }
    for direction, peer, judge in (("ingress", source, destination), ("egress", destination, source)):
        schemas[f"{direction}-peers"] = Schema((peer,), (_NUMBER,))
        # The number in front is 0: the kernel has maps of ranges only where several fields make a key.
        schemas[f"{direction}-blocks"] = Schema((_NUMBER_OF_RANGE, peer), (_NUMBER,), interval=True)
        schemas[f"{direction}-profiles"] = Schema((_NUMBER, judge), (_NUMBER,))
        schemas[f"{direction}-pods"] = Schema((judge,))
        schemas[f"{direction}-themselves"] = Schema((source, destination))
    return schemas


def _script(family: Family, header: tuple[str, ...], comment: str) -> str:
    layout = Layout(family)
    return script(f"{layout.ip} {TABLE}", header, comment, layout.schemas, list(layout.chains()))


@functools.cache
def _comment(family: Family) -> str:
    return layout_comment(_script(family, (), ""))
