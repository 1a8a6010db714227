"""Node IPAM: each node gets a subnet of every cluster CIDR for its pods."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from netlab.api.core_types import Node
from netlab.api.events import WARNING, record
from netlab.api.resources import NODES
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.errors import ExhaustedError, UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True)
class SubnetPool:
    """A cluster CIDR cut into equal subnets, numbered from 0."""

    network: Network
    prefix_length: int

    @classmethod
    def of(cls, cidr: str, prefix_lengths: Mapping[int, int]) -> SubnetPool:
        """The pool of `cidr`, cut to the prefix length given for its IP version. Raises UsageError."""
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError as error:
            raise UsageError(f"cluster CIDR {cidr}: {error}; use a network like 10.244.0.0/16") from error
        length = prefix_lengths[network.version]
        if not network.prefixlen <= length <= network.max_prefixlen:
            raise UsageError(f"cluster CIDR {cidr} has no room for a node's /{length}; use a larger network")
        return cls(network, length)

    @property
    def size(self) -> int:
        """The number of subnets."""
        return 1 << (self.prefix_length - self.network.prefixlen)

    def subnet(self, number: int) -> str:
        """The subnet of that number, as a CIDR."""
        offset = number << (self.network.max_prefixlen - self.prefix_length)
        return f"{self.network.network_address + offset}/{self.prefix_length}"

    def choose(self, node: str, used: Iterable[str]) -> str:
        """The subnet for a node, given the CIDRs in use. Raises ExhaustedError.

        `node-7` gets subnet 7 if that is free, so that a pod's address shows its node; other nodes
        get the lowest free one.
        """
        taken = sorted(filter(None, map(self._numbers, used)), key=lambda numbers: numbers.start)
        named = re.search(r"-([0-9]{1,9})$", node)
        if named and (wish := int(named[1])) < self.size and not any(wish in numbers for numbers in taken):
            return self.subnet(wish)
        lowest = 0
        for numbers in taken:
            if lowest < numbers.start:
                break
            lowest = max(lowest, numbers.stop)
        if lowest >= self.size:
            raise ExhaustedError(
                f"cluster CIDR {self.network} has no /{self.prefix_length} left for node {node}: all {self.size} are"
                " in use; delete a node or start the lab with a larger cluster CIDR"
            )
        return self.subnet(lowest)

    def _numbers(self, cidr: str) -> range | None:
        """The subnets that a CIDR, of whatever size, overlaps."""
        try:
            other = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            return None  # not written by us: it takes nothing of ours
        if other.version != self.network.version or not other.overlaps(self.network):
            return None
        base = int(self.network.network_address)
        shift = self.network.max_prefixlen - self.prefix_length
        first = max(int(other.network_address) - base, 0) >> shift
        last = min((int(other.broadcast_address) - base) >> shift, self.size - 1)
        return range(first, last + 1)


class NodeIpam(Controller):
    """Writes spec.podCIDR and spec.podCIDRs. The Node objects are the only record of what is in use."""

    name = "node-ipam-controller"
    resource = NODES

    def __init__(self, cluster: Cluster, pools: Sequence[SubnetPool]) -> None:
        super().__init__(cluster)
        self._pools = pools
        # Assigned, and perhaps not yet seen by the informer.
        self._given: dict[str, list[str]] = {}
        self._unserved: set[str] = set()
        cluster.nodes.on_change(self._changed)

    def keys(self) -> Iterable[str]:
        """Every node."""
        return list(self.cluster.nodes.items)

    async def reconcile(self, key: str) -> None:
        """Assign the node its subnets unless it has them. Raises ExhaustedError if none is left."""
        node = self.cluster.nodes.items.get(key)
        if node is None or node.spec.podCIDRs or node.spec.podCIDR:
            return
        nodes = self.cluster.nodes.items.values()
        seen = itertools.chain.from_iterable([n.spec.podCIDR, *n.spec.podCIDRs] for n in nodes)
        # A retry for this node may use the same subnet again.
        given = itertools.chain.from_iterable(cidrs for name, cidrs in self._given.items() if name != key)
        used = [*filter(None, seen), *given]
        try:
            cidrs = [pool.choose(key, used) for pool in self._pools]
        except ExhaustedError as error:
            if key not in self._unserved:
                self._unserved.add(key)
                await record(self.client, node, WARNING, "CIDRNotAvailable", str(error), self.name)
            raise
        self._unserved.discard(key)
        self._given[key] = cidrs
        change = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}}
        await self.client.patch(NODES, key, None, change)

    def _changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None:
            if new.spec.podCIDRs:
                self._given.pop(new.key, None)
            else:
                self.queue.add(new.key)
            return
        assert old is not None
        self._given.pop(old.key, None)
        self._unserved.discard(old.key)
        for key in self._unserved:
            self.queue.add(key)
