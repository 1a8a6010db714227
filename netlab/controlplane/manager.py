"""The controller manager: the scheduler and all controllers in one process, over one set of informers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from netlab.api.client import Client
from netlab.api.endpoint import Endpoint
from netlab.api.progress import Progress
from netlab.api.server.access.certificates import CERTIFICATE
from netlab.backoff import Backoff
from netlab.controlplane.accounts import RootCAPublisher, ServiceAccountController
from netlab.controlplane.aggregation import ClusterRoleAggregator
from netlab.controlplane.certificates.approving import Approver
from netlab.controlplane.certificates.serving import ServingApprover
from netlab.controlplane.certificates.signing import Signer
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller
from netlab.controlplane.cronjob.controller import CronJobController
from netlab.controlplane.daemonset.controller import DaemonSetController
from netlab.controlplane.deployment import DeploymentController
from netlab.controlplane.disruption import DisruptionController
from netlab.controlplane.endpoints.controller import EndpointsController, EndpointSliceMirroring
from netlab.controlplane.endpointslice import EndpointSliceController
from netlab.controlplane.garbage import GarbageCollector
from netlab.controlplane.ipam import NodeIpam, SubnetPool
from netlab.controlplane.job.controller import JobController
from netlab.controlplane.loadbalancer.controller import LoadBalancerController
from netlab.controlplane.namespace import NamespaceController
from netlab.controlplane.nodes.eviction import TaintEviction
from netlab.controlplane.nodes.lifecycle import NodeLifecycle
from netlab.controlplane.nodes.podgc import PodGarbageCollector
from netlab.controlplane.quota import QuotaController
from netlab.controlplane.replicaset import ReplicaSetController
from netlab.controlplane.replicationcontroller import ReplicationControllerController
from netlab.controlplane.scheduler.controller import Scheduler
from netlab.controlplane.statefulset.controller import StatefulSetController

_RESTART = Backoff(first=0.5, last=30, steady=30)
"""Before a failed part restarts."""

_AFTER_THE_START = 1.0
"""Seconds."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ControlPlaneConfig:
    """The control plane's configuration: the addresses of pods and load balancers."""

    cluster_cidrs: Sequence[str]
    """One for each IP family, the primary first."""
    node_cidr_mask_sizes: Mapping[int, int] = dataclasses.field(default_factory=lambda: {4: 24, 6: 64})
    """The prefix length of a node's pod subnet, by IP version."""
    load_balancer_pools: Sequence[str] = ()
    """Networks whose addresses Services of type LoadBalancer get."""
    authority: Path | None = None
    """The directory of the cluster's certificate authority, which the API server makes; None: it has none."""


class Endpoints(NamedTuple):
    """Where the API server is: for each of the identities that act here."""

    controllers: Endpoint | Path
    scheduler: Endpoint | Path


async def run(
    endpoints: Endpoints,
    config: ControlPlaneConfig,
    acted: Callable[[int, int], None] = lambda _revision, _writes: None,
) -> None:
    """Run the control plane until cancelled. What the scheduler writes, it writes as itself.

    `acted` is called with the resourceVersion up to which the controllers have acted upon every change, and the number
    of changes that they have made by then, Events aside.

    Raises UsageError for an unusable cluster CIDR. Waits for a server that is down.
    """
    pools = [SubnetPool.of(cidr, config.node_cidr_mask_sizes) for cidr in config.cluster_cidrs]
    async with (
        Client(endpoints.controllers, user_agent="kube-controller-manager/netlab") as client,
        Client(endpoints.scheduler, user_agent="kube-scheduler/netlab") as scheduling,
    ):
        cluster = Cluster(client, Progress(lambda revision: acted(revision, client.writes + scheduling.writes)))
        parts: list[Controller] = [
            Scheduler(cluster, scheduling),
            NodeIpam(cluster, pools),
            DeploymentController(cluster),
            ReplicaSetController(cluster),
            ReplicationControllerController(cluster),
            DaemonSetController(cluster),
            StatefulSetController(cluster),
            JobController(cluster),
            DisruptionController(cluster),
            CronJobController(cluster),
            EndpointSliceController(cluster),
            EndpointsController(cluster),
            EndpointSliceMirroring(cluster),
            GarbageCollector(cluster),
            NamespaceController(cluster),
            NodeLifecycle(cluster),
            TaintEviction(cluster),
            PodGarbageCollector(cluster),
            ServiceAccountController(cluster),
            ClusterRoleAggregator(cluster),
            QuotaController(cluster),
            LoadBalancerController(cluster, config.load_balancer_pools),
        ]
        if config.authority is not None:
            parts.append(RootCAPublisher(cluster, config.authority / CERTIFICATE))
            parts += [Approver(cluster), ServingApprover(cluster), Signer(cluster, config.authority)]
        async with asyncio.TaskGroup() as group:
            for resource, informer in cluster.informers.items():
                group.create_task(supervise(f"informer of {resource.plural}", informer.run))
            group.create_task(_follow_stored(cluster, group))
            for part in parts:
                group.create_task(supervise(part.name, part.run))


async def _follow_stored(cluster: Cluster, group: asyncio.TaskGroup) -> None:
    """Start the informers of kinds that are seldom there, one after the other, once the lab is likely to be up."""
    await cluster.synced()
    await asyncio.sleep(_AFTER_THE_START)
    for resource, informer in cluster.stored.items():
        group.create_task(supervise(f"informer of {resource.plural}", informer.run))
        await informer.synced.wait()
    group.create_task(supervise("informers of custom resources", cluster.custom.run))


async def supervise(name: str, start: Callable[[], Awaitable[None]]) -> None:
    """Restart `start`, with back-off, each time it fails, until cancelled: a failing part does not affect others."""
    backoff = _RESTART
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await start()
        except Exception:
            log.exception("%s failed; restarting it", name)
        else:
            log.error("%s ended; restarting it", name)
        backoff = backoff.failed(asyncio.get_running_loop().time() - started)
        await asyncio.sleep(backoff.delay)
