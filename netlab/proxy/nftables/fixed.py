"""What a family's table has regardless of Services: sets, maps and the chains that decide. Text for `nft`."""

from __future__ import annotations

import dataclasses
import functools
import socket
import sys
from collections.abc import Iterator, Mapping

from netlab.net.addresses import Family, of_family
from netlab.net.nftables.schemas import (
    NFT_FAMILY,
    NUMBERS,
    PORT,
    PROTOCOL,
    Chain,
    Field,
    Schema,
    address,
    layout_comment,
    script,
)
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import PROTOCOLS

TABLE = "kube-proxy"
MASQUERADE_MARK = 0x4000
"""The bit of the packet's mark that requests masquerading: upstream's default, masqueradeBit 14."""

ADDRESS_FAMILY = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_LOOPBACK: Mapping[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1"}

_VERSION = 1
"""The version of what the layout's text does not show: the chains of netlab.proxy.nftables.chains."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The part of a family's table that does not depend on the plan.

    `pods` matches a packet that comes from a pod of this node (or of the cluster), such as
    `ip saddr { 10.244.0.0/16 }`; empty if pods cannot be recognised. `not_pods` is its negation.
    """

    family: Family
    pods: str = ""
    not_pods: str = ""
    masquerade_all: bool = False
    masquerade_mark: int = MASQUERADE_MARK
    node_port_addresses: tuple[str, ...] = ()
    """Networks whose addresses serve NodePorts; empty: all of the node's except loopback."""
    service_cidrs: tuple[str, ...] = ()
    """The ranges of ClusterIPs: traffic to an address in them that no Service has is dropped."""

    @property
    def ip(self) -> str:
        """nft's name for the family, and for its header."""
        return NFT_FAMILY[self.family]

    @property
    def comment(self) -> str:
        """The comment of a table of this layout: a proxy continues with such a table, whichever process made it."""
        return layout_comment(f"{_VERSION} {self._script([])}")

    @functools.cached_property
    def schemas(self) -> dict[str, Schema]:
        """The sets and maps, by name. Those for NodePorts are keyed without an address."""
        source, destination = address(self.family, "saddr"), address(self.family, "daddr")
        protocol, port = PROTOCOL, PORT
        slot = Field("numgen random mod 2", 4, lambda packed: str(int.from_bytes(packed, sys.byteorder)))
        schemas = {
            "cluster-ips": Schema((destination,)),
            "internal": Schema((destination, protocol, port)),
            "hairpins": Schema((source, destination)),
            "firewalled": Schema((destination, protocol, port)),
            "allowed": Schema((destination, protocol, port, source), interval=True),
        }
        for prefix, dialled in (("", (destination, protocol, port)), ("nodeport-", (protocol, port))):
            schemas[f"{prefix}external"] = Schema(dialled)
            schemas[f"{prefix}external-local"] = Schema(dialled)
            schemas[f"{prefix}no-endpoints"] = Schema(dialled)
            for which in ("", "local-"):
                schemas[f"{prefix}{which}picks"] = Schema(dialled, verdict=True)
                schemas[f"{prefix}{which}endpoints"] = Schema((*dialled, slot), (destination, port))
                schemas[f"{prefix}{which}sticky"] = Schema((*dialled, slot), verdict=True)
        return schemas

    @functools.cached_property
    def ranges(self) -> frozenset[str]:
        """The names of the sets of ranges."""
        return frozenset([name for name, schema in self.schemas.items() if schema.interval])

    def chains(self) -> Iterator[Chain]:
        """The chains that decide.

        Sets, not a map of verdicts, decide how a frontend is treated: before a batch with a verdict takes effect, the
        kernel follows every element of every map that leads to a chain. If that chain had a map of its own, some
        kernels would follow it again for each, in time that grows with the square of the number of Services.
        """
        ip, mark = self.ip, f"{self.masquerade_mark:#x}"
        address, port = f"{ip} daddr . meta l4proto . th dport", "meta l4proto . th dport"
        own = f"fib daddr type local {ip} daddr != {_LOOPBACK[self.family]}"
        if self.node_port_addresses:
            own += f" {ip} daddr {_anonymous(self.node_port_addresses)}"
        yield Chain("mark-masquerade", (f"meta mark set meta mark | {mark}",))
        for prefix, key in (("", address), ("nodeport-", port)):
            # The only rule with this map: the kernel validates a chain once, but a map for every rule that uses it.
            yield Chain(f"{prefix}pick", (f"{key} vmap @{prefix}picks",))
            # Pods keep their source; the node does not, since its source would be its own external address.
            pods = (f"{self.pods} goto {prefix}pick",) if self.pods else ()
            node = ("fib saddr type local jump mark-masquerade", f"fib saddr type local goto {prefix}pick")
            yield Chain(f"{prefix}external-local", (*pods, *node, f"{key} vmap @{prefix}local-picks", "drop"))
        yield Chain("firewall", (f"{address} . {ip} saddr @allowed return", "drop"))
        internal = f"{address} @internal jump mark-masquerade"
        yield Chain(
            "dispatch",
            (
                f"{address} @firewalled jump firewall",
                f"{address} @external-local goto external-local",
                f"{address} @external jump mark-masquerade",
                *((internal,) if self.masquerade_all else (f"{self.not_pods} {internal}",) if self.not_pods else ()),
                "jump pick",
                f"{own} goto dispatch-nodeport",
            ),
        )
        yield Chain(
            "dispatch-nodeport",
            (
                f"{port} @nodeport-external-local goto nodeport-external-local",
                f"{port} @nodeport-external jump mark-masquerade",
                "goto nodeport-pick",
            ),
        )
        refuse = [
            f"{address} @no-endpoints reject",
            f"{own} {port} @nodeport-no-endpoints reject",
            # Packets for Services are already translated here: what is left has a wrong port, or no endpoints.
            f"{ip} daddr @cluster-ips reject",
        ]
        if self.service_cidrs:
            refuse.append(f"{ip} daddr {_anonymous(self.service_cidrs)} drop")
        yield Chain("refuse", tuple(refuse))
        masquerade = (
            f"meta mark & {mark} == {mark} meta mark set meta mark ^ {mark} masquerade fully-random",
            f"ct status dnat {ip} saddr . {ip} daddr @hairpins masquerade fully-random",
        )
        yield Chain("nat-postrouting", masquerade, "type nat hook postrouting priority 100")
        for hook in ("input", "forward", "output"):
            # Only new connections are refused: established ones go on.
            yield Chain(f"filter-{hook}", ("ct state new jump refuse",), f"type filter hook {hook} priority 0")
        for hook in ("prerouting", "output"):
            yield Chain(f"nat-{hook}", ("jump dispatch",), f"type nat hook {hook} priority -100")

    def script(self, *, dormant: bool = False) -> str:
        """A script that makes or repairs the layout and leaves elements alone. A dormant table has no effect."""
        return self._script(["flags dormant"] if dormant else [], self.comment)

    def _script(self, header: list[str], comment: str = "") -> str:
        chains, table = list(self.chains()), f"{self.ip} {TABLE}"
        return script(table, header, comment, self.schemas, chains)


def layout_of(family: Family, config: ProxyConfig) -> Layout:
    """The layout for a configuration."""
    match, value = "", ""
    detect = config.detect_local
    cidrs = of_family(detect.cidrs, family)
    if detect.mode in ("ClusterCIDR", "NodeCIDR") and cidrs:
        match, value = f"{NFT_FAMILY[family]} saddr", f"{{ {', '.join(cidrs)} }}"
    elif detect.mode == "BridgeInterface":
        match, value = "iifname", f'"{detect.interface}"'
    elif detect.mode == "InterfaceNamePrefix":
        match, value = "iifname", f'"{detect.interface}*"'
    return Layout(
        family,
        pods=f"{match} {value}" if match else "",
        not_pods=f"{match} != {value}" if match else "",
        masquerade_all=config.masquerade_all,
        masquerade_mark=1 << config.masquerade_bit,
        node_port_addresses=of_family(config.node_port_addresses, family),
        service_cidrs=of_family(config.service_cidrs, family),
    )


def _anonymous(values: tuple[str, ...]) -> str:
    return f"{{ {', '.join(values)} }}"


assert set(NUMBERS) == set(PROTOCOLS.values())
