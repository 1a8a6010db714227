"""Raw nfnetlink for the elements of nftables sets and maps: added, deleted and read without the `nft` program.

Chains, rules and sets are made once, by `nft`, from readable text. What comes and goes with every container or endpoint
is elements; for those, a process and a parser each time are too slow (`nft -f` takes 15 ms, and 3 s for 250,000
elements), and `nft` cannot delete exactly what it has seen. Elements made here are listed like any other:

    elements = { tcp . 8080 comment "pods/c1/eth0" : 10.244.1.2 . 80 }

Messages are built by pure functions and sent by `Nfnetlink` in one batch, which takes effect as a whole or not at all.
Constants are the kernel's (include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h) and libnftnl's (udata.h).
"""

from __future__ import annotations

from _socket import SO_SNDBUF, SOL_SOCKET, socket
from _struct import Struct

from netlab.net.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLMSG_ERROR,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    nested,
    refusal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_GENID = 1
_NEWSETELEM, _GETSETELEM, _DELSETELEM, _NEWGEN, _GETGEN = (_SUBSYSTEM << 8 | kind for kind in (12, 13, 14, 15, 16))

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA, _ELEM_USERDATA, _ELEM_KEY_END = 1, 2, 6, 10
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_GEN_ID = 1
_UDATA_COMMENT = 0

_FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
_HEADER = Struct("!BBH")  # nfgenmsg: family, version, resource
_ATTRIBUTE = Struct("=HH")
_U32 = Struct("!I")
_S32 = Struct("!i")
_NUMBER = Struct("=I")
_LONGEST = 0xFFFF - 4
"""The most bytes in an attribute: its length has 16 bits."""
_SO_SNDBUFFORCE = 32
_ENOENT, _ERESTART, _EMSGSIZE = 2, 85, 90
_ATTEMPTS = 100


class Set:
    """A set or map, by its table's family (`inet`, `ip`, `ip6`, `bridge`), the table's name and its own."""

    __slots__ = ("family", "name", "table")

    def __init__(self, family: str, table: str, name: str) -> None:
        self.family = family
        self.table = table
        self.name = name

    def __str__(self) -> str:
        return f"set {self.family} {self.table} {self.name}"


class Verdict:
    """What a verdict map leads to: `accept()`, `drop()`, `jump(chain)`, `goto(chain)`."""

    __slots__ = ("chain", "code")

    def __init__(self, code: int, chain: str = "") -> None:
        self.code = code
        self.chain = chain

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and (self.code, self.chain) == (other.code, other.chain)

    def __hash__(self) -> int:
        return hash((self.code, self.chain))

    def __repr__(self) -> str:
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


def addition(where: Set, elements: Iterable[Element], *, exclusive: bool = True) -> list[Message]:
    """Messages that add elements: as many as their lengths require.

    The errno is ENOENT if the table, the set or a verdict's chain is missing, and EEXIST if the set already has an
    element with that key or (intervals) an overlapping one. Without `exclusive`, an element with the same key and data
    is left as it is, comment included.
    """
    return _changes(where, elements, _NEWSETELEM, NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0))


def deletion(where: Set, elements: Iterable[Element]) -> list[Message]:
    """Messages that delete elements by their keys: ENOENT if the table, the set or one of the elements is missing."""
    keys = [Element(element.key, key_end=element.key_end) for element in elements]
    return _changes(where, keys, _DELSETELEM, 0)


def bulk_addition(where: Set, elements: Mapping[bytes, bytes | Verdict]) -> list[Message]:
    """`addition` of many elements without comments, from keys to data (empty in a set)."""
    return _bulk(where, list(elements), list(elements.values()), _NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL)


def numbered_addition(where: Set, lists: Iterable[tuple[bytes, Sequence[bytes]]]) -> list[Message]:
    """`bulk_addition` of lists: each one's data, under its own key and a number from 0 on (see `numbered`).

    All data have the same length, and so do all keys.
    """
    return _message_list(where, _chunks(_numbered(lists)), _NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL)


def numbered(number: int) -> bytes:
    """A number as `numgen` puts it into a register."""
    return _NUMBER.pack(number)


def bulk_deletion(where: Set, keys: Iterable[bytes]) -> list[Message]:
    """`deletion` of many elements by their keys."""
    listed = list(keys)
    return _bulk(where, listed, [b""] * len(listed), _DELSETELEM, 0)


def _bulk(where: Set, keys: list[bytes], data: list[bytes | Verdict], kind: int, flags: int) -> list[Message]:
    """Messages with elements as `_pack` makes them. The bytes around key and data are the same for all of a kind."""
    plain = [each for each in data if isinstance(each, bytes)]
    if len(plain) == len(keys) and len(set(map(len, keys))) == 1 and len(set(map(len, plain))) == 1:
        return _message_list(where, _uniform(keys, plain), kind, flags)
    frames: dict[int | Verdict, tuple[bytes, bytes]] = {}
    packed = []
    for key, each in zip(keys, data, strict=True):
        like = len(each) if isinstance(each, bytes) else each
        if like not in frames:
            frames[like] = _frame(key, each)
        before, between = frames[like]
        packed.append(b"%b%b%b%b" % (before, key, between, each if isinstance(each, bytes) else b""))
    return _messages(where, packed, kind, flags)


def _uniform(keys: list[bytes], data: list[bytes]) -> Iterator[bytes]:
    """Chunks of elements whose keys all have the same length, and their data: assembled without a step for each."""
    before, between = _frame(keys[0], data[0])
    size = len(before) + len(keys[0]) + len(between) + len(data[0])
    most = _LONGEST // size
    for first in range(0, len(keys), most):
        chosen = keys[first : first + most]
        parts = [before] * (4 * len(chosen))
        parts[1::4] = chosen
        parts[2::4] = [between] * len(chosen)
        parts[3::4] = data[first : first + most]
        yield b"".join(parts)


def _numbered(lists: Iterable[tuple[bytes, Sequence[bytes]]]) -> Iterator[bytes]:
    """Elements of one list in parts that fit into a message, assembled without a step for each."""
    before = b""
    middles: list[bytes] = []
    most = 1
    for key, data in lists:
        if not middles:
            before, between = _frame(key + numbered(0), data[0])
            most = _LONGEST // (len(before) + len(key) + _NUMBER.size + len(between) + len(data[0]))
        while len(middles) < len(data):
            middles.append(numbered(len(middles)) + between)
        head = before + key
        for first in range(0, len(data), most):
            chosen = data[first : first + most]
            parts = [head] * (3 * len(chosen))
            parts[1::3] = middles[first : first + len(chosen)]
            parts[2::3] = chosen
            yield b"".join(parts)


def _frame(key: bytes, data: bytes | Verdict) -> tuple[bytes, bytes]:
    """The bytes before the key of such an element, and those after it except plain data."""
    whole = nested(_LIST_ELEM, _pack(Element(key, data)))
    before = _ATTRIBUTE.size * 3
    end = len(whole) - (len(data) if isinstance(data, bytes) else 0)
    return whole[:before], whole[before + len(key) : end]


def _changes(where: Set, elements: Iterable[Element], kind: int, flags: int) -> list[Message]:
    return _messages(where, [nested(_LIST_ELEM, _pack(element)) for element in elements], kind, flags)


def _messages(where: Set, packed: Iterable[bytes], kind: int, flags: int) -> list[Message]:
    return _message_list(where, _chunks(packed), kind, flags)


def _message_list(where: Set, chunks: Iterable[bytes], kind: int, flags: int) -> list[Message]:
    address, subject = _address(where), str(where)
    return [Message(subject, kind, flags, address + nested(_LIST_ELEMENTS, chunk)) for chunk in chunks]


def _address(where: Set) -> bytes:
    return (
        _HEADER.pack(_FAMILIES[where.family], 0, 0)
        + attribute(_LIST_TABLE, where.table.encode() + b"\0")
        + attribute(_LIST_SET, where.name.encode() + b"\0")
    )


def _chunks(packed: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for part in packed:
        if size + len(part) > _LONGEST:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield b"".join(parts)


def _pack(element: Element) -> bytes:
    packed = nested(_ELEM_KEY, attribute(_DATA_VALUE, element.key))
    if element.key_end:
        packed += nested(_ELEM_KEY_END, attribute(_DATA_VALUE, element.key_end))
    if isinstance(element.data, Verdict):
        verdict = attribute(_VERDICT_CODE, _S32.pack(element.data.code))
        if element.data.chain:
            verdict += attribute(_VERDICT_CHAIN, element.data.chain.encode() + b"\0")
        packed += nested(_ELEM_DATA, nested(_DATA_VERDICT, verdict))
    elif element.data:
        packed += nested(_ELEM_DATA, attribute(_DATA_VALUE, element.data))
    if element.comment:
        comment = element.comment.encode() + b"\0"
        packed += attribute(_ELEM_USERDATA, bytes([_UDATA_COMMENT, len(comment)]) + comment)
    return packed


def _unpack(payload: bytes) -> Element:
    found = dict(attributes(payload))
    data: bytes | Verdict = b""
    for kind, value in attributes(found.get(_ELEM_DATA, b"")):
        if kind == _DATA_VERDICT:
            verdict = dict(attributes(value))
            chain = verdict.get(_VERDICT_CHAIN, b"").rstrip(b"\0").decode()
            data = Verdict(_S32.unpack(verdict[_VERDICT_CODE])[0], chain)
        else:
            data = value
    return Element(
        _value(found[_ELEM_KEY]), data, _comment(found.get(_ELEM_USERDATA, b"")), _value(found.get(_ELEM_KEY_END, b""))
    )


def _unframe_all(payload: bytes) -> Iterator[tuple[bytes, bytes | Verdict]]:
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
    elements = (_unpack(item) for _, item in attributes(payload))
    return ((one.key, one.key_end or one.data) for one in elements)


def _value(payload: bytes) -> bytes:
    return dict(attributes(payload)).get(_DATA_VALUE, b"")


def _comment(userdata: bytes) -> str:
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""


class Nfnetlink(Netlink):
    """A socket to nftables in the network namespace where it was opened. Every method raises `NetlinkError`."""

    def __init__(self, made: socket | None = None) -> None:
        super().__init__(_NETLINK_NETFILTER, made)

    def generation(self) -> int:
        """The number of the current ruleset: every batch, whoever sends it, raises it."""
        (answer,) = self.ask(Message("nftables", _GETGEN, 0, _HEADER.pack(0, 0, 0)))
        return int(_U32.unpack(dict(attributes(answer, _HEADER.size))[_GEN_ID])[0])

    def elements(self, where: Set) -> list[Element]:
        """All elements of a set: errno ENOENT if it does not exist."""
        request = Message(str(where), _GETSETELEM, NLM_F_DUMP, _address(where))
        return [
            _unpack(item)
            for answer in self.ask(request)
            for kind, value in attributes(answer, _HEADER.size)
            if kind == _LIST_ELEMENTS
            for _, item in attributes(value)
        ]

    def dump(self, where: Set) -> dict[bytes, bytes | Verdict]:
        """Keys and data (of ranges: the last keys) of all elements of a set: like `elements`, for very large sets."""
        request = Message(str(where), _GETSETELEM, NLM_F_DUMP, _address(where))
        found: dict[bytes, bytes | Verdict] = {}
        for answer in self.ask(request):
            for kind, value in attributes(answer, _HEADER.size):
                if kind == _LIST_ELEMENTS:
                    found.update(_unframe_all(value))
        return found

    def commit(self, messages: Sequence[Message], generation: int = 0) -> None:
        """Apply all the messages or none; raises the first failure.

        With a `generation`, only if that is still the current one, and otherwise with the errno ERESTART: a decision
        based on certain elements is then applied to exactly those elements. EMSGSIZE: in a user namespace a batch has
        at most twice net.core.wmem_max bytes (4 MiB on Linux 6.18, 208 KiB before).
        """
        if not messages:
            return
        first = self._sequence
        last = first + len(messages)
        self._sequence = last + 2
        header = _HEADER.pack(0, 0, _SUBSYSTEM)
        condition = attribute(_BATCH_GENID, _U32.pack(generation)) if generation else b""
        batch = [Message("nftables", _BATCH_BEGIN, 0, header + condition).pack(first)]
        for sequence, message in enumerate(messages, first + 1):
            # Failures are reported for every message, success only for the last: acknowledgements of a long batch would
            # overrun the socket's buffer.
            batch.append(message.pack(sequence, NLM_F_ACK if sequence == last else 0))
        batch.append(Message("nftables", _BATCH_END, 0, header).pack(last + 1))
        self._send(b"".join(batch))
        failure: NetlinkError | None = None
        while True:
            for kind, flags, sequence, payload in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                subject = messages[max(sequence - first - 1, 0)].subject
                failure = failure or refusal(flags, payload, subject)
                # If a batch is refused as a whole, the answer refers to its beginning.
                if sequence in {first, last}:
                    if failure is not None:
                        raise failure
                    return

    def remove(self, sets: Iterable[Set], unwanted: Callable[[Set, Element], bool]) -> list[tuple[Set, Element]]:
        """Delete the `unwanted` elements of these sets, all or none; returns them.

        The decision applies to the elements that were read: a key may belong to another element a moment later. A
        missing set has no elements. ERESTART: something changed at each of many attempts.
        """
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            generation = self.generation()
            found = [(where, item) for where in sets for item in self._present(where) if unwanted(where, item)]
            try:
                self.commit([message for where, item in found for message in deletion(where, [item])], generation)
            except NetlinkError as error:
                if error.errno != _ERESTART or not attempts:
                    raise
            else:
                return found

    def _present(self, where: Set) -> list[Element]:
        try:
            return self.elements(where)
        except NetlinkError as error:
            if error.errno == _ENOENT:
                return []
            raise

    def _send(self, data: bytes) -> None:
        """Send the batch in one datagram, which must fit the socket's buffer."""
        if len(data) > self._socket.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2:
            try:
                self._socket.setsockopt(SOL_SOCKET, _SO_SNDBUFFORCE, len(data))
            except PermissionError:  # in a user namespace, where net.core.wmem_max holds
                self._socket.setsockopt(SOL_SOCKET, SO_SNDBUF, len(data))
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != _EMSGSIZE:
                raise
            reason = f"a batch of {len(data)} bytes is longer than net.core.wmem_max allows; raise it, or commit less"
            raise NetlinkError(_EMSGSIZE, reason, "nftables") from None
