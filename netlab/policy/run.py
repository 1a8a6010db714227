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
from netlab.api.networking_types import NetworkPolicy
from netlab.api.progress import Progress
from netlab.api.resources import NETWORKPOLICIES
from netlab.net.addresses import Family
from netlab.policy import desk
from netlab.policy.desk import Newcomer
from netlab.policy.enforcer import Enforcer
from netlab.policy.notes import Notes
from netlab.policy.objects import NAMESPACES, PODS

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


async def run(client: Client, config: EnforcerConfig, in_force: Callable[[int], None] = lambda _: None) -> None:
    """Keep this network namespace's rules true to the API's policies until cancelled.

    `in_force` is called with the resourceVersion for which the rules in force stand, whenever that has grown. As long
    as there is no policy, only policies are watched. Failures are logged and retried; the rules stay as they are when
    this ends. Raises OSError if its files cannot be made.
    """
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    notes = Notes(config.directory / "pods")
    policies = Informer(client, NETWORKPOLICIES)
    pods, namespaces = Informer(client, PODS), Informer(client, NAMESPACES)
    progress = Progress(in_force)
    starting = progress.begin()
    enforcer = Enforcer(config.node_name, config.families, notes, progress)
    following: list[Informer[Any]] = [policies]
    needed = asyncio.Event()

    def seen() -> None:
        if revision := min(each.revision for each in following):
            progress.seen(revision)

    def policy_changed(old: NetworkPolicy | None, new: NetworkPolicy | None) -> None:
        enforcer.policy_changed(old, new)
        needed.set()

    policies.on_change(policy_changed)
    pods.on_change(enforcer.pod_changed)
    namespaces.on_change(enforcer.namespace_changed)
    for informer in (policies, pods, namespaces):
        informer.on_progress(seen)

    async def admit(newcomer: Newcomer) -> None:
        notes.write(newcomer.uid, newcomer.addresses)
        await policies.synced.wait()
        if needed.is_set():
            await enforcer.admit(newcomer)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(policies.run())
        tasks.create_task(desk.serve(config.socket, admit))
        await policies.synced.wait()
        if not needed.is_set():
            await enforcer.clear()
        progress.end(starting)
        await needed.wait()
        for family in config.families:
            _judge_bridged(family)
        following += [pods, namespaces]
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
