"""The virtual addresses and node ports of Services: which are free, and whose the others are.

Nothing here is stored: what is taken is derived from the stored Services when the server starts and after each change,
so that there are no two truths to drift apart.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Collection, Sequence

from netlab.errors import ExhaustedError, UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DNS_OFFSET = 10
"""Where cluster DNS is by convention (kubeadm): never handed out unasked."""

Claim = tuple[str, int]
"""A pool (`IPv4`, `IPv6`, `TCP`, `UDP`, `SCTP`) and an address or port in it."""


class Pool:
    """Whole numbers from `first` to `last`, and who has which.

    Free ones are found from a moving cursor on, so that one just released is not reused at once (stale
    conntrack entries). The lower band is left to those who ask for a number, as long as the upper one lasts (KEP-3070).
    """

    def __init__(self, first: int, last: int, band: int, reserved: Collection[int] = ()) -> None:
        self.first, self.last = first, last
        self._lower = first + band
        self._cursor = self._lower
        self._reserved = frozenset(reserved)
        self._owners: dict[int, str] = {}

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def owner(self, number: int) -> str | None:
        """Whose a number is, or None."""
        return self._owners.get(number)

    def claim(self, number: int, owner: str) -> None:
        """It is the owner's from now on."""
        self._owners[number] = owner
        if number >= self._lower:
            self._cursor = number + 1

    def release(self, number: int) -> None:
        """It is free again."""
        del self._owners[number]

    def next_free(self, besides: Collection[int] = ()) -> int | None:
        """A free number that is none of `besides`; None when there is none. It is not yet claimed."""
        for start, stop in ((self._cursor, self.last + 1), (self._lower, self._cursor), (self.first, self._lower)):
            for number in range(start, stop):
                if number not in self._owners and number not in self._reserved and number not in besides:
                    return number
        return None


def address_pool(network: Network) -> Pool:
    """The addresses of a Service range; `.1` (the API's own Service) and `.10` (DNS) are only given on request."""
    base, size = int(network.network_address), network.num_addresses
    # The network's own address is no host's, nor is IPv4's broadcast address.
    last = base + size - (2 if network.version == 4 else 1)
    band = min(max(16, size // 16), 256) if size >= 64 else 0
    return Pool(base + 1, last, band, reserved=(base + 1, base + DNS_OFFSET))


def port_pool(first: int, last: int) -> Pool:
    """Node ports; the lower band is left to explicit requests (KEP-3668)."""
    size = last - first + 1
    return Pool(first, last, min(max(16, size // 32), 128) if size >= 64 else 0)


@dataclasses.dataclass(frozen=True)
class Ranges:
    """What a cluster hands out: a range of addresses for each family, the primary first, and the node ports."""

    service_cidrs: tuple[Network, ...]
    node_ports: tuple[int, int]

    @classmethod
    def parse(cls, service_cidrs: Sequence[str], node_port_range: str) -> Ranges:
        """Raises `UsageError`."""
        try:
            networks = tuple(ipaddress.ip_network(cidr) for cidr in service_cidrs)
        except ValueError as error:
            raise UsageError(f"serviceCIDRs: {error}: give networks such as 10.96.0.0/16") from None
        if not networks or len({network.version for network in networks}) != len(networks):
            raise UsageError("serviceCIDRs: give one network for each family, the primary first")
        if any(network.num_addresses < 16 for network in networks):
            raise UsageError("serviceCIDRs: a range holds at least 16 addresses (a /28 or a /124)")
        first, dash, last = node_port_range.partition("-")
        if not (dash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
            raise UsageError(f'nodePortRange: "{node_port_range}" is no range of ports such as 30000-32767')
        return cls(networks, (int(first), int(last)))

    @property
    def families(self) -> tuple[str, ...]:
        """The cluster's families, `IPv4` and `IPv6`, the primary first."""
        return tuple(f"IPv{network.version}" for network in self.service_cidrs)

    @property
    def first_addresses(self) -> list[str]:
        """The address of the API's own Service in each range."""
        return [str(network[1]) for network in self.service_cidrs]

    def network(self, family: str) -> Network:
        """The range of a family that the cluster has."""
        return self.service_cidrs[self.families.index(family)]


PROTOCOLS = ("TCP", "UDP", "SCTP")


class Allocations:
    """Who has which address and port. A port is taken for one protocol: DNS has 53 of both UDP and TCP."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.pools = {f"IPv{network.version}": address_pool(network) for network in ranges.service_cidrs}
        self.pools |= {protocol: port_pool(*ranges.node_ports) for protocol in PROTOCOLS}
        self._claims: dict[str, frozenset[Claim]] = {}

    def record(self, owner: str, claims: frozenset[Claim]) -> None:
        """The owner has these, and none of what it had before."""
        before = self._claims.get(owner, frozenset())
        for pool, number in before - claims:
            self.pools[pool].release(number)
        for pool, number in claims - before:
            self.pools[pool].claim(number, owner)
        if claims:
            self._claims[owner] = claims
        else:
            self._claims.pop(owner, None)

    def taken(self, claim: Claim, owner: str) -> bool:
        """Whether another owner has it."""
        pool, number = claim
        return self.pools[pool].owner(number) not in (None, owner)

    def free_address(self, family: str) -> str:
        """A free address of a family. Raises `ExhaustedError`."""
        number = self.pools[family].next_free()
        if number is None:
            network = self.ranges.network(family)
            raise ExhaustedError(f"failed to allocate a clusterIP: range {network} is full: delete an unneeded Service")
        return str(ipaddress.IPv4Address(number) if family == "IPv4" else ipaddress.IPv6Address(number))

    def free_port(self, protocol: str, besides: Collection[int]) -> int:
        """A free node port that is none of `besides`. Raises `ExhaustedError`."""
        number = self.pools[protocol].next_free(besides)
        if number is None:
            first, last = self.ranges.node_ports
            raise ExhaustedError(
                f"failed to allocate a nodePort: range {first}-{last} is full: delete an unneeded Service"
            )
        return number
