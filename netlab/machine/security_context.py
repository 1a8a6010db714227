"""What a container may do and which namespaces it has, in the words of CRI (LinuxContainerSecurityContext).

pid 1 of every machine loads this module, so it imports little.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONTAINER, POD, NODE, TARGET = "CONTAINER", "POD", "NODE", "TARGET"
"""CRI's NamespaceMode: a namespace of the container's own, its pod's, its node's, or that of another container."""

PRIVATE, HOST_TO_CONTAINER, BIDIRECTIONAL = "PRIVATE", "HOST_TO_CONTAINER", "BIDIRECTIONAL"
"""CRI's MountPropagation."""
RUNTIME_DEFAULT, UNCONFINED = "RuntimeDefault", "Unconfined"
"""Types of a seccomp profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceOption:
    """CRI's NamespaceOption: `pid` is any of the modes, `ipc` POD or NODE; `target_id` is the container that TARGET
    means. The network is the sandbox's, or without one the node's.
    """

    pid: str = CONTAINER
    ipc: str = POD
    target_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityContext:
    """CRI's LinuxContainerSecurityContext, and the sysctls of its sandbox.

    Capabilities are named without "CAP_"; ALL is every one. Without a user, the image's runs the container; without a
    group, the user's. With `non_root` that user may not be root. With `unmasked` it has all of /proc and /sys, as a
    privileged one does. No process of a container gets privileges by execve(2), whatever it asks for.
    """

    namespace_options: NamespaceOption = field(default_factory=NamespaceOption)
    privileged: bool = False
    add_capabilities: list[str] = field(default_factory=list)
    drop_capabilities: list[str] = field(default_factory=list)
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: list[int] = field(default_factory=list)
    readonly_rootfs: bool = False
    non_root: bool = False
    seccomp: str = RUNTIME_DEFAULT
    sysctls: dict[str, str] = field(default_factory=dict)
    unmasked: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether system calls are refused to it. Runtimes let through those that SYS_ADMIN is for, which are most."""
        return not (self.privileged or self.seccomp == UNCONFINED or {"SYS_ADMIN", "ALL"} & {*self.add_capabilities})
