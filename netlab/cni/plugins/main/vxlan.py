"""Mode `vxlan`: a bridge on each node, and a VXLAN device that leads to the containers of the others.

The device and its peer entries belong to the node, not to a container: the first ADD makes them, the first one after a
change of the configuration or the peers file updates them, and nothing removes them. The device's alias notes which
state it was brought to, so that any other ADD need not look further.
"""

from __future__ import annotations

import errno
from _blake2 import blake2s

from netlab.cni.plugins.fields import option
from netlab.cni.plugins.main.bridge import Bridge
from netlab.cni.plugins.main.mode import get
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, parse_address
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_interface_name
from netlab.net import rtnl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object
    from netlab.net.rtnl import Link, Rtnetlink

_PORT = 4789
"""IANA's (RFC 7348), so that every packet tool decodes it by default; the kernel's default is the older 8472."""


class Settings:
    """The configuration's `vxlan`, checked, and with `read_peers` the content of the peers file.

    `peers` is None if an agent on the node manages the peers, and `mtu` is 0 if it follows from the underlay's.
    """

    __slots__ = ("device", "local_address", "mtu", "name", "peers", "peers_file", "port", "vni")

    def __init__(self, config: Object, mtu: int) -> None:
        """Raises `CniError` naming the key and its value."""
        given = option(config, "vxlan", dict, {})
        self.vni: int = option(given, "id", int, 1, "vxlan.")
        self.port: int = option(given, "port", int, _PORT, "vxlan.")
        self.device: str = option(given, "device", str, "", "vxlan.")
        self.local_address: str = option(given, "localAddress", str, "", "vxlan.")
        self.name: str = option(given, "name", str, f"vxlan{self.vni}", "vxlan.")
        self.peers_file: str = option(given, "peersFile", str, "", "vxlan.")
        self.mtu = mtu
        if not 1 <= self.vni < 1 << 24:
            raise CniError(errors.INVALID_CONFIG, f"vxlan.id: {self.vni} must be from 1 to {(1 << 24) - 1}")
        if not 1 <= self.port < 1 << 16:
            raise CniError(errors.INVALID_CONFIG, f"vxlan.port: {self.port} must be from 1 to 65535")
        for key, name in (("name", self.name), ("device", self.device)):
            if name and not is_interface_name(name):
                raise CniError(errors.INVALID_CONFIG, f"vxlan.{key}: {name!r} is not a valid interface name")
        if self.local_address:
            try:
                parse_address(self.local_address)
            except ValueError as error:
                raise CniError(errors.INVALID_CONFIG, f"vxlan.localAddress: {error}") from error
        elif not self.device:
            raise CniError(
                errors.INVALID_CONFIG,
                "vxlan.device: name the link to the other nodes, or its address in vxlan.localAddress",
            )
        if self.peers_file and not self.peers_file.startswith("/"):
            raise CniError(errors.INVALID_CONFIG, f"vxlan.peersFile: {self.peers_file!r} must be an absolute path")
        self.peers: bytes | None = None

    def read_peers(self) -> None:
        """Read the peers file as it is now. Raises `CniError` if it cannot be read."""
        if not self.peers_file:
            return
        try:
            with open(self.peers_file, "rb") as file:  # noqa: PTH123 - pathlib costs 15 ms to import
                self.peers = file.read()
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"vxlan.peersFile: {self.peers_file}: {error.strerror}") from error

    def mark(self) -> str:
        """The mark on a device that was brought to this state. No attachment's owner looks like it."""
        asked = (self.vni, self.port, self.device, self.local_address, self.mtu, self.peers)
        return "netlab vxlan " + blake2s(repr(asked).encode(), digest_size=16).hexdigest()


class Vxlan(Bridge):
    """Containers share a bridge, which is their gateway to other nodes' containers."""

    device: Link
    is_fresh = False
    """Whether this ADD has already set up the device."""
    made_device = False

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.settings = Settings(request.config, self.config.mtu)
        self.overlay = self.settings.name
        if not self.config.has_ipam:
            raise CniError(errors.INVALID_CONFIG, "ipam.type: mode 'vxlan' needs addresses; name an IPAM plugin")
        # Without them a container would reach nothing beyond its own node.
        self.config.is_gateway = True
        self.config.is_default_gateway = request.config.get("isDefaultGateway") is not False

    def prepare_node(self, kernel: Rtnetlink) -> None:
        """The device and its peers."""
        self.settings.read_peers()
        device = kernel.link(self.settings.name)
        self.made_device = device is None
        self.is_fresh = device is None or not device.flags & rtnl.IFF_UP or device.alias != self.settings.mark()
        if device is None or self.is_fresh:
            device = self._ensure_device(kernel)
        self.device = device
        self.mtu = self.mtu or device.mtu

    def abandon(self, kernel: Rtnetlink) -> None:
        """The device goes if it was made by this ADD, and no container is behind the bridge."""
        super().abandon(kernel)
        if self.made_device and kernel.link(self.config.bridge) is None:
            kernel.send(rtnl.link_deletion(self.settings.name), tolerate=errno.ENODEV)

    def address(self, reserved: Object) -> Addressing:
        """Each node has a subnet of its own, whose first address is that of its VXLAN device."""
        found = super().address(reserved)
        for subnet in found.subnets:
            if subnet.length >= subnet.bits - 1:
                raise CniError(errors.INVALID_CONFIG, f"ipam: {subnet} is not a node's subnet; mode 'vxlan' needs one")
        return found

    def connect(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The port of the bridge, and the device's address, by which other nodes' pods know this node."""
        messages = (
            rtnl.address(self.device.name, self.device.index, address.packed, address.length)
            for address in endpoints(addressing)
        )
        if any(kernel.send(*messages, tolerate=errno.EEXIST)) and not self.is_fresh:
            # It was removed by hand, and with a link's last IPv4 address the kernel drops its neighbours and routes.
            self._ensure_device(kernel)
        super().connect(kernel, host, addressing)

    def check(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The port and the bridge; the device, its addresses, and all its peer entries."""
        super().check(kernel, host, addressing)
        _vtep().check(self.settings, [str(address) for address in endpoints(addressing)])

    def status(self, kernel: Rtnetlink) -> None:
        """Whether there is an underlay and a device can be made on it, and the peers file is valid."""
        super().status(kernel)
        _vtep().status(self.settings)

    def _ensure_device(self, kernel: Rtnetlink) -> Link:
        _vtep().ensure(self.settings)
        return get(kernel, self.settings.name)


MODE = Vxlan


def _vtep() -> ModuleType:
    """The module for the device. Raises `CniError` without pyroute2, which nothing else in this plugin needs."""
    try:
        from netlab.cni.plugins.main import vtep
    except ImportError as error:
        raise CniError(
            errors.NOT_AVAILABLE,
            f"mode: 'vxlan' needs pyroute2 ({error}); run `make setup` in the checkout, or `netlab cni install`",
        ) from error
    return vtep


def endpoints(addressing: Addressing) -> list[Prefix]:
    """The addresses of the VXLAN device: its peers use them as gateways to this node's subnets."""
    return [Prefix(subnet.first, subnet.bits, subnet.bits) for subnet in addressing.subnets]
