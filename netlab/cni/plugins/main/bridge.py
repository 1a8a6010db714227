"""Mode `bridge`: the host's end is a port of the node's bridge, which can be the containers' gateway."""

from __future__ import annotations

import errno
import posix

from netlab.cni.plugins.main import addressing, sysctls
from netlab.cni.plugins.main.mode import Mode
from netlab.cni.plugins.main.veth import existing
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix
from netlab.net.route import addresses, links, packed_mac
from netlab.net.route.addresses import addresses_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.spec.codec import Object
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink

_NO_MAC = "00:00:00:00:00:00"


class Bridge(Mode):
    """Containers share a bridge."""

    bridge: Link
    made = False
    """Whether this ADD has made the bridge."""

    def prepare(self, kernel: Rtnetlink) -> list[Link]:
        """The bridge: created if needed, and up."""
        self.bridge = self._ensure_bridge(kernel)
        self.master = self.bridge.index
        # A port with a larger MTU than the bridge would send what the others cannot take.
        self.mtu = self.mtu or self.bridge.mtu
        return [self.bridge]

    def abandon(self, kernel: Rtnetlink) -> None:
        """The bridge goes if it was made by this ADD and has no port."""
        bridge = kernel.link(self.config.bridge) if self.made else None
        if bridge is not None and not any(link.master == bridge.index for link in kernel.links()):
            kernel.send(links.deletion(bridge.name), tolerate=errno.ENODEV)

    def address(self, reserved: Object) -> Addressing:
        """Gateways are addresses of the bridge."""
        return addressing.bridged(
            reserved, is_gateway=self.config.is_gateway, is_default_gateway=self.config.is_default_gateway
        )

    def connect(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """Set the port up. It only carries frames: with an address it would send discovery to all other ports."""
        if self.config.is_gateway:
            self._ensure_gateways(kernel, addressing)
        messages = [links.no_ipv6_address(host.name, host.index), links.flags(host.name, host.index, links.IFF_UP)]
        if self.config.hairpin or self.config.isolated:
            messages.append(
                links.bridge_port(host.name, host.index, hairpin=self.config.hairpin, isolated=self.config.isolated)
            )
        kernel.send(*messages, tolerate=errno.EAFNOSUPPORT)

    def check(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The bridge, its addresses, and the port."""
        config = self.config
        bridge = existing(kernel, config.bridge)
        if bridge.kind != "bridge":
            raise errors.broken(f"link {bridge.name}", f"it is of kind {bridge.kind or 'none'!r}, not bridge")
        if not bridge.flags & links.IFF_UP:
            raise errors.broken(f"link {bridge.name}", "down")
        if config.promiscuous and not bridge.promiscuity:
            raise errors.broken(f"link {bridge.name}", "it is not promiscuous")
        if host.master != bridge.index:
            raise errors.broken(f"link {host.name}", f"it is not a port of bridge {bridge.name}")
        if config.mtu and host.mtu != config.mtu:
            raise errors.broken(f"link {host.name}", f"its MTU is {host.mtu}, not {config.mtu}")
        for name, wanted, found in (
            ("hairpin mode", config.hairpin, host.hairpin),
            ("isolation", config.isolated, host.isolated),
        ):
            if found != wanted:
                raise errors.broken(f"link {host.name}", f"its {name} is {'on' if found else 'off'}")
        if not config.is_gateway:
            return
        present = {(item.packed, item.length) for item in addresses_of(kernel, bridge.index)}
        for gateway in filter(None, addressing.gateways):
            if (gateway.packed, gateway.length) not in present:
                raise errors.broken(f"link {bridge.name}", f"missing address {gateway}")
            sysctl = sysctls.forwarding(gateway.bits)
            if sysctls.read(sysctl) == "0":
                raise errors.broken(f"sysctl {sysctl.replace('/', '.')}", "0, not 1")

    def status(self, kernel: Rtnetlink) -> None:
        """Whether the bridge is valid, or can be created."""
        link = kernel.link(self.config.bridge)
        if link is not None:
            _must_be_bridge(link)

    def _ensure_bridge(self, kernel: Rtnetlink) -> Link:
        config = self.config
        link = kernel.link(config.bridge)
        if link is None:
            self.made = True  # even if the answer gets lost
            # EEXIST: another ADD got there first.
            (self.made,) = kernel.send(links.bridge(config.bridge, _random_mac(), self.mtu), tolerate=errno.EEXIST)
            # Otherwise any container could redirect the node's packets with a router advertisement (CVE-2020-10749).
            sysctls.write_ipv6(f"conf/{config.bridge}/accept_ra", "0")
            link = existing(kernel, config.bridge)
        _must_be_bridge(link)
        flags = links.IFF_UP | (links.IFF_PROMISC if config.promiscuous else 0)
        if link.flags & flags != flags:
            kernel.send(links.flags(link.name, link.index, flags))
        return link

    def _ensure_gateways(self, kernel: Rtnetlink, addressing: Addressing) -> None:
        """The gateways' addresses on the bridge, and forwarding of their families."""
        for gateway in filter(None, addressing.gateways):
            message = addresses.addition(self.bridge.name, self.bridge.index, gateway.packed, gateway.length)
            (added,) = kernel.send(message, tolerate=errno.EEXIST)
            if added and gateway.bits == 128:
                # Before the first port gives it a carrier: while duplicate detection keeps the bridge's link-local
                # address from use, the node does not look for a container that others want to reach
                # (ndisc_send_ns), and answers after 3 s that it does not exist.
                sysctls.write(f"net/ipv6/conf/{self.bridge.name}/accept_dad", "0")
            if added:
                self._settle_other_addresses(kernel, gateway)
                self._keep_mac(kernel)
            sysctls.write(sysctls.forwarding(gateway.bits), "1")

    def _keep_mac(self, kernel: Rtnetlink) -> None:
        """A bridge that was not made here takes the MAC address of its lowest port, and has none without ports: for a
        gateway, that would change the address that containers know.
        """
        if self.bridge.mac == _NO_MAC:
            self.bridge.mac = _random_mac().hex(":")
        kernel.send(links.hardware_address(self.bridge.name, self.bridge.index, packed_mac(self.bridge.mac)))

    def _settle_other_addresses(self, kernel: Rtnetlink, gateway: Prefix) -> None:
        """Another address of the bridge in the gateway's subnet: forceAddress removes it; otherwise it is an error."""
        bridge = self.bridge
        for other in addresses_of(kernel, bridge.index):
            number = int.from_bytes(other.packed, "big")
            if len(other.packed) * 8 != gateway.bits or other.packed == gateway.packed or number not in gateway:
                continue
            if not self.config.force_address:
                kernel.send(addresses.deletion(bridge.name, bridge.index, gateway.packed, gateway.length))
                raise errors.invalid_config(
                    f"bridge {bridge.name}: has {Prefix(number, other.length, gateway.bits)}, not {gateway};"
                    " remove that address or set forceAddress",
                )
            kernel.send(addresses.deletion(bridge.name, bridge.index, other.packed, other.length))
        # With its subnet's first IPv4 address the kernel deletes the others of that subnet (promote_secondaries off).
        kernel.send(
            addresses.addition(bridge.name, bridge.index, gateway.packed, gateway.length), tolerate=errno.EEXIST
        )


MODE = Bridge


def _random_mac() -> bytes:
    """A locally administered address."""
    return bytes([0x0A, 0x58, *posix.urandom(4)])


def _must_be_bridge(link: Link) -> None:
    if link.kind != "bridge":
        raise errors.invalid_config(f"bridge: link {link.name!r} exists and is not a bridge; choose another name")
