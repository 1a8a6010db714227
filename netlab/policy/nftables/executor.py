"""The kernel's tables of policies, which follow a plan: `nft` makes what is permanent, netlink what comes and goes."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator

from netlab.net.addresses import Family
from netlab.net.kernel_table import KernelTable, number_of
from netlab.net.nftables import rules, tables
from netlab.net.nftables.batch import Batch, Elements
from netlab.net.programs import ProgramError
from netlab.policy.nftables.elements import change, contents, no_longer_used, unused
from netlab.policy.nftables.layout import TABLE, Layout
from netlab.policy.nftables.steps import stages, steps
from netlab.policy.plan import Plan, Profiles, Transaction

log = logging.getLogger(__name__)

_READINGS = 5
"""How often to read a table until the kernel accepts the difference."""
_CHANGED = frozenset([errno.ERESTART, errno.EEXIST, errno.ENOENT])
"""The kernel's errors for a difference that does not fit the table."""


class NftablesExecutor(KernelTable[Layout]):
    """One family's table in the network namespace of the process.

    Every method may wait for the kernel, and raises ProgramError when it refuses; then nothing has changed in the
    kernel, and only `replace` may follow.
    """

    def __init__(self, family: Family) -> None:
        super().__init__(TABLE, Layout(family))

    def replace(self, plan: Plan, profiles: Profiles) -> None:
        """Bring whatever is there to a plan, atomically; a table of this layout by the difference alone."""
        wanted = contents(plan, profiles, self.family)
        for _ in range(_READINGS):
            found = self._read()
            if found is None:
                self._make(wanted)
                return
            if found.comment != self._layout.comment:
                log.info("%s table %s had another layout: replaced", self.family, TABLE)
                self._script(self._whole(wanted))
                self._remember()
                return
            if self._is_damaged(found):
                # In one transaction, so that nothing is open meanwhile.
                self._script(self._whole(wanted))
                self._remember()
                return
            try:
                # The table must still be as it was read.
                batch = tables.difference(found.elements, wanted, self._layout.schemas)
                for number, step in enumerate(steps(batch, unused(wanted))):
                    self._commit(step, found.generation + number)
            except ProgramError as error:
                if number_of(error) in _CHANGED:
                    log.info("%s rules changed while they were read: %s", self.family, error)
                    continue
                raise
            if found.dormant:
                self._send([rules.awakening(self._layout.ip, TABLE)])
            self._remember()
            return
        raise ProgramError(f"table {self._layout.ip} {TABLE} changes faster than it can be read")

    def apply(self, transaction: Transaction) -> None:
        """Apply the difference from what is in force; what it changes of verdicts, atomically."""
        for step in steps(change(transaction, self.family), no_longer_used(transaction, self.family)):
            self._commit(step)

    def differences(self, plan: Plan, profiles: Profiles) -> list[str]:
        """How the kernel differs from a plan, in words."""
        found, wanted = self._read(), contents(plan, profiles, self.family)
        return list(self._words(found, wanted))

    def remove(self) -> None:
        """Remove the table, if there is one."""
        with self._socket() as netlink:
            if tables.read(netlink, self._layout.ip, TABLE, ()) is None:
                return
        # Adding first makes the deletion succeed if it has gone meanwhile.
        name = f"{self._layout.ip} {TABLE}"
        self._script(f"add table {name}\ndelete table {name}\n")

    # --- Below -----------------------------------------------------------------------------------------------------

    def _make(self, wanted: Elements) -> None:
        """A new table: nothing of it is in force until all is there."""
        self._script(self._layout.script(dormant=True))
        self._send_in_parts(Batch(come=wanted))
        self._send([rules.awakening(self._layout.ip, TABLE)])
        self._remember()

    def _whole(self, wanted: Elements) -> str:
        """A script that replaces the table in one transaction."""
        table = f"{self._layout.ip} {TABLE}"
        lines = [f"add table {table}", f"delete table {table}", self._layout.script()]
        for name, elements in wanted.items():
            texts = ", ".join(self._layout.schemas[name].text(key, value) for key, value in elements.items())
            lines.append(f"add element {table} {name} {{ {texts} }}")
        return "\n".join(lines) + "\n"

    def _words(self, found: tables.Found | None, wanted: Elements) -> Iterator[str]:
        table = f"table {self._layout.ip} {TABLE}"
        if found is None:
            yield f"{table} is missing"
            return
        if found.comment != self._layout.comment:
            yield f"{table} has another layout"
        if found.dormant:
            yield f"{table} is dormant"
        if self._is_damaged(found):
            yield f"{table} has other sets, chains or rules"
        schemas = self._layout.schemas
        batch = tables.difference(found.elements, wanted, schemas)
        for verb, changed in (("lacks", batch.come), ("has beyond the plan", batch.gone)):
            for name, elements in changed.items():
                yield from (
                    f"{schemas[name].kind} {name} {verb} {schemas[name].text(*each)}" for each in elements.items()
                )

    def _is_damaged(self, found: tables.Found) -> bool:
        chains = list(self._layout.chains())
        strays = found.chains.keys() - {chain.name for chain in chains}
        return bool(strays) or tables.is_damaged(found, self._layout.schemas, chains, self._digests)

    def _read(self) -> tables.Found | None:
        with self._socket() as netlink:
            return tables.read(netlink, self._layout.ip, TABLE, self._layout.schemas)

    def _remember(self) -> None:
        with self._socket() as netlink:
            self._digests = tables.digests(netlink, self._layout.ip, TABLE)

    def _commit(self, batch: Batch, generation: int = 0) -> None:
        listed = self._messages(batch)
        try:
            if listed:
                self._send(listed, generation)
        except ProgramError as error:
            if number_of(error) != errno.EMSGSIZE:
                raise
            # In a user namespace. In parts, but none of them admits what neither plan does.
            for part in stages(batch):
                self._send_in_parts(part)
