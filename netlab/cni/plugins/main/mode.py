"""What the plugin's modes share: how a container's host end is made, and what a mode adds to it."""

from __future__ import annotations

import errno

from netlab.cni.plugins.main import host_name
from netlab.cni.plugins.main.config import Config
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net import rtnl
from netlab.net.rtnl import Link, Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object


class Mode:
    """How containers of a network are attached to the node: the base of `MODE` in the modules bridge, routed, vxlan.

    ADD calls `address`, `prepare_node`, `prepare` and `connect`, in this order. What `connect` makes must disappear
    with the host end, or be undone by `connect` itself when it fails. What `prepare_node` and `prepare` make is shared
    by the node's containers. It stays after the last DEL; after a failed ADD, `abandon` removes it unless another
    container uses it. Every method raises `CniError` and `NetlinkError`.
    """

    master = 0
    """Index of the link that the host end is a port of; known after `prepare`."""
    overlay = ""
    """Name of the link that leads to other nodes' containers, which must see untranslated addresses."""

    def __init__(self, request: Request) -> None:
        """Read the configuration; nothing is made yet."""
        self.request = request
        self.config = Config(request.config)
        self.mtu = self.config.mtu
        """MTU of both ends, 0 for the kernel's default; `prepare` may change it."""

    def prepare_node(self, kernel: Rtnetlink) -> None:
        """Set up how this node reaches the others, where the mode does that. It takes the node's lock by itself."""

    def prepare(self, kernel: Rtnetlink) -> list[Link]:
        """Set up what the containers share on this node; returns the links that come first in the result."""
        raise NotImplementedError

    def abandon(self, kernel: Rtnetlink) -> None:
        """Remove what `prepare` made, if no container uses it. Called while no other ADD is about to use it."""

    def address(self, reserved: Object) -> Addressing:
        """The addressing for the IPAM plugin's result, which is empty without one."""
        raise NotImplementedError

    def connect(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """Connect the new host end, which is down, to the network, and set it up."""
        raise NotImplementedError

    def check(self, kernel: Rtnetlink, host: Link, addressing: Addressing) -> None:
        """CHECK what `prepare` and `connect` made. `addressing` comes from the result of the ADD."""
        raise NotImplementedError

    def status(self, kernel: Rtnetlink) -> None:
        """STATUS: whether `prepare` can succeed. Nothing is changed."""
        raise NotImplementedError


def make_host_end(kernel: Rtnetlink, mode: Mode, netns: int, mac: bytes) -> Link:
    """Make the veth pair, down, its host end marked with its owner. Raises `CniError`, `NetlinkError`."""
    request = mode.request
    name = host_name(request)
    try:
        # One datagram, which the kernel handles before a signal can end this process: no link lacks its mark.
        kernel.send(
            rtnl.veth(name, mode.master, request.ifname, netns, mac, mode.mtu),
            rtnl.link_alias(name, request.owner),
        )
        return get(kernel, name)
    except OSError as error:
        if error.errno != errno.EEXIST:
            kernel.send(rtnl.link_deletion(name), tolerate=errno.ENODEV)  # made, and a later step failed
            raise
        if kernel.link(name) is not None:
            raise attached_already(request) from error
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {request.ifname} already exists in {request.netns}"
        ) from error


def attached_already(request: Request) -> CniError:
    """The error for a repeated ADD."""
    return CniError(
        errors.INVALID_ENVIRONMENT,
        f"CNI_CONTAINERID: {request.container_id} is already on network {request.network} as {request.ifname};"
        " DEL it first",
    )


def get(kernel: Rtnetlink, name: str) -> Link:
    """The link of that name. Raises `CniError` if there is none."""
    link = kernel.link(name)
    if link is None:
        raise CniError(errors.CHECK_FAILED, f"link {name}: missing")
    return link


def forwarding(bits: int) -> str:
    """The sysctl that has the node forward a family."""
    return "net/ipv4/ip_forward" if bits == 32 else "net/ipv6/conf/all/forwarding"


def read_sysctl(name: str) -> str:
    """The value of a sysctl in the current namespace."""
    with open(f"/proc/sys/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 15 ms to import
        return file.read().decode().strip()


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl in the current namespace unless it is set already: /proc/sys may be read-only in a container."""
    if read_sysctl(name) == value:
        return
    with open(f"/proc/sys/{name}", "wb", buffering=0) as file:  # noqa: PTH123
        file.write(value.encode())


def write_ipv6_sysctl(name: str, value: str) -> None:
    """Set a sysctl below net/ipv6, which is empty if IPv6 is disabled altogether."""
    try:
        write_sysctl(f"net/ipv6/{name}", value)
    except FileNotFoundError:
        return
