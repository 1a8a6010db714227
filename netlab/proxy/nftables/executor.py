"""The nftables data plane in the kernel: `nft` makes what is permanent, netlink what comes and goes."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from netlab.net.addresses import Family, of_family
from netlab.net.netlink import Message, NetlinkError
from netlab.net.nftables import rules
from netlab.net.nftables.socket import Nfnetlink
from netlab.proxy.config import ProxyConfig
from netlab.proxy.kernel import ProgramError, run_program
from netlab.proxy.nftables import table
from netlab.proxy.nftables.layout import NFT_FAMILY, TABLE, Layout
from netlab.proxy.nftables.ruleset import Batch, Ruleset
from netlab.proxy.plan import Change, Frontend, Plan, Target, Transaction, difference

log = logging.getLogger(__name__)

T = TypeVar("T")

_READINGS = 5
"""How often to read a table until two readings agree, or the kernel accepts the difference."""
_CHANGED = frozenset([errno.ERESTART, errno.EEXIST, errno.ENOENT])
"""The kernel's errors for a difference that does not fit the table."""
_COMPARE_SHARE, _QUICK = 50, 0.1
"""Comparing elements may take at most one part in so many of the time, unless it takes less than this, in seconds."""


class NftablesExecutor:
    """See netlab.proxy.executor.Executor. After a restart it updates the table that it finds."""

    def __init__(self, family: Family, config: ProxyConfig) -> None:
        self.family = family
        self.batches = 0
        self._layout = layout_of(family, config)
        self._ruleset = Ruleset(self._layout)
        self._plan: dict[Frontend, Target] = {}
        self._digests: table.Digests = {}
        """Digests of the layout's chains, as they were made."""
        self._netlink: Nfnetlink | None = None
        self._compare_at = 0.0

    async def begin(self) -> _Filling | None:
        """See Executor."""
        there = await self._call(lambda netlink: table.read(netlink, self._layout, elements=False))
        return await self._begin() if there is None else None

    async def replace(self, plan: Plan) -> None:
        """See Executor. Applies only the difference to an existing table of this layout; affinity is kept."""
        self._plan = dict(plan)
        for _ in range(_READINGS):
            found = await self._in_thread(lambda netlink: table.read(netlink, self._layout))
            if found is None:
                await self._make(plan)
                return
            self._ruleset = Ruleset(self._layout)
            self._ruleset.adopt(self._plan, found.elements, found.chains)
            contents = self._ruleset.contents(self._plan)
            if found.comment != self._layout.comment:
                log.info("%s table %s had another layout: replaced", self.family, TABLE)
                await self._script(table.whole(self._layout, contents))
                await self._remember_layout()
                return
            repair = table.repair(found, contents, self._layout, self._digests)
            if repair.layout:
                await self._script(self._layout.script(dormant=found.dormant))
            try:
                # The table must still be as it was read, unless the layout was repaired in between.
                await self._commit(repair.batch, 0 if repair.layout else found.generation)
            except ProgramError as error:
                cause = getattr(error.__cause__, "errno", 0)
                if cause == errno.EMSGSIZE:
                    # In a user namespace. Better no rules for a moment than some of them.
                    log.warning("%s rules: %s; rebuilding the table in parts", self.family, error)
                    await self._script(_removal(self.family))
                    await self._make(plan)
                    return
                if cause in _CHANGED:
                    log.info("%s rules changed while they were read: %s", self.family, error)
                    continue
                raise
            if found.dormant:
                await self._call(self._awaken)
            await self._remember_layout()
            return
        raise ProgramError(f"table {self._layout.ip} {TABLE} changes faster than it can be read")

    async def apply(self, transaction: Transaction) -> None:
        """See Executor."""
        await self._commit(self._take_on(transaction))

    async def assume(self, plan: Plan) -> None:
        """See Executor. Endpoints keep their slots."""
        self._plan = dict(plan)
        found = await self._in_thread(lambda netlink: table.read(netlink, self._layout))
        self._ruleset = Ruleset(self._layout)
        if found is not None:
            self._ruleset.adopt(self._plan, found.elements, found.chains)
        else:
            self._ruleset.adopt(self._plan, {})

    async def intact(self) -> bool:
        """See Executor. Compares chains every time, very large maps less often."""
        try:
            if time.monotonic() >= self._compare_at:
                return not await self.differences()
            return not await self._in_thread(lambda netlink: self._compare(netlink, elements=False))
        except ProgramError:
            return False

    async def differences(self) -> list[str]:
        """See Executor."""
        began = time.monotonic()
        lines: list[str] = []
        for _ in range(_READINGS):
            before, lines = lines, await self._in_thread(self._compare)
            if lines == before:
                break
        # For every 32 KiB of a dump the kernel walks the set from its beginning: that grows with the square.
        now = time.monotonic()
        if now - began > _QUICK:
            self._compare_at = now + _COMPARE_SHARE * (now - began)
        return lines

    def _compare(self, netlink: Nfnetlink, *, elements: bool = True) -> list[str]:
        found = table.read(netlink, self._layout, elements=elements)
        contents = self._ruleset.contents(self._plan)
        if not elements:
            contents.elements.clear()
        return list(table.words(found, contents, self._layout, self._digests))

    def explain(self, frontend: Frontend) -> list[str]:
        """See Executor."""
        target = self._plan.get(frontend)
        if target is None:
            return []
        lowered = self._ruleset.lowered(frontend, target)
        schemas = self._layout.schemas()
        lines = [
            f"{schemas[name].kind} {name}: {schemas[name].text(key, value)}"
            for name, elements in lowered.elements.items()
            for key, value in elements.items()
        ]
        for chain in self._layout.chains():
            if chain.name.endswith("external-local") and chain.name not in lowered.elements:
                continue
            rules = [rule for rule in chain.rules if any(f"@{name}" in rule.split() for name in lowered.elements)]
            lines.extend(table.chain_lines(chain.name, rules))
        return [*lines, *table.shape_lines(lowered.chains.values())]

    def _take_on(self, transaction: Transaction) -> Batch:
        for frontend, _, new in transaction:
            if new is None:
                self._plan.pop(frontend, None)
            else:
                self._plan[frontend] = new
        return self._ruleset.change(transaction)

    async def _begin(self) -> _Filling:
        self._ruleset, self._plan = Ruleset(self._layout), {}
        await self._script(self._layout.script(dormant=True))
        return _Filling(self)

    async def _make(self, plan: Plan) -> None:
        filling = await self._begin()
        await filling.add(difference({}, plan))
        await filling.end()

    def _awaken(self, netlink: Nfnetlink) -> None:
        netlink.commit([rules.awakening(self._layout.ip, TABLE)])
        self.batches += 1

    async def _remember_layout(self) -> None:
        self._digests = await self._call(lambda netlink: table.read_layout(netlink, self._layout))

    async def _commit(self, batch: Batch, generation: int = 0) -> None:
        messages = table.messages(batch, self._layout)
        if messages:
            await self._call(lambda netlink: netlink.commit(messages, generation))
            self.batches += 1

    async def _script(self, script: str) -> None:
        await _nft(script)
        self.batches += 1

    async def _call(self, function: Callable[[Nfnetlink], T]) -> T:
        """Send the kernel a request; its answer."""
        try:
            return function(self._open())
        except OSError as error:
            raise self._failed(error) from error

    async def _in_thread(self, function: Callable[[Nfnetlink], T]) -> T:
        """The same, for requests that may take seconds."""
        try:
            return await asyncio.to_thread(function, self._open())
        except OSError as error:
            raise self._failed(error) from error

    def _open(self) -> Nfnetlink:
        if self._netlink is None:
            self._netlink = Nfnetlink()
        return self._netlink

    def _failed(self, error: OSError) -> ProgramError:
        # A late answer must not be taken for the answer to the next request.
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
        return ProgramError(f"table {self._layout.ip} {TABLE}: the kernel refused a batch: {error}")


_PART = 8_000
"""How many endpoints to add at a time to a table that is not in force yet."""


class _Filling:
    """See netlab.proxy.executor.Filling. The table is dormant until the end."""

    def __init__(self, executor: NftablesExecutor) -> None:
        self._executor = executor
        self._sending: asyncio.Future[int] | None = None

    async def add(self, transaction: Transaction) -> None:
        executor = self._executor
        for part in _parts(transaction):
            messages = table.messages(executor._take_on(part), executor._layout)
            await self._sent()
            # Directly, not in a task: the kernel works on this part while the next one is planned and packed.
            self._sending = asyncio.get_running_loop().run_in_executor(None, _commit_all, executor._open(), messages)

    async def end(self) -> None:
        await self._sent()
        await self._executor._call(self._executor._awaken)
        await self._executor._remember_layout()

    async def _sent(self) -> None:
        if self._sending is not None:
            try:
                self._executor.batches += await self._sending
            except OSError as error:
                raise self._executor._failed(error) from error


def _commit_all(netlink: Nfnetlink, messages: Sequence[Message]) -> int:
    """Send one batch, or several if that is too long for an ordinary user's socket; returns how many."""
    try:
        netlink.commit(messages)
        return 1
    except NetlinkError as error:
        if error.errno != errno.EMSGSIZE or len(messages) == 1:
            raise
        half = len(messages) // 2
        return _commit_all(netlink, messages[:half]) + _commit_all(netlink, messages[half:])


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


def layout_of(family: Family, config: ProxyConfig) -> Layout:
    """The layout for a configuration."""
    match, value = "", ""
    detect = config.detect_local
    cidrs = of_family(detect.cidrs, family)
    if detect.mode in ("ClusterCIDR", "NodeCIDR") and cidrs:
        match, value = f"{NFT_FAMILY[family]} saddr", f"{{ {', '.join(cidrs)} }}"
    elif detect.mode == "BridgeInterface":
        match, value = "iifname", f'"{detect.interface}"'
    elif detect.mode == "InterfaceNamePrefix":
        match, value = "iifname", f'"{detect.interface}*"'
    return Layout(
        family,
        pods=f"{match} {value}" if match else "",
        not_pods=f"{match} != {value}" if match else "",
        masquerade_all=config.masquerade_all,
        masquerade_mark=1 << config.masquerade_bit,
        node_port_addresses=of_family(config.node_port_addresses, family),
        service_cidrs=of_family(config.service_cidrs, family),
    )


async def cleanup_nftables(families: Sequence[Family]) -> None:
    """Remove the tables of these families, if there are any."""
    for family in families:
        await _nft(_removal(family))


def _removal(family: Family) -> str:
    # Adding first makes the deletion succeed whether the table is there or not.
    name = f"{NFT_FAMILY[family]} {TABLE}"
    return f"add table {name}\ndelete table {name}\n"


async def _nft(script: str) -> None:
    await run_program(["nft", "-f", "-"], script)
