"""Where a container's output lies, in the layout of a kubelet's /var/log/pods."""

from __future__ import annotations

from pathlib import Path

from netlab.api.core_types import Pod


def pod_dir(log_dir: Path, pod: Pod) -> Path:
    """The directory of all that a pod's containers print: NAMESPACE_POD_UID."""
    meta = pod.metadata
    return log_dir / f"{meta.namespace}_{meta.name}_{meta.uid}"


def earlier(path: Path) -> Path:
    """Where the end of a log file is kept that grew too large and was emptied."""
    return path.with_name(f"{path.name}.1")


def log_path(log_dir: Path, pod: Pod, container: str, restart_count: int) -> Path:
    """The file of one run of a container; the run before it has `restart_count - 1`."""
    return pod_dir(log_dir, pod) / container / f"{restart_count}.log"
