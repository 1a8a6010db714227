"""Raw nfnetlink for nftables' chains and rules of the few kinds that come and go with a proxy's plan.

What is permanent is made by `nft`, from readable text. A chain that appears together with elements that lead to it must
be in the same batch, which `nft` cannot send. Rules made here are listed like any other.

Expressions are listed in the order of their evaluation; they pass values to each other in sixteen registers of four
bytes, numbered from 0. Constants are the kernel's (include/uapi/linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton
from _struct import Struct

from netlab.net.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Message, attribute, attributes, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netlab.net.nfelements import Set

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _GETTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN = (_SUBSYSTEM << 8 | kind for kind in (0, 1, 3, 4, 5))
_NEWRULE, _GETRULE, _DELRULE, _NEWSET, _GETSET, _DELSET = (_SUBSYSTEM << 8 | kind for kind in (6, 7, 8, 9, 10, 11))
_APPEND = 0x800  # NLM_F_APPEND

_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA = 1, 2, 6
_DORMANT = 1
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS = 4, 5, 7, 10
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN, _SET_DESC, _SET_ID, _SET_SECONDS = (
    1,
    2,
    3,
    4,
    5,
    9,
    10,
    11,
)
_SET_ANONYMOUS, _SET_TIMEOUT, _SET_EVAL = 0x1, 0x10, 0x20
_ADDRESS_TYPES = {"ip": (7, 4), "ip6": (8, 16)}
"""nft's number of the type of an address, for its listings, and its length."""
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_UDATA_COMMENT = 0

_REGISTER_0, _VERDICT_REGISTER = 8, 0  # NFT_REG32_00, NFT_REG_VERDICT
_JUMP, _GOTO = -3, -4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_META_L4PROTO = 16
_NUMGEN_RANDOM = 1
_NAT_DNAT = 1
_DYNSET_UPDATE = 1

FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
_HEADER = Struct("!BBH")  # nfgenmsg: family, version, resource
_U32 = Struct("!I")
_S32 = Struct("!i")
_U64 = Struct("!Q")
_ADDRESS = {"ip": (12, 16, 4), "ip6": (8, 24, 16)}
"""Offsets of the source and the destination in the network header, and their length."""


class Chain:
    """A chain, by its table's family (`ip` or `ip6`), the table's name and its own."""

    __slots__ = ("family", "name", "table")

    def __init__(self, family: str, table: str, name: str) -> None:
        self.family = family
        self.table = table
        self.name = name

    def __str__(self) -> str:
        return f"chain {self.family} {self.table} {self.name}"


# --- Expressions -----------------------------------------------------------------------------------------------------


def source_address(family: str, register: int) -> bytes:
    """Load `ip saddr` into a register; an IPv6 address takes four."""
    offset, _, length = _ADDRESS[family]
    return _payload(_NETWORK_HEADER, offset, length, register)


def packed_address(family: str, address: str) -> bytes:
    """The bytes of an address."""
    return inet_pton(AF_INET if family == "ip" else AF_INET6, address)


def destination_address(family: str, register: int) -> bytes:
    """Load `ip daddr` into a register; an IPv6 address takes four."""
    _, offset, length = _ADDRESS[family]
    return _payload(_NETWORK_HEADER, offset, length, register)


def destination_port(register: int) -> bytes:
    """Load `th dport` into a register."""
    return _payload(_TRANSPORT_HEADER, 2, 2, register)


def protocol(register: int) -> bytes:
    """Load `meta l4proto` into a register."""
    return _expression("meta", _register(1, register), attribute(2, _U32.pack(_META_L4PROTO)))


def random(modulus: int, register: int) -> bytes:
    """Load `numgen random mod MODULUS` into a register, in the machine's byte order."""
    return _expression(
        "numgen",
        _register(1, register),
        attribute(2, _U32.pack(modulus)),
        attribute(3, _U32.pack(_NUMGEN_RANDOM)),
    )


def lookup(name: str, key: int, data: int | None = None) -> bytes:
    """Look up the key that starts in a register in a set, or in a map and put its data into another register.

    The rule ends if the key is not found.
    """
    to = () if data is None else (_register(3, data),)
    return _expression("lookup", _name(1, name), _register(2, key), *to)


def follow(name: str, key: int) -> bytes:
    """Look up the key that starts in a register in a verdict map, and apply the verdict."""
    to = attribute(3, _U32.pack(_VERDICT_REGISTER))
    return _expression("lookup", _name(1, name), _register(2, key), to)


def update(name: str, key: int) -> bytes:
    """Add the key in a register to a dynamic set, or renew its timeout. If the set is full, the rule ends."""
    return _expression("dynset", _name(1, name), attribute(3, _U32.pack(_DYNSET_UPDATE)), _register(4, key))


def equal(register: int, value: bytes) -> bytes:
    """Go on if a register holds that value."""
    return _expression("cmp", _register(1, register), attribute(2, _U32.pack(0)), nested(3, attribute(1, value)))


def constant(register: int, value: bytes) -> bytes:
    """Load a value into a register."""
    return _expression("immediate", _register(1, register), nested(2, attribute(1, value)))


def jump(chain: str) -> bytes:
    """`jump CHAIN`."""
    return _to_chain(_JUMP, chain)


def goto(chain: str) -> bytes:
    """`goto CHAIN`."""
    return _to_chain(_GOTO, chain)


def _to_chain(code: int, chain: str) -> bytes:
    verdict = attribute(1, _S32.pack(code)) + _name(2, chain)
    return _expression("immediate", attribute(1, _U32.pack(_VERDICT_REGISTER)), nested(2, nested(2, verdict)))


def dnat(family: str, address: int, port: int) -> bytes:
    """`dnat` to the address and the port in these registers."""
    return _expression(
        "nat",
        attribute(1, _U32.pack(_NAT_DNAT)),
        attribute(2, _U32.pack(FAMILIES[family])),
        _register(3, address),
        _register(5, port),
    )


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    fields = (attribute(kind, _U32.pack(value)) for kind, value in ((2, base), (3, offset), (4, length)))
    return _expression("payload", _register(1, register), *fields)


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(_LIST_ELEM, _name(_EXPR_NAME, name) + nested(_EXPR_DATA, b"".join(fields)))


def _register(kind: int, number: int) -> bytes:
    return attribute(kind, _U32.pack(_REGISTER_0 + number))


def _name(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0")


# --- Messages --------------------------------------------------------------------------------------------------------


def chain_addition(chain: Chain) -> Message:
    """The message that makes a chain. EEXIST: it exists."""
    payload = _header(chain.family) + _name(_CHAIN_TABLE, chain.table) + _name(_CHAIN_NAME, chain.name)
    return Message(str(chain), _NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, payload)


def rule_addition(chain: Chain, expressions: Iterable[bytes]) -> Message:
    """The message that adds a rule at the end of a chain."""
    address = _header(chain.family) + _name(_RULE_TABLE, chain.table) + _name(_RULE_CHAIN, chain.name)
    payload = address + nested(_RULE_EXPRESSIONS, b"".join(expressions))
    return Message(f"rule of {chain}", _NEWRULE, NLM_F_CREATE | _APPEND, payload)


def rules_deletion(chain: Chain) -> Message:
    """The message that deletes all rules of a chain."""
    address = _header(chain.family) + _name(_RULE_TABLE, chain.table) + _name(_RULE_CHAIN, chain.name)
    return Message(f"rules of {chain}", _DELRULE, 0, address)


def chain_deletion(chain: Chain) -> Message:
    """The message that deletes a chain and its rules. ENOENT: it does not exist; EBUSY: something leads to it."""
    return Message(
        str(chain),
        _DELCHAIN,
        0,
        _header(chain.family) + _name(_CHAIN_TABLE, chain.table) + _name(_CHAIN_NAME, chain.name),
    )


def client_set_addition(where: Set, seconds: int, size: int) -> Message:
    """The message that makes a dynamic set of source addresses that expire after so many seconds.

    The kernel requires a number for it in the batch, but nothing here uses it: rules refer to the set by name.
    """
    data_type, length = _ADDRESS_TYPES[where.family]
    fields = {
        _SET_FLAGS: _U32.pack(_SET_TIMEOUT | _SET_EVAL),
        _SET_KEY_TYPE: _U32.pack(data_type),
        _SET_KEY_LEN: _U32.pack(length),
        _SET_ID: _U32.pack(1),
        _SET_SECONDS: _U64.pack(seconds * 1000),
    }
    payload = _header(where.family) + _name(_SET_TABLE, where.table) + _name(_SET_NAME, where.name)
    payload += b"".join(attribute(kind, value) for kind, value in fields.items())
    payload += nested(_SET_DESC, attribute(1, _U32.pack(size)))
    return Message(str(where), _NEWSET, NLM_F_CREATE | NLM_F_EXCL, payload)


def set_deletion(where: Set) -> Message:
    """The message that deletes a set and its elements. ENOENT: it does not exist; EBUSY: a rule uses it."""
    payload = _header(where.family) + _name(_SET_TABLE, where.table) + _name(_SET_NAME, where.name)
    return Message(str(where), _DELSET, 0, payload)


def table_request(family: str, table: str) -> Message:
    """The request for a table. ENOENT: it does not exist. `table_comment` and `table_is_dormant` read the answer."""
    return Message(f"table {family} {table}", _GETTABLE, 0, _header(family) + _name(_TABLE_NAME, table))


def table_comment(answer: bytes) -> str:
    """The comment of a table; empty if it has none."""
    userdata = dict(attributes(answer, _HEADER.size)).get(_TABLE_USERDATA, b"")
    if len(userdata) > 2 and userdata[0] == _UDATA_COMMENT:
        return userdata[2 : 2 + userdata[1]].rstrip(b"\0").decode(errors="replace")
    return ""


def table_is_dormant(answer: bytes) -> bool:
    """Whether the kernel skips a table's chains."""
    flags = dict(attributes(answer, _HEADER.size)).get(_TABLE_FLAGS, bytes(4))
    return bool(_U32.unpack(flags)[0] & _DORMANT)


def awakening(family: str, table: str) -> Message:
    """The message that activates a dormant table. It would also clear any other flags."""
    name, flags = _name(_TABLE_NAME, table), attribute(_TABLE_FLAGS, _U32.pack(0))
    return Message(f"table {family} {table}", _NEWTABLE, 0, _header(family) + name + flags)


def chains_request(family: str) -> Message:
    """The request for the chains of all tables of a family."""
    return Message(f"chains of family {family}", _GETCHAIN, NLM_F_DUMP, _header(family))


def chains_of(answers: Iterable[bytes], table: str) -> list[str]:
    """The names of a table's chains."""
    return [name for name, _ in _named(answers, _CHAIN_TABLE, _CHAIN_NAME, table)]


def described_chains_of(answers: Iterable[bytes], table: str) -> list[tuple[str, bytes]]:
    """A table's chains: each one's name, and the bytes of its hook, policy, type and flags."""
    parts = (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS)
    return [
        (name, b"\0".join([found.get(part, b"") for part in parts]))
        for name, found in _named(answers, _CHAIN_TABLE, _CHAIN_NAME, table)
    ]


def sets_request(family: str, table: str) -> Message:
    """The request for the sets and maps of a table."""
    payload = _header(family) + _name(_SET_TABLE, table)
    return Message(f"sets of table {family} {table}", _GETSET, NLM_F_DUMP, payload)


def sets_of(answers: Iterable[bytes], table: str) -> list[str]:
    """The names of a table's sets and maps except anonymous ones."""
    named = _named(answers, _SET_TABLE, _SET_NAME, table)
    return [name for name, found in named if not _U32.unpack(found.get(_SET_FLAGS, bytes(4)))[0] & _SET_ANONYMOUS]


def rules_request(family: str, table: str) -> Message:
    """The request for the rules of a table."""
    return Message(
        f"rules of table {family} {table}",
        _GETRULE,
        NLM_F_DUMP,
        _header(family) + _name(_RULE_TABLE, table),
    )


def rules_of(answers: Iterable[bytes], table: str) -> list[tuple[str, bytes]]:
    """A table's rules in order: each one's chain, and its expressions."""
    return [
        (chain, found.get(_RULE_EXPRESSIONS, b"")) for chain, found in _named(answers, _RULE_TABLE, _RULE_CHAIN, table)
    ]


def _header(family: str) -> bytes:
    return _HEADER.pack(FAMILIES[family], 0, 0)


def _named(
    answers: Iterable[bytes], table_kind: int, name_kind: int, table: str
) -> Iterator[tuple[str, dict[int, bytes]]]:
    for answer in answers:
        found = dict(attributes(answer, _HEADER.size))
        if found.get(table_kind, b"").rstrip(b"\0").decode() == table:
            yield found[name_kind].rstrip(b"\0").decode(), found
