"""Sockets that wait for new peers, by sock_diag. Constants are the kernel's (include/uapi/linux/inet_diag.h)."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, IPPROTO_TCP
from struct import Struct

from netlab.net.netlink import NLM_F_DUMP, Message, Netlink, attributes

_SOCK_DIAG_BY_FAMILY, _INET_DIAG_SKV6ONLY = 20, 11
_TCP_CLOSE, _TCP_LISTEN = 7, 10
_REQUEST = Struct("=BBxxI48x")  # inet_diag_req_v2: family, protocol, states
_ANSWER = Struct("!4xH2x16s")  # inet_diag_msg: port, source
_ANSWER_SIZE = 72


def waiting(kernel: Netlink, family: int, protocol: int) -> Iterator[tuple[bytes, int, bool]]:
    """Sockets of TCP that listen, or of UDP that are connected to nobody: address (packed), port, IPv6 alone.

    `kernel` is a socket of NETLINK_SOCK_DIAG. Raises `NetlinkError`.
    """
    states = 1 << (_TCP_LISTEN if protocol == IPPROTO_TCP else _TCP_CLOSE)
    request = Message("sockets", _SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, _REQUEST.pack(family, protocol, states))
    for answer in kernel.ask(request):
        port, source = _ANSWER.unpack_from(answer)
        only = dict(attributes(answer, _ANSWER_SIZE)).get(_INET_DIAG_SKV6ONLY, b"\1")[0]
        yield source[:4] if family == AF_INET else source, port, bool(only)
