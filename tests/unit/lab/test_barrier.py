"""The barrier: what it waits for, in which order, and that nothing which goes on for ever holds it up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from netlab.errors import TimedOutError
from netlab.lab import barrier
from netlab.lab.lab import Lab
from netlab.lab.paths import LabPaths
from netlab.lab.revisions import CONTROLLER_MANAGER, Publisher, enforcer, kube_proxy, network_agent
from netlab.lab.spec import LabSpec

NODES = ("node-1", "node-2")
OF_NODES = [name(node) for node in NODES for name in (kube_proxy, network_agent, enforcer)]


@dataclasses.dataclass
class Cluster:
    """A lab of which only the revisions are real: `asked` is called whenever the API is asked for its own."""

    paths: LabPaths
    asked: Callable[[Cluster], None]
    revision: int = 10
    writes: int = 0
    questions: int = 0

    def __post_init__(self) -> None:
        self.publishers = {name: Publisher(self.paths.revision(name)) for name in (CONTROLLER_MANAGER, *OF_NODES)}

    name = "test"

    def client(self) -> Cluster:
        return self

    def spec(self) -> LabSpec:
        return LabSpec(nodes=len(NODES))

    def request(self, _method: str, _path: str, timeout: float) -> Any:
        assert timeout > 0
        self.questions += 1
        answer = {"resourceVersion": str(self.revision)}
        self.asked(self)
        return answer

    def all_follow(self, but: str = "") -> None:
        """Every component, except one, has acted upon all that there is."""
        for name, publisher in self.publishers.items():
            if name != but:
                publisher.publish(self.revision, self.writes if name == CONTROLLER_MANAGER else 0)


def look(cluster: Cluster, timeout: float, *excused: str) -> barrier.Outcome:
    return barrier.look(cast(Lab, cluster), timeout, excused=excused)


def test_where_nothing_happens_one_question_is_enough(tmp_path: Path) -> None:
    cluster = Cluster(LabPaths(tmp_path), Cluster.all_follow)
    assert look(cluster, 60) == barrier.Outcome(10, look(cluster, 60).standings, [])
    assert cluster.questions == 2


def test_what_controllers_wrote_is_waited_for_too(tmp_path: Path) -> None:
    def asked(cluster: Cluster) -> None:
        if cluster.questions < 4:  # a Deployment's ReplicaSet, its pods, their EndpointSlice
            cluster.revision += 1
            cluster.writes += 1
        cluster.all_follow()

    cluster = Cluster(LabPaths(tmp_path), asked)
    assert look(cluster, 60).revision == 13


def test_controllers_that_never_rest_do_not_hold_it_up(tmp_path: Path) -> None:
    def asked(cluster: Cluster) -> None:
        cluster.revision += 5
        cluster.writes += 1
        cluster.all_follow()

    cluster = Cluster(LabPaths(tmp_path), asked)
    assert look(cluster, 60).lags == []
    assert cluster.questions < 12


@pytest.mark.parametrize(
    "behind", [CONTROLLER_MANAGER, kube_proxy("node-2"), network_agent("node-1"), enforcer("node-1")]
)
def test_who_lags_is_named_with_its_revision(tmp_path: Path, behind: str) -> None:
    cluster = Cluster(LabPaths(tmp_path), lambda cluster: cluster.all_follow(but=behind))
    cluster.publishers[behind].publish(7)
    (lag,) = look(cluster, 0.05).lags
    assert (lag.revision, lag.wanted) == (7, 10)
    assert behind == (f"{lag.component}-{lag.node}" if lag.node else lag.component)
    with pytest.raises(TimedOutError, match=rf"{lag.component} is at revision 7, the API at 10"):
        barrier.wait(cast(Lab, cluster), 0.05)
    assert look(cluster, 60, behind).lags == []


def test_one_that_does_not_run_lags(tmp_path: Path) -> None:
    cluster = Cluster(LabPaths(tmp_path), Cluster.all_follow)
    cluster.paths.revision(kube_proxy("node-1")).unlink()
    with pytest.raises(TimedOutError, match="node-1: kube-proxy does not run or has not synced yet, the API at 10"):
        barrier.wait(cast(Lab, cluster), 0.05)
