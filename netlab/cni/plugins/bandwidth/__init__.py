"""The plugin `netlab-bandwidth`: chained after a main plugin, it limits what a container sends and receives.

The configuration has the keys of the Go `bandwidth` plugin. What the container receives is shaped where the host's end
of its veth pair sends it. What it sends is redirected, as the host's end receives it, to an ifb device and shaped
there: the kernel can only queue what leaves a device.
"""

from __future__ import annotations

import errno
from _blake2 import blake2s

from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import NetlinkError
from netlab.net.rtnl import Rtnetlink, link_deletion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object


def add(request: Request) -> Object:
    """ADD: applies all limits or none; the previous result with the ifb device. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.bandwidth.config import limits  # a DEL does not need it

    ingress, egress = limits(request)
    result = request.prev_result
    if result is None:
        raise not_chained()
    if ingress is None and egress is None:
        return result
    from netlab.cni.plugins.bandwidth import shaping  # most pods have no limits

    return shaping.apply(request, result, ingress, egress)


def delete(request: Request) -> None:
    """DEL: removes the ifb device; succeeds if there is none. Raises `CniError`, `OSError`.

    Shaping on the host's end disappears with that end, in the main plugin's DEL, which runs after this one.
    """
    try:
        with Rtnetlink() as kernel:
            device = kernel.link(device_name(request))
            if device is not None and device.kind == "ifb" and device.alias == request.owner:
                kernel.send(link_deletion(device.name), tolerate=errno.ENODEV)  # another DEL got there first
    except NetlinkError as error:
        raise CniError(errors.KERNEL_REFUSED, str(error)) from error


def check(request: Request) -> None:
    """CHECK: whether the limits are in force. Raises `CniError` naming what is missing or changed, and `OSError`."""
    from netlab.cni.plugins.bandwidth import inspection

    inspection.check(request)


def collect_garbage(request: Request) -> None:
    """GC: removes the devices of attachments that no longer exist. Raises `CniError`, `OSError`."""
    from netlab.cni.plugins.bandwidth import inspection

    inspection.collect_garbage(request)


def status(request: Request) -> None:
    """STATUS: whether this kernel lets this user limit bandwidth. Raises `CniError`."""
    from netlab.cni.plugins.bandwidth import inspection

    inspection.status(request)


def device_name(request: Request) -> str:
    """The name of the attachment's ifb device: the Go plugin's prefix, and the same on every call."""
    return "bwp" + blake2s(request.owner.encode(), digest_size=6).hexdigest()


def not_chained() -> CniError:
    """The error for a call that does not name the interface."""
    return CniError(errors.INVALID_CONFIG, "prevResult: missing; this plugin must follow another one in a chain")


HANDLERS = {"ADD": add, "DEL": delete, "CHECK": check, "GC": collect_garbage, "STATUS": status}
