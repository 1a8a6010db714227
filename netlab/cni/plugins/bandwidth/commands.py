"""ADD and DEL of the plugin `netlab-bandwidth`, which is chained after a main plugin.

The configuration has the keys of the Go `bandwidth` plugin. What the container receives is shaped where the host's end
of its veth pair sends it. What it sends is redirected, as the host's end receives it, to an ifb device and shaped
there: the kernel can only queue what leaves a device.
"""

from __future__ import annotations

import errno

from netlab.cni.plugins.bandwidth.config import UNCHAINED, Config, device_name
from netlab.net.route import links
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Handler, Request
    from netlab.cni.spec.codec import Object


def add(request: Request) -> Object:
    """ADD: applies all limits or none; the previous result with the ifb device. Raises `CniError`, `OSError`."""
    config = Config(request)
    result = request.needed_result(UNCHAINED)
    if config.ingress is None and config.egress is None:
        return result
    from netlab.cni.plugins.bandwidth import shaping  # most pods have no limits

    return shaping.apply(request, result, config)


def delete(request: Request) -> None:
    """DEL: removes the ifb device; succeeds if there is none. Raises `CniError`, `OSError`.

    Shaping on the host's end disappears with that end, in the main plugin's DEL, which runs after this one.
    """
    with Rtnetlink() as kernel:
        device = kernel.link(device_name(request))
        if device is not None and device.kind == "ifb" and device.alias == request.owner:
            kernel.send(links.deletion(device.name), tolerate=errno.ENODEV)  # another DEL got there first


def _rest(request: Request) -> None:
    """CHECK, GC and STATUS, whose module an ADD or DEL does not need."""
    from netlab.cni.plugins.bandwidth import inspection as its

    {"CHECK": its.check, "GC": its.collect_garbage, "STATUS": its.status}[request.command](request)


HANDLERS: dict[str, Handler] = {"ADD": add, "DEL": delete, "CHECK": _rest, "GC": _rest, "STATUS": _rest}
