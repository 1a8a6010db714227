"""CHECK, GC and STATUS of `netlab-ipam`: what is reserved beside what should be."""

from __future__ import annotations

import errno
import os

from netlab.cni.plugins.ipam.config import Config, boot_id_file_of
from netlab.cni.plugins.ipam.ranges import range_of
from netlab.cni.plugins.ipam.refusals import REMEDIES, disk_failure, exhausted
from netlab.cni.plugins.ipam.store import Store, folder_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import format_address, parse_address
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.request import Request


def check(request: Request) -> None:
    """The interface holds every address that it was given. Raises `CniError`."""
    config = Config(request)
    holder = f"{request.container_id}/{request.ifname}"
    prev_ips = (request.prev_result or {}).get("ips", [])
    given = [format_address(*parse_address(ip["address"].partition("/")[0])) for ip in prev_ips]
    given = [text for text in given if any(range_of(ranges, text) for ranges in config.sets)]
    try:
        with Store(config.folder, boot_id_file=config.boot_id_file) as store:
            given += store.addresses(request.container_id, request.ifname)
            actual = {text: store.holder(text) for text in given}
    except FileNotFoundError:
        actual = dict.fromkeys(given, "")
    except OSError as error:
        raise disk_failure(config.folder, error) from error
    found = [text for text, who in actual.items() if who == holder]
    missing = [
        f"{text} is held by {who}" if who else f"{text} is missing" for text, who in actual.items() if who != holder
    ] or [
        f"none of {', '.join(map(str, ranges))}"
        for ranges in config.sets
        if not any(range_of(ranges, text) for text in found)
    ]
    if missing:
        raise CniError(
            errors.CHECK_FAILED,
            f"network {request.network}: {request.ifname} of container {request.container_id} has {len(found)} of"
            f" {len(found) + len(missing)} reservations in {config.folder}: {', '.join(missing)}",
        )


def collect_garbage(request: Request) -> None:
    """Free all that no valid attachment holds, past any failures. Raises `CniError` at the end."""
    valid, folder = request.valid_attachments, folder_of(request)
    failed: list[OSError] = []

    def attempt(free: Callable[..., None], *what: str) -> None:
        try:
            free(*what)
        except OSError as error:
            failed.append(error)

    try:
        with Store(folder, boot_id_file=boot_id_file_of(request)) as store:
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
        raise disk_failure(folder, failed[0])


def status(request: Request) -> None:
    """An ADD would find a free address in every range set. Raises `CniError`."""
    config = Config(request)
    try:
        with Store(config.folder, boot_id_file=config.boot_id_file) as store:
            names = os.listdir(store.folder)  # noqa: PTH208
            for ranges in config.sets:
                if sum(range_of(ranges, name) is not None for name in names) >= sum(item.size for item in ranges):
                    raise exhausted(request, store, ranges, errors.NOT_AVAILABLE)
    except FileNotFoundError:
        folder = config.folder
        while folder and not os.path.lexists(folder):
            folder = folder.rpartition("/")[0]
        if not os.access(folder or "/", os.W_OK | os.X_OK):
            raise CniError(
                errors.NOT_AVAILABLE, f"ipam.dataDir: {folder} is not writable; {REMEDIES[errno.EACCES]}"
            ) from None
    except OSError as error:
        raise CniError(errors.NOT_AVAILABLE, disk_failure(config.folder, error).msg) from error
