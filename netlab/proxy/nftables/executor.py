"""The nftables data plane in the kernel: `nft` makes what is permanent, netlink what comes and goes."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator

from netlab.net.addresses import Family
from netlab.net.kernel_table import KernelTable, number_of
from netlab.net.nftables import rules
from netlab.net.nftables.batch import Batch
from netlab.net.nftables.schemas import NFT_FAMILY
from netlab.net.nftables.tables import Found
from netlab.net.programs import ProgramError
from netlab.proxy.config import ProxyConfig
from netlab.proxy.nftables import comparison
from netlab.proxy.nftables.contents import whole
from netlab.proxy.nftables.elements import Ruleset
from netlab.proxy.nftables.fixed import TABLE, Layout, layout_of
from netlab.proxy.plan import Change, Frontend, Plan, Target, Transaction, difference

log = logging.getLogger(__name__)

_READINGS = 5
"""How often to read a table until two readings agree, or the kernel accepts the difference."""
_CHANGED = frozenset([errno.ERESTART, errno.EEXIST, errno.ENOENT])
"""The kernel's errors for a difference that does not fit the table."""
_COMPARE_SHARE, _QUICK = 50, 0.1
"""Comparing elements may take at most one part in so many of the time, unless it takes less than this, in seconds."""
_PART = 4_000
"""How many endpoints to add at a time to a table that is not in force yet."""


class NftablesExecutor(KernelTable[Layout]):
    """See netlab.proxy.executor. After a restart it updates the table that it finds."""

    few = 10

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        super().__init__(TABLE, layout_of(family, config))
        self._ruleset = Ruleset(self._layout)
        self._plan: dict[Frontend, Target] = {}
        self._compare_at = 0.0

    # --- Something new, dormant until its end ----------------------------------------------------------------------

    def begin(self) -> NftablesExecutor | None:
        """See Executor."""
        if self._read(elements=False) is not None:
            return None
        self._begin()
        return self

    def parts(self, transaction: Transaction) -> Iterator[Batch]:
        """See Filling."""
        return map(self._take_on, _parts(transaction))

    def send(self, part: Batch) -> None:
        """See Filling."""
        self._send_in_parts(part)

    def end(self) -> None:
        """See Filling."""
        self._send([rules.awakening(self._layout.ip, TABLE)])
        self._remember_layout()

    # --- What is in force ------------------------------------------------------------------------------------------

    def replace(self, plan: Plan) -> None:
        """See Executor. Applies only the difference to an existing table of this layout; affinity is kept."""
        for _ in range(_READINGS):
            found = self._adopt(plan)
            if found is None:
                self._make(plan)
                return
            contents = self._ruleset.contents(self._plan)
            if found.comment != self._layout.comment:
                log.info("%s table %s had another layout: replaced", self.family, TABLE)
                self._script(whole(self._layout, contents))
                self._remember_layout()
                return
            repair = comparison.repair(found, contents, self._layout, self._digests)
            if repair.layout:
                self._script(self._layout.script(dormant=found.dormant))
            try:
                # The table must still be as it was read, unless the layout was repaired in between.
                self._commit(repair.batch, 0 if repair.layout else found.generation)
            except ProgramError as error:
                if number_of(error) == errno.EMSGSIZE:
                    # In a user namespace. Better no rules for a moment than some of them.
                    log.warning("%s rules: %s; rebuilding the table in parts", self.family, error)
                    self.remove()
                    self._make(plan)
                    return
                if number_of(error) in _CHANGED:
                    log.info("%s rules changed while they were read: %s", self.family, error)
                    continue
                raise
            if found.dormant:
                self._send([rules.awakening(self._layout.ip, TABLE)])
            self._remember_layout()
            return
        raise ProgramError(f"table {self._layout.ip} {TABLE} changes faster than it can be read")

    def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        self._commit(self._take_on(transaction))

    def assume(self, plan: Plan) -> None:
        """See Executor. Endpoints keep their slots."""
        self._adopt(plan)

    def intact(self) -> bool:
        """See Executor. Compares chains every time, very large maps less often."""
        try:
            if time.monotonic() >= self._compare_at:
                return not self.differences()
            return not self._compare(elements=False)
        except ProgramError:
            return False

    def differences(self) -> list[str]:
        """See Executor."""
        began = time.monotonic()
        lines: list[str] = []
        for _ in range(_READINGS):
            before, lines = lines, self._compare()
            if lines == before:
                break
        # For every 32 KiB of a dump the kernel walks the set from its beginning: that grows with the square.
        now = time.monotonic()
        if now - began > _QUICK:
            self._compare_at = now + _COMPARE_SHARE * (now - began)
        return lines

    def explain(self, frontend: Frontend) -> list[str]:
        """See Executor."""
        target = self._plan.get(frontend)
        if target is None:
            return []
        part = self._ruleset.part(frontend, target)
        schemas = self._layout.schemas
        lines = [
            f"{schemas[name].kind} {name}: {schemas[name].text(key, value)}"
            for name, elements in part.elements.items()
            for key, value in elements.items()
        ]
        for chain in self._layout.chains():
            if chain.name.endswith("external-local") and chain.name not in part.elements:
                continue
            rules = [rule for rule in chain.rules if any(f"@{name}" in rule.split() for name in part.elements)]
            lines.extend(comparison.chain_lines(chain.name, rules))
        return [*lines, *comparison.planned_lines(part.chains.values())]

    def remove(self) -> None:
        """See Executor."""
        # Adding first makes the deletion succeed whether the table is there or not.
        name = f"{NFT_FAMILY[self.family]} {TABLE}"
        self._script(f"add table {name}\ndelete table {name}\n")

    # --- Below -----------------------------------------------------------------------------------------------------

    def _take_on(self, transaction: Transaction) -> Batch:
        for frontend, _, new in transaction:
            if new is None:
                self._plan.pop(frontend, None)
            else:
                self._plan[frontend] = new
        return self._ruleset.change(transaction)

    def _adopt(self, plan: Plan) -> Found | None:
        self._plan = dict(plan)
        found = self._read()
        self._ruleset = Ruleset(self._layout)
        self._ruleset.adopt(self._plan, *((found.elements, found.chains) if found else ({},)))
        return found

    def _begin(self) -> None:
        self._ruleset, self._plan = Ruleset(self._layout), {}
        self._script(self._layout.script(dormant=True))

    def _make(self, plan: Plan) -> None:
        self._begin()
        for part in self.parts(difference({}, plan)):
            self.send(part)
        self.end()

    def _compare(self, *, elements: bool = True) -> list[str]:
        found = self._read(elements=elements)
        contents = self._ruleset.contents(self._plan)
        if not elements:
            contents.elements.clear()
        return list(comparison.words(found, contents, self._layout, self._digests))

    def _read(self, *, elements: bool = True) -> Found | None:
        with self._socket() as netlink:
            return comparison.read(netlink, self._layout, elements=elements)

    def _remember_layout(self) -> None:
        with self._socket() as netlink:
            self._digests = comparison.read_layout(netlink, self._layout)

    def _commit(self, batch: Batch, generation: int = 0) -> None:
        if listed := self._messages(batch):
            self._send(listed, generation)


def _parts(transaction: Transaction) -> Iterator[Transaction]:
    part: list[Change] = []
    size = 0
    for change in transaction:
        part.append(change)
        if change.new is not None:
            size += len(change.new.cluster) + len(change.new.local)
        if size >= _PART:
            yield tuple(part)
            part, size = [], 0
    if part:
        yield tuple(part)
