"""Raw rtnetlink: links, addresses, routes, neighbours and traffic control.

Messages are built by pure functions and sent by `socket.Rtnetlink`, several at once if they do not depend on each
other's answers. Constants are the kernel's (include/uapi/linux/rtnetlink.h and what it includes).
"""

from _socket import AF_INET, AF_INET6

SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254


def family_of(packed: bytes) -> int:
    """The family of an address in network byte order."""
    return AF_INET if len(packed) == 4 else AF_INET6


def packed_mac(mac: str) -> bytes:
    """A hardware address, written with colons, as bytes."""
    return bytes.fromhex(mac.replace(":", ""))
