"""Repairing tables of nftables: each holds what its layout says, whatever has been done to it, at the cost of a look.

A layout is a text for nft: a table's chains, rules and sets, the same for any number of containers. An empty chain,
`layout-DIGEST`, records the text and what the kernel made of it. As long as the digest of what the kernel has now is
that of the record, nothing has changed; a table that was flushed, deleted, put to sleep, or that lacks a rule, has
another, and is made anew by the text, which leaves elements as they are.
"""

from __future__ import annotations

import errno
from _blake2 import blake2s

from netlab.net.netlink import NetlinkError
from netlab.net.nftables import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from netlab.net.netlink import Message
    from netlab.net.nftables.socket import Nfnetlink

_RECORD = "layout-"


def ensure(
    kernel: Nfnetlink, environment: Mapping[str, str], table: str, text_for: Callable[[Collection[str]], str]
) -> None:
    """Have a table (`inet NAME`) be as its layout says.

    `text_for` gives the layout, from the names of the chains that the table has. `environment` is the caller's, to find
    the nft program. Raises `CniError` and `NetlinkError`.
    """
    chains, held = _look(kernel, table)
    text = text_for(chains)
    if _record(text, held) in chains:
        return
    from netlab.cni.plugins.nft import nft
    from netlab.net.nftables import rules

    nft(environment, "-f", "-", text=text)
    chains, held = _look(kernel, table)
    record = _record(text, held)
    family, name = table.split()
    for chain in chains:
        if chain.startswith(_RECORD) and chain != record:
            _commit_unless(errno.ENOENT, kernel, rules.chain_deletion(rules.Chain(family, name, chain)))
    if record not in chains:
        _commit_unless(errno.EEXIST, kernel, rules.chain_addition(rules.Chain(family, name, record)))


def _look(kernel: Nfnetlink, table: str) -> tuple[Collection[str], bytes]:
    """The names of a table's chains, and a digest of what it does; neither if there is no such table."""
    family, name = table.split()
    try:
        found = kernel.ask(dumps.table_request(family, name))[0]
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return (), b""
        raise
    chains = dict(dumps.described_chains_of(kernel.ask(dumps.chains_request(family)), name))
    state = blake2s(b"%d" % dumps.table_is_dormant(found))
    for chain in sorted(chains):
        if not chain.startswith(_RECORD):
            state.update(b"%b\0%b\0" % (chain.encode(), chains[chain]))
    for chain, expressions in dumps.rules_of(kernel.ask(dumps.rules_request(family, name)), name):
        state.update(b"%b\0%b\0" % (chain.encode(), expressions))
    return chains, state.digest()


def _record(text: str, held: bytes) -> str:
    return _RECORD + blake2s(text.encode() + held, digest_size=8).hexdigest()


def _commit_unless(number: int, kernel: Nfnetlink, message: Message) -> None:
    """Commit a change; another call may have been first, which an errno tells."""
    try:
        kernel.commit([message])
    except NetlinkError as error:
        if error.errno != number:
            raise
