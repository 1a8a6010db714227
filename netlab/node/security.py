"""What a container may do and what it shares, by its pod's spec, in the words of CRI. Pure."""

from __future__ import annotations

from typing import TypeVar

from netlab.api.core_types import Capabilities, Container, EphemeralContainer, Pod, PodSecurityContext
from netlab.api.core_types import SecurityContext as OwnContext
from netlab.errors import UsageError
from netlab.node import wording
from netlab.node.podstate import PodState
from netlab.node.podstatus import container_id
from netlab.node.runtime.service import (
    CONTAINER,
    NODE,
    POD,
    RUNTIME_DEFAULT,
    TARGET,
    UNCONFINED,
    NamespaceOption,
    SecurityContext,
)

_T = TypeVar("_T")

_NOTHING = PodSecurityContext()
_SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
})  # fmt: skip


def of_container(pod: Pod, container: Container, state: PodState) -> SecurityContext:
    """The security context of a container's next run. Raises `UsageError`."""
    namespaces = _namespaces(pod, container, state)
    if pod.spec.securityContext in (None, _NOTHING) and container.securityContext is None:
        return SecurityContext(namespace_options=namespaces)
    of_pod, own = pod.spec.securityContext or _NOTHING, container.securityContext or OwnContext()
    user = _first(own.runAsUser, of_pod.runAsUser)
    profile = _first(own.seccompProfile, of_pod.seccompProfile)
    if profile is not None and profile.type == "Localhost":
        raise UsageError(f"container {container.name}: seccompProfile: no profiles of type Localhost are on this node")
    powers = own.capabilities or Capabilities()
    groups = [*of_pod.supplementalGroups, *([] if of_pod.fsGroup is None else [of_pod.fsGroup])]
    return SecurityContext(
        namespace_options=namespaces,
        privileged=bool(own.privileged),
        add_capabilities=[_bare(each) for each in powers.add],
        drop_capabilities=[_bare(each) for each in powers.drop],
        run_as_user=user,
        run_as_group=_first(own.runAsGroup, of_pod.runAsGroup),
        supplemental_groups=groups,
        readonly_rootfs=bool(own.readOnlyRootFilesystem),
        seccomp=UNCONFINED if profile is not None and profile.type == UNCONFINED else RUNTIME_DEFAULT,
        sysctls={each.name: each.value for each in of_pod.sysctls},
        non_root=bool(_first(own.runAsNonRoot, of_pod.runAsNonRoot)),
        unmasked=own.procMount == "Unmasked",
    )


def verify_non_root(pod: Pod, container: Container, image_user: str) -> None:
    """Raise `UsageError` if a container that may not run as root would (pkg/kubelet/kuberuntime, verifyRunAsNonRoot).

    `image_user` is what the image says of its user: "", USER or USER:GROUP.
    """
    of_pod, own = pod.spec.securityContext or _NOTHING, container.securityContext or OwnContext()
    if not _first(own.runAsNonRoot, of_pod.runAsNonRoot):
        return
    user, of_image = _first(own.runAsUser, of_pod.runAsUser), image_user.partition(":")[0]
    if user == 0:
        why = "container's runAsUser breaks non-root policy"
    elif user is not None:
        return
    elif of_image and not of_image.isdecimal():
        why = f"container has runAsNonRoot and image has non-numeric user ({of_image}), cannot verify user is non-root"
    elif int(of_image or 0) == 0:
        why = "container has runAsNonRoot and image will run as root"
    else:
        return
    raise UsageError(f'{why} (pod: "{wording.full_name(pod)}", container: {container.name})')


def _first(own: _T | None, of_pod: _T | None) -> _T | None:
    """What a container says comes before what its pod says."""
    return of_pod if own is None else own


def _bare(name: str) -> str:
    """A capability as CRI has it: upper case, without the prefix that runtimes take off too."""
    return name.upper().removeprefix("CAP_")


def unsafe_sysctl(pod: Pod) -> str | None:
    """A sysctl that a pod may not set, since it is not of the pod alone (pkg/kubelet/sysctl, SafeSysctlAllowlist)."""
    context = pod.spec.securityContext
    return next((each.name for each in (context.sysctls if context else ()) if not _is_safe(pod, each.name)), None)


def _is_safe(pod: Pod, name: str) -> bool:
    name = name.replace("/", ".")
    if name.startswith("net."):
        return name in _SAFE_SYSCTLS and not pod.spec.hostNetwork
    return name in _SAFE_SYSCTLS and not pod.spec.hostIPC


def _namespaces(pod: Pod, container: Container, state: PodState) -> NamespaceOption:
    """As pkg/kubelet/kuberuntime/util, NamespacesForPod; a target's is asked for where each container has its own."""
    pid, target_id = CONTAINER, None
    if pod.spec.hostPID:
        pid = NODE
    elif pod.spec.shareProcessNamespace:
        pid = POD
    elif isinstance(container, EphemeralContainer) and container.targetContainerName:
        target = container.targetContainerName
        run = state.run(target)
        if not run.running:
            raise UsageError(f'unable to find target container "{target}"')
        pid, target_id = TARGET, container_id(pod.metadata.uid, target, run.attempt)
    return NamespaceOption(pid=pid, ipc=NODE if pod.spec.hostIPC else POD, target_id=target_id)
