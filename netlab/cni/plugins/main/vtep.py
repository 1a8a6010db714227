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
from netlab.cni.plugins.netns import Locked
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.errors import NetlabError
from netlab.net import links, overlay_apply
from netlab.net.links import LinkError
from netlab.net.overlay import Overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.vxlan import Settings

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


def ensure(settings: Settings) -> None:
    """Ensure that the device exists, is up, and has exactly the peers of the peers file. Raises `CniError`."""
    with Locked(shared=False), _naming(settings), IPRoute() as ip:
        # The file may have been replaced while this ADD waited for another one; the new one counts.
        settings.read_peers()
        underlay = _underlay(ip, settings)
        listed = _peers(settings)
        mtu = _mtu(settings, underlay)
        index = links.index_of(ip, settings.name)
        if index is None:
            mac = peers.own_mac(listed or (), underlay.local, settings.vni)
            index = _make(ip, settings, underlay, mac, mtu)
        else:
            _refuse_another(ip, settings, underlay)
            # If this is interrupted, the next ADD finishes the device.
            ip.link("set", index=index, ifalias="")
            mac = peers.own_mac(listed, underlay.local, settings.vni) if listed is not None else ""
            # The kernel forgets all neighbours when a MAC address is set, even to the same one.
            if mac and mac != links.mac_of(ip, settings.name):
                ip.link("set", index=index, address=mac)
        links.ensure_up(ip, settings.name)
        if listed is not None:
            overlay_apply.apply(ip, settings.name, _plan(settings, listed, underlay))
        ip.link("set", index=index, ifalias=settings.mark())


def _make(ip: IPRoute, settings: Settings, underlay: _Underlay, mac: str, mtu: int) -> int:
    """A new device; its index."""
    try:
        return links.ensure_link(
            ip,
            settings.name,
            "vxlan",
            address=mac,
            vxlan_id=settings.vni,
            vxlan_port=settings.port,
            # Every peer is known: no learning from incoming packets.
            vxlan_learning=0,
            vxlan_link=underlay.index,
            mtu=mtu,
            **{"vxlan_local" if underlay.version == 4 else "vxlan_local6": underlay.local},
        )
    except LinkError as error:
        if getattr(error.__cause__, "code", 0) != errno.EEXIST:
            raise
        raise CniError(
            errors.INVALID_CONFIG,
            f"vxlan.id: another VXLAN device on port {settings.port} already has {settings.vni}; choose another id, or"
            " name that device in vxlan.name",
        ) from error


def check(settings: Settings, addresses: list[str]) -> None:
    """CHECK the device, its addresses and its peers. Raises `CniError` naming what is missing."""
    settings.read_peers()
    with _naming(settings), IPRoute() as ip:
        underlay = _underlay(ip, settings)
        listed = _peers(settings)
        index = links.index_of(ip, settings.name)
        if index is None:
            raise CniError(errors.CHECK_FAILED, f"link {settings.name}: missing")
        if ip.get_links(index)[0]["state"] != "up":
            raise CniError(errors.CHECK_FAILED, f"link {settings.name}: down")
        _refuse_another(ip, settings, underlay, errors.CHECK_FAILED)
        present = {item.get("address") for item in ip.get_addr(index=index)}
        for address in addresses:
            if address.partition("/")[0] not in present:
                raise CniError(errors.CHECK_FAILED, f"link {settings.name}: missing address {address}")
        if listed is not None:
            mac = peers.own_mac(listed, underlay.local, settings.vni)
            if links.mac_of(ip, settings.name) != mac:
                raise CniError(errors.CHECK_FAILED, f"link {settings.name}: its address is not {mac}, as peers expect")
            missing = _plan(settings, listed, underlay) - overlay_apply.read(ip, settings.name)
            for entry in missing.describe(settings.name):
                raise CniError(errors.CHECK_FAILED, f"{entry}: missing")


def status(settings: Settings) -> None:
    """STATUS: whether `ensure` can succeed. Raises `CniError`."""
    settings.read_peers()
    with _naming(settings), IPRoute() as ip:
        underlay = _underlay(ip, settings)
        _mtu(settings, underlay)
        listed = _peers(settings)
        if listed is not None:
            _plan(settings, listed, underlay)
        if links.index_of(ip, settings.name) is not None:
            _refuse_another(ip, settings, underlay)


@contextlib.contextmanager
def _naming(settings: Settings) -> Iterator[None]:
    try:
        yield
    except CniError:
        raise
    except NetlabError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, f"link {settings.name}: {os.strerror(error.code)}") from error


def _underlay(ip: IPRoute, settings: Settings) -> _Underlay:
    """The link and the address that the configuration names; whichever it omits is found from the other."""
    wanted = ipaddress.ip_address(settings.local_address) if settings.local_address else None
    index = links.index_of(ip, settings.device) if settings.device else None
    if settings.device and index is None:
        raise CniError(errors.INVALID_CONFIG, f"vxlan.device: {settings.device!r}: no such link")
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
            raise CniError(errors.INVALID_CONFIG, f"vxlan.device: {settings.device!r} has no address of its own yet")
        where = f" of {settings.device}" if settings.device else ""
        raise CniError(errors.INVALID_CONFIG, f"vxlan.localAddress: {wanted} is not an address{where} on this node")
    # The kernel's order, IPv4 first.
    address, link = min(candidates, key=lambda candidate: candidate[0].version)
    attributes = ip.get_links(link)[0]
    return _Underlay(link, attributes.get("ifname"), attributes.get("mtu"), str(address))


def _peers(settings: Settings) -> list[peers.Peer] | None:
    if settings.peers is None:
        return None
    with _of_peers_file(settings):
        return peers.parse_peers(settings.peers)


def _plan(settings: Settings, listed: list[peers.Peer], underlay: _Underlay) -> Overlay:
    with _of_peers_file(settings):
        return peers.plan(listed, underlay.local, settings.vni)


@contextlib.contextmanager
def _of_peers_file(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CniError(errors.INVALID_CONFIG, f"vxlan.peersFile: {settings.peers_file}: {error}") from error


def _mtu(settings: Settings, underlay: _Underlay) -> int:
    if settings.mtu > underlay.inner_mtu:
        raise CniError(
            errors.INVALID_CONFIG,
            f"mtu: {settings.mtu} is more than the {underlay.inner_mtu} that VXLAN leaves of the"
            f" {underlay.mtu} of {underlay.name}; leave it out",
        )
    return settings.mtu or underlay.inner_mtu


def _refuse_another(ip: IPRoute, settings: Settings, underlay: _Underlay, code: int = errors.INVALID_CONFIG) -> None:
    """Refuse an existing device of that name that belongs to another tunnel."""
    (link,) = ip.get_links(links.index_of(ip, settings.name))
    info = link.get("linkinfo")
    if not info or info.get("kind") != "vxlan":
        raise CniError(code, f"vxlan.name: link {settings.name!r} exists but is not a VXLAN device; use another name")
    data = info.get("data")
    is_so = {
        "id": data.get("vxlan_id"),
        "port": data.get("vxlan_port"),
        "localAddress": data.get("vxlan_local" if underlay.version == 4 else "vxlan_local6"),
    }
    wanted = {"id": settings.vni, "port": settings.port, "localAddress": underlay.local}
    for key, value in wanted.items():
        if is_so[key] != value:
            raise CniError(
                code,
                f"vxlan.{key}: link {settings.name!r} exists with {is_so[key]}, not {value};"
                f" choose another vxlan.name, or remove it (`ip link del {settings.name}`)",
            )
    if settings.mtu > link.get("mtu"):
        raise CniError(code, f"mtu: {settings.mtu} is more than the {link.get('mtu')} of link {settings.name!r}")
