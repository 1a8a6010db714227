"""From port mappings to the elements of nftables maps that make them. Pure."""

from __future__ import annotations

from netlab.cni.plugins.portmap.config import PATH, PROTOCOLS
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, parse_prefix
from netlab.net.nftables.elements import Element, Set, concatenated, jump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab.cni.plugins.portmap.config import Config, Mapping
    from netlab.cni.spec.codec import Object

TABLE = "netlab_cni_portmap"
_UDP = bytes([PROTOCOLS["udp"]])
_LOOPBACK = Prefix(127 << 24, 8, 32)


class Maps:
    """The maps of a family; what each is for, see ruleset.py."""

    __slots__ = ("addresses", "clients_of_addresses", "clients_of_ports", "ports")

    def __init__(self, family: int) -> None:
        self.addresses = Set("inet", TABLE, f"addresses{family}")
        self.ports = Set("inet", TABLE, f"ports{family}")
        self.clients_of_addresses = Set("inet", TABLE, f"clients-of-addresses{family}")
        self.clients_of_ports = Set("inet", TABLE, f"clients-of-ports{family}")


MAPS = {32: Maps(4), 128: Maps(6)}
"""By the number of bits of the family's addresses."""
SETS = tuple(
    where
    for maps in MAPS.values()
    for where in (maps.addresses, maps.ports, maps.clients_of_addresses, maps.clients_of_ports)
)


class Wanted:
    """An element that a mapping needs, and what it is for, for errors."""

    __slots__ = ("element", "subject", "where")

    def __init__(self, subject: str, where: Set, element: Element) -> None:
        self.subject = subject
        self.where = where
        self.element = element


def container_addresses(result: Object, ifname: str) -> list[Prefix]:
    """The container's first address of each family. Raises `CniError` if it has none at all.

    Addresses of another interface, or of one outside the container, are not its.
    """
    interfaces = result.get("interfaces", [])
    found: dict[int, Prefix] = {}
    for ip in result.get("ips", []):
        if "interface" in ip:
            interface = interfaces[ip["interface"]]
            if interface["name"] != ifname or not interface.get("sandbox"):
                continue
        address = parse_prefix(ip["address"])
        found.setdefault(address.bits, address)
    if not found:
        raise errors.invalid_config(
            f"prevResult.ips: {ifname} has no address for {PATH} to lead to; remove the mappings",
        )
    return list(found.values())


def wanted(config: Config, addresses: list[Prefix], owner: str) -> list[Wanted]:
    """The elements that lead the node's ports to the container. Raises `CniError` if two mappings contradict.

    A mapping limited to a family that the container does not have leads nowhere: runtimes write 0.0.0.0 and :: both.
    """
    found: dict[tuple[str, bytes], Wanted] = {}
    for mapping in config.mappings:
        for address in addresses:
            if mapping.bits not in {0, address.bits}:
                continue
            for item in _elements(mapping, address, config, owner):
                other = found.setdefault((item.where.name, item.element.key), item)
                if other.element.data != item.element.data:
                    raise errors.invalid_config(f"{item.subject} is {other.subject.split(':')[0]}'s too; leave one out")
    return list(found.values())


def _elements(mapping: Mapping, address: Prefix, config: Config, owner: str) -> Iterator[Wanted]:
    family = "IPv4" if address.bits == 32 else "IPv6"
    where = "" if mapping.host else "any "
    subject = f"{mapping.path}: host port {mapping.host_port}/{mapping.protocol} of {where}{family} address"
    maps = MAPS[address.bits]
    dialled, clients = maps.ports, maps.clients_of_ports
    if mapping.host:
        dialled, clients = maps.addresses, maps.clients_of_addresses
    port = (bytes([PROTOCOLS[mapping.protocol]]), mapping.host_port.to_bytes(2, "big"))
    key = (mapping.host, *port)
    target = concatenated(address.packed, mapping.container_port.to_bytes(2, "big"))
    yield Wanted(subject, dialled, Element(concatenated(*key), target, owner))
    for source in _masqueraded(address, config):
        first, last = (number.to_bytes(source.bits // 8, "big") for number in (source.first, source.last))
        element = Element(concatenated(first, *key), jump(mark_chain(config.mark_bit)), owner, concatenated(last, *key))
        yield Wanted(subject, clients, element)


def _masqueraded(address: Prefix, config: Config) -> list[Prefix]:
    """Whose packets must come back by this node.

    Containers of the same subnet, this one included, would be answered directly, by an address that they did not dial
    (unless bridges call netfilter); to the node's 127.0.0.1 a container cannot answer at all.
    """
    if not config.snat:
        return []
    if config.masquerade_all:
        return [Prefix(0, 0, address.bits)]
    return [address, _LOOPBACK] if address.bits == 32 else [address]


def mark_chain(bit: int) -> str:
    """The chain that marks a packet to be masqueraded."""
    return f"mark-{bit}"


def forwarded(where: Set, element: Element) -> Iterator[tuple[int, bytes, int]]:
    """Of an element that leads to a container by UDP: its family's bits, the address dialled or b"", the port."""
    for bits, maps in MAPS.items():
        length = {maps.addresses.name: bits // 8, maps.ports.name: 0}.get(where.name)
        if length is not None and element.key[length : length + 1] == _UDP:
            yield bits, element.key[:length], int.from_bytes(element.key[length + 4 : length + 6], "big")
