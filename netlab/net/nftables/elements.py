"""Raw nfnetlink for the elements of nftables sets and maps: added, deleted and read without the `nft` program.

Chains, rules and sets are made once, by `nft`, from readable text. What comes and goes with every container or endpoint
is elements; for those, a process and a parser each time are too slow (`nft -f` takes 15 ms, and 3 s for 250,000
elements), and `nft` cannot delete exactly what it has seen. Elements made here are listed like any other:

    elements = { tcp . 8080 comment "pods/c1/eth0" : 10.244.1.2 . 80 }
"""

from __future__ import annotations

from _struct import Struct

from netlab.net import netlink as nl
from netlab.net.nftables import SUBSYSTEM, comment, header, packed_comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

_NEWSETELEM, _GETSETELEM, _DELSETELEM = (SUBSYSTEM << 8 | kind for kind in (12, 13, 14))

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA, _ELEM_USERDATA, _ELEM_KEY_END = 1, 2, 6, 10
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2

_ATTRIBUTE = Struct("=HH")
_S32 = Struct("!i")
LONGEST = 0xFFFF - 4
"""The most bytes in an attribute: its length has 16 bits."""


class Set:
    """A set or map, by its table's family (`inet`, `ip`, `ip6`, `bridge`), the table's name and its own."""

    __slots__ = ("family", "name", "table")

    def __init__(self, family: str, table: str, name: str) -> None:
        self.family = family
        self.table = table
        self.name = name

    def __str__(self) -> str:
        return f"set {self.family} {self.table} {self.name}"


class Verdict(tuple[int, str]):
    """What a verdict map leads to: `accept()`, `drop()`, `jump(chain)`, `goto(chain)`."""

    __slots__ = ()

    def __new__(cls, code: int, chain: str = "") -> Self:
        """By the kernel's number, and where it leads."""
        return super().__new__(cls, (code, chain))

    @property
    def code(self) -> int:
        """The kernel's number."""
        return self[0]

    @property
    def chain(self) -> str:
        """Where it leads."""
        return self[1]

    def __repr__(self) -> str:
        """As nft writes it."""
        names = {0: "drop", 1: "accept", -3: "jump", -4: "goto"}
        return f"{names.get(self.code, self.code)} {self.chain}".rstrip()


def drop() -> Verdict:
    """The verdict `drop`."""
    return Verdict(0)


def accept() -> Verdict:
    """The verdict `accept`."""
    return Verdict(1)


def jump(chain: str) -> Verdict:
    """The verdict `jump CHAIN`."""
    return Verdict(-3, chain)


def goto(chain: str) -> Verdict:
    """The verdict `goto CHAIN`."""
    return Verdict(-4, chain)


class Element:
    """An element: the bytes of its key, in a map also its data, and its comment (128 bytes at most, as for nft).

    Numbers are in network byte order (see `concatenated`). `key_end` is the last key of an element of a set
    of concatenations with `flags interval`, and empty otherwise.
    """

    __slots__ = ("comment", "data", "key", "key_end")

    def __init__(self, key: bytes, data: bytes | Verdict = b"", comment: str = "", key_end: bytes = b"") -> None:
        self.key = key
        self.data = data
        self.comment = comment
        self.key_end = key_end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Element) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self._fields)

    @property
    def _fields(self) -> tuple[bytes, bytes | Verdict, str, bytes]:
        return self.key, self.data, self.comment, self.key_end

    def __repr__(self) -> str:
        end = f"-{self.key_end.hex()}" if self.key_end else ""
        data = self.data.hex() if isinstance(self.data, bytes) else repr(self.data)
        return f"<{self.key.hex()}{end} {self.comment!r}: {data}>"


def concatenated(*parts: bytes) -> bytes:
    """The key or data of a type such as `ipv4_addr . inet_service`: the kernel's registers have 4 bytes each."""
    return b"".join([part + bytes(-len(part) % 4) for part in parts])


def addition(where: Set, elements: Iterable[Element], *, exclusive: bool = True) -> list[nl.Message]:
    """Messages that add elements: as many as their lengths require.

    The errno is ENOENT if the table, the set or a verdict's chain is missing, and EEXIST if the set already has an
    element with that key or (intervals) an overlapping one. Without `exclusive`, an element with the same key and data
    is left as it is, comment included.
    """
    return _messages(where, map(packed, elements), _NEWSETELEM, nl.NLM_F_CREATE | (nl.NLM_F_EXCL if exclusive else 0))


def deletion(where: Set, elements: Iterable[Element]) -> list[nl.Message]:
    """Messages that delete elements by their keys: ENOENT if the table, the set or one of the elements is missing."""
    keys = (Element(element.key, key_end=element.key_end) for element in elements)
    return _messages(where, map(packed, keys), _DELSETELEM, 0)


def packed_addition(where: Set, elements: Iterable[bytes]) -> list[nl.Message]:
    """`addition` of elements that are `packed`, or of several in one piece of at most `LONGEST` bytes."""
    return _messages(where, elements, _NEWSETELEM, nl.NLM_F_CREATE | nl.NLM_F_EXCL)


def packed_deletion(where: Set, elements: Iterable[bytes]) -> list[nl.Message]:
    """`deletion` of such elements."""
    return _messages(where, elements, _DELSETELEM, 0)


def frame(key: bytes, data: bytes | Verdict) -> tuple[bytes, bytes]:
    """The bytes before the key of such an element when it is packed, and those after it except plain data."""
    whole = packed(Element(key, data))
    before = _ATTRIBUTE.size * 3
    end = len(whole) - (len(data) if isinstance(data, bytes) else 0)
    return whole[:before], whole[before + len(key) : end]


def _messages(where: Set, elements: Iterable[bytes], kind: int, flags: int) -> list[nl.Message]:
    address, subject = _address(where), str(where)
    return [nl.Message(subject, kind, flags, address + nl.nested(_LIST_ELEMENTS, chunk)) for chunk in _chunks(elements)]


def _address(where: Set) -> bytes:
    return header(where.family) + nl.string(_LIST_TABLE, where.table) + nl.string(_LIST_SET, where.name)


def _chunks(elements: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for part in elements:
        if size + len(part) > LONGEST:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield b"".join(parts)


def packed(element: Element) -> bytes:
    """The bytes of an element in a list of elements."""
    fields = nl.nested(_ELEM_KEY, nl.attribute(_DATA_VALUE, element.key))
    if element.key_end:
        fields += nl.nested(_ELEM_KEY_END, nl.attribute(_DATA_VALUE, element.key_end))
    if isinstance(element.data, Verdict):
        said = nl.attribute(_VERDICT_CODE, _S32.pack(element.data.code))
        if element.data.chain:
            said += nl.string(_VERDICT_CHAIN, element.data.chain)
        fields += nl.nested(_ELEM_DATA, nl.nested(_DATA_VERDICT, said))
    elif element.data:
        fields += nl.nested(_ELEM_DATA, nl.attribute(_DATA_VALUE, element.data))
    if element.comment:
        fields += nl.attribute(_ELEM_USERDATA, packed_comment(element.comment))
    return nl.nested(_LIST_ELEM, fields)


def _unpack(payload: bytes) -> Element:
    found = dict(nl.attributes(payload))
    data: bytes | Verdict = b""
    for kind, value in nl.attributes(found.get(_ELEM_DATA, b"")):
        data = verdict(value) if kind == _DATA_VERDICT else value
    return Element(
        _value(found[_ELEM_KEY]), data, comment(found.get(_ELEM_USERDATA, b"")), _value(found.get(_ELEM_KEY_END, b""))
    )


def verdict(payload: bytes) -> Verdict:
    """The verdict in the attributes of one."""
    found = dict(nl.attributes(payload))
    return Verdict(_S32.unpack(found[_VERDICT_CODE])[0], nl.text(found.get(_VERDICT_CHAIN, b"")))


def unframed(payload: bytes) -> Iterator[tuple[bytes, bytes | Verdict]]:
    """Keys and data of the elements in a part of a dump: in one go if all are framed like the first."""
    if len(payload) < 4:
        return iter(())
    length = _ATTRIBUTE.unpack_from(payload)[0]
    first = _unpack(payload[4:length])
    if isinstance(first.data, bytes) and not first.key_end and not len(payload) % length:
        before, after = _ATTRIBUTE.size * 3, _ATTRIBUTE.size * 2 if first.data else 0
        if length == before + len(first.key) + after + len(first.data):
            frames = Struct(f"{before}s{len(first.key)}s{after}s{len(first.data)}s")
            head, between = payload[:before], payload[before + len(first.key) :][:after]
            found = list(frames.iter_unpack(payload))
            if all(one[0] == head and one[2] == between for one in found):
                return ((key, data) for _, key, _, data in found)
    elements = (_unpack(item) for _, item in nl.attributes(payload))
    return ((one.key, _with_end(one) if one.key_end else one.data) for one in elements)


def _with_end(one: Element) -> bytes:
    return one.key_end + (one.data if isinstance(one.data, bytes) else b"")


def _value(payload: bytes) -> bytes:
    return dict(nl.attributes(payload)).get(_DATA_VALUE, b"")


def dump(where: Set) -> nl.Message:
    """The request for all elements of a set: ENOENT if it does not exist. `parts` finds them in the answers."""
    return nl.Message(str(where), _GETSETELEM, nl.NLM_F_DUMP, _address(where))


def parts(answers: Iterable[bytes]) -> Iterator[bytes]:
    """The elements in the answers to `dump`, many at a time."""
    for answer in answers:
        for kind, value in nl.attributes(answer, nl.NFGENMSG.size):
            if kind == _LIST_ELEMENTS:
                yield value


def unpacked(part: bytes) -> list[Element]:
    """The elements in a part of a dump."""
    return [_unpack(item) for _, item in nl.attributes(part)]
