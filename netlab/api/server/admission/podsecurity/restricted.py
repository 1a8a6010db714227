"""What the level Restricted demands besides: the practice of hardened pods.

Upstream's checks of that level (pod-security-admission policy/check_*.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netlab.api.server.admission.pod_references import containers
from netlab.api.server.admission.podsecurity.baseline import (
    Check,
    Spec,
    Violation,
    named,
    of_pod,
    proc_mount,
    quoted,
    seccomp,
    setters,
    unless_in_user_namespace,
    unless_on_windows,
)

_VOLUMES = (
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
    "secret",
)
_OTHER_VOLUMES = (
    *("hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd"),
    *("flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk"),
    *("photonPersistentDisk", "portworxVolume", "scaleIO", "storageos"),
)


def privilege_escalation(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No process gets more rights than its parent has."""
    bad = [each["name"] for each in containers(spec) if of_pod(each).get("allowPrivilegeEscalation") is not False]
    if not bad:
        return None
    detail = f"{named('container', bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail)


def capabilities(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """All capabilities are dropped, and none added but NET_BIND_SERVICE."""
    keeping, adding = [], []
    added: set[str] = set()
    for container in containers(spec):
        asked = of_pod(container).get("capabilities") or {}
        if "ALL" not in (asked.get("drop") or ()):
            keeping.append(container["name"])
        if more := [each for each in asked.get("add") or () if each != "NET_BIND_SERVICE"]:
            adding.append(container["name"])
            added.update(more)
    details = []
    if keeping:
        details.append(f'{named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        listed = quoted(sorted(added))
        details.append(f"{named('container', adding)} must not include {listed} in securityContext.capabilities.add")
    return Violation("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """Volumes are of kinds that reach into no node."""
    bad: dict[str, str] = {}
    for volume in spec.get("volumes") or ():
        if not any(volume.get(kind) is not None for kind in _VOLUMES):
            bad[volume["name"]] = next((kind for kind in _OTHER_VOLUMES if volume.get(kind) is not None), "unknown")
    if not bad:
        return None
    kinds = sorted(set(bad.values()))
    uses = "uses" if len(bad) == 1 else "use"
    return Violation(
        "restricted volume types", f"{named('volume', bad)} {uses} {named('restricted volume type', kinds)}"
    )


def non_root(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """The pod, or each of its containers, says that it does not run as root."""
    reason = "runAsNonRoot != true"
    found = setters(spec, lambda context: context.get("runAsNonRoot") is False)
    if found:
        return Violation(reason, f"{' and '.join(found)} must not set securityContext.runAsNonRoot=false")
    if of_pod(spec).get("runAsNonRoot"):
        return None
    bad = [each["name"] for each in containers(spec) if of_pod(each).get("runAsNonRoot") is None]
    if not bad:
        return None
    return Violation(reason, f"pod or {named('container', bad)} must set securityContext.runAsNonRoot=true")


def user(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """Nobody runs as root (since 1.23)."""
    found = setters(spec, lambda context: context.get("runAsUser") == 0)
    return Violation("runAsUser=0", f"{' and '.join(found)} must not set runAsUser=0") if found else None


def seccomp_is_set(annotations: Mapping[str, str], spec: Spec) -> Violation | None:
    """The pod, or each of its containers, says which filter of system calls it has."""
    wrong = seccomp(annotations, spec)
    if wrong is not None or of_pod(spec).get("seccompProfile"):
        return wrong

    def says_nothing(container: Mapping[str, Any]) -> bool:
        return not of_pod(container).get("seccompProfile")

    bad = [each["name"] for each in containers(spec) if says_nothing(each)]
    if not bad:
        return None
    detail = (
        f"pod or {named('container', bad)} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost"'
    )
    return Violation("seccompProfile", detail)


CHECKS: dict[str, tuple[tuple[int, Check], ...]] = {
    "allowPrivilegeEscalation": ((8, privilege_escalation), (25, unless_on_windows(privilege_escalation))),
    "capabilities_restricted": ((22, capabilities), (25, unless_on_windows(capabilities))),
    "procMount_restricted": ((35, proc_mount),),
    "restrictedVolumes": ((0, volumes),),
    "runAsNonRoot": ((0, non_root), (35, unless_in_user_namespace(non_root))),
    "runAsUser": ((23, user), (35, unless_in_user_namespace(user))),
    "seccompProfile_restricted": ((19, seccomp_is_set), (25, unless_on_windows(seccomp_is_set))),
}
"""As those of Baseline."""

INSTEAD_OF = {
    "capabilities_restricted": "capabilities_baseline",
    "procMount_restricted": "procMount",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}
"""Which weaker check each replaces, from the version on in which it is there."""
