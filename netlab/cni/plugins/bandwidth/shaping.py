"""Applying the limits of a container to the host's end of its veth pair, and to an ifb device."""

from __future__ import annotations

import errno
import os

from netlab.cni.plugins.bandwidth.config import device_name
from netlab.cni.plugins.container_netns import Entered, open_netns
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.netlink import Message, NetlinkError
from netlab.net.route import links, traffic_control
from netlab.net.route.links import IFF_UP, Link
from netlab.net.route.traffic_control import Shape, TrafficControl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.bandwidth.config import Config
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object


def apply(request: Request, result: Object, config: Config) -> Object:
    """Limit what the container receives and sends, or change nothing. The result. Raises `CniError`, `OSError`."""
    with TrafficControl() as kernel:
        undo: list[Message] = []
        try:
            host = host_end(kernel, request, result)
            if config.ingress is not None:
                limit_sending(kernel, host, config.ingress, undo)
            if config.egress is not None:
                device = limit_receiving(kernel, host, config.egress, device_name(request), request.owner, undo)
                result = {**result, "interfaces": [*result["interfaces"], {"name": device.name, "mac": device.mac}]}
        except BaseException:
            for message in reversed(undo):
                try:
                    kernel.send(message)
                except NetlinkError:  # the earlier failure is the one to report
                    continue
            raise
    return result


def host_end(kernel: TrafficControl, request: Request, result: Object) -> Link:
    """The other end of the container's veth pair, which the result must name. Raises `CniError`, `OSError`."""
    netns = open_netns(request)
    try:
        with Entered(netns) as inside:
            pod = inside.link(request.ifname)
    finally:
        os.close(netns)
    if pod is None:
        raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {request.ifname} is not in {request.netns}")
    for item in result.get("interfaces", []):
        link = None if item.get("sandbox") else kernel.link(item["name"])
        # An index is only meaningful in its own namespace: each end must point to the other.
        if link is not None and link.kind == "veth" and (link.index, link.peer) == (pod.peer, pod.index):
            return link
    raise errors.invalid_config(
        f"prevResult.interfaces: no host end of {request.ifname} among them; only a veth pair can be limited",
    )


def existing(kernel: TrafficControl, name: str) -> Link:
    """The link with that name, which existed a moment ago. Raises `CniError`, `NetlinkError`."""
    link = kernel.link(name)
    if link is None:
        raise CniError(errors.TRY_AGAIN, f"link {name}: removed in the meantime; try again")
    return link


def limit_sending(kernel: TrafficControl, link: Link, shape: Shape, undo: list[Message]) -> None:
    """Limit what a link of the host sends, and add the reverse to `undo`. Raises `NetlinkError`."""
    first, *others = traffic_control.shaping(link.name, link.index, shape)
    kernel.send(first)
    undo.append(traffic_control.shaping_removal(link.name, link.index))
    kernel.send(*others)


def limit_receiving(
    kernel: TrafficControl, link: Link, shape: Shape, device: str, owner: str, undo: list[Message]
) -> Link:
    """Limit what a link of the host receives, with a new ifb device that belongs to `owner`, which is returned.

    Adds the reverse to `undo`. Raises `CniError`, `NetlinkError`.
    """
    try:
        # One message: the kernel handles both before a signal can end this process. No device lacks an owner.
        kernel.send(links.ifb(device, link.mtu), links.alias(device, owner))
    except NetlinkError as error:
        if error.errno == errno.EEXIST:
            raise CniError(
                errors.INVALID_ENVIRONMENT, f"link {device}: already limits {owner}; DEL it first"
            ) from error
        undo.append(links.deletion(device))
        raise
    undo.append(links.deletion(device))
    made = existing(kernel, device)
    limit_sending(kernel, made, shape, undo)
    kernel.send(links.no_ipv6_address(device, made.index), tolerate=errno.EAFNOSUPPORT)
    kernel.send(links.flags(device, made.index, IFF_UP))
    first, *others = traffic_control.redirection(link.name, link.index, made.index)
    kernel.send(first)
    undo.append(traffic_control.redirection_removal(link.name, link.index))
    kernel.send(*others)
    return made
