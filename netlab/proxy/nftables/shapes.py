"""The chains and sets that come and go with the plan: as expressions for the kernel, and as text for people.

Each is immutable and named after its contents. A chain therefore never changes; only what leads to it does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from netlab.net import nfrules
from netlab.net.addresses import Family
from netlab.proxy.nftables.layout import NFT_FAMILY, NUMBERS
from netlab.proxy.plan import Endpoint

Expressions: TypeAlias = Sequence[bytes]
_REMEMBERED = 65535
"""How many clients one endpoint's affinity remembers: nft's default for dynamic sets. Others get no affinity."""


_PICK = re.compile(r"(nodeport-|)(local-|)pick-([1-9][0-9]*)")


class Pick(NamedTuple):
    """Chooses one of a list's endpoints at random. `which` is in the names of the maps, see Layout.schemas."""

    family: Family
    prefix: str
    which: str
    endpoints: int

    @classmethod
    def of_name(cls, family: Family, name: str) -> Pick | None:
        """The pick chain with that name; None if the name is not a pick chain's."""
        found = _PICK.fullmatch(name)
        return cls(family, found[1], found[2], int(found[3])) if found else None

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"{self.prefix}{self.which}pick-{self.endpoints}"

    @property
    def expressions(self) -> list[Expressions]:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        key, at_slot = _dialled(ip, self.prefix)
        found = [nfrules.random(self.endpoints, at_slot), nfrules.lookup(f"{self.prefix}{self.which}endpoints", 0, 0)]
        return [[*key, *found, nfrules.dnat(ip, 0, _registers(ip))]]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.family]
        slot = f"{_key(ip, self.prefix)} . numgen random mod {self.endpoints}"
        return [f"dnat {ip} to {slot} map @{self.prefix}{self.which}endpoints"]


class Clients(NamedTuple):
    """The clients that an endpoint's affinity remembers."""

    family: Family
    endpoint_chain: str
    seconds: int

    @property
    def name(self) -> str:
        """The set's name."""
        return f"clients-{self.endpoint_chain.removeprefix('endpoint-')}"

    @property
    def text(self) -> str:
        """The set's declaration."""
        kind = "ipv4_addr" if self.family == "IPv4" else "ipv6_addr"
        return f"type {kind}; flags dynamic,timeout; timeout {self.seconds}s; size {_REMEMBERED};"

    @property
    def size(self) -> int:
        """How many it holds at most."""
        return _REMEMBERED


class Remember(NamedTuple):
    """Sends a client to an endpoint and remembers it. One for each endpoint of a Service port with affinity."""

    family: Family
    identity: str
    seconds: int
    protocol: str
    address: str
    port: int

    @property
    def name(self) -> str:
        """The chain's name: the same for all frontends of a Service port, so that a client keeps its pod."""
        return f"endpoint-{_hash(self.identity, str(self.seconds), self.protocol, self.address, str(self.port))}"

    @property
    def clients(self) -> Clients:
        """The set of clients that it remembers."""
        return Clients(self.family, self.name, self.seconds)

    @property
    def expressions(self) -> list[Expressions]:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        port = _registers(ip)
        return [
            [nfrules.source_address(ip, 0), nfrules.update(self.clients.name, 0)],
            [
                nfrules.protocol(0),
                nfrules.equal(0, bytes([NUMBERS[self.protocol]])),
                nfrules.constant(0, nfrules.packed_address(ip, self.address)),
                nfrules.constant(port, self.port.to_bytes(2, "big")),
                nfrules.dnat(ip, 0, port),
            ],
        ]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.family]
        host = f"[{self.address}]" if self.family == "IPv6" else self.address
        return [
            f"update @{self.clients.name} {{ {ip} saddr }}",
            f"meta l4proto {self.protocol} dnat {ip} to {host}:{self.port}",
        ]


class Sticky(NamedTuple):
    """Sends a client to the endpoint that remembers it, or to a random one of a list."""

    prefix: str
    which: str
    remembering: tuple[Remember, ...]
    """One for each endpoint of the list, in an order that does not depend on history."""

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"{self.prefix}{self.which}sticky-{_hash(*(chain.name for chain in self.remembering))}"

    @property
    def expressions(self) -> list[Expressions]:
        """The chain's rules."""
        ip = NFT_FAMILY[self.remembering[0].family]
        key, at_slot = _dialled(ip, self.prefix)
        remembered = [
            [nfrules.source_address(ip, 0), nfrules.lookup(chain.clients.name, 0), nfrules.goto(chain.name)]
            for chain in self.remembering
        ]
        choose = [
            *key,
            nfrules.random(len(self.remembering), at_slot),
            nfrules.follow(f"{self.prefix}{self.which}sticky", 0),
        ]
        return [*remembered, choose]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.remembering[0].family]
        remembered = [f"{ip} saddr @{chain.clients.name} goto {chain.name}" for chain in self.remembering]
        slot = f"{_key(ip, self.prefix)} . numgen random mod {len(self.remembering)}"
        return [*remembered, f"{slot} vmap @{self.prefix}{self.which}sticky"]


Shape: TypeAlias = Pick | Remember | Sticky
"""A chain."""


def remember(family: Family, identity: str, seconds: int, protocol: str, endpoint: Endpoint) -> Remember:
    """The chain of an endpoint of a Service port (its `identity`) with affinity."""
    return Remember(family, identity, seconds, protocol, endpoint.address, endpoint.port)


def _registers(ip: str) -> int:
    return 1 if ip == "ip" else 4


def _dialled(ip: str, prefix: str) -> tuple[Expressions, int]:
    """Expressions that load a frontend's key into the first registers, and the next free register."""
    at = 0 if prefix else _registers(ip)
    address = [] if prefix else [nfrules.destination_address(ip, 0)]
    return [*address, nfrules.protocol(at), nfrules.destination_port(at + 1)], at + 2


def _key(ip: str, prefix: str) -> str:
    return "meta l4proto . th dport" if prefix else f"{ip} daddr . meta l4proto . th dport"


def _hash(*parts: str) -> str:
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=8).hexdigest()
