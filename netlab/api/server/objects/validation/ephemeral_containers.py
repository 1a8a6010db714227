"""Containers that are added to a pod that is there (KEP-277): what they may be, and that they stay what they are."""

from __future__ import annotations

from netlab.api.core_types import MIRROR_POD, EphemeralContainer, Pod, PodSpec
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.validation import containers

FIELD = "ephemeralContainers"

_NOT_THEIRS = (
    *("ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"),
    *("restartPolicy", "restartPolicyRules", "resizePolicy"),
)
"""What only a container has on which the pod may rely."""


def none_at_first(obj: JSONObject, old: JSONObject | None, problems: Problems) -> None:
    """A pod is made without any."""
    if old is None and obj["spec"].get(FIELD):
        problems.forbidden(f"spec.{FIELD}", "cannot be set on create")


def validate(spec: PodSpec, root: str, names: set[str], problems: Problems) -> None:
    """Those of a pod; `names` are those of its other containers, to which theirs are added. A template has none."""
    others = frozenset(names)
    if root != "spec" and spec.ephemeralContainers:
        problems.forbidden(f"{root}.{FIELD}", "ephemeral containers not allowed in pod template")
    for index, each in enumerate(spec.ephemeralContainers):
        path = f"{root}.{FIELD}[{index}]"
        containers.container(each, path, names, problems)
        if each.targetContainerName and each.targetContainerName not in others:
            problems.not_found(f"{path}.targetContainerName", each.targetContainerName)
        for field in _NOT_THEIRS:
            value = getattr(each, field)
            if value and value != type(value)():
                problems.forbidden(f"{path}.{field}", "cannot be set for an Ephemeral Container")
        for number, mount in enumerate(each.volumeMounts):
            for field in ("subPath", "subPathExpr"):
                if getattr(mount, field):
                    where = f"{path}.volumeMounts[{number}].{field}"
                    problems.forbidden(where, "cannot be set for an Ephemeral Container")


def update(new: Pod, old: Pod, problems: Problems) -> None:
    """Others can be added; each that is there stays, as it is."""
    if MIRROR_POD in old.metadata.annotations:
        problems.forbidden("", "static pods do not support ephemeral containers")
        return
    wanted: dict[str, EphemeralContainer] = {each.name: each for each in new.spec.ephemeralContainers}
    for each in old.spec.ephemeralContainers:
        if each.name not in wanted:
            problems.forbidden(f"spec.{FIELD}", f'existing ephemeral containers "{each.name}" may not be removed')
        elif wanted[each.name] != each:
            problems.forbidden(f"spec.{FIELD}", f'existing ephemeral containers "{each.name}" may not be changed')
