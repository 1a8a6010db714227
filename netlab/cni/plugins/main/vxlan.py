"""Mode `vxlan`: a bridge on each node, and a VXLAN device that leads to the containers of the others.

The device and its peer entries belong to the node, not to a container: the first ADD makes them, the first one after a
change of the configuration or the peers file updates them, and nothing removes them. The device's alias notes which
state it was brought to, so that any other ADD need not look further.
"""

from __future__ import annotations

import errno

from netlab.cni.plugins.main.bridge import Bridge
from netlab.cni.plugins.main.veth import existing
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix
from netlab.net.route import addresses, links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.main.config import Config
    from netlab.cni.spec.codec import Object
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink


class Vxlan(Bridge):
    """Containers share a bridge, which is their gateway to other nodes' containers."""

    device: Link
    is_fresh = False
    """Whether this ADD has already set up the device."""
    made_device = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.tunnel is not None
        self.tunnel = config.tunnel

    def prepare_node(self, kernel: Rtnetlink) -> None:
        """The device and its peers."""
        self.tunnel.read_peers()
        device = kernel.link(self.tunnel.name)
        self.made_device = device is None
        self.is_fresh = device is None or not device.flags & links.IFF_UP or device.alias != self.tunnel.mark()
        if device is None or self.is_fresh:
            device = self._ensure_device(kernel)
        self.device = device
        self.mtu = self.mtu or device.mtu

    def abandon(self, kernel: Rtnetlink) -> None:
        """The device goes if it was made by this ADD, and no container is behind the bridge."""
        super().abandon(kernel)
        if self.made_device and kernel.link(self.config.bridge) is None:
            kernel.send(links.deletion(self.tunnel.name), tolerate=errno.ENODEV)

    def address(self, reserved: Object) -> Addressing:
        """Each node has a subnet of its own, whose first address is that of its VXLAN device."""
        found = super().address(reserved)
        for subnet in found.subnets:
            if subnet.length >= subnet.bits - 1:
                raise errors.invalid_config(f"ipam: {subnet} is not a node's subnet; mode 'vxlan' needs one")
        return found

    def connect(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The port of the bridge, and the device's address, by which other nodes' pods know this node."""
        messages = (
            addresses.addition(self.device.name, self.device.index, address.packed, address.length)
            for address in endpoints(addressing)
        )
        if any(kernel.send(*messages, tolerate=errno.EEXIST)) and not self.is_fresh:
            # It was removed by hand, and with a link's last IPv4 address the kernel drops its neighbours and routes.
            self._ensure_device(kernel)
        super().connect(kernel, host, addressing)

    def check(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The port and the bridge; the device, its addresses, and all its peer entries."""
        super().check(kernel, host, addressing)
        from netlab.cni.plugins.main import vtep  # not for every pod

        vtep.check(self.tunnel, [str(address) for address in endpoints(addressing)])

    def status(self, kernel: Rtnetlink) -> None:
        """Whether there is an underlay and a device can be made on it, and the peers file is valid."""
        super().status(kernel)
        from netlab.cni.plugins.main import vtep

        vtep.status(self.tunnel)

    def _ensure_device(self, kernel: Rtnetlink) -> Link:
        from netlab.cni.plugins.main import vtep

        vtep.ensure(self.tunnel)
        return existing(kernel, self.tunnel.name)


MODE = Vxlan


def endpoints(addressing: Addressing) -> list[Prefix]:
    """The addresses of the VXLAN device: its peers use them as gateways to this node's subnets."""
    return [Prefix(subnet.first, subnet.bits, subnet.bits) for subnet in addressing.subnets]
