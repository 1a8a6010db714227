"""The sysctls of links that rtnetlink gives for all of them at once. Constants: include/uapi/linux/netconf.h."""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NLM_F_DUMP, Message, Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_RTM_GETNETCONF = 82
_NETCONFA_IFINDEX = 1
_SETTINGS = {2: "forwarding", 3: "rp_filter"}
_S32 = Struct("=i")
ALL = -1
"""The index that stands for `conf/all`."""


def settings_of(kernel: Netlink, family: int) -> Iterator[tuple[int, str, int]]:
    """The index of the link, the sysctl's name and its value. Raises `NetlinkError`."""
    for payload in kernel.ask(Message("settings", _RTM_GETNETCONF, NLM_F_DUMP, bytes([family, 0, 0, 0]))):
        found = {kind: _S32.unpack(value)[0] for kind, value in attributes(payload, 4)}
        for kind, name in _SETTINGS.items():
            if kind in found:
                yield found[_NETCONFA_IFINDEX], name, found[kind]
