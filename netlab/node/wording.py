"""How kubelets write what events and statuses name."""

from __future__ import annotations

from netlab.api.core_types import Pod


def full_name(pod: Pod) -> str:
    """A pod as messages name it (pkg/kubelet/util/format, Pod)."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def duration(seconds: float) -> str:
    """A length of time, of a millisecond or more, as Go prints it: 5m0s."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
