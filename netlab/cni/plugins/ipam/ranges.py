"""Which addresses may be given: the configuration's `ranges`, with the keys of the Go plugin host-local.

A range is kept as spans of addresses that leave out the gateway and the excluded addresses: choosing the next address
costs the same whatever is excluded.
"""

from __future__ import annotations

from netlab.cni.plugins.fields import option
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, format_address, parse_address, parse_prefix
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from netlab.cni.spec.codec import Object


class Range:
    """Addresses of one subnet for containers: `spans` in order, both ends inclusive.

    They lie between `first` and `last`, without `gateway` and the `excluded` addresses. The gateway may be outside the
    subnet, and even of the other family.
    """

    __slots__ = ("excluded", "first", "gateway", "last", "spans", "subnet")

    def __init__(
        self, subnet: Prefix, first: int, last: int, gateway: Prefix, excluded: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.subnet = subnet
        self.first = first
        self.last = last
        self.gateway = gateway
        self.excluded = excluded
        own = [(gateway.address, gateway.address)] if gateway.bits == subnet.bits else []
        self.spans = _without(first, last, [*own, *excluded])

    @property
    def size(self) -> int:
        """The number of addresses it can give."""
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, address: int) -> bool:
        return any(first <= address <= last for first, last in self.spans)

    def __str__(self) -> str:
        first, last = (format_address(end, self.subnet.bits) for end in (self.first, self.last))
        return f"{first}-{last}"


def _without(first: int, last: int, holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    spans = []
    start = first
    for low, high in sorted(holes):
        if start < low and start <= last:
            spans.append((start, min(low - 1, last)))
        start = max(start, high + 1)
    if start <= last:
        spans.append((start, last))
    return spans


def parse_ranges(ipam: Object, runtime_config: Object) -> list[list[Range]]:
    """The range sets, each of which gives one address. Raises `CniError`.

    They come from the capability `ipRanges`, the single `subnet` form and `ranges`, in this order: host-local's.
    """
    sets = _parse_sets(runtime_config, "ipRanges", "runtimeConfig.")
    if ipam.get("subnet") is not None:
        sets.append(_not_empty([_parse_range(ipam, "ipam.")], "ipam.subnet"))
    sets += _parse_sets(ipam, "ranges", "ipam.")
    if not sets:
        raise CniError(errors.INVALID_CONFIG, "ipam.ranges: empty; give at least one subnet")
    seen: list[Range] = []
    for item in (item for ranges in sets for item in ranges):
        for other in seen:
            if item.subnet.bits == other.subnet.bits and item.first <= other.last and other.first <= item.last:
                raise CniError(errors.INVALID_CONFIG, f"ipam.ranges: {item} and {other} overlap")
        seen.append(item)
    return sets


def _parse_sets(config: Object, key: str, parent: str) -> list[list[Range]]:
    sets = []
    for number, items in enumerate(option(config, key, list, [], parent)):
        path = f"{parent}{key}[{number}]"
        if not isinstance(items, list) or not items:
            raise invalid(path, items, "must be a list of at least one range")
        ranges = []
        for position, item in enumerate(items):
            if not isinstance(item, dict):
                raise invalid(f"{path}[{position}]", item, "must be an object")
            ranges.append(_parse_range(item, f"{path}[{position}]."))
        if len({item.subnet.bits for item in ranges}) > 1:
            raise CniError(errors.INVALID_CONFIG, f"{path}: IPv4 and IPv6 each need a set of ranges")
        sets.append(_not_empty(ranges, path))
    return sets


def _parse_range(item: Object, path: str) -> Range:
    text = option(item, "subnet", str, "", path)
    try:
        subnet = parse_prefix(text)
    except ValueError as error:
        raise CniError(errors.INVALID_CONFIG, f"{path}subnet: {error}") from error
    if _is_mapped(subnet.address, subnet.bits):
        raise invalid(f"{path}subnet", text, "is an IPv4 subnet written as IPv6; write it as IPv4")
    if subnet.address != subnet.first:
        raise invalid(
            f"{path}subnet", text, f"has host bits set; its network is {format_address(subnet.first, subnet.bits)}"
        )
    if subnet.length > subnet.bits - 2:
        raise invalid(f"{path}subnet", text, f"is too small; the smallest is /{subnet.bits - 2}")

    def within(key: str, default: int) -> int:
        value = option(item, key, str, "", path)
        return _parse_end(value, subnet, f"{path}{key}") if value else default

    # The network's address is IPv6's subnet-router anycast (RFC 4291, 2.6.1); the highest is IPv4's broadcast.
    lowest, highest = subnet.first + 1, subnet.last - (subnet.bits == 32)
    first, last = max(within("rangeStart", lowest), lowest), min(within("rangeEnd", highest), highest)
    excluded = [
        _parse_excluded(value, subnet, f"{path}exclude[{number}]")
        for number, value in enumerate(option(item, "exclude", list, [], path))
    ]
    made = Range(subnet, first, last, _parse_gateway(item, subnet, path, lowest), excluded)
    if first > last:
        raise CniError(errors.INVALID_CONFIG, f"{path}rangeStart: the range {made} is empty")
    return made


def _not_empty(ranges: list[Range], path: str) -> list[Range]:
    """A range may be empty (its one address is the gateway's) where another of its set is not."""
    if not any(item.spans for item in ranges):
        raise CniError(errors.INVALID_CONFIG, f"{path}: {', '.join(map(str, ranges))} has no address to give")
    return ranges


def _parse_gateway(item: Object, subnet: Prefix, path: str, default: int) -> Prefix:
    """It need not be of the subnet: a router may have the same address on every link, such as fe80::1."""
    text = option(item, "gateway", str, "", path)
    address, bits = _parse(text, f"{path}gateway") if text else (default, subnet.bits)
    return Prefix(address, bits, bits)


def _parse(text: str, path: str) -> tuple[int, int]:
    """An address, and its number of bits. An IPv4 address may be written as IPv6, as for the Go plugins."""
    try:
        address, bits = parse_address(text)
    except ValueError as error:
        raise CniError(errors.INVALID_CONFIG, f"{path}: {error}") from error
    return (address & 0xFFFFFFFF, 32) if _is_mapped(address, bits) else (address, bits)


def _parse_end(text: str, subnet: Prefix, path: str) -> int:
    address, bits = _parse(text, path)
    if bits != subnet.bits or address not in subnet:
        raise invalid(path, text, f"is not in the subnet {subnet}")
    return address


def _parse_excluded(value: Any, subnet: Prefix, path: str) -> tuple[int, int]:
    """`10.0.0.7`, `10.0.0.8/29` or `10.0.0.20-10.0.0.29`: its first and last address."""
    if not isinstance(value, str) or not value.isprintable():
        raise invalid(path, value, "must be an address, a subnet, or two addresses joined by '-'")
    low, dash, high = value.partition("-")
    if "/" in value:
        try:
            prefix = parse_prefix(value)
        except ValueError as error:
            raise CniError(errors.INVALID_CONFIG, f"{path}: {error}") from error
        if prefix.bits != subnet.bits or prefix.first not in subnet or prefix.last not in subnet:
            raise invalid(path, value, f"is not in the subnet {subnet}")
        return prefix.first, prefix.last
    first = _parse_end(low, subnet, path)
    last = _parse_end(high, subnet, path) if dash else first
    if last < first:
        raise invalid(path, value, "ends before it starts")
    return first, last


def _is_mapped(address: int, bits: int) -> bool:
    """Whether it is an IPv4 address written as IPv6: ::ffff:0:0/96 (RFC 4291, 2.5.5.2)."""
    return bits == 128 and address >> 32 == 0xFFFF


def invalid(path: str, value: Any, reason: str) -> CniError:
    """The error for an invalid field."""
    return CniError(errors.INVALID_CONFIG, f"{path}: {value!r} {reason}")


def candidates(ranges: Sequence[Range], last: int | None) -> Iterator[tuple[int, Range]]:
    """Every address once, starting after `last`, so that a released address is not reused at once."""
    spans = [(low, high, item) for item in ranges for low, high in item.spans]
    start = next((n for n, (low, high, _) in enumerate(spans) if last is not None and low <= last <= high), None)
    if start is not None and last is not None:
        low, high, item = spans[start]
        spans = [(last + 1, high, item), *spans[start + 1 :], *spans[:start], (low, last, item)]
    for low, high, item in spans:
        for address in range(low, high + 1):
            yield address, item


def range_of(ranges: Sequence[Range], text: str) -> Range | None:
    """The range of a set that contains the address, if any."""
    try:
        address, bits = parse_address(text)
    except ValueError:
        return None
    return next((item for item in ranges if bits == item.subnet.bits and address in item), None)
