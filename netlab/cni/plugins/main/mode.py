"""What a mode adds to a container's veth pair, and the lock that the ADDs of a node take meanwhile."""

from __future__ import annotations

import posix
import sys
from fcntl import LOCK_EX, LOCK_SH, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.addressing import Addressing
    from netlab.cni.plugins.main.config import Config
    from netlab.cni.plugins.main.owned_table import Elements, Table
    from netlab.cni.spec.codec import Object
    from netlab.net.route.links import Link
    from netlab.net.route.socket import Rtnetlink


class Mode:
    """How containers of a network are attached to the node: the base of `MODE` in the modules bridge, routed, vxlan.

    ADD calls `address`, `prepare_node`, `prepare` and `connect`, in this order. What `connect` makes must disappear
    with the host end, or be undone by `connect` itself when it fails. What `prepare_node` and `prepare` make is shared
    by the node's containers. It stays after the last DEL; after a failed ADD, `abandon` removes it unless another
    container uses it. Every method raises `CniError` and `NetlinkError`.
    """

    master = 0
    """Index of the link that the host end is a port of; known after `prepare`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.mtu = config.mtu
        """MTU of both ends, 0 for the kernel's default; `prepare` may change it."""

    def prepare_node(self, kernel: Rtnetlink) -> None:
        """Set up how this node reaches the others, where the mode does that. It takes the node's lock by itself."""

    def prepare(self, kernel: Rtnetlink) -> list[Link]:
        """Set up what the containers share on this node; returns the links that come first in the result."""
        return []

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

    def tables(self, owner: str, host: Link, pod: Link, addressing: Addressing) -> list[tuple[Table, Elements]]:
        """The nftables tables that the configuration needs, with their elements for an attachment."""
        found = []
        if self.config.spoof_check:
            from netlab.cni.plugins.main import spoofing

            found.append((spoofing.TABLE, spoofing.elements(owner, host.name, pod.mac)))
        if self.config.masquerade and addressing.subnets:
            from netlab.cni.plugins.main import masquerade

            overlay = self.config.tunnel.name if self.config.tunnel else ""
            found.append(
                (masquerade.TABLE, masquerade.elements(owner, addressing, overlay, self.config.not_masqueraded))
            )
        return found


def mode_of(config: Config) -> Mode:
    """The configured mode: `MODE` of the module of that name."""
    module = f"{__package__}.{config.mode}"
    __import__(module)  # importlib costs a file more
    made: Mode = sys.modules[module].MODE(config)
    return made


class Locked:
    """A lock of the node's network namespace for a block: of one holder, or `shared`. It ends with the process."""

    def __init__(self, *, shared: bool) -> None:
        self._operation = LOCK_SH if shared else LOCK_EX

    def __enter__(self) -> None:
        self._file = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        flock(self._file, self._operation)

    def __exit__(self, *_: object) -> None:
        posix.close(self._file)
