"""How many pods each ReplicaSet of a Deployment should have after one step (rolling.go, recreate.go, sync.go).

One step either scales the new ReplicaSet up or the old ones down. The next one, triggered by that change, goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction

from netlab.api.apps_types import Deployment, ReplicaSet
from netlab.api.meta_types import IntOrString

DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"


def replicas_of(obj: Deployment | ReplicaSet) -> int:
    """How many pods it asks for."""
    return 1 if obj.spec.replicas is None else obj.spec.replicas


def bounds(deployment: Deployment) -> tuple[int, int]:
    """maxSurge and maxUnavailable as numbers of pods: percentages are rounded up and down; never both 0."""
    replicas = replicas_of(deployment)
    if deployment.spec.strategy.type == "Recreate":
        return 0, 0
    rolling = deployment.spec.strategy.rollingUpdate
    surge = _scaled(rolling.maxSurge if rolling else None, replicas, math.ceil)
    unavailable = _scaled(rolling.maxUnavailable if rolling else None, replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def number(text: str | None) -> int | None:
    """An annotation that is a number; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


class Sizes:
    """The sizes of a Deployment's ReplicaSets by uid: as they are, until a method takes its step.

    `new` has the current template and may be missing; `old` are the others, oldest first. `annotated` are the uids of
    those whose annotations of size are due.
    """

    def __init__(self, deployment: Deployment, new: ReplicaSet | None, old: list[ReplicaSet]) -> None:
        self.replicas = replicas_of(deployment)
        self.surge, self.unavailable = bounds(deployment)
        self.annotated: set[str] = set()
        self._deployment = deployment
        self._new, self._old = new, old
        self._all = [*old, *([new] if new is not None else [])]
        self._size = {rs.metadata.uid: replicas_of(rs) for rs in self._all}

    def of(self, rs: ReplicaSet) -> int:
        """A ReplicaSet's size after the step."""
        return self._size[rs.metadata.uid]

    def step(self, old_pods_run: bool) -> int | None:
        """Take one step; the size of a ReplicaSet to be created, or None if there is none.

        `old_pods_run` says whether pods with another template than the current one still exist (for Recreate).
        """
        if self._deployment.spec.paused or self._is_scaling():
            self._scale()
            return None
        if self._deployment.spec.strategy.type == "Recreate":
            return self._recreate(old_pods_run)
        return self._roll()

    def _is_scaling(self) -> bool:
        wanted = str(self.replicas)
        return any(rs.metadata.annotations.get(DESIRED_REPLICAS, wanted) != wanted for rs in self._active(self._all))

    def _roll(self) -> int | None:
        if self._new is None:
            return self._room_for_new(0)
        before = self.of(self._new)
        self._set(self._new, self.replicas if before > self.replicas else self._room_for_new(before))
        if self.of(self._new) == before:
            self._scale_old_down(before - self._new.status.availableReplicas)
        return None

    def _room_for_new(self, size: int) -> int:
        room = self.replicas + self.surge - sum(self._size.values())
        return size + max(0, min(room, self.replicas - size))

    def _scale_old_down(self, new_unavailable: int) -> None:
        least = self.replicas - self.unavailable
        # Removing unavailable pods costs nothing: the unhealthy old ones go first.
        budget = sum(self._size.values()) - least - new_unavailable
        for rs in self._active(self._old):
            if budget <= 0:
                break
            unhealthy = max(0, min(budget, self.of(rs) - rs.status.availableReplicas))
            self._set(rs, self.of(rs) - unhealthy)
            budget -= unhealthy
        budget_healthy = sum(rs.status.availableReplicas for rs in self._all) - least
        for rs in self._active(self._old):
            if budget_healthy <= 0 or budget <= 0:
                break
            fewer = min(self.of(rs), budget_healthy, budget)
            self._set(rs, self.of(rs) - fewer)
            budget_healthy -= fewer
            budget -= fewer

    def _recreate(self, old_pods_run: bool) -> int | None:
        if active := self._active(self._old):
            for rs in active:
                self._set(rs, 0)
        elif not old_pods_run:
            if self._new is None:
                return self.replicas
            self._set(self._new, self.replicas)
        return None

    def _scale(self) -> None:
        """Follow a change to spec.replicas, without continuing the rollout."""
        active = self._active(self._all)
        self.annotated |= {rs.metadata.uid for rs in active}
        if len(active) <= 1:
            only = active[0] if active else self._new or (self._old[-1] if self._old else None)
            if only is not None:
                self._set(only, self.replicas)
        elif self._new is not None and self._is_saturated(self._new):
            for rs in self._active(self._old):
                self._set(rs, 0)
        elif self._deployment.spec.strategy.type != "Recreate":
            self._scale_in_proportion(active)

    def _scale_in_proportion(self, active: list[ReplicaSet]) -> None:
        allowed = self.replicas + self.surge if self.replicas > 0 else 0
        to_add = allowed - sum(self.of(rs) for rs in active)
        if not to_add:
            return
        # The largest take most; among equals, the newest when growing and the oldest when shrinking.
        active = sorted(active, key=lambda rs: rs.metadata.creationTimestamp or "", reverse=to_add > 0)
        active.sort(key=self.of, reverse=True)
        left = to_add
        for rs in active:
            share = self._share(rs)
            share = min(share, left) if to_add > 0 else max(share, left)
            left -= share
            self._set(rs, max(0, self.of(rs) + share))
        # The remainder from rounding goes to the largest.
        self._set(active[0], max(0, self.of(active[0]) + left))

    def _share(self, rs: ReplicaSet) -> int:
        size = self.of(rs)
        if self.replicas == 0:
            return -size
        former = number(rs.metadata.annotations.get(MAX_REPLICAS)) or self._deployment.status.replicas
        if not former:
            return 0
        return math.floor(size * (self.replicas + self.surge) / former + 0.5) - size

    def _is_saturated(self, rs: ReplicaSet) -> bool:
        desired = number(rs.metadata.annotations.get(DESIRED_REPLICAS))
        return replicas_of(rs) == desired == self.replicas == rs.status.availableReplicas

    def _set(self, rs: ReplicaSet, size: int) -> None:
        if self.of(rs) != size:
            self._size[rs.metadata.uid] = size
            self.annotated.add(rs.metadata.uid)

    def _active(self, sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
        return [rs for rs in sets if self.of(rs) > 0]


def _scaled(value: IntOrString | None, total: int, rounded: Callable[[Fraction], int]) -> int:
    if value is None:
        value = "25%"
    if isinstance(value, int):
        return value
    # In whole numbers: 0.07 * 100 is 7.000000000000001, which would be rounded up to 8.
    percent = int(value.removesuffix("%"))
    return rounded(Fraction(percent * total, 100))
