"""Links, addresses and routes, over pyroute2: each function brings about a state and can be repeated.

They take an open `pyroute2.IPRoute`, which works in the network namespace where it was opened. Errors are `LinkError`
and name the object and the kernel's reason.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netlab.errors import NetlabError, UnsupportedError

_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 0x04


class LinkError(NetlabError):
    """The kernel refused a change to a link, an address, a route or a neighbour."""


@contextlib.contextmanager
def _naming(subject: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        reason = os.strerror(error.code) if error.code else str(error)
        if error.code == errno.EOPNOTSUPP:
            raise UnsupportedError(f"{subject}: this kernel does not support it; see `netlab doctor`") from error
        raise LinkError(f"{subject}: {reason}") from error


def index_of(ip: IPRoute, name: str) -> int | None:
    """The index of a link; None if it does not exist."""
    found: list[int] = ip.link_lookup(ifname=name)
    return found[0] if found else None


def _existing(ip: IPRoute, name: str) -> int:
    index = index_of(ip, name)
    if index is None:
        raise LinkError(f"link {name}: no such link")
    return index


def ensure_link(ip: IPRoute, name: str, kind: str, **attributes: Any) -> int:
    """Create the link with that kind and attributes unless it exists; its index."""
    index = index_of(ip, name)
    if index is not None:
        return index
    with _naming(f"{kind} {name}"):
        ip.link("add", ifname=name, kind=kind, **attributes)
    return _existing(ip, name)


def ensure_veth(ip: IPRoute, name: str, peer: str, peer_namespace: int, mtu: int) -> int:
    """A veth pair: `name` here, `peer` in the namespace of the descriptor; the index of `name`."""
    end = {"ifname": peer, "net_ns_fd": peer_namespace, "mtu": mtu}
    return ensure_link(ip, name, "veth", mtu=mtu, peer=end)


def ensure_up(ip: IPRoute, name: str, *, master: str | None = None) -> None:
    """The link is up, and a port of `master` if one is named."""
    with _naming(f"link {name}"):
        changes: dict[str, Any] = {"index": _existing(ip, name), "state": "up"}
        if master is not None:
            changes["master"] = _existing(ip, master)
        ip.link("set", **changes)


def ensure_address(ip: IPRoute, name: str, address: str) -> None:
    """The link has the address, given as `address/prefix`; an IPv6 one is usable at once (no DAD)."""
    interface = ipaddress.ip_interface(address)
    attributes: dict[str, Any] = {"flags": _IFA_F_NODAD} if interface.version == 6 else {}
    with _naming(f"address {address} on {name}"):
        ip.addr(
            "replace",
            index=_existing(ip, name),
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
            **attributes,
        )


def ensure_route(ip: IPRoute, destination: str, gateways: list[str], link: str, *, onlink: bool = False) -> None:
    """Packets for `destination` (a CIDR) go through the gateways, spread by flow if there are several."""
    version = ipaddress.ip_network(destination).version
    attributes: dict[str, Any] = {"dst": destination, "family": 2 if version == 4 else 10}
    index = _existing(ip, link)
    flags = _RTNH_F_ONLINK if onlink else 0
    if len(gateways) == 1:
        attributes |= {"gateway": gateways[0], "oif": index, "flags": flags}
    else:
        attributes["multipath"] = [{"gateway": gateway, "oif": index, "flags": flags} for gateway in gateways]
    with _naming(f"route to {destination}"):
        ip.route("replace", **attributes)


def remove_route(ip: IPRoute, destination: str, link: str) -> None:
    """Remove the route to `destination` through the link, if there is one."""
    _remove(f"route to {destination}", lambda: ip.route("del", dst=destination, oif=_existing(ip, link)))


def mac_of(ip: IPRoute, name: str) -> str:
    """The link's MAC address."""
    mac: str = ip.get_links(_existing(ip, name))[0].get("address")
    return mac


def _remove(subject: str, remove: Any) -> None:
    try:
        with _naming(subject):
            remove()
    except LinkError as error:
        cause = error.__cause__
        if not isinstance(cause, NetlinkError) or cause.code not in (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL):
            raise
