"""What a kubelet does not begin with: a pod that is bound to its node and does not fit there (kubelet/lifecycle).

What the scheduler chose fits. Others are bound by their own `nodeName`, or had their node chosen a moment too early.
"""

from __future__ import annotations

from collections.abc import Iterable

from netlab.api.core_types import Pod
from netlab.api.host_ports import collide, host_ports
from netlab.node import security


def refusal(pod: Pod, others: Iterable[Pod]) -> tuple[str, str] | None:
    """The reason and message for which a pod fails at once; None if there is room beside the node's other pods."""
    if (name := security.unsafe_sysctl(pod)) is not None:
        return "SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted'
    wanted = list(host_ports(pod.spec))
    if wanted and any(collide(host_ports(other.spec), wanted) for other in others):
        what = "node(s) didn't have free ports for the requested pod ports"
        return "NodePorts", f"Predicate NodePorts failed: {what}"
    return None
