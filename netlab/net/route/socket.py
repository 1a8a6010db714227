"""The socket to rtnetlink."""

from __future__ import annotations

from _struct import Struct
from errno import ENODEV

from netlab.net.netlink import (
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLMSG_ERROR,
    SOL_NETLINK,
    Message,
    Netlink,
    NetlinkError,
    attributes,
    refusal,
    u32,
)
from netlab.net.route import links
from netlab.net.route.links import Link

_RTM_GETNSID = 90
_NETNSA_NSID, _NETNSA_FD, _NETNSA_NSID_NOT_ASSIGNED = 1, 3, -1
_S32 = Struct("=i")


class Rtnetlink(Netlink):
    """A socket to the kernel in the network namespace where it was opened. Every method raises `NetlinkError`."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def send(self, *messages: Message, tolerate: int = 0) -> list[bool]:
        """Send the messages at once; the kernel handles them in order. Returns True for each that succeeded.

        The kernel goes on after a failure; the first failure is raised when all are answered. Messages that fail with
        the errno `tolerate` do not count as failures.
        """
        first, self._sequence = self._sequence, self._sequence + len(messages)
        self._socket.send(b"".join([message.pack(first + n, NLM_F_ACK) for n, message in enumerate(messages)]))
        done = [False] * len(messages)
        failure: NetlinkError | None = None
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < self._sequence:
                    continue
                waiting -= 1
                error = refusal(flags, payload, messages[sequence - first].subject)
                done[sequence - first] = error is None
                if error is not None and error.errno != tolerate and failure is None:
                    failure = error
        if failure is not None:
            raise failure
        return done

    def link(self, name: str) -> Link | None:
        """The link with that name."""
        try:
            return Link(self.ask(links.request(name))[0])
        except NetlinkError as error:
            if error.errno == ENODEV:
                return None
            raise

    def existing(self, name: str) -> Link:
        """The link with that name; ENODEV if there is none."""
        found = self.link(name)
        if found is None:
            raise NetlinkError(ENODEV, "no such link", f"link {name}")
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
        payload = bytes(4) + u32(_NETNSA_FD, descriptor)  # rtgenmsg, padded
        (answer,) = self.ask(Message("namespace", _RTM_GETNSID, 0, payload))
        number: int = _S32.unpack(dict(attributes(answer, 4))[_NETNSA_NSID])[0]
        return None if number == _NETNSA_NSID_NOT_ASSIGNED else number
