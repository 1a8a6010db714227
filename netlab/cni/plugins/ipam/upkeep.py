"""What a successful ADD does not need: CHECK, GC, STATUS, and error messages."""

from __future__ import annotations

import errno
import os

from netlab.cni.plugins.ipam.ranges import parse_ranges, range_of
from netlab.cni.plugins.ipam.store import Store, settings, store_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import format_address, parse_address
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netlab.cni.plugins.ipam.ranges import Range
    from netlab.cni.plugins.request import Request

_NAMED = 8
"""How many holders the message for an exhausted range names."""
_REMEDIES = {
    errno.ENOSPC: "free space or inodes there, or set another ipam.dataDir",
    errno.EDQUOT: "free space or inodes there, or set another ipam.dataDir",
    errno.EROFS: "mount it writable, or set another ipam.dataDir",
    errno.EACCES: "run as the folder's owner, or set another ipam.dataDir",
}


def check(request: Request) -> None:
    """The interface holds every address that it was given. Raises `CniError`."""
    sets = parse_ranges(settings(request), request.runtime_config)
    holder = f"{request.container_id}/{request.ifname}"
    prev_ips = (request.prev_result or {}).get("ips", [])
    given = [format_address(*parse_address(ip["address"].partition("/")[0])) for ip in prev_ips]
    given = [text for text in given if any(range_of(ranges, text) for ranges in sets)]
    try:
        with store_of(request) as store:
            given += store.addresses(request.container_id, request.ifname)
            actual = {text: store.holder(text) for text in given}
    except FileNotFoundError:
        actual = dict.fromkeys(given, "")
    except OSError as error:
        raise disk_failure(request, error) from error
    found = [text for text, who in actual.items() if who == holder]
    missing = [
        f"{text} is held by {who}" if who else f"{text} is missing" for text, who in actual.items() if who != holder
    ] or [
        f"none of {', '.join(map(str, ranges))}" for ranges in sets if not any(range_of(ranges, text) for text in found)
    ]
    if missing:
        raise CniError(
            errors.CHECK_FAILED,
            f"network {request.network}: {request.ifname} of container {request.container_id} has {len(found)} of"
            f" {len(found) + len(missing)} reservations in {store_of(request).folder}: {', '.join(missing)}",
        )


def collect_garbage(request: Request) -> None:
    """Free all that no valid attachment holds, past any failures. Raises `CniError` at the end."""
    valid = request.valid_attachments
    failed: list[OSError] = []

    def attempt(free: Callable[..., None], *what: str) -> None:
        try:
            free(*what)
        except OSError as error:
            failed.append(error)

    try:
        with store_of(request) as store:
            for container_id, ifname in store.holders():
                if (container_id, ifname) not in valid:
                    attempt(store.release, container_id, ifname)
            for held in store.reservations()[0]:  # whose holder's own link was removed by hand
                if (held.container_id, held.ifname) not in valid:
                    attempt(os.unlink, f"{store.folder}/{held.address}")
    except FileNotFoundError:
        return
    except OSError as error:
        failed.append(error)
    if failed:
        raise disk_failure(request, failed[0])


def status(request: Request) -> None:
    """An ADD would find a free address in every range set. Raises `CniError`."""
    sets = parse_ranges(settings(request), request.runtime_config)
    try:
        with store_of(request) as store:
            names = os.listdir(store.folder)  # noqa: PTH208
            for ranges in sets:
                if sum(range_of(ranges, name) is not None for name in names) >= sum(item.size for item in ranges):
                    raise exhausted(request, store, ranges, errors.NOT_AVAILABLE)
    except FileNotFoundError:
        folder = store_of(request).folder
        while folder and not os.path.lexists(folder):
            folder = folder.rpartition("/")[0]
        if not os.access(folder or "/", os.W_OK | os.X_OK):
            raise CniError(
                errors.NOT_AVAILABLE, f"ipam.dataDir: {folder} is not writable; {_REMEDIES[errno.EACCES]}"
            ) from None
    except OSError as error:
        raise CniError(errors.NOT_AVAILABLE, disk_failure(request, error).msg) from error


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


def disk_failure(request: Request, error: OSError) -> CniError:
    """The error for an unusable `dataDir`."""
    remedy = _REMEDIES.get(error.errno or 0)
    # For symlink(2) the first file name is the link's target.
    said = f"ipam.dataDir: {error.filename2 or error.filename or store_of(request).folder}: {error.strerror}"
    return CniError(errors.IO_FAILURE, f"{said}; {remedy}" if remedy else said)
