"""What may name a network, a container or an interface, and the label of an attachment's objects."""

from _blake2 import blake2s

IFNAMSIZ = 16
_LONGEST_OWNER = 127
"""Bytes of a comment in nftables' userdata, without its NUL."""


def is_interface_name(text: str) -> bool:
    """Whether the kernel accepts it as a link's name: dev_valid_name() in net/core/dev.c."""
    return (
        text.isprintable()  # so that it can be encoded as well
        and 0 < len(text.encode()) < IFNAMSIZ
        and text not in {".", ".."}
        and not any(mark in "/:" or mark.isspace() for mark in text)
    )


def is_identifier(text: str) -> bool:
    """Whether it may name a network or a container: SPEC.md's `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`."""
    body = text.replace("_", "").replace(".", "").replace("-", "")
    return text[:1].isalnum() and body.isascii() and body.isalnum()


def owner(network: str, container_id: str, ifname: str) -> str:
    """`NETWORK/CONTAINERID/IFNAME`, at most 127 bytes: what is longer is hashed behind the network's prefix."""
    prefix, rest = owner_prefix(network), f"{container_id}/{ifname}"
    return prefix + (rest if len(prefix) + len(rest.encode()) <= _LONGEST_OWNER else _hash(rest))


def owner_prefix(network: str) -> str:
    """What the labels of all attachments to a network begin with, and of no other's: a GC looks for it."""
    return (network if len(network) <= _LONGEST_OWNER // 2 else _hash(network)) + "/"


def _hash(text: str) -> str:
    return "#" + blake2s(text.encode(), digest_size=16).hexdigest()  # no identifier begins with it
