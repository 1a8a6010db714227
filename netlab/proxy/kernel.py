"""Running programs that change the kernel's tables, and noticing when others change them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Sequence

from netlab.errors import NetlabError, UnsupportedError

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_GETGEN = 16
_NFTA_GEN_ID = 1
FRESH_GENERATION = 1
"""The generation of a network namespace in which no rule was ever changed."""
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADERS = struct.Struct("=IHHII BBH")
"""nlmsghdr and nfgenmsg (include/uapi/linux/netlink.h, nfnetlink.h)."""
_ATTRIBUTE = struct.Struct("=HH")
"""nlattr, whose header is in the host's byte order, and NFTA_GEN_ID, which is in the network's."""


class ProgramError(NetlabError):
    """A program that changes the kernel's tables failed; none of its batch is in force."""


async def run_program(argv: Sequence[str], text: str = "") -> str:
    """Run a program with `text` as its input; returns its output.

    Raises ProgramError with its complaint, UnsupportedError if it is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise UnsupportedError(f"{argv[0]} is not installed: install the package nftables or iptables") from None
    try:
        output, complaint = await process.communicate(text.encode())
    except asyncio.CancelledError:
        # The kernel applies a batch whole or not at all, so its sender may be killed at any moment.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        said = " ".join(complaint.decode(errors="replace").split())[:500]
        raise ProgramError(f"{' '.join(argv)} failed with status {process.returncode}: {said}")
    return output.decode()


def generation() -> int:
    """The number of the nftables ruleset of this network namespace: every change increments it, whoever makes it.

    iptables-nft changes it too. Raises UnsupportedError when the kernel has no nftables.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETGEN
        netlink.send(_HEADERS.pack(_HEADERS.size, kind, _NLM_F_REQUEST, 1, 0, socket.AF_UNSPEC, 0, 0))
        answer = netlink.recv(8192)
    if _HEADERS.unpack_from(answer)[1] == _NLMSG_ERROR:
        reason = os.strerror(-struct.unpack_from("=i", answer, 16)[0])
        raise UnsupportedError(f"the kernel does not answer nftables requests: {reason}; load the module nf_tables")
    length, kind = _ATTRIBUTE.unpack_from(answer, _HEADERS.size)
    start = _HEADERS.size + _ATTRIBUTE.size
    if kind != _NFTA_GEN_ID:
        raise UnsupportedError("the kernel's nftables generation has an unknown form; Linux 5.13 or newer is needed")
    # The attribute's header is in the machine's byte order, nftables' own numbers are in the network's.
    return int.from_bytes(answer[start : start + length - _ATTRIBUTE.size], "big")
