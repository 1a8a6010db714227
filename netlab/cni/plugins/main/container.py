"""The container's end of the veth pair: its addresses, routes and settings."""

from __future__ import annotations

import errno

from netlab.cni.plugins.container_netns import Entered
from netlab.cni.plugins.main import sysctls
from netlab.cni.plugins.main.veth import existing
from netlab.net.route import addresses, links, routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.addressing import Addressing, Route
    from netlab.cni.plugins.main.config import Config
    from netlab.net.route.links import Link


def configure(netns: int, ifname: str, config: Config, addressing: Addressing) -> tuple[Link, list[Route]]:
    """Set the container's end up, with addresses and routes, in one message to the kernel.

    Returns the routes that it made: an existing route stays as it is, as with the Go plugins. A default route belongs
    to the container's first network. Raises `CniError`, `NetlinkError`, `OSError`.
    """
    with Entered(netns) as kernel:
        link = existing(kernel, ifname)
        if not config.container_interface:
            return link, []
        if addressing.speaks_ipv6:
            # Its link-local address is usable at once too; its routes are the ones given here, not a router's.
            detection = "1" if config.detect_duplicates else "0"
            for key, value in (("disable_ipv6", "0"), ("accept_dad", detection), ("accept_ra", "0")):
                sysctls.write(f"net/ipv6/conf/{ifname}/{key}", value)
        elif config.ipam.kind:
            # An unrequested address would still be heard: multicast to every other pod on the bridge.
            kernel.send(links.no_ipv6_address(ifname, link.index), tolerate=errno.EAFNOSUPPORT)
        messages = [
            links.flags(ifname, link.index, links.IFF_UP),
            *(
                addresses.addition(ifname, link.index, item.packed, item.length, detect=config.detect_duplicates)
                for item in addressing.addresses
            ),
        ]
        ways = [
            routes.addition(
                str(item.destination),
                item.destination.packed,
                item.destination.length,
                link.index,
                item.gateway.packed if item.gateway else b"",
                **item.numbers,
            )
            for item in addressing.routes
        ]
        done = kernel.send(*messages, *ways, tolerate=errno.EEXIST)[len(messages) :]
        if config.detect_duplicates and addressing.speaks_ipv6:
            from netlab.cni.plugins.main import duplicates

            duplicates.wait(kernel, link)
    return link, [route for route, made in zip(addressing.routes, done, strict=True) if made]
