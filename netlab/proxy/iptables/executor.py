"""The iptables data plane in the kernel, by the programs iptables-restore and iptables-save."""

from __future__ import annotations

import errno
import os
import shutil

from netlab.net.addresses import Family
from netlab.net.programs import ProgramError, Programs
from netlab.proxy.config import ProxyConfig
from netlab.proxy.iptables.chains import tables
from netlab.proxy.iptables.fixed import HOOKS, Tables
from netlab.proxy.iptables.restore import COMMIT, parse, render, render_parts
from netlab.proxy.plan import Frontend, Plan, Transaction, apply

UNKNOWN = "?"
"""A rule that no plan makes: chains in the kernel with unknown rules differ from any wanted one."""


class IptablesExecutor:
    """See netlab.proxy.executor. Through iptables-restore; the variant over nftables where it is installed."""

    few = 0

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.family = family
        self.batches = 0
        self._config = config
        self._programs = Programs()
        self.written: dict[str, int] = {}
        """How many rules the last change wrote, by table."""
        self._plan: Plan = {}
        self._tables: Tables = {}

    @property
    def rules(self) -> dict[str, int]:
        """How many rules are in force, by table."""
        return {table: sum(map(len, chains.values())) for table, chains in self._tables.items()}

    def begin(self) -> None:
        """See Executor."""

    def replace(self, plan: Plan) -> None:
        """See Executor. Chains of an earlier proxy that are not needed are deleted."""
        found = self._listed()
        self._tables = _own(found)
        self._load(plan)
        # The hooks last: until then nothing leads to chains that are not there yet.
        self._hook(found)

    def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        self._load(apply(self._plan, transaction))

    def assume(self, plan: Plan) -> None:
        """See Executor."""
        self._plan, self._tables = dict(plan), tables(plan, self.family, self._config)

    def intact(self) -> bool:
        """See Executor."""
        try:
            return not self.differences()
        except ProgramError:
            return False

    def differences(self) -> list[str]:
        """See Executor. The number of rules in each chain is compared, and the hooks."""
        found = self._listed()
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
        made = tables({frontend: target}, self.family, self._config)
        return [
            f"-t {table} -A {name} {rule}" for table, chains in made.items() for name in chains for rule in chains[name]
        ]

    def remove(self) -> None:
        """See Executor."""
        found = self._listed()
        lines = []
        for table, hooks in HOOKS.items():
            present = [(hook, rule) for hook, rule in hooks if rule in found.get(table, {}).get(hook, ())]
            if present:
                lines += [f"*{table}", *(f"-D {hook} {rule}" for hook, rule in present), COMMIT]
        self._restore("".join(f"{line}\n" for line in lines))
        self._change(_own(found), {table: {} for table in found})

    def stop(self) -> None:
        """See Executor."""
        self._programs.stop()

    def _load(self, plan: Plan) -> None:
        new = tables(plan, self.family, self._config)
        self._change(self._tables, new)
        self.written = {
            table: sum(len(rules) for name, rules in chains.items() if self._tables.get(table, {}).get(name) != rules)
            for table, chains in new.items()
        }
        self._plan, self._tables = plan, new

    def _change(self, old: Tables, new: Tables) -> None:
        try:
            self._restore(render(old, new))
        except ProgramError as error:
            if os.strerror(errno.EMSGSIZE) not in str(error):
                raise
            # None of it is in force; applied in parts it works, though not atomically.
            for part in render_parts(old, new):
                self._restore(part)

    def _hook(self, found: Tables) -> None:
        lines = []
        for table, hooks in self._missing_hooks(found).items():
            # First in their chains, where a foreign rule cannot accept before them.
            lines += [f"*{table}", *(f"-I {hook} 1 {rule}" for hook, rule in hooks), COMMIT]
        self._restore("".join(f"{line}\n" for line in lines))

    @staticmethod
    def _missing_hooks(found: Tables) -> dict[str, list[tuple[str, str]]]:
        missing = {
            table: [(hook, rule) for hook, rule in hooks if rule not in found.get(table, {}).get(hook, ())]
            for table, hooks in HOOKS.items()
        }
        return {table: hooks for table, hooks in missing.items() if hooks}

    def _listed(self) -> Tables:
        return parse(self._programs.run([self._program("save")]))

    def _restore(self, text: str) -> None:
        if text:
            # Another program's lock (the legacy variant's alone) is waited for.
            self._programs.run([self._program("restore"), "--noflush", "--wait=5"], text)
            self.batches += text.splitlines().count(COMMIT)

    def _program(self, verb: str) -> str:
        name = "iptables" if self.family == "IPv4" else "ip6tables"
        variant = f"{name}-nft-{verb}"
        return variant if shutil.which(variant) else f"{name}-{verb}"


def _own(found: Tables) -> Tables:
    """The chains that a kube-proxy in this mode made, whatever their contents."""
    return {table: {name: [UNKNOWN] for name in chains if name.startswith("KUBE-")} for table, chains in found.items()}
