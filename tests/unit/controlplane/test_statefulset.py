"""What a StatefulSet does: a table of pods by ordinal, and those that come and go."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from netlab.api.apps_types import (
    PersistentVolumeClaim,
    PodTemplateSpec,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetOrdinals,
    StatefulSetRetentionPolicy,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from netlab.api.core_types import Container, EmptyDirVolumeSource, Pod, PodSpec, Volume
from netlab.api.meta_types import LabelSelector, ObjectMeta, OwnerReference
from netlab.controlplane.revisions import HASH
from netlab.controlplane.statefulset import claims
from netlab.controlplane.statefulset.controller import identified
from netlab.controlplane.statefulset.planner import Wanted, ordinal_of, plan
from tests.unit.controlplane.build import pod

NOW = datetime.datetime(2026, 1, 1, 0, 1, tzinfo=datetime.UTC)
NEW, OLD = "web-new", "web-old"


def stateful_set(
    replicas: int = 3,
    *,
    parallel: bool = False,
    partition: int | None = 0,
    most: int | str | None = None,
    start: int = 0,
    on_delete: bool = False,
    ready: int = 0,
) -> StatefulSet:
    rolling = RollingUpdateStatefulSetStrategy(partition=partition, maxUnavailable=most)
    return StatefulSet(
        metadata=ObjectMeta(name="web", namespace="default", uid="web", generation=2),
        spec=StatefulSetSpec(
            selector=LabelSelector(matchLabels={"app": "web"}),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels={"app": "web"}), spec=PodSpec(containers=[Container(name="c")])
            ),
            serviceName="governing",
            replicas=replicas,
            podManagementPolicy="Parallel" if parallel else "OrderedReady",
            updateStrategy=StatefulSetUpdateStrategy(
                type="OnDelete" if on_delete else "RollingUpdate", rollingUpdate=None if on_delete else rolling
            ),
            minReadySeconds=ready,
            ordinals=StatefulSetOrdinals(start=start) if start else None,
        ),
    )


def at(ordinal: int, revision: str = NEW, *, ready: bool = True, **others: Any) -> Pod:
    return pod(f"web-{ordinal}", labels={HASH: revision}, ready=ready, owned_by="web", **others)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    pods: list[Pod]
    create: list[int] = dataclasses.field(default_factory=list)
    delete: list[int] = dataclasses.field(default_factory=list)
    set: StatefulSet = dataclasses.field(default_factory=stateful_set)


_ALL_OLD = [at(0, OLD), at(1, OLD), at(2, OLD)]

CASES = [
    Case("the first first", [], create=[0]),
    Case("the next once it is ready", [at(0)], create=[1]),
    Case("but not before", [at(0, ready=False)]),
    Case("nor before it has been ready for long enough", [at(0)], set=stateful_set(ready=90)),
    Case("nothing to do", [at(0), at(1), at(2)]),
    Case("a hole is filled", [at(0), at(2)], create=[1]),
    Case("all at once", [], create=[0, 1, 2], set=stateful_set(parallel=True)),
    Case("all that are missing", [at(1, ready=False)], create=[0, 2], set=stateful_set(parallel=True)),
    Case("from an ordinal on", [], create=[5], set=stateful_set(start=5)),
    Case("an older range goes", [at(5), at(6), at(7), at(0)], delete=[0], set=stateful_set(start=5)),
    Case("fewer: the last first", [at(0), at(1), at(2)], delete=[2], set=stateful_set(1)),
    Case("one after the other", [at(0), at(1), at(2, deleted=True)], set=stateful_set(1)),
    Case("not while one that stays is not ready", [at(0, ready=False), at(1)], set=stateful_set(1)),
    Case("what is not ready may go", [at(0), at(1), at(2, ready=False)], delete=[2], set=stateful_set(1)),
    Case("fewer, all at once", [at(0), at(1), at(2)], delete=[1, 2], set=stateful_set(1, parallel=True)),
    Case("none", [at(0)], delete=[0], set=stateful_set(0)),
    Case("one that failed is replaced", [at(0), at(1, phase="Failed"), at(2)], delete=[1]),
    Case("one that ended is replaced", [at(0, phase="Succeeded"), at(1)], delete=[0]),
    Case("one that is ending is waited for", [at(0, deleted=True), at(1)]),
    # Updates.
    Case("the last first", _ALL_OLD, delete=[2]),
    Case("the one before it next", [at(0, OLD), at(1, OLD), at(2)], delete=[1]),
    Case("one at a time", [at(0, OLD), at(1, OLD), at(2, ready=False)]),
    Case("down to the partition", [at(0, OLD), at(1, OLD), at(2)], set=stateful_set(partition=2)),
    Case("a partition beyond all", _ALL_OLD, set=stateful_set(partition=9)),
    Case("several at a time", _ALL_OLD, delete=[1, 2], set=stateful_set(most=2)),
    Case("a part of them", _ALL_OLD, delete=[1, 2], set=stateful_set(most="70%")),
    Case("by hand", _ALL_OLD, set=stateful_set(on_delete=True)),
    Case("more before an update", [at(0, OLD)], create=[1]),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_pods_come_and_go(case: Case) -> None:
    made = plan(case.set, case.pods, OLD, NEW, NOW)
    assert [each.ordinal for each in made.create] == case.create
    assert sorted(each.metadata.name for each in made.delete) == [f"web-{number}" for number in case.delete]


@pytest.mark.parametrize(("partition", "revisions"), [(0, [NEW, NEW, NEW]), (2, [OLD, OLD, NEW]), (9, [OLD, OLD, OLD])])
def test_a_pod_below_the_partition_is_made_as_it_was(partition: int, revisions: list[str]) -> None:
    made = plan(stateful_set(parallel=True, partition=partition), [], OLD, NEW, NOW)
    assert made.create == [Wanted(number, revision) for number, revision in enumerate(revisions)]


def test_the_status_counts_revisions() -> None:
    status = plan(stateful_set(), [at(0, OLD), at(1, OLD, ready=False), at(2)], OLD, NEW, NOW).status
    assert (status.replicas, status.readyReplicas, status.availableReplicas) == (3, 2, 2)
    assert (status.currentReplicas, status.updatedReplicas) == (2, 1)
    assert (status.currentRevision, status.updateRevision, status.observedGeneration) == (OLD, NEW, 2)


def test_an_update_is_complete_once_all_are_ready() -> None:
    for ready in (False, True):
        status = plan(stateful_set(), [at(0), at(1), at(2, ready=ready)], OLD, NEW, NOW).status
        assert status.currentRevision == (NEW if ready else OLD)


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [("web-0", 0), ("web-12", 12), ("web", None), ("web-x", None), ("my-web-0", None), ("web-0-1", None)],
)
def test_ordinals(name: str, ordinal: int | None) -> None:
    assert ordinal_of("web", name) == ordinal


def test_a_pod_has_an_identity() -> None:
    owner = stateful_set()
    made = identified(owner, owner.spec.template, 2, NEW)
    assert (made.metadata.name, made.spec.hostname, made.spec.subdomain) == ("web-2", "web-2", "governing")
    assert made.metadata.labels == {
        "app": "web",
        HASH: NEW,
        "statefulset.kubernetes.io/pod-name": "web-2",
        "apps.kubernetes.io/pod-index": "2",
    }


# --- claims ----------------------------------------------------------------------------------------------------------


def claiming(deleted: str = "Retain", scaled: str = "Retain") -> StatefulSet:
    owner = stateful_set(2)
    owner.apiVersion, owner.kind = "apps/v1", "StatefulSet"
    template = PersistentVolumeClaim(
        metadata=ObjectMeta(name="data", labels={"own": "x"}), spec={"volumeMode": "Block"}
    )
    owner.spec.volumeClaimTemplates = [template]
    owner.spec.persistentVolumeClaimRetentionPolicy = StatefulSetRetentionPolicy(whenDeleted=deleted, whenScaled=scaled)
    return owner


def reference(kind: str, name: str, uid: str, *, controller: bool = True) -> OwnerReference:
    version = "v1" if kind == "Pod" else "apps/v1"
    return OwnerReference(
        apiVersion=version,
        kind=kind,
        name=name,
        uid=uid,
        controller=controller or None,
        blockOwnerDeletion=controller or None,
    )


SET, POD = reference("StatefulSet", "web", "web"), reference("Pod", "web-1", "uid-web-1")
ANOTHER = reference("ReplicaSet", "x", "x")


def test_claims_are_made_of_templates_and_are_volumes_of_the_pod() -> None:
    owner = claiming(deleted="Delete")
    (claim,) = claims.made_of(owner, 1)
    assert (claim.metadata.name, claim.metadata.labels, claim.spec) == (
        "data-web-1",
        {"own": "x", "app": "web"},
        {"volumeMode": "Block"},
    )
    assert claim.metadata.ownerReferences == [SET]
    owner.spec.template.spec.volumes = [Volume(name="data", emptyDir=EmptyDirVolumeSource()), Volume(name="tmp")]
    made = identified(owner, owner.spec.template, 1, NEW)
    assert [(each.name, each.persistentVolumeClaim) for each in made.spec.volumes] == [
        ("data", {"claimName": "data-web-1"}),
        ("tmp", None),
    ]


@pytest.mark.parametrize(
    ("deleted", "scaled", "present", "is_wanted", "owners"),
    [
        ("Retain", "Retain", [], True, None),
        ("Retain", "Retain", [SET, ANOTHER], True, [ANOTHER]),
        ("Delete", "Retain", [], True, [SET]),
        ("Delete", "Retain", [], False, [SET]),
        ("Delete", "Retain", [SET], True, None),
        ("Retain", "Delete", [], True, None),
        ("Retain", "Delete", [], False, [POD]),
        ("Retain", "Delete", [POD], True, []),
        ("Delete", "Delete", [SET], False, [POD]),
        ("Delete", "Delete", [POD], True, [SET]),
        # The set owns it, and does not control it.
        ("Delete", "Retain", [reference("StatefulSet", "web", "web", controller=False)], True, [SET]),
        # What is another's, or was an earlier one's.
        ("Delete", "Delete", [ANOTHER], True, None),
        ("Delete", "Delete", [SET, ANOTHER], True, [ANOTHER]),
        ("Delete", "Delete", [reference("StatefulSet", "web", "earlier")], True, None),
        ("Delete", "Delete", [reference("Pod", "web-1", "earlier")], False, None),
    ],
)
def test_who_owns_a_claim(
    deleted: str, scaled: str, present: list[OwnerReference], is_wanted: bool, owners: list[OwnerReference] | None
) -> None:
    owner, user = claiming(deleted, scaled), at(1)
    user.apiVersion, user.kind, user.metadata.uid = "v1", "Pod", POD.uid
    claim = PersistentVolumeClaim(metadata=ObjectMeta(name="data-web-1", ownerReferences=present))
    assert claims.owners_of(claim, owner, user, is_wanted=is_wanted) == owners


def test_a_claim_that_goes_with_an_earlier_pod_is_not_used() -> None:
    for present, stale in (([], False), ([SET], False), ([POD], True), ([reference("Pod", "web-2", "x")], False)):
        claim = PersistentVolumeClaim(metadata=ObjectMeta(name="data-web-1", ownerReferences=present))
        assert claims.is_stale(claim, "web-1") is stale
