"""CHECK and STATUS of the main plugin: whether all that an ADD made is still there, and whether an ADD can be served.

CHECK goes by the ADD's result. What other plugins of the chain or the container's own processes add (routes, addresses)
is not checked; what a later plugin changed (a MAC address, an MTU) is in the result.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6

from netlab.cni.plugins.container_netns import Entered, open_netns
from netlab.cni.plugins.main import veth
from netlab.cni.plugins.main.addressing import Addressing, Route, parse, text
from netlab.cni.plugins.main.config import Config
from netlab.cni.plugins.main.mode import mode_of
from netlab.cni.plugins.nft import nft
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix
from netlab.cni.spec.errors import CniError
from netlab.net.route import addresses, links, routes
from netlab.net.route.addresses import addresses_of
from netlab.net.route.routes import routes_of
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object
    from netlab.net.route.links import Link


def check(request: Request) -> None:
    """Check that the attachment is whole. Raises `CniError` naming the first fault, `OSError`."""
    config = Config(request)
    mode = mode_of(config)
    result = request.needed_result("CHECK needs the result of the ADD")
    interface, addressing = _of_result(result, request)
    config.ipam.check()
    netns = open_netns(request)
    try:
        with Rtnetlink() as kernel:
            host = veth.existing(kernel, veth.host_name(request))
            with Entered(netns) as inside:
                pod = veth.existing(inside, request.ifname)
                _check_container(inside, pod, interface, config, addressing)
            _check_pair(host, pod, request)
            mode.check(kernel, host, addressing)
            for table, elements in mode.tables(request.owner, host, pod, addressing):
                table.check(request.environment, elements)
    finally:
        os.close(netns)


def status(request: Request) -> None:
    """Whether an ADD can succeed. Raises `CniError`, with code 50 unless the configuration is wrong."""
    config = Config(request)
    try:
        with Rtnetlink() as kernel:
            mode_of(config).status(kernel)
        if config.masquerade or config.spoof_check:
            nft(request.environment, "list", "tables")
    except CniError as error:
        raise CniError(errors.NOT_AVAILABLE, error.msg, error.details) from error
    except OSError as error:
        raise CniError(errors.NOT_AVAILABLE, str(error)) from error
    config.ipam.status()


def _of_result(result: Object, request: Request) -> tuple[Object, Addressing]:
    """The container's interface according to the result, its addresses, and all routes."""
    interfaces = result.get("interfaces", [])
    number = next(
        (n for n, item in enumerate(interfaces) if item["name"] == request.ifname and item.get("sandbox")), -1
    )
    if number < 0:
        raise errors.invalid_config(f"prevResult.interfaces: no {request.ifname} of a container")
    interface = interfaces[number]
    if interface["sandbox"] != request.netns:
        how = f"by prevResult {request.ifname} was added to {interface['sandbox']}"
        raise errors.broken(f"CNI_NETNS: {request.netns}", how)
    own = {**result, "ips": [ip for ip in result.get("ips", []) if ip.get("interface") == number]}
    ips, routes = parse(own)
    addresses = [address for address, _ in ips]
    return interface, Addressing(addresses, addresses, [gateway for _, gateway in ips], routes)


def _check_container(kernel: Rtnetlink, link: Link, interface: Object, config: Config, addressing: Addressing) -> None:
    if link.kind != "veth":
        raise errors.broken(f"link {link.name}", f"it is of kind {link.kind or 'none'!r}, not veth")
    if bool(link.flags & links.IFF_UP) != config.container_interface:
        raise errors.broken(f"link {link.name}", "down" if config.container_interface else "up")
    if interface.get("mac") and interface["mac"].lower() != link.mac:
        raise errors.broken(f"link {link.name}", f"its address is {link.mac}, not {interface['mac']}")
    mtu = interface.get("mtu") or config.mtu
    if mtu and mtu != link.mtu:
        raise errors.broken(f"link {link.name}", f"its MTU is {link.mtu}, not {mtu}")
    present = {(item.packed, item.length): item.flags for item in addresses_of(kernel, link.index)}
    for address in addressing.addresses:
        flags = present.get((address.packed, address.length))
        if flags is None:
            raise errors.broken(f"link {link.name}", f"missing address {address}")
        if flags & addresses.IFA_F_DADFAILED:
            raise errors.broken(f"link {link.name}", f"address {address} is also in use elsewhere")
    for bits, family in ((32, AF_INET), (128, AF_INET6)):
        wanted = [route for route in addressing.routes if route.destination.bits == bits]
        if wanted:
            found = routes_of(kernel, family)
            for route in wanted:
                _check_route(route, found)


def _check_route(wanted: Route, present: list[routes.Route]) -> None:
    table = wanted.numbers.get("table") or routes.RT_TABLE_MAIN
    to = (wanted.destination.packed, wanted.destination.length, table)
    found = [route for route in present if (route.packed, route.length, route.table) == to]
    gateway = wanted.gateway.packed if wanted.gateway else b""
    # Where the result names no gateway, another plugin may have taken that of the address.
    if any(route.type == routes.RTN_UNICAST and (not gateway or route.gateway == gateway) for route in found):
        return
    if not found:
        raise errors.broken(f"route to {wanted.destination}", "missing")
    ways = [
        f"via {text(Prefix(int.from_bytes(route.gateway, 'big'), 0, len(route.gateway) * 8))}"
        if route.gateway
        else "on the link"
        if route.type == routes.RTN_UNICAST
        else "nowhere"
        for route in found
    ]
    way = f"via {text(wanted.gateway)}" if wanted.gateway else "on the link"
    raise errors.broken(f"route to {wanted.destination}", f"it goes {' and '.join(ways)}, not {way}")


def _check_pair(host: Link, pod: Link, request: Request) -> None:
    if host.kind != "veth" or host.peer != pod.index or pod.peer != host.index:
        raise errors.broken(f"link {pod.name}", f"its other end is not {host.name}")
    if not host.flags & links.IFF_UP:
        raise errors.broken(f"link {host.name}", "down")
    if host.alias != request.owner:
        raise errors.broken(f"link {host.name}", f"its alias is {host.alias!r}, not {request.owner!r}; GC goes by it")
