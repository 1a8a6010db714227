"""The Node object: what a kubelet says about its node, and its heartbeat."""

from __future__ import annotations

import asyncio
import logging
import platform
import time

import msgspec

from netlab import __version__
from netlab.api.core_types import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
)
from netlab.api.errors import ApiError
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.meta_types import Condition, ObjectMeta, Quantity, now
from netlab.api.resources import KUBERNETES, NODES
from netlab.api.serving.kubelets import PORT
from netlab.errors import NetlabError
from netlab.node import capacity, lease
from netlab.node.context import KubeletConfig, NodeContext
from netlab.node.runtime.service import Image

HEARTBEAT = 10.0
"""Seconds between two heartbeats: upstream's nodeStatusUpdateFrequency, and how often it renews a lease."""
REPORT = 300.0
"""Seconds after which an unchanged status is written again (nodeStatusReportFrequency)."""
_FIRST_POLL, _POLL_GROWTH = 0.025, 1.2
_READY_POLL = 5.0
"""Seconds between checks for the CNI configuration: before there is one (growing), and after."""
_MOST_IMAGES = 50
_RETRY = 0.5

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""Go's names of architectures, which Kubernetes' labels use."""

log = logging.getLogger(__name__)


def node_labels(node_name: str) -> dict[str, str]:
    """The well-known labels of a node."""
    return {
        "kubernetes.io/hostname": node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
    }


def architecture() -> str:
    """The machine's architecture, in Go's spelling."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def node_status(config: KubeletConfig, network_error: str, before: list[Condition], images: list[Image]) -> NodeStatus:
    """The status of a node; `network_error` is why it can run no pods, "" when it can."""
    addresses = [NodeAddress(type="InternalIP", address=ip) for ip in config.node_ips]
    return NodeStatus(
        capacity=capacity.of_node(config),
        allocatable=capacity.allocatable(config),
        addresses=[*addresses, NodeAddress(type="Hostname", address=config.node_name)],
        conditions=[ready_condition(network_error, before)],
        daemonEndpoints=_endpoints(config),
        nodeInfo=NodeSystemInfo(
            bootID=config.boot_id,
            kernelVersion=platform.release(),
            osImage=_os_image(),
            containerRuntimeVersion=f"netlab://{__version__}",
            kubeletVersion=f"v{'.'.join(KUBERNETES)}.0-netlab.{__version__}",
            operatingSystem="linux",
            architecture=architecture(),
        ),
        images=_images(images),
    )


def _endpoints(config: KubeletConfig) -> NodeDaemonEndpoints | None:
    if config.client_ca is None:
        return None
    port = PORT if config.serving is None else config.serving.port
    return NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=port))


def _images(found: list[Image]) -> list[ContainerImage]:
    """The largest, as many as upstream reports (the kubelet's nodeStatusMaxImages)."""
    largest = sorted(found, key=lambda each: (-each.size, each.names))[:_MOST_IMAGES]
    return [ContainerImage(each.names, each.size) for each in largest]


def extended_resources(told: NodeStatus) -> dict[str, Quantity | None]:
    """What of the resources that others announced for a node pods may use: all of it; None: it is announced no more.

    A kubelet does not know them, and lets them be (pkg/kubelet/nodestatus setters.go).
    """
    announced: dict[str, Quantity | None] = {name: value for name, value in told.capacity.items() if "/" in name}
    return dict.fromkeys((name for name in told.allocatable if "/" in name), None) | announced


def ready_condition(network_error: str, before: list[Condition]) -> Condition:
    """The Ready condition, with the time of its last change kept from `before`."""
    moment = now()
    condition = Condition(
        type="Ready",
        status="False" if network_error else "True",
        reason="KubeletNotReady" if network_error else "KubeletReady",
        message="kubelet is posting ready status",
        lastHeartbeatTime=moment,
        lastTransitionTime=moment,
    )
    if network_error:
        # containerd's words, by which people find the cause.
        condition.message = (
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
            f"message:Network plugin returns error: cni config uninitialized: {network_error}"
        )
    old = next((each for each in before if each.type == "Ready"), None)
    if old is not None and old.status == condition.status:
        condition.lastTransitionTime = old.lastTransitionTime
    return condition


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


class Registration:
    """Creates or adopts the Node object, and keeps its status up to date."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._client = node.client
        self._name = node.config.node_name
        self._conditions: list[Condition] = []
        self._images: list[Image] = []
        self._reported = 0.0
        """When the status was last written, on the monotonic clock."""

    async def register(self) -> None:
        """Create or update the Node object; retries until the API server answers."""
        while True:
            try:
                self._images = await self._node.runtime.list_images()
                await self._register()
                return
            except NetlabError as error:
                log.warning("node %s: registration: %s; retrying in %g s", self._name, error, _RETRY)
                await asyncio.sleep(_RETRY)

    async def _register(self) -> None:
        status = self._status()
        labels = node_labels(self._name)
        cidrs = self._node.config.pod_cidrs
        spec = NodeSpec(podCIDR=cidrs[0], podCIDRs=list(cidrs)) if cidrs else NodeSpec()
        node = Node(metadata=ObjectMeta(name=self._name, labels=labels), spec=spec, status=status)
        try:
            # Like upstream's, the server accepts the status with the creation of a Node: one request, not two.
            created = await self._client.create(NODES, node)
            if created.status.conditions:
                self._reported = time.monotonic()
                return
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            present = await self._client.get(NODES, self._name)
            self._conditions = present.status.conditions
            await self._client.patch(NODES, self._name, None, {"metadata": {"labels": labels}})
        await self._patch_status()

    async def run(self) -> None:
        """Watch for the network and send heartbeats until cancelled."""
        loop = asyncio.get_running_loop()
        next_heartbeat = loop.time() + HEARTBEAT
        ready = self._node.network_ready.is_set()
        poll = _FIRST_POLL
        while True:
            poll = _READY_POLL if ready else min(poll * _POLL_GROWTH, _READY_POLL)
            await asyncio.sleep(max(0.0, min(poll, next_heartbeat - loop.time())))
            was_ready, ready = ready, self._look()
            if was_ready and not ready:
                poll = _FIRST_POLL
            if ready == was_ready and loop.time() < next_heartbeat:
                continue
            try:
                await self._beat(report=ready != was_ready)
                next_heartbeat = loop.time() + HEARTBEAT
            except ApiError as error:
                if error.reason == "NotFound":
                    # The Node was deleted: this node still exists, and registers again (upstream's registerNode).
                    await self.register()
                else:
                    log.warning("node %s: status: %s", self._name, error)
                next_heartbeat = loop.time() + _RETRY
            except NetlabError as error:
                log.debug("node %s: status: %s", self._name, error)
                next_heartbeat = loop.time() + _RETRY

    async def _beat(self, *, report: bool) -> None:
        """Renew the lease. The status is written only when it is due, or when the Node says something else."""
        self._images = await self._node.runtime.list_images()
        node = await self._client.get(NODES, self._name)
        extended = extended_resources(node.status)
        is_settled = extended.items() <= node.status.allocatable.items()
        if report or time.monotonic() - self._reported >= REPORT or not self._is_told(node) or not is_settled:
            await self._patch_status(extended)
        await lease.renew(self._client, node)

    def _is_told(self, node: Node) -> bool:
        status = self._status()
        told = {(each.type, each.status) for each in node.status.conditions}
        return (
            told.issuperset((each.type, each.status) for each in status.conditions)
            and status.capacity.items() <= node.status.capacity.items()
            and status.allocatable.items() <= node.status.allocatable.items()
            and node.status.addresses == status.addresses
            and node.status.nodeInfo == status.nodeInfo
            and node.status.images == status.images
        )

    def _look(self) -> bool:
        if self._node.sandboxes.network_error():
            self._node.network_ready.clear()
            return False
        self._node.network_ready.set()
        return True

    def _status(self) -> NodeStatus:
        self._look()
        status = node_status(self._node.config, self._node.sandboxes.network_error(), self._conditions, self._images)
        self._conditions = status.conditions
        return status

    async def _patch_status(self, extended: dict[str, Quantity | None] | None = None) -> None:
        patch = msgspec.to_builtins(self._status())
        patch["allocatable"] |= extended or {}
        # A merge by type would join two InternalIPs (kubernetes/kubernetes#79391), so the list is replaced.
        patch["addresses"].insert(0, {"$patch": "replace"})
        await self._client.patch(
            NODES, self._name, None, {"status": patch}, subresource="status", patch_type=STRATEGIC_MERGE_PATCH
        )
        self._reported = time.monotonic()
