"""What a container may do and which namespaces it has, in the words of CRI (LinuxContainerSecurityContext).

pid 1 of every machine loads this module, so it imports little.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONTAINER, POD, NODE, TARGET = "CONTAINER", "POD", "NODE", "TARGET"
"""CRI's NamespaceMode: a namespace of the container's own, its pod's, its node's, or that of another container."""


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
    """CRI's LinuxContainerSecurityContext."""

    namespace_options: NamespaceOption = field(default_factory=NamespaceOption)
