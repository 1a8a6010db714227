"""Addresses for containers, from ranges of a node's own, kept on disk.

A network's reservations are one folder, `dataDir/NETWORK`, in which each reserved address is a symbolic link to its
holder: `10.244.1.5 -> CONTAINERID/eth0`. symlink(2) makes name and content in one step and refuses a name that is
there, so that a reservation either exists whole or not at all after a kill at any point, and reading one is a single
call. `.last-N` is the address that range set N gave last. A flock of `.lock` keeps processes apart.

Nothing is synced to disk: after a power loss the containers are gone too, and a reservation lost with its holder is
what one would want.
"""

from __future__ import annotations

import errno
import fcntl
import os

from netlab.cni import errors
from netlab.cni.addresses import Prefix, format_address, parse_address, parse_prefix
from netlab.cni.errors import CniError
from netlab.cni.plugin import option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from typing import Any

    from netlab.cni.plugin import Object, Request

TYPE = "netlab-ipam"
_DATA_DIR = "/var/lib/cni/netlab"


class Range:
    """Addresses of one subnet that may be given to containers: from `first` to `last`, without the gateway."""

    __slots__ = ("first", "gateway", "last", "subnet")

    def __init__(self, subnet: Prefix, first: int, last: int, gateway: int) -> None:
        self.subnet = subnet
        self.first = first
        self.last = last
        self.gateway = gateway

    @property
    def size(self) -> int:
        """How many addresses it can give."""
        return self.last - self.first + 1 - (self.first <= self.gateway <= self.last)

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last and address != self.gateway

    def __str__(self) -> str:
        first, last = (format_address(end, self.subnet.bits) for end in (self.first, self.last))
        return f"{first}-{last}"


class Reservation:
    """An address and its holder."""

    __slots__ = ("address", "container_id", "ifname")

    def __init__(self, address: str, container_id: str, ifname: str) -> None:
        self.address = address
        self.container_id = container_id
        self.ifname = ifname


def parse_ranges(ipam: Object) -> list[list[Range]]:
    """The range sets, each of which gives one address: `ranges`, or the single `subnet` form. Raises `CniError`."""
    sets: list[list[Range]] = []
    if "subnet" in ipam:
        sets.append([_parse_range(ipam, "ipam.")])
    for number, items in enumerate(option(ipam, "ranges", list, [], "ipam.")):
        path = f"ipam.ranges[{number}]"
        if not isinstance(items, list) or not items:
            raise _invalid(path, items, "must be a list of at least one range")
        ranges = []
        for position, item in enumerate(items):
            if not isinstance(item, dict):
                raise _invalid(f"{path}[{position}]", item, "must be an object")
            ranges.append(_parse_range(item, f"{path}[{position}]."))
        if len({item.subnet.bits for item in ranges}) > 1:
            raise CniError(errors.INVALID_CONFIG, f"{path}: IPv4 and IPv6 need a set of ranges each")
        sets.append(ranges)
    if not sets:
        raise CniError(errors.INVALID_CONFIG, "ipam.ranges: there are none; give at least one subnet")
    seen: list[Range] = []
    for item in (item for ranges in sets for item in ranges):
        for other in seen:
            if item.subnet.bits == other.subnet.bits and item.first <= other.last and other.first <= item.last:
                raise CniError(errors.INVALID_CONFIG, f"ipam.ranges: {item} and {other} overlap")
        seen.append(item)
    return sets


def _parse_range(item: Object, path: str) -> Range:
    text = option(item, "subnet", str, "", path)
    try:
        subnet = parse_prefix(text)
    except ValueError as error:
        raise CniError(errors.INVALID_CONFIG, f"{path}subnet: {error}") from error
    if subnet.address != subnet.first:
        raise _invalid(
            f"{path}subnet", text, f"has host bits set; its network is {format_address(subnet.first, subnet.bits)}"
        )
    if subnet.length > subnet.bits - 2:
        raise _invalid(f"{path}subnet", text, f"is too small; /{subnet.bits - 2} is the smallest")

    def within(key: str, default: int) -> int:
        value = option(item, key, str, "", path)
        if not value:
            return default
        try:
            address, bits = parse_address(value)
        except ValueError as error:
            raise CniError(errors.INVALID_CONFIG, f"{path}{key}: {error}") from error
        if bits != subnet.bits or address not in subnet:
            raise _invalid(f"{path}{key}", value, f"is not in the subnet {subnet}")
        return address

    # The network's address is IPv6's subnet-router anycast (RFC 4291, 2.6.1); the highest is IPv4's broadcast.
    lowest, highest = subnet.first + 1, subnet.last - (subnet.bits == 32)
    first, last = max(within("rangeStart", lowest), lowest), min(within("rangeEnd", highest), highest)
    made = Range(subnet, first, last, within("gateway", lowest))
    if made.size < 1:
        raise CniError(errors.INVALID_CONFIG, f"{path}rangeStart: the range {made} has no address to give")
    return made


def _invalid(path: str, value: Any, reason: str) -> CniError:
    return CniError(errors.INVALID_CONFIG, f"{path}: {value!r} {reason}")


def next_free(ranges: Sequence[Range], last: int | None, taken: Container[int]) -> tuple[int, Range] | None:
    """The first free address after `last`, round through the ranges, so that one released is not reused at once."""
    start = next((number for number, item in enumerate(ranges) if last is not None and last in item), None)
    for address, item in _round(ranges, start, last):
        if address in item and address not in taken:
            return address, item
    return None


def _round(ranges: Sequence[Range], start: int | None, last: int | None) -> Iterator[tuple[int, Range]]:
    if start is None or last is None:
        for item in ranges:
            yield from ((address, item) for address in range(item.first, item.last + 1))
        return
    here = ranges[start]
    yield from ((address, here) for address in range(last + 1, here.last + 1))
    for item in (*ranges[start + 1 :], *ranges[:start]):
        yield from ((address, item) for address in range(item.first, item.last + 1))
    yield from ((address, here) for address in range(here.first, last + 1))


class Store:
    """A network's reservations, locked against other processes while it is open. Raises `OSError`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = -1

    def __enter__(self) -> Store:
        path = f"{self._folder}/.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._lock = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib costs 15 ms to import
            self._lock = os.open(path, flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def reservations(self) -> list[Reservation]:
        """All of them, in no order."""
        found = []
        for name in os.listdir(self._folder):  # noqa: PTH208
            if not name.startswith("."):
                container_id, _, ifname = os.readlink(f"{self._folder}/{name}").partition("/")  # noqa: PTH115
                found.append(Reservation(name, container_id, ifname))
        return found

    def reserve(self, address: str, container_id: str, ifname: str) -> None:
        """Reserve a free address; `FileExistsError` if it is not."""
        os.symlink(f"{container_id}/{ifname}", f"{self._folder}/{address}")  # noqa: PTH211

    def release(self, address: str) -> None:
        """Free an address."""
        os.unlink(f"{self._folder}/{address}")  # noqa: PTH108

    def last(self, number: int) -> int | None:
        """The address that range set `number` gave last."""
        try:
            return parse_address(os.readlink(f"{self._folder}/.last-{number}"))[0]  # noqa: PTH115
        except FileNotFoundError:
            return None

    def set_last(self, number: int, address: str) -> None:
        """Remember the address that range set `number` gave last."""
        path = f"{self._folder}/.last-{number}"
        try:
            os.symlink(address, f"{path}.new")  # noqa: PTH211
        except FileExistsError:  # of a process killed between this line and the next
            os.unlink(f"{path}.new")  # noqa: PTH108
            os.symlink(address, f"{path}.new")  # noqa: PTH211
        os.replace(f"{path}.new", path)  # noqa: PTH105


def holders(data_dir: str, network: str) -> list[Reservation]:
    """Who holds which address of a network. Raises `OSError`."""
    try:
        with Store(_existing(f"{data_dir}/{network}")) as store:
            return store.reservations()
    except FileNotFoundError:
        return []


def _existing(folder: str) -> str:
    os.stat(folder)  # noqa: PTH116
    return folder


def _ipam(request: Request) -> Object:
    found: Object = option(request.config, "ipam", dict, {})
    return found


def _folder(request: Request) -> str:
    return f"{option(_ipam(request), 'dataDir', str, _DATA_DIR, 'ipam.')}/{request.network}"


def add(request: Request) -> Object:
    """ADD: one address of each range set; the result has no interfaces. Raises `CniError`, `OSError`."""
    ipam = _ipam(request)
    if ipam.get("resolvConf"):
        raise CniError(
            errors.UNSUPPORTED_FIELD, f"ipam.resolvConf: {ipam['resolvConf']!r} is not supported; leave it out"
        )
    if any(pair.startswith("IP=") for pair in request.args.split(";")):
        raise CniError(errors.UNSUPPORTED_FIELD, f"CNI_ARGS: {request.args!r}: asking for an address is not supported")
    sets = parse_ranges(ipam)
    routes = _routes(ipam)
    with Store(_folder(request)) as store:
        given = _choose(sets, store, request)
        made: list[str] = []
        try:
            for number, (address, item) in enumerate(given):
                text = format_address(address, item.subnet.bits)
                store.reserve(text, request.container_id, request.ifname)
                made.append(text)
                store.set_last(number, text)
        except BaseException:
            for text in made:
                store.release(text)
            raise
    ips = [
        {
            "address": f"{format_address(address, item.subnet.bits)}/{item.subnet.length}",
            "gateway": format_address(item.gateway, item.subnet.bits),
        }
        for address, item in given
    ]
    return {"ips": ips, "routes": routes} if routes else {"ips": ips}


def _choose(sets: list[list[Range]], store: Store, request: Request) -> list[tuple[int, Range]]:
    taken = {32: set[int](), 128: set[int]()}
    for held in store.reservations():
        if held.container_id == request.container_id and held.ifname == request.ifname:
            raise CniError(
                errors.ALREADY_RESERVED,
                f"network {request.network}: {held.ifname} of container {held.container_id} has {held.address} already;"
                " DEL it first",
            )
        address, bits = parse_address(held.address)
        taken[bits].add(address)
    given = []
    for number, ranges in enumerate(sets):
        found = next_free(ranges, store.last(number), taken[ranges[0].subnet.bits])
        if found is None:
            size = sum(item.size for item in ranges)
            raise CniError(
                errors.ADDRESSES_EXHAUSTED,
                f"network {request.network}: all {size} addresses of {', '.join(map(str, ranges))} are reserved;"
                " delete containers or widen ipam.ranges",
            )
        given.append(found)
    return given


def _routes(ipam: Object) -> list[Object]:
    routes = option(ipam, "routes", list, [], "ipam.")
    for number, item in enumerate(routes):
        path = f"ipam.routes[{number}]."
        if not isinstance(item, dict):
            raise _invalid(path[:-1], item, "must be an object")
        try:
            parse_prefix(option(item, "dst", str, "", path))
            if item.get("gw"):
                parse_address(option(item, "gw", str, "", path))
        except ValueError as error:
            raise CniError(errors.INVALID_CONFIG, f"{path}dst or gw: {error}") from error
    return list(routes)


def delete(request: Request) -> None:
    """DEL: free what the interface holds; true also if that is nothing. Raises `CniError`, `OSError`."""
    try:
        with Store(_existing(_folder(request))) as store:
            for held in store.reservations():
                if held.container_id == request.container_id and held.ifname == request.ifname:
                    store.release(held.address)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENOTDIR:
            raise


def check(request: Request) -> None:
    """CHECK: the interface still holds an address of each range set. Raises `CniError`, `OSError`."""
    with Store(_folder(request)) as store:
        held = sum(
            one.container_id == request.container_id and one.ifname == request.ifname for one in store.reservations()
        )
    wanted = len(parse_ranges(_ipam(request)))
    if held < wanted:
        raise CniError(
            errors.CHECK_FAILED,
            f"network {request.network}: {request.ifname} of container {request.container_id} has {held} of {wanted}"
            f" reservations in {_folder(request)}",
        )
