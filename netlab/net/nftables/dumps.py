"""Tables, chains, sets and rules as the kernel has them."""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NFGENMSG, NLM_F_DUMP, Message, attributes, string, text
from netlab.net.nftables import SUBSYSTEM, comment, header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GETTABLE, _GETCHAIN, _GETRULE, _GETSET = (SUBSYSTEM << 8 | kind for kind in (1, 4, 7, 10))
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA, _DORMANT = 1, 2, 6, 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS = 1, 3, 4, 5, 7, 10
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_ANONYMOUS = 1, 2, 3, 0x1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_U32 = Struct("!I")


def table_request(family: str, table: str) -> Message:
    """The request for a table. ENOENT: it does not exist. `table_comment` and `table_is_dormant` read the answer."""
    return Message(f"table {family} {table}", _GETTABLE, 0, header(family) + string(_TABLE_NAME, table))


def table_comment(answer: bytes) -> str:
    """The comment of a table; empty if it has none."""
    return comment(dict(attributes(answer, NFGENMSG.size)).get(_TABLE_USERDATA, b""))


def table_is_dormant(answer: bytes) -> bool:
    """Whether the kernel skips a table's chains."""
    flags = dict(attributes(answer, NFGENMSG.size)).get(_TABLE_FLAGS, bytes(4))
    return bool(_U32.unpack(flags)[0] & _DORMANT)


def chains_request(family: str) -> Message:
    """The request for the chains of all tables of a family."""
    return Message(f"chains of family {family}", _GETCHAIN, NLM_F_DUMP, header(family))


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
    payload = header(family) + string(_SET_TABLE, table)
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
        header(family) + string(_RULE_TABLE, table),
    )


def rules_of(answers: Iterable[bytes], table: str) -> list[tuple[str, bytes]]:
    """A table's rules in order: each one's chain, and its expressions."""
    return [
        (chain, found.get(_RULE_EXPRESSIONS, b"")) for chain, found in _named(answers, _RULE_TABLE, _RULE_CHAIN, table)
    ]


def _named(
    answers: Iterable[bytes], table_kind: int, name_kind: int, table: str
) -> Iterator[tuple[str, dict[int, bytes]]]:
    for answer in answers:
        found = dict(attributes(answer, NFGENMSG.size))
        if text(found.get(table_kind, b"")) == table:
            yield text(found[name_kind]), found
