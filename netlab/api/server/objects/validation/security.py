"""Security contexts of pods and of their containers (ValidateSecurityContext, validatePodSpecSecurityContext)."""

from __future__ import annotations

from netlab.api.core_types import PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, VolumeMount
from netlab.api.server.objects.problems import Problems

_LAST_ID = (1 << 31) - 1


def pod(spec: PodSpec, path: str, problems: Problems) -> None:
    """That of a pod, those of its containers, and what these ask for."""
    own = spec.securityContext
    if own is not None:
        place = f"{path}.securityContext"
        _ids(own, ("fsGroup", "runAsUser", "runAsGroup"), place, problems)
        for index, group in enumerate(own.supplementalGroups):
            problems.in_range(f"{place}.supplementalGroups[{index}]", group, 0, _LAST_ID)
        if own.fsGroupChangePolicy is not None:
            problems.one_of(f"{place}.fsGroupChangePolicy", own.fsGroupChangePolicy, ("Always", "OnRootMismatch"))
        _seccomp(own.seccompProfile, place, problems)
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(getattr(spec, field)):
            place = f"{path}.{field}[{index}]"
            if container.securityContext is not None:
                _container(container.securityContext, f"{place}.securityContext", problems)
                if container.securityContext.procMount == "Unmasked" and spec.hostUsers is not False:
                    where = f"{place}.securityContext.procMount"
                    problems.invalid(where, "Unmasked", "`hostUsers` must be false to use `Unmasked`")
            for number, mount in enumerate(container.volumeMounts):
                privileged = container.securityContext is not None and bool(container.securityContext.privileged)
                _mount(mount, f"{place}.volumeMounts[{number}]", problems, privileged=privileged)


def _container(context: SecurityContext, path: str, problems: Problems) -> None:
    _ids(context, ("runAsUser", "runAsGroup"), path, problems)
    _seccomp(context.seccompProfile, path, problems)
    if context.procMount is not None:
        problems.one_of(f"{path}.procMount", context.procMount, ("Default", "Unmasked"))
    if context.allowPrivilegeEscalation is False:
        if context.privileged:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            problems.invalid(path, context, detail)
        if context.capabilities is not None and "SYS_ADMIN" in context.capabilities.add:
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            problems.invalid(path, context, detail)


def _mount(mount: VolumeMount, path: str, problems: Problems, *, privileged: bool) -> None:
    """Who sees what is mounted in a volume later, and what is read-only (validateMountRecursiveReadOnly)."""
    if mount.mountPropagation is not None:
        where = f"{path}.mountPropagation"
        problems.one_of(where, mount.mountPropagation, ("None", "HostToContainer", "Bidirectional"))
        if mount.mountPropagation == "Bidirectional" and not privileged:
            problems.forbidden(where, "Bidirectional mount propagation is available only to privileged containers")
    if mount.recursiveReadOnly is not None:
        where = f"{path}.recursiveReadOnly"
        problems.one_of(where, mount.recursiveReadOnly, ("Disabled", "Enabled", "IfPossible"))
        if mount.recursiveReadOnly in ("Enabled", "IfPossible"):
            if not mount.readOnly:
                problems.forbidden(where, "may only be specified when readOnly is true")
            if mount.mountPropagation not in (None, "None"):
                problems.forbidden(where, "may only be specified when mountPropagation is None or not specified")


def _ids(context: PodSecurityContext | SecurityContext, fields: tuple[str, ...], path: str, problems: Problems) -> None:
    for field in fields:
        value = getattr(context, field)
        if value is not None:
            problems.in_range(f"{path}.{field}", value, 0, _LAST_ID)


def _seccomp(profile: SeccompProfile | None, path: str, problems: Problems) -> None:
    if profile is not None:
        problems.one_of(f"{path}.seccompProfile.type", profile.type, ("Localhost", "RuntimeDefault", "Unconfined"))
