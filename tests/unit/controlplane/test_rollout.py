"""Rollouts played to their end against pods that become available in any order."""

from __future__ import annotations

import datetime
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api.apps_types import Deployment, ReplicaSet
from netlab.api.meta_types import ObjectMeta
from netlab.controlplane.cluster import condition_of
from netlab.controlplane.rollout.planner import REVISION, Plan, plan
from netlab.controlplane.rollout.sizes import bounds
from netlab.controlplane.rollout.templates import HASH_LABEL, split, template_hash

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def deployment(
    replicas: int = 3, image: str = "v1", surge: int | str = "25%", unavailable: int | str = "25%", **spec: object
) -> Deployment:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return msgspec.convert(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "uid": "u-web", "generation": 1},
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": strategy,
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": image}]},
                },
                **spec,
            },
        },
        Deployment,
    )


class World:
    """A Deployment and its ReplicaSets, as the controllers and the kubelets would change them."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.sets: dict[str, ReplicaSet] = {}
        self.now = START
        self.serial = 0

    def sync(self) -> Plan:
        self.now += datetime.timedelta(seconds=1)
        running = any(rs.status.replicas for rs in split(self.deployment, self.sets.values())[1])
        step = plan(self.deployment, list(self.sets.values()), running, self.now)
        if step.create is not None:
            self.serial += 1
            step.create.metadata.uid = f"u-{self.serial}"
            step.create.metadata.creationTimestamp = self.now.isoformat()
            assert step.create.metadata.name not in self.sets
            self.sets[step.create.metadata.name] = step.create
        for change in step.changes:
            rs = self.sets[change.replica_set.metadata.name]
            rs.metadata.annotations = change.annotations
            rs.spec.replicas, rs.spec.minReadySeconds = change.replicas, change.min_ready_seconds
        for dead in step.delete:
            del self.sets[dead.metadata.name]
        self.deployment.status = step.status
        return step

    def step(self, dice: random.Random) -> None:
        """One ReplicaSet moves: pods are made or removed, or one becomes available."""
        rs = dice.choice(list(self.sets.values()))
        have, want = rs.status.replicas or 0, rs.spec.replicas or 0
        if have != want:
            rs.status.replicas = want
            rs.status.availableReplicas = min(rs.status.availableReplicas, want)
        elif rs.status.availableReplicas < want:
            rs.status.availableReplicas += 1
        rs.status.readyReplicas = rs.status.availableReplicas

    def settle(self, dice: random.Random) -> None:
        for _ in range(2000):
            self.sync()
            reason = condition_of(self.deployment.status.conditions, "Progressing")
            if reason is not None and reason.reason == "NewReplicaSetAvailable" and self.is_settled():
                return
            self.step(dice)
        raise AssertionError(f"no end: {self.sets}")

    def is_settled(self) -> bool:
        new, old = split(self.deployment, self.sets.values())
        return (
            new is not None
            and new.spec.replicas == new.status.availableReplicas == self.deployment.spec.replicas
            and not any(rs.spec.replicas or rs.status.replicas for rs in old)
        )


bound = st.one_of(st.integers(0, 4), st.integers(0, 100).map("{}%".format))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), bound, bound, st.integers(0, 2**32))
def test_a_rolling_update_ends_and_keeps_to_its_bounds(
    replicas: int, surge: int | str, unavailable: int | str, seed: int
) -> None:
    dice = random.Random(seed)
    world = World(deployment(replicas, "v1", surge, unavailable))
    world.settle(dice)
    world.deployment.spec.template.spec.containers[0].image = "v2"
    more, fewer = bounds(world.deployment)
    for _ in range(2000):
        world.sync()
        assert sum(rs.spec.replicas or 0 for rs in world.sets.values()) <= replicas + more
        available = sum(min(rs.status.availableReplicas, rs.spec.replicas or 0) for rs in world.sets.values())
        assert available >= replicas - fewer
        if world.is_settled():
            break
        world.step(dice)
    assert world.is_settled()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.integers(0, 10), st.integers(1, 20), st.integers(0, 2**32))
def test_scaling_in_the_middle_of_a_rollout_ends_at_the_new_size(
    replicas: int, steps: int, then: int, seed: int
) -> None:
    dice = random.Random(seed)
    world = World(deployment(replicas))
    world.settle(dice)
    world.deployment.spec.template.spec.containers[0].image = "v2"
    for _ in range(steps):
        world.sync()
        world.step(dice)
    world.deployment.spec.replicas = then
    world.sync()
    surge, _ = bounds(world.deployment)
    assert sum(rs.spec.replicas or 0 for rs in world.sets.values()) <= then + surge
    world.settle(dice)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", (1, 1)),
        (3, "25%", "25%", (1, 0)),
        (1, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (100, "7%", "0%", (7, 0)),
        (5, 0, 0, (0, 1)),
        (5, "0%", "10%", (0, 1)),
        (2, 0, 9, (0, 2)),
        (0, 1, 1, (1, 0)),
    ],
)
def test_percentages_are_rounded_as_upstream_rounds_them(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    assert bounds(deployment(replicas, "v1", surge, unavailable)) == expected


def test_a_rollback_takes_the_old_replica_set_and_a_new_revision() -> None:
    dice = random.Random(1)
    world = World(deployment())
    names = []
    for image in ("v1", "v2", "v1"):
        world.deployment.spec.template.spec.containers[0].image = image
        world.settle(dice)
        new, _ = split(world.deployment, world.sets.values())
        assert new is not None
        names.append((new.metadata.name, new.metadata.annotations[REVISION]))
    assert names[0][0] == names[2][0]
    assert [revision for _, revision in names] == ["1", "2", "3"]


def test_history_is_cut_to_the_limit_oldest_first() -> None:
    dice = random.Random(1)
    world = World(deployment(revisionHistoryLimit=2))
    for number in range(6):
        world.deployment.spec.template.spec.containers[0].image = f"v{number}"
        world.settle(dice)
        world.sync()
    images = {rs.spec.template.spec.containers[0].image for rs in world.sets.values()}
    assert images == {"v3", "v4", "v5"}


def test_paused_it_scales_but_does_not_roll() -> None:
    dice = random.Random(1)
    world = World(deployment(4))
    world.settle(dice)
    world.deployment.spec.paused = True
    world.deployment.spec.template.spec.containers[0].image = "v2"
    world.deployment.spec.replicas = 6
    plan = world.sync()
    assert plan.create is None
    assert [rs.spec.replicas for rs in world.sets.values()] == [6]
    progressing = condition_of(world.deployment.status.conditions, "Progressing")
    assert progressing is not None
    assert progressing.reason == "DeploymentPaused"
    world.deployment.spec.paused = False
    world.settle(dice)


def test_no_progress_within_the_deadline_is_said() -> None:
    world = World(deployment(2))
    world.sync()
    plan = world.sync()
    assert plan.sync_after is not None
    world.now += datetime.timedelta(seconds=601)
    world.sync()
    progressing = condition_of(world.deployment.status.conditions, "Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("False", "ProgressDeadlineExceeded")


def test_a_collision_gives_another_name() -> None:
    template = deployment().spec.template
    assert template_hash(template, 0) != template_hash(template, 1)
    labelled = msgspec.structs.replace(template, metadata=ObjectMeta(labels={"app": "web", HASH_LABEL: "x"}))
    assert template_hash(template, 0) == template_hash(labelled, 0)
