"""What carries a transaction to a kernel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from netlab.proxy.config import ProxyConfig
from netlab.proxy.kernel import ProgramError, run_program
from netlab.proxy.nftables import NFT_FAMILY, TABLE, Ruleset
from netlab.proxy.plan import Family, Plan, Transaction, difference


class Executor(Protocol):
    """One family's data plane in the network namespace of the process.

    Every method raises ProgramError when the kernel refuses; then nothing has changed in the kernel, and only
    `replace` may follow.
    """

    family: Family

    async def replace(self, plan: Plan) -> None:
        """Put a plan in place of whatever is in force, atomically."""

    async def apply(self, transaction: Transaction) -> None:
        """Carry out the difference to what is in force, atomically."""

    async def intact(self) -> bool:
        """Whether the kernel still holds what was put there."""


class NftablesExecutor:
    """nftables, by scripts for the nft program."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._ruleset = self._empty()

    async def replace(self, plan: Plan) -> None:
        """See Executor."""
        self._ruleset = self._empty()
        await _nft(self._ruleset.render_all(self._ruleset.change(difference({}, plan))))

    async def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        script = self._ruleset.render(self._ruleset.change(transaction))
        if script:
            await _nft(script)

    async def intact(self) -> bool:
        """See Executor. Names and numbers of things are compared: enough to see a flush, a deletion, an addition."""
        try:
            listing = await run_program(["nft", "-j", "list", "table", NFT_FAMILY[self.family], TABLE])
        except ProgramError:
            return False
        return inventory(json.loads(listing)) == self._ruleset.inventory()

    def _empty(self) -> Ruleset:
        return Ruleset(self.family, self._config.cidrs(self.family), masquerade_all=self._config.masquerade_all)


def inventory(listing: Any) -> Counter[str]:
    """How many rules each chain, and how many elements each set and map of a listed table has.

    Sets that the packets fill themselves are counted without their elements.
    """
    counted: Counter[str] = Counter()
    for entry in listing["nftables"]:
        for kind, value in entry.items():
            if kind == "chain":
                counted[f"chain {value['name']}"] += 1
            elif kind == "rule":
                counted[f"chain {value['chain']}"] += 1
            elif kind in ("set", "map"):
                dynamic = "dynamic" in value.get("flags", ())
                counted[f"set {value['name']}"] += 1 + (0 if dynamic else len(value.get("elem", ())))
    return counted


async def cleanup_nftables(families: Sequence[Family]) -> None:
    """Remove the tables of these families; that there are none is no error."""
    for family in families:
        # Adding first makes the deletion succeed whether the table is there or not.
        table = f"{NFT_FAMILY[family]} {TABLE}"
        await _nft(f"add table {table}\ndelete table {table}\n")


async def _nft(script: str) -> None:
    await run_program(["nft", "-f", "-"], script)
