"""A node's VXLAN device: creating it, applying the peers file, and checking it, with pyroute2.

Imported only when needed: by a node's first ADD, and by the first one after a change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netlab.cni.plugins.main import peers
from netlab.cni.plugins.main.mode import Locked
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.errors import NetlabError
from netlab.net import links, overlay_apply
from netlab.net.links import LinkError
from netlab.net.overlay import Overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.tunnel import Tunnel

_OVERHEAD = {4: 50, 6: 70}
"""Bytes before a container's packet on the underlay: Ethernet header, VXLAN, UDP, and IPv4 or IPv6 (RFC 7348)."""
_RT_SCOPE_UNIVERSE = 0


@dataclasses.dataclass(frozen=True)
class _Underlay:
    """The link to the other nodes, and this node's address on it."""

    index: int
    name: str
    mtu: int
    local: str

    @property
    def version(self) -> int:
        return ipaddress.ip_address(self.local).version

    @property
    def inner_mtu(self) -> int:
        """The largest packet that fits the tunnel without fragmentation, in bytes."""
        return self.mtu - _OVERHEAD[self.version]


def ensure(tunnel: Tunnel) -> None:
    """Ensure that the device exists, is up, and has exactly the peers of the peers file. Raises `CniError`."""
    with Locked(shared=False), _naming(tunnel), IPRoute() as ip:
        # The file may have been replaced while this ADD waited for another one; the new one counts.
        tunnel.read_peers()
        underlay = _underlay(ip, tunnel)
        listed = _peers(tunnel)
        mtu = _mtu(tunnel, underlay)
        index = links.index_of(ip, tunnel.name)
        if index is None:
            mac = peers.own_mac(listed or (), underlay.local, tunnel.vni)
            index = _make(ip, tunnel, underlay, mac, mtu)
        else:
            _refuse_another(ip, tunnel, underlay)
            # If this is interrupted, the next ADD finishes the device.
            ip.link("set", index=index, ifalias="")
            mac = peers.own_mac(listed, underlay.local, tunnel.vni) if listed is not None else ""
            # The kernel forgets all neighbours when a MAC address is set, even to the same one.
            if mac and mac != links.mac_of(ip, tunnel.name):
                ip.link("set", index=index, address=mac)
        links.ensure_up(ip, tunnel.name)
        if listed is not None:
            _ensure_addresses(ip, tunnel.name, index, peers.own_addresses(listed, underlay.local))
            overlay_apply.apply(ip, tunnel.name, _plan(tunnel, listed, underlay))
        ip.link("set", index=index, ifalias=tunnel.mark())


def _make(ip: IPRoute, tunnel: Tunnel, underlay: _Underlay, mac: str, mtu: int) -> int:
    """A new device; its index."""
    try:
        return links.ensure_link(
            ip,
            tunnel.name,
            "vxlan",
            address=mac,
            vxlan_id=tunnel.vni,
            vxlan_port=tunnel.port,
            # Every peer is known: no learning from incoming packets.
            vxlan_learning=0,
            vxlan_link=underlay.index,
            mtu=mtu,
            **{"vxlan_local" if underlay.version == 4 else "vxlan_local6": underlay.local},
        )
    except LinkError as error:
        if getattr(error.__cause__, "code", 0) != errno.EEXIST:
            raise
        raise errors.invalid_config(
            f"vxlan.id: another VXLAN device on port {tunnel.port} already has {tunnel.vni}; choose another id, or"
            " name that device in vxlan.name",
        ) from error


def _ensure_addresses(ip: IPRoute, name: str, index: int, wanted: list[str]) -> None:
    """The addresses that the peers file gives this node, and no others; any if this node is not in it."""
    for address in wanted:
        links.ensure_address(ip, name, address)
    for item in ip.get_addr(index=index) if wanted else ():
        address = f"{item.get('address')}/{item['prefixlen']}"
        if item["scope"] == _RT_SCOPE_UNIVERSE and address not in wanted:
            ip.addr("del", index=index, address=item.get("address"), prefixlen=item["prefixlen"])


def check(tunnel: Tunnel, addresses: list[str]) -> None:
    """CHECK the device, its addresses and its peers. Raises `CniError` naming what is missing."""
    tunnel.read_peers()
    with _naming(tunnel), IPRoute() as ip:
        underlay = _underlay(ip, tunnel)
        listed = _peers(tunnel)
        index = links.index_of(ip, tunnel.name)
        if index is None:
            raise errors.broken(f"link {tunnel.name}", "missing")
        if ip.get_links(index)[0]["state"] != "up":
            raise errors.broken(f"link {tunnel.name}", "down")
        _refuse_another(ip, tunnel, underlay, errors.CHECK_FAILED)
        present = {item.get("address") for item in ip.get_addr(index=index)}
        for address in addresses:
            if address.partition("/")[0] not in present:
                raise errors.broken(f"link {tunnel.name}", f"missing address {address}")
        if listed is not None:
            mac = peers.own_mac(listed, underlay.local, tunnel.vni)
            if links.mac_of(ip, tunnel.name) != mac:
                raise errors.broken(f"link {tunnel.name}", f"its address is not {mac}, as peers expect")
            missing = _plan(tunnel, listed, underlay) - overlay_apply.read(ip, tunnel.name)
            for entry in missing.describe(tunnel.name):
                raise errors.broken(entry, "missing")


def status(tunnel: Tunnel) -> None:
    """STATUS: whether `ensure` can succeed. Raises `CniError`."""
    tunnel.read_peers()
    with _naming(tunnel), IPRoute() as ip:
        underlay = _underlay(ip, tunnel)
        _mtu(tunnel, underlay)
        listed = _peers(tunnel)
        if listed is not None:
            _plan(tunnel, listed, underlay)
        if links.index_of(ip, tunnel.name) is not None:
            _refuse_another(ip, tunnel, underlay)


@contextlib.contextmanager
def _naming(tunnel: Tunnel) -> Iterator[None]:
    try:
        yield
    except CniError:
        raise
    except NetlabError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, f"link {tunnel.name}: {os.strerror(error.code)}") from error


def _underlay(ip: IPRoute, tunnel: Tunnel) -> _Underlay:
    """The link and the address that the configuration names; whichever it omits is found from the other."""
    wanted = ipaddress.ip_address(tunnel.local_address) if tunnel.local_address else None
    index = links.index_of(ip, tunnel.device) if tunnel.device else None
    if tunnel.device and index is None:
        raise errors.invalid_config(f"vxlan.device: {tunnel.device!r}: no such link")
    found: list[tuple[Any, int]] = [
        (ipaddress.ip_address(item.get("local") or item.get("address")), item["index"])
        for item in ip.get_addr()
        if item["scope"] == _RT_SCOPE_UNIVERSE
    ]
    candidates = [
        (address, link)
        for address, link in found
        if (wanted is None or address == wanted) and (index is None or link == index)
    ]
    if not candidates:
        if wanted is None:
            raise errors.invalid_config(f"vxlan.device: {tunnel.device!r} has no address of its own yet")
        where = f" of {tunnel.device}" if tunnel.device else ""
        raise errors.invalid_config(f"vxlan.localAddress: {wanted} is not an address{where} on this node")
    # The kernel's order, IPv4 first.
    address, link = min(candidates, key=lambda candidate: candidate[0].version)
    attributes = ip.get_links(link)[0]
    return _Underlay(link, attributes.get("ifname"), attributes.get("mtu"), str(address))


def _peers(tunnel: Tunnel) -> list[peers.Peer] | None:
    if tunnel.peers is None:
        return None
    with _of_peers_file(tunnel):
        return peers.parse_peers(tunnel.peers)


def _plan(tunnel: Tunnel, listed: list[peers.Peer], underlay: _Underlay) -> Overlay:
    with _of_peers_file(tunnel):
        return peers.plan(listed, underlay.local, tunnel.vni)


@contextlib.contextmanager
def _of_peers_file(tunnel: Tunnel) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise errors.invalid_config(f"vxlan.peersFile: {tunnel.peers_file}: {error}") from error


def _mtu(tunnel: Tunnel, underlay: _Underlay) -> int:
    if tunnel.mtu > underlay.inner_mtu:
        raise errors.invalid_config(
            f"mtu: {tunnel.mtu} is more than the {underlay.inner_mtu} that VXLAN leaves of the"
            f" {underlay.mtu} of {underlay.name}; leave it out",
        )
    return tunnel.mtu or underlay.inner_mtu


def _refuse_another(ip: IPRoute, tunnel: Tunnel, underlay: _Underlay, code: int = errors.INVALID_CONFIG) -> None:
    """Refuse an existing device of that name that belongs to another tunnel."""
    (link,) = ip.get_links(links.index_of(ip, tunnel.name))
    info = link.get("linkinfo")
    if not info or info.get("kind") != "vxlan":
        raise CniError(code, f"vxlan.name: link {tunnel.name!r} exists but is not a VXLAN device; use another name")
    data = info.get("data")
    is_so = {
        "id": data.get("vxlan_id"),
        "port": data.get("vxlan_port"),
        "localAddress": data.get("vxlan_local" if underlay.version == 4 else "vxlan_local6"),
    }
    wanted = {"id": tunnel.vni, "port": tunnel.port, "localAddress": underlay.local}
    for key, value in wanted.items():
        if is_so[key] != value:
            raise CniError(
                code,
                f"vxlan.{key}: link {tunnel.name!r} exists with {is_so[key]}, not {value};"
                f" choose another vxlan.name, or remove it (`ip link del {tunnel.name}`)",
            )
    if tunnel.mtu > link.get("mtu"):
        raise CniError(code, f"mtu: {tunnel.mtu} is more than the {link.get('mtu')} of link {tunnel.name!r}")
