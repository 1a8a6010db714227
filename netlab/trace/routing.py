"""Which route a network namespace takes, and which address it speaks by. Pure."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from netlab.trace.state import Namespace, NextHop, Route, Rule

_LOCAL, _MAIN, _DEFAULT = 255, 254, 253
_RULES = (Rule(0, _LOCAL), Rule(32766, _MAIN), Rule(32767, _DEFAULT))
"""Those of a new network namespace."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@functools.lru_cache(maxsize=4096)
def network(text: str) -> Network:
    """A network, or an address as the network of itself alone."""
    return ipaddress.ip_network(text, strict=False)


@functools.lru_cache(maxsize=4096)
def within(address: str, networks: str) -> bool:
    """Whether an address is of a network; of no network of the other family."""
    wanted, given = network(networks), network(address)
    return wanted.version == given.version and given.subnet_of(wanted)  # type: ignore[arg-type]


def lookup(
    namespace: Namespace, destination: str, *, source: str = "", incoming: str = "", outgoing: str = ""
) -> Route | None:
    """The route to an address; None if there is none. Rules are asked in order, the longest prefix wins in a table.

    `incoming` is the link by which the packet came (empty: it is the namespace's own).
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


def source_address(namespace: Namespace, route: Route, hop: NextHop, destination: str) -> str:
    """The address that a packet of the namespace's own gets; empty if it has none that would do."""
    if route.source:
        return route.source
    if route.kind == "local":
        return destination
    return address_on(namespace, hop.link, hop.gateway or destination, destination)


def address_on(namespace: Namespace, link: str, neighbour: str, destination: str) -> str:
    """The address that speaks on a link to a neighbour there: what masquerading puts in, too."""
    version = network(destination).version
    usable = [
        one
        for one in namespace.addresses
        if network(one.address).version == version and one.scope in ("global", "site")
    ]
    here = [one for one in usable if one.link == link]
    if version == 6:
        # RFC 6724: an address of the link it leaves by (rule 5), then the longest prefix in common (rule 8).
        return max(here or usable, key=lambda one: _in_common(one.address, destination)).address if usable else ""
    near = [one for one in here if within(neighbour, f"{one.address}/{one.length}")]
    return next((one.address for one in (*near, *here, *usable)), "")


def _in_common(one: str, other: str) -> int:
    return 128 - (int(network(one).network_address) ^ int(network(other).network_address)).bit_length()
