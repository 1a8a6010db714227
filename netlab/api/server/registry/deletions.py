"""What is asked for of a deletion, and what is to be done before an object is gone."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import Int64, Object, Struct
from netlab.api.resources import NAMESPACES, Resource
from netlab.api.server import refusals
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.watch import Stored

DEFAULT_GRACE = 30
"""Seconds: v1.DefaultTerminationGracePeriodSeconds."""


class Preconditions(Struct):
    """metav1.Preconditions."""

    uid: str | None = None
    resourceVersion: str | None = None  # noqa: N815


ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
"""The finalizers by which the garbage collector is asked to free dependents, or to delete them first."""

_PROPAGATION = {"Orphan": ORPHAN, "Foreground": FOREGROUND, "Background": ""}


class DeleteOptions(Struct):
    """metav1.DeleteOptions."""

    gracePeriodSeconds: Int64 | None = None  # noqa: N815
    propagationPolicy: str | None = None  # noqa: N815
    orphanDependents: bool | None = None  # noqa: N815
    preconditions: Preconditions = msgspec.field(default_factory=Preconditions)
    dryRun: list[str] = []  # noqa: N815


def check_preconditions(
    resource: Resource[Object], stored: Stored, uid: str | None, resource_version: str | None
) -> None:
    """Refuse what was meant for another object, or another version of it. Raises `ApiError` (409)."""
    if uid and uid != stored.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored.uid}"
        raise refusals.conflict(resource, stored.name, why)
    if resource_version and resource_version != str(stored.revision):
        raise refusals.modified(resource, stored.name)


def is_finished(obj: JSONObject) -> bool:
    """Whether a deleted object waits for nothing any more: neither its grace period nor a finalizer."""
    meta = obj["metadata"]
    waits = meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")
    is_namespace = (obj["apiVersion"], obj["kind"]) == ("v1", NAMESPACES.kind)
    namespace_waits = is_namespace and obj.get("spec", {}).get("finalizers")
    return "deletionTimestamp" in meta and not waits and not namespace_waits


def set_propagation(meta: JSONObject, options: DeleteOptions) -> bool:
    """Note in the finalizers what is to become of an object's dependents; whether that is news.

    Without a word they are deleted after it, unless it was said before. Raises `ApiError` (422).
    """
    problems = Problems()
    if options.orphanDependents is not None and options.propagationPolicy is not None:
        problems.invalid(
            "propagationPolicy",
            options.propagationPolicy,
            "orphanDependents and deletionPropagation cannot be both set",
        )
    if options.propagationPolicy is not None:
        problems.one_of("propagationPolicy", options.propagationPolicy, _PROPAGATION)
    for value in options.dryRun:
        problems.one_of("dryRun", value, ("All",))
    if problems:
        raise refusals.invalid_options("DeleteOptions", problems)
    policy = options.propagationPolicy
    if options.orphanDependents is not None:
        policy = "Orphan" if options.orphanDependents else "Background"
    if policy is None:
        return False
    before = meta.get("finalizers", [])
    wanted = [_PROPAGATION[policy]] if _PROPAGATION[policy] else []
    after = [each for each in before if each not in (ORPHAN, FOREGROUND)] + wanted
    if sorted(after) == sorted(before):
        return False
    meta["finalizers"] = after
    return True


def grace_period(pod: JSONObject, asked: int | None) -> int:
    """Seconds that a pod is given: none when no kubelet has it or it has ended (pkg/registry/core/pod/strategy.go)."""
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE) if asked is None else asked
    return max(int(grace), 0)
