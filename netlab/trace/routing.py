"""Which route a network namespace takes, and which source address. Pure."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from netlab.trace.state import Link, Namespace, NextHop, Route, Rule

_LOCAL, _MAIN, _DEFAULT = 255, 254, 253
_RULES = (Rule(0, _LOCAL), Rule(32766, _MAIN), Rule(32767, _DEFAULT))
"""The rules of a new network namespace."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@functools.lru_cache(maxsize=4096)
def network(text: str) -> Network:
    """A network; an address becomes a network of one address."""
    return ipaddress.ip_network(text, strict=False)


@functools.lru_cache(maxsize=4096)
def within(address: str, networks: str) -> bool:
    """Whether an address is in a network of the same family."""
    wanted, given = network(networks), network(address)
    return wanted.version == given.version and given.subnet_of(wanted)  # type: ignore[arg-type]


def lookup(
    namespace: Namespace, destination: str, *, source: str = "", incoming: str = "", outgoing: str = ""
) -> Route | None:
    """The route to an address, or None. Rules apply in order; in a table the longest prefix wins.

    `incoming` is the link by which the packet arrived (empty: the namespace itself sends it).
    """
    version = network(destination).version
    for rule in sorted(namespace.rules or _RULES, key=lambda rule: rule.priority):
        if not _matches(rule, version, destination, source, incoming or "lo", outgoing):
            continue
        if rule.action != "lookup":
            return Route(str(network(destination)), kind=rule.action) if rule.action != "other" else None
        found = _in_table(namespace.routes, rule.table, destination)
        if found is not None and found.kind != "throw":
            return found
    return None


def _matches(rule: Rule, version: int, destination: str, source: str, incoming: str, outgoing: str) -> bool:
    return (
        rule.version in (0, version)
        and not rule.mark
        and (not rule.destination or within(destination, rule.destination))
        and (not rule.source or within(source or destination, rule.source))
        and rule.incoming in ("", incoming)
        and rule.outgoing in ("", outgoing)
    )


def _in_table(routes: Iterable[Route], table: int, destination: str) -> Route | None:
    fitting = [route for route in routes if route.table == table and within(destination, route.destination)]
    return min(fitting, key=lambda route: (-network(route.destination).prefixlen, route.metric), default=None)


def no_way(route: Route | None, destination: str) -> str:
    """Why a packet goes no further when `lookup` found no usable route."""
    return f"no route to {destination}" if route is None else f"route {route}"


def is_local(namespace: Namespace, address: str) -> bool:
    """Whether the address is one of the namespace itself."""
    route = lookup(namespace, address)
    return route is not None and route.kind == "local"


def forwards(namespace: Namespace, link: Link, version: int) -> bool:
    """Whether the namespace forwards packets that arrive by a link."""
    if version == 4:
        general = namespace.sysctls.get("net/ipv4/ip_forward", 0)
        return bool(namespace.sysctls.get(f"net/ipv4/conf/{link.name}/forwarding", general))
    return bool(namespace.sysctls.get("net/ipv6/conf/all/forwarding", 0))


def source_trouble(namespace: Namespace, link: Link, source: str, destination: str) -> str:
    """Why the kernel rejects the source of a packet from a link (fib_validate_source); empty if it does not.

    IPv6 accepts every source.
    """
    if ":" in source:
        return ""
    if any(one.address == source for one in namespace.addresses):
        return f"source {source} is its own address (martian source)"
    mode = max(namespace.sysctls.get(f"net/ipv4/conf/{name}/rp_filter", 0) for name in ("all", link.name))
    if not mode:
        return ""
    back = lookup(namespace, source, source=destination)
    links = [hop.link for hop in back.hops] if back is not None and back.kind == "unicast" else None
    if links is not None and (mode != 1 or link.name in links):
        return ""
    way = "is missing" if links is None else f"leads to {', '.join(links)}"
    return f"rp_filter {mode} of {link.name}: the route back to {source} {way}"


def source_address(namespace: Namespace, route: Route, hop: NextHop, destination: str) -> str:
    """The source address of a packet that the namespace sends; empty if it has none that fits."""
    if route.source:
        return route.source
    if route.kind == "local":
        return destination
    return address_on(namespace, hop.link, hop.gateway or destination, destination)


def address_on(namespace: Namespace, link: str, neighbour: str, destination: str) -> str:
    """The source address on a link towards a neighbour there; masquerading uses it too."""
    version = network(destination).version
    usable = [
        one
        for one in namespace.addresses
        if network(one.address).version == version and one.scope in ("global", "site")
    ]
    here = [one for one in usable if one.link == link]
    if version == 6:
        # RFC 6724: an address of the outgoing link (rule 5), then the longest common prefix (rule 8).
        return max(here or usable, key=lambda one: _in_common(one.address, destination)).address if usable else ""
    near = [one for one in here if within(neighbour, f"{one.address}/{one.length}")]
    return next((one.address for one in (*near, *here, *usable)), "")


def _in_common(one: str, other: str) -> int:
    return 128 - (int(network(one).network_address) ^ int(network(other).network_address)).bit_length()
