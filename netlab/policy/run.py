"""A node's enforcer of policies: from the API's objects to the kernel, until cancelled."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netlab.api.client import Client
from netlab.api.informer import Informer
from netlab.api.meta_types import Object
from netlab.api.progress import Progress
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS, NETWORKPOLICIES
from netlab.net.addresses import Family
from netlab.policy import desk
from netlab.policy.cluster_types import CLUSTERNETWORKPOLICIES, DEFINITION_NAME
from netlab.policy.desk import Newcomer
from netlab.policy.enforcer import Enforcer
from netlab.policy.notes import Notes
from netlab.policy.objects import NAMESPACES, PODS
from netlab.policy.rules import AnyPolicy

_BRIDGE_SETTINGS = {
    "IPv4": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "IPv6": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}
"""Whether frames between the ports of a bridge take the hooks of IP (br_netfilter), as Kubernetes requires."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EnforcerConfig:
    """What a node's enforcer needs to know: the Node's name, the families of pods, and where its files are."""

    node_name: str
    families: tuple[Family, ...]
    directory: Path = Path("/run/netlab/policy")

    @property
    def socket(self) -> Path:
        """Where CNI plugins ask (netlab.policy.desk)."""
        return self.directory / "desk.sock"


class _Policies:
    """The policies of an API server: of namespaces, and once the server has the kind, of the cluster."""

    def __init__(self, client: Client, changed: Callable[[AnyPolicy | None, AnyPolicy | None], None]) -> None:
        self.any = asyncio.Event()
        """Set once there is one, or has been."""
        self._of_namespaces = Informer(client, NETWORKPOLICIES)
        self._definitions = Informer(client, CUSTOMRESOURCEDEFINITIONS, fields=f"metadata.name={DEFINITION_NAME}")
        self._of_cluster = Informer(client, CLUSTERNETWORKPOLICIES)
        self._defined = asyncio.Event()
        self.following: list[Informer[Any]] = [self._of_namespaces, self._definitions]

        def policy_changed(old: AnyPolicy | None, new: AnyPolicy | None) -> None:
            changed(old, new)
            self.any.set()

        self._of_namespaces.on_change(policy_changed)
        self._of_cluster.on_change(policy_changed)
        self._definitions.on_change(self._definition_changed)

    def on_progress(self, handler: Callable[[], None]) -> None:
        """See Informer."""
        for informer in (self._of_namespaces, self._definitions, self._of_cluster):
            informer.on_progress(handler)

    async def follow(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._of_namespaces.run())
            tasks.create_task(self._definitions.run())
            await self._defined.wait()
            self.following.append(self._of_cluster)
            tasks.create_task(self._of_cluster.run())

    async def known(self) -> None:
        """Wait until it is known which there are."""
        await self._of_namespaces.synced.wait()
        await self._definitions.synced.wait()
        if self._defined.is_set():
            await self._of_cluster.synced.wait()

    def _definition_changed(self, _: Object | None, new: Object | None) -> None:
        if new is not None:
            self._defined.set()
        else:
            self._of_cluster.forget()


async def run(client: Client, config: EnforcerConfig, in_force: Callable[[int], None] = lambda _: None) -> None:
    """Keep this network namespace's rules true to the API's policies until cancelled.

    `in_force` is called with the resourceVersion for which the rules in force stand, whenever that has grown. As long
    as there is no policy, only policies are watched. Failures are logged and retried; the rules stay as they are when
    this ends. Raises OSError if its files cannot be made.
    """
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    notes = Notes(config.directory / "pods")
    progress = Progress(in_force)
    starting = progress.begin()
    enforcer = Enforcer(config.node_name, config.families, notes, progress)
    policies = _Policies(client, enforcer.policy_changed)
    pods, namespaces = Informer(client, PODS), Informer(client, NAMESPACES)
    pods.on_change(enforcer.pod_changed)
    namespaces.on_change(enforcer.namespace_changed)

    def seen() -> None:
        if revision := min(each.revision for each in policies.following):
            progress.seen(revision)

    policies.on_progress(seen)
    pods.on_progress(seen)
    namespaces.on_progress(seen)

    async def admit(newcomer: Newcomer) -> None:
        notes.write(newcomer.uid, newcomer.addresses)
        await policies.known()
        if policies.any.is_set():
            await enforcer.admit(newcomer)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(policies.follow())
        tasks.create_task(desk.serve(config.socket, admit))
        await policies.known()
        if not policies.any.is_set():
            await enforcer.clear()
        progress.end(starting)
        await policies.any.wait()
        for family in config.families:
            _judge_bridged(family)
        policies.following += [pods, namespaces]
        tasks.create_task(pods.run())
        tasks.create_task(namespaces.run())
        await asyncio.gather(pods.synced.wait(), namespaces.synced.wait())
        await enforcer.serve()


def _judge_bridged(family: Family) -> None:
    setting = _BRIDGE_SETTINGS[family]
    try:
        if setting.read_text(encoding="ascii").strip() != "1":
            setting.write_text("1\n", encoding="ascii")
    except FileNotFoundError:
        log.warning("%s: no such setting: policies do not hold between pods on one bridge; load br_netfilter", setting)
    except OSError as error:
        log.warning("%s: %s: policies do not hold between pods on one bridge", setting, error.strerror)
