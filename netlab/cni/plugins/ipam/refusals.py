"""What an ADD is refused for, in words: nothing that a successful one needs."""

from __future__ import annotations

import errno

from netlab.cni.plugins.ipam.ranges import range_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import parse_address
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netlab.cni.plugins.ipam.ranges import Range
    from netlab.cni.plugins.ipam.store import Store
    from netlab.cni.plugins.request import Request

_NAMED = 8
"""How many holders the message for an exhausted range names."""
REMEDIES = {
    errno.ENOSPC: "free space or inodes there, or set another ipam.dataDir",
    errno.EDQUOT: "free space or inodes there, or set another ipam.dataDir",
    errno.EROFS: "mount it writable, or set another ipam.dataDir",
    errno.EACCES: "run as the folder's owner, or set another ipam.dataDir",
}


def exhausted(request: Request, store: Store, ranges: Sequence[Range], code: int) -> CniError:
    """The error for a range set without a free address."""
    reservations, foreign = store.reservations()
    reservations.sort(key=lambda one: (one.since, parse_address(one.address)))
    said = {one.address: f"{one.address} by {one.ifname} of {one.container_id}" for one in reservations}
    said |= {name: f"{name} by the file {store.folder}/{name}" for name in sorted(foreign)}
    held = [text for name, text in said.items() if range_of(ranges, name)]
    more = [f"{len(held) - _NAMED} more"] if len(held) > _NAMED else []
    return CniError(
        code,
        f"network {request.network}: all {sum(item.size for item in ranges)} addresses of"
        f" {', '.join(map(str, ranges))} are reserved ({', '.join(held[:_NAMED] + more)});"
        " `netlab cni ipam list` shows who holds them; delete containers or widen ipam.ranges",
    )


def taken(store: Store, address: str) -> CniError:
    """The error for a requested address that is taken."""
    container_id, slash, ifname = store.holder(address).partition("/")
    by = f"{ifname} of container {container_id}" if slash else f"the file {store.folder}/{address}"
    return CniError(errors.ALREADY_RESERVED, f"ips: {address!r} is held by {by}; request another")


def not_given(value: str, address: int, bits: int, sets: Sequence[Sequence[Range]]) -> CniError:
    """The error for a requested address that no range set gives."""
    reason = f"is in none of the ranges {', '.join(str(item) for ranges in sets for item in ranges)}"
    for item in (item for ranges in sets for item in ranges if item.subnet.bits == bits):
        if (address, bits) == (item.gateway.address, item.gateway.bits):
            reason = f"is the gateway of {item.subnet}"
        elif any(first <= address <= last for first, last in item.excluded):
            reason = f"is excluded from {item}"
    return CniError(errors.UNSUPPORTED_FIELD, f"ips: {value!r} {reason}; request another")


def held_already(request: Request, addresses: Sequence[str]) -> CniError:
    """The error for a repeated ADD: SPEC.md, section 2, lets it fail."""
    return CniError(
        errors.ALREADY_RESERVED,
        f"network {request.network}: {request.ifname} of container {request.container_id} already has"
        f" {', '.join(addresses)}; DEL it first",
    )


def disk_failure(folder: str, error: OSError) -> CniError:
    """The error for an unusable `dataDir`."""
    remedy = REMEDIES.get(error.errno or 0)
    # For symlink(2) the first file name is the link's target.
    said = f"ipam.dataDir: {error.filename2 or error.filename or folder}: {error.strerror}"
    return CniError(errors.IO_FAILURE, f"{said}; {remedy}" if remedy else said)
