"""From IPAM's result to a container's addresses, gateways, routes and MAC address."""

from __future__ import annotations

from _blake2 import blake2s

from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, format_address, parse_address, parse_prefix
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.codec import Object

_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")


class Route:
    """A route of a container: through `gateway`, or on the link if there is none.

    `numbers` are mtu, advmss, priority, table and scope, as far as the result sets them (SPEC.md 1.1.0, section 5).
    """

    __slots__ = ("destination", "gateway", "numbers")

    def __init__(self, destination: Prefix, gateway: Prefix | None, numbers: dict[str, int] | None = None) -> None:
        self.destination = destination
        self.gateway = gateway
        self.numbers = numbers or {}

    def result(self) -> Object:
        """The route in the form of the CNI result."""
        gateway = {"gw": text(self.gateway)} if self.gateway else {}
        return {"dst": str(self.destination), **gateway, **self.numbers}


class Addressing:
    """A container's addresses with their gateways, in IPAM's order, and its routes.

    `addresses` are what the interface gets; `subnets` the same addresses with the prefix length of their network (the
    two differ where a mode does not give an interface the whole subnet). A gateway is None for an address without one.
    """

    __slots__ = ("addresses", "gateways", "routes", "subnets")

    def __init__(
        self, addresses: list[Prefix], subnets: list[Prefix], gateways: list[Prefix | None], routes: list[Route]
    ) -> None:
        self.addresses = addresses
        self.subnets = subnets
        self.gateways = gateways
        self.routes = routes

    @property
    def speaks_ipv6(self) -> bool:
        """Whether any address is an IPv6 address."""
        return any(address.bits == 128 for address in self.addresses)

    def mac(self) -> bytes:
        """A locally administered MAC address derived from the first address; empty without addresses.

        0a:58 and the IPv4 address, or 0e and 40 bits of a hash of the IPv6 address. A neighbour entry therefore stays
        right when the address moves to another container.
        """
        if not self.addresses:
            return b""
        address = self.addresses[0]
        if address.bits == 32:
            return b"\x0a\x58" + address.packed
        return b"\x0e" + blake2s(address.packed, digest_size=5).digest()

    def ips(self, interface: int) -> list[Object]:
        """The addresses in the form of the CNI result, for the interface with that index."""
        return [
            {"address": str(address), "interface": interface, **({"gateway": text(gateway)} if gateway else {})}
            for address, gateway in zip(self.addresses, self.gateways, strict=True)
        ]


def bridged(result: Object, *, is_gateway: bool, is_default_gateway: bool) -> Addressing:
    """Addresses on a shared layer 2: gateways where IPAM named one or the bridge is to be one, as the Go plugin does.

    Raises `CniError` for a malformed result.
    """
    ips, given = parse(result)
    addresses = [address for address, _ in ips]
    gateways = [gateway or (_first_host(address) if is_gateway else None) for address, gateway in ips]
    routes = [
        Route(route.destination, route.gateway or _of_family(gateways, route.destination.bits), route.numbers)
        for route in given
    ]
    if is_default_gateway:
        add_default_routes(routes, gateways)
    return Addressing(addresses, addresses, gateways, routes)


def parse(result: Object) -> tuple[list[tuple[Prefix, Prefix | None]], list[Route]]:
    """The addresses of an IPAM result, each with the gateway it names, and its routes.

    Raises `CniError` for a malformed result.
    """
    try:
        ips = [_parse_ip(item) for item in result.get("ips") or []]
        return ips, [_parse_route(item) for item in result.get("routes") or []]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CniError(errors.DECODING_FAILURE, f"result of the IPAM plugin: {error}") from error


def _parse_ip(item: Object) -> tuple[Prefix, Prefix | None]:
    address = parse_prefix(item["address"])
    if not item.get("gateway"):
        return address, None
    gateway, bits = parse_address(item["gateway"])
    if bits != address.bits:
        raise ValueError(f"gateway {item['gateway']} is of another family than {address}")
    return address, Prefix(gateway, address.length, bits)


def _parse_route(item: Object) -> Route:
    destination = parse_prefix(item["dst"])
    gateway = None
    if item.get("gw"):
        address, bits = parse_address(item["gw"])
        if bits != destination.bits:
            raise ValueError(f"gw {item['gw']} is of another family than {destination}")
        gateway = Prefix(address, bits, bits)
    numbers = {key: int(item[key]) for key in _ROUTE_NUMBERS if item.get(key) is not None}
    return Route(destination, gateway, numbers)


def add_default_routes(routes: list[Route], gateways: list[Prefix | None]) -> None:
    """Append a default route for each family that has a gateway and no default route yet."""
    present = {route.destination.bits for route in routes if route.destination.length == 0}
    for gateway in gateways:
        if gateway and gateway.bits not in present:
            present.add(gateway.bits)
            routes.append(Route(Prefix(0, 0, gateway.bits), gateway))


def _first_host(address: Prefix) -> Prefix:
    return Prefix(address.first + 1, address.length, address.bits)


def _of_family(gateways: list[Prefix | None], bits: int) -> Prefix | None:
    """The next hop for a route that names none."""
    return next((gateway for gateway in gateways if gateway and gateway.bits == bits), None)


def text(address: Prefix) -> str:
    """The address without its prefix length."""
    return format_address(address.address, address.bits)
