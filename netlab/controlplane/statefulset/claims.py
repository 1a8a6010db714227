"""The PersistentVolumeClaims of a StatefulSet's pods: one of each template for each ordinal, and who owns them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from netlab.api.apps_types import PersistentVolumeClaim, StatefulSet
from netlab.api.core_types import Pod, PodSpec, Volume
from netlab.api.meta_types import Object, ObjectMeta, OwnerReference
from netlab.controlplane.cluster import controller_reference

_DELETE = "Delete"
_POD = ("v1", "Pod")


def name_of(owner: str, template: str, ordinal: int) -> str:
    """The name of the claim of a template and an ordinal of the StatefulSet `owner`."""
    return f"{template}-{owner}-{ordinal}"


def names_of(stateful_set: StatefulSet, ordinal: int) -> list[str]:
    """The names of the claims of an ordinal."""
    templates = stateful_set.spec.volumeClaimTemplates
    return [name_of(stateful_set.metadata.name, each.metadata.name, ordinal) for each in templates]


def made_of(stateful_set: StatefulSet, ordinal: int) -> list[PersistentVolumeClaim]:
    """The claims of an ordinal, as they are made."""
    found = []
    for template in stateful_set.spec.volumeClaimTemplates:
        meta = template.metadata
        claim = PersistentVolumeClaim(
            metadata=ObjectMeta(
                name=name_of(stateful_set.metadata.name, meta.name, ordinal),
                namespace=stateful_set.metadata.namespace,
                labels=meta.labels | stateful_set.spec.selector.matchLabels,
                annotations=dict(meta.annotations),
            ),
            spec=copy.deepcopy(template.spec),
        )
        owners = owners_of(claim, stateful_set, None, is_wanted=True)
        claim.metadata.ownerReferences = claim.metadata.ownerReferences if owners is None else owners
        found.append(claim)
    return found


def mount(stateful_set: StatefulSet, spec: PodSpec, ordinal: int) -> None:
    """Have a pod use the claims of its ordinal, in place of volumes of the same names."""
    names = [each.metadata.name for each in stateful_set.spec.volumeClaimTemplates]
    claimed = [
        Volume(name=name, persistentVolumeClaim={"claimName": name_of(stateful_set.metadata.name, name, ordinal)})
        for name in names
    ]
    spec.volumes = [*claimed, *(each for each in spec.volumes if each.name not in names)]


def is_stale(claim: Object, pod: str) -> bool:
    """Whether a claim goes with an earlier pod of that name: another pod must not use it."""
    owners = claim.metadata.ownerReferences
    return claim.metadata.deletionTimestamp is not None or any(_is(each, _POD, pod) for each in owners)


def owners_of(
    claim: Object, stateful_set: StatefulSet, pod: Pod | None, *, is_wanted: bool
) -> list[OwnerReference] | None:
    """Who is to own a claim, by spec.persistentVolumeClaimRetentionPolicy; None if that is as it is, or left alone.

    `pod` is the one that uses it, if there is one, and `is_wanted` whether its ordinal is among the replicas. A claim
    of an earlier set or pod of the same name, or of another controller, is left alone (KEP-1847).
    """
    policy = stateful_set.spec.persistentVolumeClaimRetentionPolicy
    present = claim.metadata.ownerReferences
    kinds = [((stateful_set.apiVersion, stateful_set.kind), stateful_set)]
    if pod is not None:
        kinds.append((_POD, pod))  # type: ignore[arg-type]
    ours = [each for each in present if any(_is(each, kind, owner.metadata.name) for kind, owner in kinds)]
    uids = {owner.metadata.uid for _, owner in kinds}
    if any(each.uid not in uids for each in ours):
        return None
    others = [each for each in present if each not in ours]
    wanted: Sequence[Object] = ()
    if not any(each.controller for each in others):
        if policy.whenScaled == _DELETE and not is_wanted:
            wanted = () if pod is None else (pod,)
        elif policy.whenDeleted == _DELETE:
            wanted = (stateful_set,)
    references = [*others, *(controller_reference(each) for each in wanted)]
    return None if references == present else references


def _is(reference: OwnerReference, kind: tuple[str, str], name: str) -> bool:
    return (reference.apiVersion, reference.kind) == kind and reference.name == name
