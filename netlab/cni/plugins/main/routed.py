"""Mode `routed`: the host's end is a link of its own, and the node routes between its containers and everything else.

A container has only its own addresses (/32, /128), and a gateway that is the same everywhere: 169.254.1.1 and fe80::1,
on the host's end. They are real addresses of that link and not proxy ARP, which answers only after a random delay
(proxy_delay), and for any sender. The node has a route to each address through that end. Since the kernel accepts a
route only once, no address can be in use twice on a node, whichever network gave it out.
"""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6

from netlab.cni.plugins.main import sysctls
from netlab.cni.plugins.main.addressing import Addressing, Route, add_default_routes, parse, text
from netlab.cni.plugins.main.mode import Mode
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.route import SCOPE_HOST, SCOPE_LINK, addresses, links, routes
from netlab.net.route.addresses import addresses_of
from netlab.net.route.routes import RT_TABLE_MAIN, routes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.codec import Object
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink

_GATEWAYS = {32: Prefix(0xA9FE0101, 32, 32), 128: Prefix(0xFE80 << 112 | 1, 64, 128)}


class Routed(Mode):
    """Each container is on a link of its own."""

    def address(self, reserved: Object) -> Addressing:
        """Each address on its own, and routes to everything else through the host's end."""
        ips, given = parse(reserved)
        addresses = [Prefix(address.address, address.bits, address.bits) for address, _ in ips]
        gateways: list[Prefix | None] = [_GATEWAYS[address.bits] for address in addresses]
        # To the gateway itself; IPv6's is a link-local address, to which every link has a route.
        routes = [Route(_GATEWAYS[32], None, {"scope": SCOPE_LINK})] if _GATEWAYS[32] in gateways else []
        for route in given:
            if route.gateway and all(gateway is None or text(gateway) != text(route.gateway) for _, gateway in ips):
                raise CniError(
                    errors.UNSUPPORTED_FIELD,
                    f"ipam.routes: gw {text(route.gateway)!r} cannot be reached in mode 'routed',"
                    " where the node is the only gateway; leave gw out",
                )
            gateway = _GATEWAYS[route.destination.bits]
            routes.append(Route(route.destination, gateway, route.numbers))
        if self.config.is_default_gateway:
            add_default_routes(routes, gateways)
        return Addressing(addresses, [address for address, _ in ips], gateways, routes)

    def connect(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """Set the host's end up, with the gateways' addresses, and the route to each of the container's."""
        kernel.send(
            links.no_ipv6_address(host.name, host.index),  # only the gateway's is given, and without IPv6 none at all
            links.flags(host.name, host.index, links.IFF_UP),
            tolerate=errno.EAFNOSUPPORT,
        )
        families = {address.bits for address in addressing.addresses}
        for bits in families:
            sysctls.write(sysctls.forwarding(bits), "1")
            for name, value in _sysctls(host.name, bits).items():
                sysctls.write(name, value)
        # Scope "host" keeps the kernel from using 169.254.1.1 as the source of what the node itself sends, which must
        # be the address that the node is known by. (For IPv6 it prefers a global address anyway.)
        kernel.send(
            *(
                addresses.addition(
                    host.name,
                    host.index,
                    _GATEWAYS[bits].packed,
                    _GATEWAYS[bits].length,
                    scope=SCOPE_HOST if bits == 32 else SCOPE_LINK,
                )
                for bits in families
            )
        )
        for address in addressing.addresses:
            try:
                kernel.send(routes.addition(str(address), address.packed, address.length, host.index))
            except NetlinkError as error:
                if error.errno != errno.EEXIST:
                    raise
                raise CniError(
                    errors.KERNEL_REFUSED,
                    f"address {text(address)}: this node has a route to it already, so it is in use;"
                    f" see `ip route show {address}`",
                ) from error

    def check(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """The host's end's addresses, the routes to the container's, and forwarding."""
        present = {item.packed for item in addresses_of(kernel, host.index)}
        for address in addressing.addresses:
            gateway = _GATEWAYS[address.bits]
            if gateway.packed not in present:
                raise errors.broken(f"link {host.name}", f"missing address {gateway}")
            for name in (sysctls.forwarding(address.bits), _forwarding_of(host.name, address.bits)):
                if sysctls.read(name) != "1":
                    raise errors.broken(f"sysctl {name}", "must be 1")
            routes = routes_of(kernel, AF_INET if address.bits == 32 else AF_INET6)
            if not any(
                (route.packed, route.length, route.index, route.table)
                == (address.packed, address.length, host.index, RT_TABLE_MAIN)
                for route in routes
            ):
                raise errors.broken(f"route to {address} through {host.name}", "missing")


MODE = Routed


def _sysctls(link: str, bits: int) -> dict[str, str]:
    """How the node treats what comes from the container."""
    if bits == 32:
        # Strict: a packet whose source is not the container's own address is dropped (RFC 3704).
        return {_forwarding_of(link, bits): "1", f"net/ipv4/conf/{link}/rp_filter": "1"}
    # A container is no router: the node must ignore what it announces (the default may be to listen).
    return {
        f"net/ipv6/conf/{link}/disable_ipv6": "0",
        f"net/ipv6/conf/{link}/accept_ra": "0",
        _forwarding_of(link, bits): "1",
    }


def _forwarding_of(link: str, bits: int) -> str:
    return f"net/ipv{4 if bits == 32 else 6}/conf/{link}/forwarding"
