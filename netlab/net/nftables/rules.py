"""Tables, chains, sets and rules of the few kinds that come and go with a plan.

What is permanent is made by `nft`, from readable text. A chain that appears together with elements that lead to it must
be in the same batch, which `nft` cannot send. Rules made here are listed like any other.
"""

from __future__ import annotations

from _struct import Struct

from netlab.net.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Message, attribute, nested, string
from netlab.net.nftables import SUBSYSTEM, be32, header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netlab.net.nftables.elements import Set

_NEWTABLE, _NEWCHAIN, _DELCHAIN = (SUBSYSTEM << 8 | kind for kind in (0, 3, 5))
_NEWRULE, _DELRULE, _NEWSET, _DELSET = (SUBSYSTEM << 8 | kind for kind in (6, 8, 9, 11))
_TABLE_NAME, _TABLE_FLAGS, _OWNER = 1, 2, 0x2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
PREROUTING, OUTPUT = 0, 3  # NF_INET_*
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN = 1, 2, 3, 4, 5
_SET_DESC, _SET_ID, _SET_SECONDS = 9, 10, 11
_SET_TIMEOUT, _SET_EVAL = 0x10, 0x20
_ADDRESS_TYPES = {"ip": (7, 4), "ip6": (8, 16)}
"""nft's number of the type of an address, for its listings, and its length."""
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_S32, _U64 = Struct("!i"), Struct("!Q")


class Chain:
    """A chain, by its table's family (`ip` or `ip6`), the table's name and its own."""

    __slots__ = ("family", "name", "table")

    def __init__(self, family: str, table: str, name: str) -> None:
        self.family = family
        self.table = table
        self.name = name

    def __str__(self) -> str:
        return f"chain {self.family} {self.table} {self.name}"


def table_addition(family: str, table: str, *, owned: bool = False) -> Message:
    """The message that makes a table. It goes with the socket that sends it if it is `owned` (Linux 5.12)."""
    name, flags = string(_TABLE_NAME, table), be32(_TABLE_FLAGS, _OWNER if owned else 0)
    return Message(f"table {family} {table}", _NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, header(family) + name + flags)


def chain_addition(chain: Chain) -> Message:
    """The message that makes a chain. EEXIST: it exists."""
    payload = header(chain.family) + string(_CHAIN_TABLE, chain.table) + string(_CHAIN_NAME, chain.name)
    return Message(str(chain), _NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, payload)


def base_chain_addition(chain: Chain, hook: int, priority: int) -> Message:
    """The message that makes a chain of type `filter` at a hook."""
    made = chain_addition(chain)
    made.payload += nested(_CHAIN_HOOK, be32(1, hook) + attribute(2, _S32.pack(priority)))
    made.payload += string(_CHAIN_TYPE, "filter")
    return made


def rule_addition(chain: Chain, expressions: Iterable[bytes]) -> Message:
    """The message that adds a rule at the end of a chain."""
    address = header(chain.family) + string(_RULE_TABLE, chain.table) + string(_RULE_CHAIN, chain.name)
    payload = address + nested(_RULE_EXPRESSIONS, b"".join(expressions))
    return Message(f"rule of {chain}", _NEWRULE, NLM_F_CREATE | NLM_F_APPEND, payload)


def rules_deletion(chain: Chain) -> Message:
    """The message that deletes all rules of a chain."""
    address = header(chain.family) + string(_RULE_TABLE, chain.table) + string(_RULE_CHAIN, chain.name)
    return Message(f"rules of {chain}", _DELRULE, 0, address)


def chain_deletion(chain: Chain) -> Message:
    """The message that deletes a chain and its rules. ENOENT: it does not exist; EBUSY: something leads to it."""
    return Message(
        str(chain),
        _DELCHAIN,
        0,
        header(chain.family) + string(_CHAIN_TABLE, chain.table) + string(_CHAIN_NAME, chain.name),
    )


def client_set_addition(where: Set, seconds: int, size: int) -> Message:
    """The message that makes a dynamic set of source addresses that expire after so many seconds."""
    data_type, length = _ADDRESS_TYPES[where.family]
    made = _set_addition(where, _SET_TIMEOUT, data_type, length, size)
    made.payload += attribute(_SET_SECONDS, _U64.pack(seconds * 1000))
    return made


def number_set_addition(where: Set, size: int) -> Message:
    """The message that makes a dynamic set of numbers of 32 bits."""
    return _set_addition(where, 0, 0, 4, size)


def _set_addition(where: Set, flags: int, data_type: int, length: int, size: int) -> Message:
    payload = header(where.family) + string(_SET_TABLE, where.table) + string(_SET_NAME, where.name)
    payload += be32(_SET_FLAGS, flags | _SET_EVAL) + be32(_SET_KEY_TYPE, data_type) + be32(_SET_KEY_LEN, length)
    # The kernel requires a number for it in the batch, but nothing here uses it: rules refer to the set by name.
    payload += be32(_SET_ID, 1) + nested(_SET_DESC, be32(1, size))
    return Message(str(where), _NEWSET, NLM_F_CREATE | NLM_F_EXCL, payload)


def set_deletion(where: Set) -> Message:
    """The message that deletes a set and its elements. ENOENT: it does not exist; EBUSY: a rule uses it."""
    payload = header(where.family) + string(_SET_TABLE, where.table) + string(_SET_NAME, where.name)
    return Message(str(where), _DELSET, 0, payload)


def awakening(family: str, table: str) -> Message:
    """The message that activates a dormant table. It would also clear any other flags."""
    name, flags = string(_TABLE_NAME, table), be32(_TABLE_FLAGS, 0)
    return Message(f"table {family} {table}", _NEWTABLE, 0, header(family) + name + flags)
