"""What carries a transaction to a kernel."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from netlab.proxy import iptables
from netlab.proxy.config import ProxyConfig
from netlab.proxy.kernel import ProgramError, run_program
from netlab.proxy.nftables import NFT_FAMILY, TABLE, Ruleset
from netlab.proxy.plan import Family, Plan, Transaction, apply, difference

UNKNOWN = "?"
"""A rule that no plan makes: chains found in the kernel with unknown rules differ from any that are wanted."""


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


class IptablesExecutor:
    """iptables, by input for iptables-restore; the variant over nftables where it is installed."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._plan: Plan = {}
        self._tables: iptables.Tables = {}

    async def replace(self, plan: Plan) -> None:
        """See Executor. Chains of an earlier proxy that are not needed are deleted."""
        found = await self._listed()
        self._tables = {
            table: {name: [UNKNOWN] for name in chains if name.startswith("KUBE-")} for table, chains in found.items()
        }
        await self._load(plan)
        # The hooks last: until then nothing leads to chains that are not there yet.
        await self._hook(found)

    async def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        await self._load(apply(self._plan, transaction))

    async def intact(self) -> bool:
        """See Executor. The number of rules in each chain is compared, and the hooks."""
        try:
            found = await self._listed()
        except ProgramError:
            return False
        for table, chains in self._tables.items():
            listed = found.get(table, {})
            if any(len(listed.get(name, ())) != len(rules) or name not in listed for name, rules in chains.items()):
                return False
        return not self._missing_hooks(found)

    async def remove(self) -> None:
        """Delete every chain and hook that a kube-proxy in this mode made."""
        found = await self._listed()
        lines = []
        for table, hooks in iptables.HOOKS.items():
            chains = found.get(table, {})
            own = sorted(name for name in chains if name.startswith("KUBE-"))
            if own:
                lines += [f"*{table}", *(f":{name} - [0:0]" for name in own)]
                lines += [f"-D {hook} {rule}" for hook, rule in hooks if rule in chains.get(hook, ())]
                lines += [*(f"-X {name}" for name in own), "COMMIT"]
        await self._restore("".join(f"{line}\n" for line in lines))

    async def _load(self, plan: Plan) -> None:
        new = iptables.tables(
            plan, self.family, self._config.cidrs(self.family), masquerade_all=self._config.masquerade_all
        )
        await self._restore(iptables.render(self._tables, new))
        self._plan, self._tables = plan, new

    async def _hook(self, found: iptables.Tables) -> None:
        lines = []
        for table, hooks in self._missing_hooks(found).items():
            # First in their chains, where a foreign rule cannot accept before them.
            lines += [f"*{table}", *(f"-I {hook} 1 {rule}" for hook, rule in hooks), "COMMIT"]
        await self._restore("".join(f"{line}\n" for line in lines))

    @staticmethod
    def _missing_hooks(found: iptables.Tables) -> dict[str, list[tuple[str, str]]]:
        missing = {
            table: [(hook, rule) for hook, rule in hooks if rule not in found.get(table, {}).get(hook, ())]
            for table, hooks in iptables.HOOKS.items()
        }
        return {table: hooks for table, hooks in missing.items() if hooks}

    async def _listed(self) -> iptables.Tables:
        return iptables.parse(await run_program([self._program("save")]))

    async def _restore(self, text: str) -> None:
        if text:
            # Another program's lock (the legacy variant's alone) is waited for.
            await run_program([self._program("restore"), "--noflush", "--wait=5"], text)

    def _program(self, verb: str) -> str:
        name = "iptables" if self.family == "IPv4" else "ip6tables"
        variant = f"{name}-nft-{verb}"
        return variant if shutil.which(variant) else f"{name}-{verb}"


def executor_for(family: Family, config: ProxyConfig) -> Executor:
    """The data plane that the configuration asks for."""
    return NftablesExecutor(family, config) if config.mode == "nftables" else IptablesExecutor(family, config)


async def cleanup_iptables(families: Sequence[Family]) -> None:
    """Remove our chains of these families; that there are none is no error."""
    for family in families:
        await IptablesExecutor(family, ProxyConfig(node_name="", mode="iptables")).remove()


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
