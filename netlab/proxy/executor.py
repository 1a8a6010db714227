"""Applies transactions to a kernel."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from typing import Protocol

from netlab.net.addresses import Family
from netlab.proxy import iptables
from netlab.proxy.config import ProxyConfig
from netlab.proxy.kernel import ProgramError, run_program
from netlab.proxy.nftables.executor import NftablesExecutor, cleanup_nftables
from netlab.proxy.plan import Frontend, Plan, Transaction, apply

__all__ = ["Executor", "IptablesExecutor", "cleanup_iptables", "cleanup_nftables", "executor_for"]

UNKNOWN = "?"
"""A rule that no plan makes: chains in the kernel with unknown rules differ from any wanted one."""


class Filling(Protocol):
    """A data plane that is not in force yet. Every method raises ProgramError, see Executor."""

    async def add(self, transaction: Transaction) -> None:
        """Add a part of the plan, or change a part already added."""

    async def end(self) -> None:
        """Put everything in force, at once."""


class Executor(Protocol):
    """One family's data plane in the network namespace of the process.

    Every method raises ProgramError when the kernel refuses; then nothing has changed in the kernel, and only
    `replace` may follow.
    """

    family: Family
    batches: int
    """How many batches the kernel has accepted from it: each makes a generation of the rules."""

    async def begin(self) -> Filling | None:
        """If there is nothing yet, start applying a plan that is not fully known. None: only `replace` is possible."""

    async def replace(self, plan: Plan) -> None:
        """Replace whatever is in force by a plan, atomically."""

    async def apply(self, transaction: Transaction) -> None:
        """Apply the difference from what is in force, atomically."""

    async def assume(self, plan: Plan) -> None:
        """Assume that another process applied this plan, and change nothing: for `differences` and `explain`."""

    async def intact(self) -> bool:
        """Whether the kernel still holds what was applied."""

    async def differences(self) -> list[str]:
        """How the kernel differs from what was applied, in words."""

    def explain(self, frontend: Frontend) -> list[str]:
        """The elements and rules for a frontend in the plan in force; none if it is not in it."""


class IptablesExecutor:
    """iptables, through iptables-restore; the variant over nftables where it is installed."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.family = family
        self.batches = 0
        self._config = config
        self.written: dict[str, int] = {}
        """How many rules the last change wrote, by table."""
        self._plan: Plan = {}
        self._tables: iptables.Tables = {}

    @property
    def rules(self) -> dict[str, int]:
        """How many rules are in force, by table."""
        return {table: sum(map(len, chains.values())) for table, chains in self._tables.items()}

    async def begin(self) -> Filling | None:
        """See Executor."""
        return None

    async def replace(self, plan: Plan) -> None:
        """See Executor. Chains of an earlier proxy that are not needed are deleted."""
        found = await self._listed()
        self._tables = _own(found)
        await self._load(plan)
        # The hooks last: until then nothing leads to chains that are not there yet.
        await self._hook(found)

    async def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        await self._load(apply(self._plan, transaction))

    async def assume(self, plan: Plan) -> None:
        """See Executor."""
        self._plan, self._tables = dict(plan), iptables.tables(plan, self.family, self._config)

    async def intact(self) -> bool:
        """See Executor."""
        try:
            return not await self.differences()
        except ProgramError:
            return False

    async def differences(self) -> list[str]:
        """See Executor. The number of rules in each chain is compared, and the hooks."""
        found = await self._listed()
        lines = []
        for table, chains in self._tables.items():
            listed = found.get(table, {})
            for name, rules in chains.items():
                if name not in listed:
                    lines.append(f"chain {name} of table {table} is missing")
                elif len(listed[name]) != len(rules):
                    lines.append(f"chain {name} of table {table} has {len(listed[name])} rules instead of {len(rules)}")
        for table, hooks in self._missing_hooks(found).items():
            lines += [f"chain {hook} of table {table} lacks {rule}" for hook, rule in hooks]
        return lines

    def explain(self, frontend: Frontend) -> list[str]:
        """See Executor."""
        target = self._plan.get(frontend)
        if target is None:
            return []
        made = iptables.tables({frontend: target}, self.family, self._config)
        return [
            f"-t {table} -A {name} {rule}" for table, chains in made.items() for name in chains for rule in chains[name]
        ]

    async def remove(self) -> None:
        """Delete every chain and hook that a kube-proxy in this mode made."""
        found = await self._listed()
        lines = []
        for table, hooks in iptables.HOOKS.items():
            present = [(hook, rule) for hook, rule in hooks if rule in found.get(table, {}).get(hook, ())]
            if present:
                lines += [f"*{table}", *(f"-D {hook} {rule}" for hook, rule in present), iptables.COMMIT]
        await self._restore("".join(f"{line}\n" for line in lines))
        await self._change(_own(found), {table: {} for table in found})

    async def _load(self, plan: Plan) -> None:
        new = iptables.tables(plan, self.family, self._config)
        await self._change(self._tables, new)
        self.written = {
            table: sum(len(rules) for name, rules in chains.items() if self._tables.get(table, {}).get(name) != rules)
            for table, chains in new.items()
        }
        self._plan, self._tables = plan, new

    async def _change(self, old: iptables.Tables, new: iptables.Tables) -> None:
        try:
            await self._restore(iptables.render(old, new))
        except ProgramError as error:
            if os.strerror(errno.EMSGSIZE) not in str(error):
                raise
            # None of it is in force; applied in parts it works, though not atomically.
            for part in iptables.render_parts(old, new):
                await self._restore(part)

    async def _hook(self, found: iptables.Tables) -> None:
        lines = []
        for table, hooks in self._missing_hooks(found).items():
            # First in their chains, where a foreign rule cannot accept before them.
            lines += [f"*{table}", *(f"-I {hook} 1 {rule}" for hook, rule in hooks), iptables.COMMIT]
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
            self.batches += text.splitlines().count(iptables.COMMIT)

    def _program(self, verb: str) -> str:
        name = "iptables" if self.family == "IPv4" else "ip6tables"
        variant = f"{name}-nft-{verb}"
        return variant if shutil.which(variant) else f"{name}-{verb}"


def _own(found: iptables.Tables) -> iptables.Tables:
    """The chains that a kube-proxy in this mode made, whatever their contents."""
    return {table: {name: [UNKNOWN] for name in chains if name.startswith("KUBE-")} for table, chains in found.items()}


def executor_for(family: Family, config: ProxyConfig) -> Executor:
    """The data plane for the configuration."""
    return NftablesExecutor(family, config) if config.mode == "nftables" else IptablesExecutor(family, config)


async def cleanup_iptables(families: Sequence[Family]) -> None:
    """Remove our chains of these families, if there are any."""
    for family in families:
        await IptablesExecutor(family, ProxyConfig(node_name="", mode="iptables")).remove()
