"""The chains and sets that come and go with the plan: as expressions for the kernel, and as text for people.

Each is immutable and named after its contents. A chain therefore never changes; only what leads to it does.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from netlab.net.addresses import Family
from netlab.net.nftables import expressions
from netlab.net.nftables.batch import Rules
from netlab.net.nftables.schemas import NFT_FAMILY, NUMBERS

_REMEMBERED = 65535
"""How many clients one endpoint's affinity remembers: nft's default for dynamic sets. Others get no affinity."""
_HASHED = 16
"""Characters at the end of a name that is made of contents."""


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
    def expressions(self) -> Rules:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        key, at_slot = _dialled(ip, self.prefix)
        found = [
            expressions.random(self.endpoints, at_slot),
            expressions.lookup(f"{self.prefix}{self.which}endpoints", 0, 0),
        ]
        return [[*key, *found, expressions.dnat(ip, 0, _registers(ip))]]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.family]
        slot = f"{_key(ip, self.prefix)} . numgen random mod {self.endpoints}"
        return [f"dnat {ip} to {slot} map @{self.prefix}{self.which}endpoints"]


class Clients(NamedTuple):
    """The clients that an endpoint's affinity remembers."""

    family: Family
    name: str
    seconds: int

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
    name: str
    """The chain's name: the same for all frontends of a Service port, so that a client keeps its pod."""
    seconds: int
    protocol: str
    address: str
    port: int

    @property
    def clients(self) -> Clients:
        """The set of clients that it remembers."""
        return Clients(self.family, _clients_of(self.name), self.seconds)

    @property
    def expressions(self) -> Rules:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        port = _registers(ip)
        return [
            [expressions.source_address(ip, 0), expressions.update(self.clients.name, 0)],
            [
                expressions.protocol(0),
                expressions.equal(0, bytes([NUMBERS[self.protocol]])),
                expressions.constant(0, expressions.packed_address(ip, self.address)),
                expressions.constant(port, self.port.to_bytes(2, "big")),
                expressions.dnat(ip, 0, port),
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


class Recall(NamedTuple):
    """Sends the clients that one of some endpoints remembers to that endpoint."""

    family: Family
    endpoint_chains: tuple[str, ...]
    """In an order that does not depend on history."""

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"recall-{_hash(*self.endpoint_chains)}"

    @property
    def expressions(self) -> Rules:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        return [
            [expressions.source_address(ip, 0), expressions.lookup(_clients_of(chain), 0), expressions.goto(chain)]
            for chain in self.endpoint_chains
        ]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.family]
        return [f"{ip} saddr @{_clients_of(chain)} goto {chain}" for chain in self.endpoint_chains]


class Sticky(NamedTuple):
    """Sends a client to the endpoint that remembers it, or to a random one of a list."""

    family: Family
    prefix: str
    which: str
    endpoints: int
    recalls: tuple[str, ...]
    """The chains that know all clients of the list's endpoints."""

    @property
    def name(self) -> str:
        """The chain's name."""
        return f"{self.prefix}{self.which}sticky-{_hash(str(self.endpoints), *self.recalls)}"

    @property
    def expressions(self) -> Rules:
        """The chain's rules."""
        ip = NFT_FAMILY[self.family]
        key, at_slot = _dialled(ip, self.prefix)
        choose = [
            *key,
            expressions.random(self.endpoints, at_slot),
            expressions.follow(f"{self.prefix}{self.which}sticky", 0),
        ]
        return [*([expressions.jump(chain)] for chain in self.recalls), choose]

    @property
    def texts(self) -> list[str]:
        """The chain's rules as nft writes them."""
        ip = NFT_FAMILY[self.family]
        slot = f"{_key(ip, self.prefix)} . numgen random mod {self.endpoints}"
        return [*(f"jump {chain}" for chain in self.recalls), f"{slot} vmap @{self.prefix}{self.which}sticky"]


PlannedChain: TypeAlias = Pick | Remember | Recall | Sticky
"""A chain."""


@functools.lru_cache(1 << 14)
def remember(family: Family, identity: str, seconds: int, protocol: str, address: str, port: int) -> Remember:
    """The chain of an endpoint of a Service port (its `identity`) with affinity."""
    name = f"endpoint-{_hash(identity, str(seconds), protocol, address, str(port))}"
    return Remember(family, name, seconds, protocol, address, port)


def sticky(family: Family, prefix: str, which: str, remembering: Sequence[Remember]) -> tuple[Sticky, list[Recall]]:
    """The chain of a list with affinity, and those it jumps to.

    The kernel replaces a chain's rules as a whole: one chain for N endpoints would cost N rules for each that comes or
    goes. With about √N rules in each of √N chains it is two of these chains.
    """
    parts: list[list[str]] = [[] for _ in range(1 << math.isqrt(len(remembering)).bit_length() - 1)]
    for name in sorted(chain.name for chain in remembering):
        parts[int(name[-_HASHED:], 16) % len(parts)].append(name)
    recalls = [Recall(family, tuple(names)) for names in parts if names]
    return Sticky(family, prefix, which, len(remembering), tuple(chain.name for chain in recalls)), recalls


def _clients_of(endpoint_chain: str) -> str:
    return f"clients-{endpoint_chain[-_HASHED:]}"


def _registers(ip: str) -> int:
    return 1 if ip == "ip" else 4


def _dialled(ip: str, prefix: str) -> tuple[list[bytes], int]:
    """Expressions that load a frontend's key into the first registers, and the next free register."""
    at = 0 if prefix else _registers(ip)
    address = [] if prefix else [expressions.destination_address(ip, 0)]
    return [*address, expressions.protocol(at), expressions.destination_port(at + 1)], at + 2


def _key(ip: str, prefix: str) -> str:
    return "meta l4proto . th dport" if prefix else f"{ip} daddr . meta l4proto . th dport"


def _hash(*parts: str) -> str:
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=_HASHED // 2).hexdigest()
