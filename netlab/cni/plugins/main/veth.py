"""The veth pair of an attachment: the name of its host's end, and how it is made."""

from __future__ import annotations

import errno
from _blake2 import blake2s

from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.route import links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.mode import Mode
    from netlab.cni.plugins.request import Request
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink


def host_name(request: Request) -> str:
    """The name of the host's end of an attachment: at most 15 bytes, and the same on every call.

    Not random, so that a delete finds it after the namespace is gone.
    """
    key = f"{request.network}/{request.container_id}/{request.ifname}".encode()
    return "veth" + blake2s(key, digest_size=5).hexdigest()


def make(kernel: Rtnetlink, request: Request, mode: Mode, netns: int, mac: bytes) -> Link:
    """Make the veth pair, down, its host end marked with its owner. Raises `CniError`, `NetlinkError`."""
    name = host_name(request)
    try:
        # One datagram, which the kernel handles before a signal can end this process: no link lacks its mark.
        kernel.send(
            links.veth(name, mode.master, request.ifname, netns, mac, mode.mtu),
            links.alias(name, request.owner),
        )
        return existing(kernel, name)
    except OSError as error:
        if error.errno != errno.EEXIST:
            kernel.send(links.deletion(name), tolerate=errno.ENODEV)  # made, and a later step failed
            raise
        refuse_attached(kernel, request)
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {request.ifname} already exists in {request.netns}"
        ) from error


def refuse_attached(kernel: Rtnetlink, request: Request) -> None:
    """Refuse a repeated ADD. Raises `CniError`."""
    if kernel.link(host_name(request)) is not None:
        raise CniError(
            errors.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID: {request.container_id} is already on network {request.network} as {request.ifname};"
            " DEL it first",
        )


def existing(kernel: Rtnetlink, name: str) -> Link:
    """The link of that name. Raises `CniError` if there is none."""
    link = kernel.link(name)
    if link is None:
        raise errors.broken(f"link {name}", "missing")
    return link
