"""The deployment controller: carries out what `rollout` plans."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import msgspec

from netlab.api.apps_types import Deployment, DeploymentStatus, ReplicaSet
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.events import NORMAL, WARNING, record
from netlab.api.resources import DEPLOYMENTS, REPLICASETS
from netlab.api.selectors import from_label_selector
from netlab.controlplane.claims import settle, sort_claims
from netlab.controlplane.cluster import Cluster, controller_of, is_finished, orphans
from netlab.controlplane.controller import Controller
from netlab.controlplane.rollout.planner import REVISION, Change, Plan, plan
from netlab.controlplane.rollout.templates import same_template, split


class DeploymentController(Controller):
    """Deployments to ReplicaSets."""

    name = "deployment-controller"
    resource = DEPLOYMENTS
    workers = 4
    min_interval = 0.05

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.deployments.on_change(self._deployment_changed)
        cluster.replica_sets.on_change(self._replica_set_changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every Deployment."""
        return list(self.cluster.deployments.items)

    async def reconcile(self, key: str) -> None:
        """One step of the rollout, and the status."""
        deployment = self.cluster.deployments.items.get(key)
        if deployment is None or self.cluster.is_terminating(deployment.metadata.namespace):
            return
        claims = sort_claims(
            deployment,
            from_label_selector(deployment.spec.selector),
            self.cluster.replica_sets_by_controller.get(deployment.metadata.uid),
            self.cluster.replica_sets_by_controller.get(orphans(deployment.metadata.namespace)),
        )
        owned = await settle(self.client, REPLICASETS, DEPLOYMENTS, deployment, claims)
        now = datetime.datetime.now(datetime.UTC)
        step = plan(deployment, owned, self._old_pods_run(deployment, owned), now)
        if step.sync_after is not None:
            self.queue.add_after(key, step.sync_after)
        await self._carry_out(deployment, step)

    async def _carry_out(self, deployment: Deployment, plan: Plan) -> None:
        # The revision first: the status is written with the resourceVersion that this gives.
        if plan.revision and deployment.metadata.annotations.get(REVISION) != plan.revision:
            deployment = await self.client.patch(
                DEPLOYMENTS,
                deployment.metadata.name,
                deployment.metadata.namespace,
                {
                    "metadata": {
                        "resourceVersion": deployment.metadata.resourceVersion,
                        "annotations": {REVISION: plan.revision},
                    }
                },
            )
        if plan.create is not None and await self._create(deployment, plan.create):
            # The name belongs to another template: the next sync tries a name with one more collision.
            plan.status = msgspec.structs.replace(
                deployment.status, collisionCount=(deployment.status.collisionCount or 0) + 1
            )
        for change in plan.changes:
            await self._change(deployment, change)
        for outdated in plan.delete:
            meta = outdated.metadata
            await unless_gone(self.client.delete(REPLICASETS, meta.name, meta.namespace, uid=meta.uid))
        await self._write_status(deployment, plan.status)

    async def _create(self, deployment: Deployment, replica_set: ReplicaSet) -> bool:
        """Create the ReplicaSet; True if its name is taken by another one."""
        try:
            await self.client.create(REPLICASETS, replica_set)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                await record(self.client, deployment, WARNING, "ReplicaSetCreateError", str(error), self.name)
                raise
            found = await self.client.get(REPLICASETS, replica_set.metadata.name, replica_set.metadata.namespace)
            owner = controller_of(found)
            ours = owner is not None and owner.uid == deployment.metadata.uid
            # Ours: made by a sync whose result the informer has not shown yet.
            return not (ours and same_template(found.spec.template, replica_set.spec.template))
        if replica_set.spec.replicas:
            await self._tell_scaled(deployment, replica_set, 0, replica_set.spec.replicas)
        return False

    async def _change(self, deployment: Deployment, change: Change) -> None:
        rs = change.replica_set
        before = 1 if rs.spec.replicas is None else rs.spec.replicas
        await self.client.patch(
            REPLICASETS,
            rs.metadata.name,
            rs.metadata.namespace,
            {
                "metadata": {"resourceVersion": rs.metadata.resourceVersion, "annotations": change.annotations},
                "spec": {"replicas": change.replicas, "minReadySeconds": change.min_ready_seconds},
            },
        )
        if change.replicas != before:
            await self._tell_scaled(deployment, rs, before, change.replicas)

    async def _tell_scaled(self, deployment: Deployment, rs: ReplicaSet, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {rs.metadata.name} from {before} to {after}"
        await record(self.client, deployment, NORMAL, "ScalingReplicaSet", message, self.name)

    async def _write_status(self, deployment: Deployment, status: DeploymentStatus) -> None:
        if status != deployment.status:
            changed = msgspec.structs.replace(deployment, status=status)
            await self.client.update(DEPLOYMENTS, changed, subresource="status")

    def _old_pods_run(self, deployment: Deployment, owned: list[ReplicaSet]) -> bool:
        _, old = split(deployment, owned)
        return any(not is_finished(pod) for rs in old for pod in self.cluster.pods_by_controller.get(rs.metadata.uid))

    def _deployment_changed(self, old: Deployment | None, new: Deployment | None) -> None:
        if new is not None and (old is None or old.metadata != new.metadata or old.spec != new.spec):
            self.queue.add(new.key)

    def _replica_set_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for rs in (old, new):
            if rs is None:
                continue
            if (owner := controller_of(rs)) is not None:
                self.queue.add(f"{rs.metadata.namespace}/{owner.name}")
        if new is not None and controller_of(new) is None:
            for deployment in self.cluster.deployments.items.values():
                if deployment.metadata.namespace == new.metadata.namespace and from_label_selector(
                    deployment.spec.selector
                ).matches(new.metadata.labels):
                    self.queue.add(deployment.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        # Recreate waits for the last old pod, which its ReplicaSet stops counting as soon as it starts terminating.
        if old is None or (new is not None and not is_finished(new)):
            return
        owner = controller_of(old)
        rs = self.cluster.replica_sets.items.get(f"{old.metadata.namespace}/{owner.name}") if owner else None
        above = controller_of(rs) if rs is not None else None
        if above is None:
            return
        deployment = self.cluster.deployments.items.get(f"{old.metadata.namespace}/{above.name}")
        if deployment is not None and deployment.spec.strategy.type == "Recreate":
            self.queue.add(deployment.key)
