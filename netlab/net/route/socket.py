"""The socket to rtnetlink."""

from __future__ import annotations

from _struct import Struct
from errno import ENODEV

from netlab.net import netlink as nl
from netlab.net.route import links
from netlab.net.route.links import Link

_RTM_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD, _NETNSA_NSID_NOT_ASSIGNED = 1, 3, -1
_S32 = Struct("=i")


class Rtnetlink(nl.Netlink):
    """A socket to the kernel in the network namespace where it was opened. Every method raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(nl.NETLINK_ROUTE)
        self._socket.setsockopt(nl.SOL_NETLINK, nl.NETLINK_GET_STRICT_CHK, 1)

    def link(self, name: str) -> Link | None:
        """The link with that name."""
        try:
            return Link(self.ask(links.request(name))[0])
        except nl.NetlinkError as error:
            if error.errno == ENODEV:
                return None
            raise

    def existing(self, name: str) -> Link:
        """The link with that name; ENODEV if there is none."""
        found = self.link(name)
        if found is None:
            raise nl.NetlinkError(ENODEV, "no such link", f"link {name}")
        return found

    def set_up(self, name: str, *, master: str = "") -> Link:
        """Set the link with that name up, as a port of the bridge `master` if one is named; the link as it was."""
        link = self.existing(name)
        port = [links.master(name, link.index, self.existing(master).index)] if master else []
        self.send(*port, links.flags(name, link.index, links.IFF_UP))
        return link

    def links(self) -> list[Link]:
        """All links of the namespace."""
        return [Link(payload) for payload in self.ask(links.dump())]

    def namespace_number(self, descriptor: int) -> int | None:
        """This namespace's number for the one behind `descriptor`; None if nothing here leads there."""
        payload = bytes(4) + nl.u32(_NETNSA_FD, descriptor)  # rtgenmsg, padded
        (answer,) = self.ask(nl.Message("namespace", _RTM_GETNSID, 0, payload))
        number: int = _S32.unpack(dict(nl.attributes(answer, 4))[_NETNSA_NSID])[0]
        return None if number == _NETNSA_NSID_NOT_ASSIGNED else number
