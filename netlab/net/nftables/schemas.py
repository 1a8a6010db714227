"""What a table has whatever comes and goes in it: the types of its sets and maps, and its chains. As text for nft.

A set is declared by its fields, each of which can also read its part of a key.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from netlab.net.addresses import Family, address_text
from netlab.net.nftables.batch import Value

NFT_FAMILY: Mapping[Family, str] = {"IPv4": "ip", "IPv6": "ip6"}
NUMBERS: Mapping[str, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NAMES = {number: name for name, number in NUMBERS.items()}


class Field(NamedTuple):
    """A field of a key or of data: nft's name, its size in bytes (padded to registers of four), and its reader."""

    typeof: str
    size: int
    text: Callable[[bytes], str]


class Schema(NamedTuple):
    """A set or map whose elements depend on the plan."""

    key: tuple[Field, ...]
    data: tuple[Field, ...] = ()
    verdict: bool = False
    interval: bool = False
    """Elements are ranges."""

    @property
    def kind(self) -> str:
        """The keyword that declares it."""
        return "map" if self.data or self.verdict else "set"

    @property
    def declaration(self) -> str:
        """The text between the braces of its declaration."""
        data = self.data or ((Field("verdict", 0, str),) if self.verdict else ())
        typeof = f"typeof {' . '.join(field.typeof for field in self.key)}"
        to = f" : {' . '.join(field.typeof for field in data)}" if data else ""
        return f"{typeof}{to};{' flags interval;' if self.interval else ''}"

    def text(self, key: bytes, value: Value) -> str:
        """An element as nft writes it."""
        left = " . ".join(_texts(self.key, key))
        if self.interval and isinstance(value, bytes):
            ends = zip(_texts(self.key, key), _texts(self.key, value), strict=True)
            left = " . ".join(first if first == last else f"{first}-{last}" for first, last in ends)
            value = value[len(key) :]
        right = " . ".join(_texts(self.data, value)) if isinstance(value, bytes) else str(value)
        return f"{left} : {right}" if right else left


def _texts(fields: tuple[Field, ...], packed: bytes) -> Iterator[str]:
    offset = 0
    for field in fields:
        yield field.text(packed[offset : offset + field.size])
        offset += field.size


class Chain(NamedTuple):
    """A chain of the layout: its rules as text, and its hook if it has one."""

    name: str
    rules: tuple[str, ...]
    hook: str = ""


PROTOCOL = Field("meta l4proto", 4, lambda packed: _NAMES.get(packed[0], str(packed[0])))
PORT = Field("th dport", 4, lambda packed: str(int.from_bytes(packed[:2], "big")))


def address(family: Family, which: str) -> Field:
    """The field `saddr` or `daddr` of a family."""
    return Field(f"{NFT_FAMILY[family]} {which}", 4 if family == "IPv4" else 16, address_text)


def script(
    table: str, header: Iterable[str], comment: str, schemas: Mapping[str, Schema], chains: Sequence[Chain]
) -> str:
    """A script that makes or repairs a table, named with its family, and leaves elements alone."""
    lines = [f"  {line}" for line in header] + ([f'  comment "{comment}"'] if comment else [])
    lines += [f"  {schema.kind} {name} {{ {schema.declaration} }}" for name, schema in schemas.items()]
    lines += [f"  chain {name} {{ {hook}{';' if hook else ''} }}" for name, _, hook in chains]
    rules = [f"flush chain {table} {chain.name}" for chain in chains]
    rules += [f"add rule {table} {chain.name} {rule}" for chain in chains for rule in chain.rules]
    declared = "\n".join([f"table {table} {{", *lines, "}", *rules])
    return f"{declared}\n"


def layout_comment(text: str) -> str:
    """The comment of a table whose layout is this text: by it a process knows a table of another's again."""
    return f"netlab layout {hashlib.blake2s(text.encode(), digest_size=8).hexdigest()}"
