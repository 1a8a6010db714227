"""A pod's sandbox: a network namespace of the runtime's, joined to the pod network by CNI."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from netlab import files
from netlab.api.meta_types import ObjectMeta
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.chain import Runtime
from netlab.cni.runtime.configurations import load_network
from netlab.errors import NetlabError
from netlab.node import capabilities
from netlab.node.podstate import Sandbox
from netlab.node.runtime.service import AlreadyExistsError, RuntimeService, network_namespace

T = TypeVar("T")

CONCURRENT = 4
"""How many plugins run at once: more than a small machine has processors would only queue in the kernel."""


def sandbox_id(pod_uid: str, attempt: int) -> str:
    """The name of a pod's sandbox, which is CNI's container id: a list of namespaces shows the pod."""
    return f"{pod_uid}_{attempt}"


def pod_uid(identity: str) -> str:
    """The uid of the pod that a sandbox or container belongs to."""
    return identity.partition("_")[0]


def sandbox_attempt(identity: str) -> int:
    """Which of its pod's sandboxes this is, from 0."""
    attempt = identity.rpartition("_")[2]
    return int(attempt) if attempt.isdecimal() else 0


class Sandboxes:
    """Makes and removes sandboxes, each as a whole or not at all.

    A note on disk is written before a sandbox is made and deleted after it is removed. So the addresses of a sandbox
    are given back even if its kubelet was killed half-way or its machine is gone.
    """

    def __init__(
        self, runtime: RuntimeService, conf_dir: Path, plugin_dirs: list[Path], cache_dir: Path, primary: int
    ) -> None:
        """`primary` is the IP version of the node's first address: pods' addresses are listed in the node's order."""
        self._runtime = runtime
        self._conf_dir = conf_dir
        self._plugins = Runtime(plugin_dirs, cache_dir)
        self._notes = cache_dir / "sandboxes"
        self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._primary = primary
        # Calling a CNI plugin blocks until its process ends.
        self._threads = ThreadPoolExecutor(CONCURRENT, thread_name_prefix="cni")
        self.slots = asyncio.Semaphore(CONCURRENT)
        """Held while a sandbox is made."""

    def network_error(self) -> str:
        """Why there is no pod network yet, or "" when there is a configuration."""
        try:
            load_network(self._conf_dir)
        except NetlabError as error:
            return str(error)
        return ""

    def noted(self) -> dict[str, ObjectMeta]:
        """The sandboxes made here and not yet removed, complete or not, by id: each with its pod's names."""
        found = {}
        for path in self._notes.glob("*_*[0-9]"):
            namespace, _, name = path.read_text().partition("/")
            found[path.name] = ObjectMeta(namespace=namespace, name=name, uid=pod_uid(path.name))
        return found

    async def make(
        self, meta: ObjectMeta, attempt: int, asked: Mapping[str, Any], hostname: str, *, shared_pids: bool = False
    ) -> Sandbox:
        """A new sandbox with addresses. Raises `NetlabError` and leaves nothing behind.

        `asked` is what the pod asks of chained plugins (`capabilities.runtime_config`).
        """
        identity = sandbox_id(meta.uid, attempt)
        self._note(identity, meta)
        try:
            netns = await self._runtime.run_pod_sandbox(identity, hostname, shared_pids=shared_pids)
        except AlreadyExistsError:
            # Made by a kubelet that was killed before it could go on.
            await self.remove(identity, meta)
            netns = await self._runtime.run_pod_sandbox(identity, hostname, shared_pids=shared_pids)
        try:
            result = await self._in_thread(lambda: self._add(_attachment(identity, netns, meta, asked)))
            return Sandbox(identity, self._addresses(result), attempt)
        except NetlabError:
            with contextlib.suppress(NetlabError):
                await self.remove(identity, meta)
            raise

    async def remove(self, identity: str, meta: ObjectMeta) -> None:
        """Release a sandbox's addresses and remove it; it may be gone already.

        Raises `NetlabError` when the plugin refuses; the sandbox is kept, so that the removal can be retried.
        """
        attachment = _attachment(identity, network_namespace(identity), meta)
        await self._in_thread(lambda: self._delete(attachment))
        await self._runtime.remove_pod_sandbox(identity)
        (self._notes / identity).unlink(missing_ok=True)

    def _note(self, identity: str, meta: ObjectMeta) -> None:
        try:
            files.replace(self._notes / identity, f"{meta.namespace}/{meta.name}")
        except OSError as error:
            raise NetlabError(f"sandbox {identity}: {self._notes}: {error.strerror}") from error

    def close(self) -> None:
        """Wait for running plugins."""
        self._threads.shutdown(cancel_futures=True)

    def _add(self, attachment: Attachment) -> dict[str, Any]:
        network = capabilities.needed(load_network(self._conf_dir), attachment.runtime_config)
        return self._plugins.add(network, attachment)

    def _delete(self, attachment: Attachment) -> None:
        network = load_network(self._conf_dir)
        added = self._plugins.added(network, attachment)
        if added is not None:
            network, attachment = capabilities.needed(network, added.runtime_config), added
        self._plugins.delete(network, attachment)

    def _addresses(self, result: dict[str, Any]) -> list[str]:
        ips = [str(ipaddress.ip_interface(each["address"]).ip) for each in result.get("ips", [])]
        if not ips:
            raise NetlabError("the CNI plugin's result has no addresses; its configuration lacks ipam")
        return sorted(ips, key=lambda ip: ipaddress.ip_address(ip).version != self._primary)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _attachment(identity: str, netns: str, meta: ObjectMeta, asked: Mapping[str, Any] | None = None) -> Attachment:
    return Attachment(
        container_id=identity,
        netns=netns,
        # The names that every kubelet's runtime passes: plugins such as Calico's read them.
        args={
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": meta.namespace,
            "K8S_POD_NAME": meta.name,
            "K8S_POD_INFRA_CONTAINER_ID": identity,
            "K8S_POD_UID": meta.uid,
        },
        runtime_config=asked or {},
    )
