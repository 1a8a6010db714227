"""Security contexts of pods and of their containers (ValidateSecurityContext, validatePodSpecSecurityContext)."""

from __future__ import annotations

from netlab.api.core_types import PodSecurityContext, PodSpec, SeccompProfile, SecurityContext
from netlab.api.server.objects.problems import Problems

_LAST_ID = (1 << 31) - 1


def pod(spec: PodSpec, path: str, problems: Problems) -> None:
    """That of a pod, and those of its containers."""
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
            if container.securityContext is not None:
                _container(container.securityContext, f"{path}.{field}[{index}].securityContext", problems)


def _container(context: SecurityContext, path: str, problems: Problems) -> None:
    _ids(context, ("runAsUser", "runAsGroup"), path, problems)
    _seccomp(context.seccompProfile, path, problems)
    if context.allowPrivilegeEscalation is False:
        if context.privileged:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            problems.invalid(path, context, detail)
        if context.capabilities is not None and "SYS_ADMIN" in context.capabilities.add:
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            problems.invalid(path, context, detail)


def _ids(context: PodSecurityContext | SecurityContext, fields: tuple[str, ...], path: str, problems: Problems) -> None:
    for field in fields:
        value = getattr(context, field)
        if value is not None:
            problems.in_range(f"{path}.{field}", value, 0, _LAST_ID)


def _seccomp(profile: SeccompProfile | None, path: str, problems: Problems) -> None:
    if profile is not None:
        problems.one_of(f"{path}.seccompProfile.type", profile.type, ("Localhost", "RuntimeDefault", "Unconfined"))
