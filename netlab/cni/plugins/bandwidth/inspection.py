"""CHECK, GC and STATUS of `netlab-bandwidth`: what is in force, what is left over, and what is possible."""

from __future__ import annotations

import errno

from netlab.cni.plugins.bandwidth import shaping
from netlab.cni.plugins.bandwidth.config import UNCHAINED, Config, device_name
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.route import links
from netlab.net.route.links import IFF_UP, Link
from netlab.net.route.socket import Rtnetlink
from netlab.net.route.traffic_control import Shape, TrafficControl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab.cni.plugins.request import Request


def check(request: Request) -> None:
    """Raises `CniError` naming everything that is missing or changed."""
    config = Config(request)
    result = request.needed_result(UNCHAINED)
    with TrafficControl() as kernel:
        host = shaping.host_end(kernel, request, result)
        found = list(kernel.differences(host.name, host.index, config.ingress)) if config.ingress is not None else []
        if config.egress is not None:
            found += _egress_differences(kernel, host, request, config.egress)
    if found:
        raise CniError(errors.CHECK_FAILED, "; ".join(found))


def _egress_differences(kernel: TrafficControl, host: Link, request: Request, shape: Shape) -> Iterator[str]:
    name = device_name(request)
    device = kernel.link(name)
    if device is None:
        yield f"link {name}: missing"
        return
    if device.kind != "ifb" or device.alias != request.owner:
        yield f"link {name}: it is not the ifb device of {request.owner}"
        return
    if not device.flags & IFF_UP:
        yield f"link {name}: down"
    yield from kernel.differences(name, device.index, shape)
    if not kernel.redirects(host.index, device.index):
        yield f"link {host.name}: the filter that redirects what it receives to {name} is missing"


def collect_garbage(request: Request) -> None:
    """Goes on after a failure, and raises `CniError` for all of them at the end."""
    stale = request.is_garbage()
    failures = []
    with Rtnetlink() as kernel:
        for link in kernel.links():
            if link.kind != "ifb" or not stale(link.alias):
                continue
            try:
                kernel.send(links.deletion(link.name), tolerate=errno.ENODEV)
            except NetlinkError as error:
                failures.append(str(error))
    if failures:
        raise CniError(errors.KERNEL_REFUSED, "; ".join(failures))


def status(request: Request) -> None:
    """Set limits on the loopback link of a throwaway network namespace."""
    from netlab.net.namespaces import thrown_away

    Config(request)
    subnets = [(bytes(4), 8), (bytes(16), 8)]
    try:
        with thrown_away(), TrafficControl() as kernel:
            loopback = shaping.existing(kernel, "lo")
            shaping.limit_sending(kernel, loopback, Shape(1, 1), [])
            shaping.limit_receiving(kernel, loopback, Shape(1, 1, subnets), "bwp", "", [])
    except OSError as error:
        raise CniError(
            errors.NOT_AVAILABLE,
            f"bandwidth cannot be limited here: {error.filename}: {error.strerror};"
            " it needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and sch_htb, sch_ingress, cls_u32, act_mirred and ifb",
        ) from error
