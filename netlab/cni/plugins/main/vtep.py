"""A node's VXLAN device: creating it, applying the peers file, and checking it.

Imported only when needed: by a node's first ADD, and by the first one after a change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
from collections.abc import Iterator
from socket import if_indextoname

from netlab.cni.plugins.main import peers
from netlab.cni.plugins.main.mode import Locked
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net import overlay
from netlab.net.addresses import packed, packed_network
from netlab.net.netlink import NetlinkError
from netlab.net.overlay import Overlay
from netlab.net.route import SCOPE_UNIVERSE, addresses, links, packed_mac
from netlab.net.route.addresses import addresses_of
from netlab.net.route.links import Link
from netlab.net.route.socket import Rtnetlink
from netlab.net.route.vxlan import VXLAN_OVERHEAD, Vxlan, vxlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.tunnel import Tunnel


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
        return self.mtu - VXLAN_OVERHEAD[self.version]


def ensure(tunnel: Tunnel) -> None:
    """Ensure that the device exists, is up, and has exactly the peers of the peers file. Raises `CniError`."""
    with Locked(shared=False), _naming(), Rtnetlink() as kernel:
        # The file may have been replaced while this ADD waited for another one; the new one counts.
        tunnel.read_peers()
        underlay = _underlay(kernel, tunnel)
        listed = _peers(tunnel)
        mtu = _mtu(tunnel, underlay)
        link = kernel.link(tunnel.name)
        if link is None:
            link = _make(kernel, tunnel, underlay, peers.own_mac(listed or (), underlay.local, tunnel.vni), mtu)
        else:
            _refuse_another(link, tunnel, underlay)
            # If this is interrupted, the next ADD finishes the device.
            kernel.send(links.alias(link.name, ""))
            mac = peers.own_mac(listed, underlay.local, tunnel.vni) if listed is not None else ""
            # The kernel forgets all neighbours when a MAC address is set, even to the same one.
            if mac and mac != link.mac:
                kernel.send(links.hardware_address(link.name, link.index, packed_mac(mac)))
        kernel.set_up(link.name)
        if listed is not None:
            _ensure_addresses(kernel, link, peers.own_addresses(listed, underlay.local))
            overlay.apply(kernel, link.name, _plan(tunnel, listed, underlay))
        kernel.send(links.alias(link.name, tunnel.mark()))


def _make(kernel: Rtnetlink, tunnel: Tunnel, underlay: _Underlay, mac: str, mtu: int) -> Link:
    """A new device."""
    local = packed(underlay.local)
    try:
        kernel.send(vxlan(tunnel.name, tunnel.vni, tunnel.port, local, underlay.index, packed_mac(mac), mtu))
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        raise errors.invalid_config(
            f"vxlan.id: another VXLAN device on port {tunnel.port} already has {tunnel.vni}; choose another id, or"
            " name that device in vxlan.name",
        ) from error
    return kernel.existing(tunnel.name)


def _ensure_addresses(kernel: Rtnetlink, link: Link, wanted: list[str]) -> None:
    """The addresses that the peers file gives this node, and no others; any if this node is not in it."""
    given = [packed_network(address) for address in wanted]
    for own in given:
        kernel.send(addresses.addition(link.name, link.index, *own), tolerate=errno.EEXIST)
    for item in addresses_of(kernel, link.index) if given else ():
        if item.scope == SCOPE_UNIVERSE and (item.packed, item.length) not in given:
            kernel.send(addresses.deletion(link.name, link.index, item.packed, item.length))


def check(tunnel: Tunnel, expected: list[str]) -> None:
    """CHECK the device, its addresses and its peers. Raises `CniError` naming what is missing."""
    tunnel.read_peers()
    with _naming(), Rtnetlink() as kernel:
        underlay = _underlay(kernel, tunnel)
        listed = _peers(tunnel)
        link = kernel.link(tunnel.name)
        if link is None:
            raise errors.broken(f"link {tunnel.name}", "missing")
        if not link.flags & links.IFF_UP:
            raise errors.broken(f"link {tunnel.name}", "down")
        _refuse_another(link, tunnel, underlay, errors.CHECK_FAILED)
        present = {item.packed for item in addresses_of(kernel, link.index)}
        for address in expected:
            if packed(address.partition("/")[0]) not in present:
                raise errors.broken(f"link {tunnel.name}", f"missing address {address}")
        if listed is not None:
            mac = peers.own_mac(listed, underlay.local, tunnel.vni)
            if link.mac != mac:
                raise errors.broken(f"link {tunnel.name}", f"its address is not {mac}, as peers expect")
            missing = _plan(tunnel, listed, underlay) - overlay.read(kernel, tunnel.name)
            for entry in missing.describe(tunnel.name):
                raise errors.broken(entry, "missing")


def status(tunnel: Tunnel) -> None:
    """STATUS: whether `ensure` can succeed. Raises `CniError`."""
    tunnel.read_peers()
    with _naming(), Rtnetlink() as kernel:
        underlay = _underlay(kernel, tunnel)
        _mtu(tunnel, underlay)
        listed = _peers(tunnel)
        if listed is not None:
            _plan(tunnel, listed, underlay)
        link = kernel.link(tunnel.name)
        if link is not None:
            _refuse_another(link, tunnel, underlay)


@contextlib.contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error


def _underlay(kernel: Rtnetlink, tunnel: Tunnel) -> _Underlay:
    """The link and the address that the configuration names; whichever it omits is found from the other."""
    wanted = ipaddress.ip_address(tunnel.local_address) if tunnel.local_address else None
    named = kernel.link(tunnel.device) if tunnel.device else None
    if tunnel.device and named is None:
        raise errors.invalid_config(f"vxlan.device: {tunnel.device!r}: no such link")
    candidates = [
        item
        for item in addresses_of(kernel, named.index if named is not None else 0)
        if item.scope == SCOPE_UNIVERSE and (wanted is None or item.packed == wanted.packed)
    ]
    if not candidates:
        if wanted is None:
            raise errors.invalid_config(f"vxlan.device: {tunnel.device!r} has no address of its own yet")
        where = f" of {tunnel.device}" if tunnel.device else ""
        raise errors.invalid_config(f"vxlan.localAddress: {wanted} is not an address{where} on this node")
    # The kernel's order, IPv4 first.
    address = min(candidates, key=lambda candidate: len(candidate.packed))
    link = named or kernel.existing(if_indextoname(address.index))
    return _Underlay(link.index, link.name, link.mtu, str(ipaddress.ip_address(address.packed)))


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


def _refuse_another(link: Link, tunnel: Tunnel, underlay: _Underlay, code: int = errors.INVALID_CONFIG) -> None:
    """Refuse an existing device of that name that belongs to another tunnel."""
    if link.kind != "vxlan":
        raise CniError(code, f"vxlan.name: link {tunnel.name!r} exists but is not a VXLAN device; use another name")
    device = Vxlan(link.data)
    local = str(ipaddress.ip_address(device.local)) if device.local else None
    for key, value, is_so in (
        ("id", tunnel.vni, device.vni),
        ("port", tunnel.port, device.port),
        ("localAddress", underlay.local, local),
    ):
        if is_so != value:
            raise CniError(
                code,
                f"vxlan.{key}: link {tunnel.name!r} exists with {is_so}, not {value};"
                f" choose another vxlan.name, or remove it (`ip link del {tunnel.name}`)",
            )
    if tunnel.mtu > link.mtu:
        raise CniError(code, f"mtu: {tunnel.mtu} is more than the {link.mtu} of link {tunnel.name!r}")
