"""Session affinity in the kernel: for which clients a node remembers the endpoint."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from netlab.net.addresses import Family, address_text
from netlab.net.netlink import NetlinkError
from netlab.net.nftables.elements import Set
from netlab.net.nftables.schemas import NFT_FAMILY
from netlab.net.nftables.socket import Nfnetlink
from netlab.proxy.config import ProxyConfig
from netlab.proxy.iptables.chains import endpoint_chain
from netlab.proxy.nftables.chains import remember
from netlab.proxy.nftables.fixed import TABLE
from netlab.proxy.plan import Plan
from netlab.trace.state import Affinity


class Sticky(NamedTuple):
    """Where the kernel keeps the clients of an endpoint: a set of nftables, or a list of xt_recent."""

    service: str
    protocol: str
    family: Family
    address: str
    port: int
    name: str


def sticky(config: ProxyConfig, plans: Mapping[Family, Plan]) -> list[Sticky]:
    """The endpoints that remember clients. Pure."""
    found = set()
    for family, plan in plans.items():
        for frontend, target in plan.items():
            for endpoint in {*target.cluster, *target.local} if target.affinity_seconds else ():
                if config.mode == "nftables":
                    of_port = (family, target.service, target.affinity_seconds, frontend.protocol)
                    name = remember(*of_port, *endpoint.backend).clients.name
                else:
                    name = endpoint_chain(target.service, frontend.protocol, *endpoint.backend)
                found.add(Sticky(target.service, frontend.protocol, family, endpoint.address, endpoint.port, name))
    return sorted(found)


def remembered(mode: str, listed: Iterable[Sticky]) -> list[Affinity]:
    """The clients remembered in the current namespace, including expired entries that are not reaped yet."""
    found = []
    for each in listed:
        for client in _clients(each.family, each.name) if mode == "nftables" else _recent_clients(each.name):
            found.append(Affinity(each.service, each.protocol, client, each.address, each.port))
    return found


def _clients(family: Family, name: str) -> Iterator[str]:
    with Nfnetlink() as kernel, contextlib.suppress(NetlinkError):
        for element in kernel.elements(Set(NFT_FAMILY[family], TABLE, name)):
            yield address_text(element.key)


def _recent_clients(name: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/thread-self/net/xt_recent/{name}").read_text(encoding="ascii").splitlines():
            yield str(ipaddress.ip_address(line.split()[0].removeprefix("src=")))
