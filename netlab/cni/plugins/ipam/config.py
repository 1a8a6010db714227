"""The configuration of `netlab-ipam`: the keys of the Go plugin host-local.

Three keys are its own: `exclude` of a range, a list of addresses, subnets and `A-B`; `sticky`, which gives a returning
pod its old addresses while they are free; `bootIDFile`, the file that tells one boot of the node from the next (the
kernel's by default).
"""

from __future__ import annotations

from netlab.cni.plugins.fields import absolute_path, address, option, prefix
from netlab.cni.plugins.ipam.ranges import Range
from netlab.cni.plugins.ipam.store import folder_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import Prefix, format_address
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import LATEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"


class Config:
    """All keys, checked. Each of the range `sets` gives one address; `folder` is where the reservations are."""

    __slots__ = ("boot_id_file", "folder", "resolv_conf", "routes", "sets", "sticky")

    def __init__(self, request: Request) -> None:
        """Raises `CniError` naming the key and its value."""
        ipam: Object = option(request.config, "ipam", dict, {})
        self.sets = parse_ranges(ipam, request.runtime_config)
        self.routes = _routes(ipam)
        self.resolv_conf = absolute_path(ipam, "resolvConf", "ipam.")
        self.sticky: bool = option(ipam, "sticky", bool, False, "ipam.")
        self.folder = folder_of(request)
        self.boot_id_file = boot_id_file_of(request)


def boot_id_file_of(request: Request) -> str:
    """The file with the id of this boot, which a GC has to know as well. Raises `CniError`."""
    return absolute_path(option(request.config, "ipam", dict, {}), "bootIDFile", "ipam.", _BOOT_ID_FILE)


def _routes(ipam: Object) -> list[Object]:
    if ipam.get("routes") is None:
        return []
    from netlab.cni.spec import results

    routes: list[Object] = results.read({"routes": ipam["routes"]}, LATEST, "ipam")["routes"]
    return routes


def parse_ranges(ipam: Object, runtime_config: Object) -> list[list[Range]]:
    """The range sets, each of which gives one address. Raises `CniError`.

    They come from the capability `ipRanges`, the single `subnet` form and `ranges`, in this order: host-local's.
    """
    sets = _parse_sets(runtime_config, "ipRanges", "runtimeConfig.")
    if ipam.get("subnet") is not None:
        sets.append(_not_empty([_parse_range(ipam, "ipam.")], "ipam.subnet"))
    sets += _parse_sets(ipam, "ranges", "ipam.")
    if not sets:
        raise errors.invalid_config("ipam.ranges: empty; give at least one subnet")
    seen: list[Range] = []
    for item in (item for ranges in sets for item in ranges):
        for other in seen:
            if item.subnet.bits == other.subnet.bits and item.first <= other.last and other.first <= item.last:
                raise errors.invalid_config(f"ipam.ranges: {item} and {other} overlap")
        seen.append(item)
    return sets


def _parse_sets(config: Object, key: str, parent: str) -> list[list[Range]]:
    sets = []
    for number, items in enumerate(option(config, key, list, [], parent)):
        path = f"{parent}{key}[{number}]"
        if not isinstance(items, list) or not items:
            raise _invalid(path, items, "must be a list of at least one range")
        ranges = []
        for position, item in enumerate(items):
            if not isinstance(item, dict):
                raise _invalid(f"{path}[{position}]", item, "must be an object")
            ranges.append(_parse_range(item, f"{path}[{position}]."))
        if len({item.subnet.bits for item in ranges}) > 1:
            raise errors.invalid_config(f"{path}: IPv4 and IPv6 each need a set of ranges")
        sets.append(_not_empty(ranges, path))
    return sets


def _parse_range(item: Object, path: str) -> Range:
    text = option(item, "subnet", str, "", path)
    subnet = prefix(text, f"{path}subnet")
    if _is_mapped(subnet.address, subnet.bits):
        raise _invalid(f"{path}subnet", text, "is an IPv4 subnet written as IPv6; write it as IPv4")
    if subnet.address != subnet.first:
        raise _invalid(
            f"{path}subnet", text, f"has host bits set; its network is {format_address(subnet.first, subnet.bits)}"
        )
    if subnet.length > subnet.bits - 2:
        raise _invalid(f"{path}subnet", text, f"is too small; the smallest is /{subnet.bits - 2}")

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
        raise errors.invalid_config(f"{path}rangeStart: the range {made} is empty")
    return made


def _not_empty(ranges: list[Range], path: str) -> list[Range]:
    """A range may be empty (its one address is the gateway's) where another of its set is not."""
    if not any(item.spans for item in ranges):
        raise errors.invalid_config(f"{path}: {', '.join(map(str, ranges))} has no address to give")
    return ranges


def _parse_gateway(item: Object, subnet: Prefix, path: str, default: int) -> Prefix:
    """It need not be of the subnet: a router may have the same address on every link, such as fe80::1."""
    text = option(item, "gateway", str, "", path)
    number, bits = _parse(text, f"{path}gateway") if text else (default, subnet.bits)
    return Prefix(number, bits, bits)


def _parse(text: str, path: str) -> tuple[int, int]:
    """An address, and its number of bits. An IPv4 address may be written as IPv6, as for the Go plugins."""
    number, bits = address(text, path)
    return (number & 0xFFFFFFFF, 32) if _is_mapped(number, bits) else (number, bits)


def _parse_end(text: str, subnet: Prefix, path: str) -> int:
    number, bits = _parse(text, path)
    if bits != subnet.bits or number not in subnet:
        raise _invalid(path, text, f"is not in the subnet {subnet}")
    return number


def _parse_excluded(value: Any, subnet: Prefix, path: str) -> tuple[int, int]:
    """`10.0.0.7`, `10.0.0.8/29` or `10.0.0.20-10.0.0.29`: its first and last address."""
    if not isinstance(value, str) or not value.isprintable():
        raise _invalid(path, value, "must be an address, a subnet, or two addresses joined by '-'")
    low, dash, high = value.partition("-")
    if "/" in value:
        given = prefix(value, path)
        if given.bits != subnet.bits or given.first not in subnet or given.last not in subnet:
            raise _invalid(path, value, f"is not in the subnet {subnet}")
        return given.first, given.last
    first = _parse_end(low, subnet, path)
    last = _parse_end(high, subnet, path) if dash else first
    if last < first:
        raise _invalid(path, value, "ends before it starts")
    return first, last


def _is_mapped(number: int, bits: int) -> bool:
    """Whether it is an IPv4 address written as IPv6: ::ffff:0:0/96 (RFC 4291, 2.5.5.2)."""
    return bits == 128 and number >> 32 == 0xFFFF


def _invalid(path: str, value: Any, reason: str) -> CniError:
    return errors.invalid_config(f"{path}: {value!r} {reason}")
