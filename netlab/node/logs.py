"""Where a container's output is stored, in the layout of a kubelet's /var/log/pods."""

from __future__ import annotations

from pathlib import Path

from netlab.api.core_types import Pod


def pod_dir(log_dir: Path, pod: Pod) -> Path:
    """The directory of a pod's container logs: NAMESPACE_POD_UID."""
    meta = pod.metadata
    return log_dir / f"{meta.namespace}_{meta.name}_{meta.uid}"


def log_path(log_dir: Path, pod: Pod, container: str, restart_count: int) -> Path:
    """The file of one run of a container; the run before it has `restart_count - 1`."""
    return pod_dir(log_dir, pod) / container / f"{restart_count}.log"
