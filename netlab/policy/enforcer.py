"""A node's enforcer between the objects and the kernel: what is known, what is planned, and what is in force."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, ParamSpec, TypeVar

from netlab.api.core_types import Namespace, Pod
from netlab.api.meta_types import Object
from netlab.api.progress import Progress, Work
from netlab.errors import NetlabError
from netlab.net.addresses import Family
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.programs import ProgramError
from netlab.policy.book import Book
from netlab.policy.desk import Newcomer
from netlab.policy.facts import facts
from netlab.policy.nftables.executor import NftablesExecutor
from netlab.policy.notes import Notes
from netlab.policy.plan import Transaction
from netlab.policy.rules import AnyPolicy, kind_and_key, read

P = ParamSpec("P")
T = TypeVar("T")
Known = TypeVar("Known", bound=Object)

_RETRY = 1.0
"""Seconds before the kernel is tried again."""
_CHECK = 2.0
"""Seconds between two looks whether others have changed the rules."""
_FEW = 50
"""Changes that take so little time that handing them to a thread is not worth it."""

log = logging.getLogger(__name__)


class Enforcer:
    """The objects as they are known, the plan that they make, and each family's table.

    Nothing reaches the kernel before `serve`: what half of the objects say is no plan.
    """

    def __init__(self, node: str, families: Sequence[Family], notes: Notes, progress: Progress) -> None:
        self._node = node
        self._notes = notes
        self._progress = progress
        self._policies: dict[str, AnyPolicy] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._pods: dict[str, Pod] = {}
        self._book = Book()
        self._executors = [NftablesExecutor(family) for family in families]
        self._kernel = ThreadPoolExecutor(1, "policies")
        self._netlink = Nfnetlink()
        self._generation = 0
        """Of the kernel's ruleset when ours was last known to be in it."""
        self._tables: Literal["unknown", "in force", "none"] = "unknown"
        """Whether the kernel's tables are the plan's; without a policy there are none."""
        self._changed = asyncio.Event()
        self._due: list[Work] = []
        """What changes made due that may not be in force."""
        self._waiting: list[asyncio.Future[None]] = []
        """Of those who wait until what is known now is in force."""
        self._expected: dict[str, asyncio.Event] = {}
        """By the uids of pods whose sandboxes wait until they are known."""

    # --- What informers call -----------------------------------------------------------------------------------

    def policy_changed(self, old: AnyPolicy | None, new: AnyPolicy | None) -> None:
        """A policy appeared, changed or went away."""
        _note(self._policies, old, new)
        self._plan_policy(new or old)

    def namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        """A namespace appeared, changed or went away."""
        _note(self._namespaces, old, new)
        if (known := new or old) is not None:
            self._book.set_namespace(known.key, new.metadata.labels if new is not None else None)
        self._touch()

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """A pod appeared, changed or went away."""
        _note(self._pods, old, new)
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._notes.forget(old.metadata.uid)
        if new is None:
            assert old is not None
            self._book.set_pod(old.key, None)
        else:
            self._plan_pod(new)
            if new.metadata.uid in self._expected:
                self._expected.pop(new.metadata.uid).set()
        self._touch()

    def _plan_policy(self, policy: AnyPolicy | None) -> None:
        assert policy is not None
        if policy.key not in self._policies:
            self._book.set_policy(policy.key, None)
        else:
            try:
                found = read(policy)
            except (NetlabError, ValueError) as error:
                log.error("%s: %s; what it said before holds", kind_and_key(policy.key), error)
            else:
                for fault in found.faults:
                    log.error("%s: %s; this rule fails closed", kind_and_key(policy.key), fault)
                self._book.set_policy(policy.key, found)
        self._touch()

    def _plan_pod(self, pod: Pod) -> None:
        self._book.set_pod(pod.key, facts(pod, self._node, self._notes.addresses.get(pod.metadata.uid, ())))

    def _touch(self) -> None:
        if not self._changed.is_set():
            self._due.append(self._progress.begin())
            self._changed.set()

    # --- What a CNI plugin waits for ---------------------------------------------------------------------------

    async def admit(self, newcomer: Newcomer) -> None:
        """Return when the policies of a pod of this node are in force; its addresses are noted."""
        key = f"{newcomer.namespace}/{newcomer.name}"
        try:
            while (pod := self._pods.get(key)) is None or pod.metadata.uid != newcomer.uid:
                await self._expected.setdefault(newcomer.uid, asyncio.Event()).wait()
        finally:
            self._expected.pop(newcomer.uid, None)
        self._plan_pod(pod)
        self._touch()
        in_force = asyncio.get_running_loop().create_future()
        self._waiting.append(in_force)
        await in_force

    # --- The loop ----------------------------------------------------------------------------------------------

    async def clear(self) -> None:
        """Remove what an enforcer left behind that is no longer needed: there are no policies."""
        try:
            await self._remove()
        except ProgramError as error:
            log.error("policies: %s", error)

    async def serve(self) -> None:
        """Bring the kernel to the plan at every change, and look in between whether it is still so; never returns."""
        self._notes.keep({pod.metadata.uid for pod in self._pods.values()} | self._expected.keys())
        now = asyncio.get_running_loop().time
        look = now() + _CHECK
        try:
            while True:
                if self._changed.is_set():
                    await self._sync()
                if now() >= look:  # however fast changes follow each other
                    await self._check()
                    look = now() + _CHECK
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), look - now())
        finally:
            for executor in self._executors:
                executor.stop()

    async def _sync(self) -> None:
        self._changed.clear()
        due, self._due = self._due, []
        waiting, self._waiting = self._waiting, []
        try:
            await self._bring(self._book.take_changes())
            if waiting and not await self._check():
                # What others did to the rules is not repaired yet: no container may start.
                self._due, self._waiting = due + self._due, waiting + self._waiting
                return
        except Exception as error:
            # A bug that one object triggers must not end the process, nor leave a plan half made.
            fault = None if isinstance(error, NetlabError | OSError) else error
            log.error("policies: %s; trying again in %g s", error, _RETRY, exc_info=fault)
            if fault is not None:
                self._begin_anew()
            self._tables = "unknown"
            self._due, self._waiting = due + self._due, waiting + self._waiting
            await asyncio.sleep(_RETRY)
            self._changed.set()
            return
        for work in due:
            self._progress.end(work)
        for each in waiting:
            if not each.done():
                each.set_result(None)

    async def _bring(self, transaction: Transaction) -> None:
        if not self._policies:
            if self._tables != "none":
                await self._remove()
            return
        before = self._netlink.generation()
        made = self._batches()
        for executor in self._executors:
            if self._tables != "in force":
                await self._in_kernel(executor.replace, self._book.plan, self._book.profiles)
            elif len(transaction) <= _FEW:
                executor.apply(transaction)
            else:
                await self._in_kernel(executor.apply, transaction)
        # If there were more changes than ours, the next look sees what another program did.
        if self._generation in (0, before) and self._netlink.generation() <= before + self._batches() - made:
            self._generation = before + self._batches() - made
        if self._tables != "in force" or transaction:
            log.info("policies: %d changes are in force", len(transaction))
        self._tables = "in force"

    async def _remove(self) -> None:
        for executor in self._executors:
            await self._in_kernel(executor.remove)
        if self._tables == "in force":
            log.info("policies: the last one is gone; the tables are removed")
        self._tables, self._generation = "none", 0

    async def _check(self) -> bool:
        """Notice changes to the rules by others, and repair ours if they are affected; whether they are not."""
        generation = self._netlink.generation()
        if generation == self._generation or self._tables != "in force":
            return True
        self._generation = generation
        try:
            for executor in self._executors:
                differing = await self._in_kernel(executor.differences, self._book.plan, self._book.profiles)
                if differing:
                    log.warning(
                        "%s policies: changed by another program (%s); repairing", executor.family, differing[0]
                    )
                    self._tables = "unknown"
        except ProgramError as error:
            log.error("policies: %s", error)
            self._tables = "unknown"
        if self._tables != "in force":
            self._touch()
            return False
        return True

    def _begin_anew(self) -> None:
        self._book = Book()
        for namespace in self._namespaces.values():
            self._book.set_namespace(namespace.key, namespace.metadata.labels)
        for policy in self._policies.values():
            self._plan_policy(policy)
        for pod in self._pods.values():
            self._plan_pod(pod)

    def _batches(self) -> int:
        return sum(executor.batches for executor in self._executors)

    def _in_kernel(self, function: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> asyncio.Future[T]:
        """Call a function that may wait for the kernel, one after the other."""
        return asyncio.get_running_loop().run_in_executor(self._kernel, function, *arguments)


def _note(known: dict[str, Known], old: Known | None, new: Known | None) -> None:
    if new is not None:
        known[new.key] = new
    elif old is not None:
        known.pop(old.key, None)
