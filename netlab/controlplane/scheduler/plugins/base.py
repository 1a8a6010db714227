"""What a plugin of the scheduler is: it may refuse nodes, and it may score those that nobody refuses."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from netlab.controlplane.scheduler.cache import Cache
from netlab.controlplane.scheduler.nodeinfo import NodeInfo
from netlab.controlplane.scheduler.podinfo import PodInfo

MAX_SCORE = 100
"""fwk.MaxNodeScore."""


class Refusal(NamedTuple):
    """Why a node does not do."""

    reasons: tuple[str, ...]
    """As kube-scheduler words them; people and tools search for that."""
    is_final: bool = True
    """Whether it stays so even if other pods of the node go (UnschedulableAndUnresolvable)."""


class Filter(abc.ABC):
    """One plugin's look at the nodes for one pod."""

    @abc.abstractmethod
    def refuse(self, node: NodeInfo) -> Refusal | None:
        """Why the pod cannot go there; None: it can."""

    def count(self, pod: PodInfo, node: NodeInfo, sign: int) -> None:  # noqa: B027
        """Look as if another pod had come to the node (1), or gone (-1). Most plugins look at the node alone."""


Score = Callable[[PodInfo, Sequence[NodeInfo], Cache], "list[int] | None"]
"""A number from 0 to MAX_SCORE for each of the nodes that will do; None: all are alike."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A plugin, under upstream's name."""

    name: str
    filter: Callable[[PodInfo, Cache], Filter | None] | None = None
    """What it looks at for a pod; None: nothing can be wrong for this one."""
    score: Score | None = None
    weight: int = 1


def normalized(scores: list[int], *, is_reverse: bool = False) -> list[int]:
    """In proportion to the largest, which becomes MAX_SCORE, or 0 in reverse (DefaultNormalizeScore)."""
    largest = max(scores, default=0)
    if not largest:
        return [MAX_SCORE if is_reverse else 0] * len(scores)
    scaled = [MAX_SCORE * each // largest for each in scores]
    return [MAX_SCORE - each for each in scaled] if is_reverse else scaled
