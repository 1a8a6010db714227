"""The columns of a Pod, and what its status is in one word."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from netlab.api.printers import AGE, NAME, NONE, Cell, Column, JSONObject, Printer, age, duration, name, seconds_of

_NODE_LOST = "NodeLost"
_OVER = ("Succeeded", "Failed")


@dataclasses.dataclass
class Summary:
    """What the statuses of a pod's containers add up to."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: float = 0.0
    """When a container that was restarted had ended, in seconds since the epoch; 0: no one knows."""

    def count(self, container: JSONObject) -> None:
        """Add the restarts of a container, by its status."""
        self.restarts += container.get("restartCount", 0)
        ended = container.get("lastState", {}).get("terminated", {}).get("finishedAt")
        if ended:
            self.last_restart = max(self.last_restart, seconds_of(ended))


def summarize(pod: JSONObject) -> Summary:
    """What is shown of a pod: why it waits or ended, or else its phase."""
    status = pod.get("status", {})
    phase = status.get("phase", "")
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    summary = Summary(status.get("reason") or phase)
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    sidecars = Summary("")
    initializing = _look_at_init_containers(pod, summary, sidecars)
    if not initializing or conditions.get("Initialized", {}).get("status") == "True":
        summary.restarts, summary.last_restart = sidecars.restarts, sidecars.last_restart
        is_ready = conditions.get("Ready", {}).get("status") == "True"
        _look_at_containers(status.get("containerStatuses", ()), summary, is_ready=is_ready)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == _NODE_LOST:
            summary.reason = "Unknown"
        elif phase not in _OVER:
            summary.reason = "Terminating"
    return summary


def _is_sidecar(container: JSONObject) -> bool:
    return container.get("restartPolicy") == "Always"


def _look_at_init_containers(pod: JSONObject, summary: Summary, sidecars: Summary) -> bool:
    """Whether one of them is still to succeed; the first such is the pod's reason."""
    specs = pod["spec"].get("initContainers", ())
    running_on = {each["name"] for each in specs if _is_sidecar(each)}
    for index, container in enumerate(pod.get("status", {}).get("initContainerStatuses", ())):
        is_sidecar = container["name"] in running_on
        summary.count(container)
        if is_sidecar:
            sidecars.count(container)
        state = container.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting", {}).get("reason", "")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if is_sidecar and container.get("started"):
            summary.ready += container.get("ready", False)
            continue
        if terminated is not None:
            summary.reason = f"Init:{_end(terminated)}"
        elif waiting and waiting != "PodInitializing":
            summary.reason = f"Init:{waiting}"
        else:
            summary.reason = f"Init:{index}/{len(specs)}"
        return True
    return False


def _look_at_containers(statuses: Sequence[JSONObject], summary: Summary, *, is_ready: bool) -> None:
    is_running, error = False, ""
    for container in reversed(statuses):
        summary.count(container)
        state = container.get("state", {})
        if waiting := state.get("waiting", {}).get("reason"):
            summary.reason = waiting
        elif (terminated := state.get("terminated")) is not None:
            summary.reason = _end(terminated)
            if terminated.get("exitCode", 0) != 0:
                error = summary.reason
        elif container.get("ready") and "running" in state:
            is_running = True
            summary.ready += 1
    # One container has completed its work, and others may not have.
    if summary.reason == "Completed":
        if is_running and is_ready:
            summary.reason = "Running"
        elif error:
            summary.reason = error
        elif is_running:
            summary.reason = "NotReady"


def _end(terminated: JSONObject) -> str:
    if reason := terminated.get("reason"):
        return str(reason)
    signal = terminated.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode', 0)}"


def restarts(summary: Summary, now: float) -> str:
    """How often a pod's containers were restarted, and when one of them last was."""
    if summary.restarts and summary.last_restart:
        return f"{summary.restarts} ({duration(now - summary.last_restart)} ago)"
    return str(summary.restarts)


def containers(pod: JSONObject) -> int:
    """How many containers of a pod run beside each other."""
    spec = pod["spec"]
    return len(spec["containers"]) + sum(map(_is_sidecar, spec.get("initContainers", ())))


def _gates(pod: JSONObject) -> str:
    gates = pod["spec"].get("readinessGates", ())
    if not gates:
        return NONE
    statuses = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
    opened = sum(statuses.get(gate["conditionType"]) == "True" for gate in gates)
    return f"{opened}/{len(gates)}"


def _cells(pod: JSONObject, now: float) -> list[Cell]:
    spec, status = pod["spec"], pod.get("status", {})
    summary = summarize(pod)
    addresses = status.get("podIPs", ())
    return [
        name(pod),
        f"{summary.ready}/{containers(pod)}",
        summary.reason,
        restarts(summary, now),
        age(pod, now),
        addresses[0]["ip"] if addresses else NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(pod),
    ]


_COMPLETED = {
    "Succeeded": ("Succeeded", "The pod has completed successfully."),
    "Failed": ("Failed", "The pod failed."),
}


def _completed(pod: JSONObject) -> JSONObject | None:
    found = _COMPLETED.get(pod.get("status", {}).get("phase", ""))
    if found is None:
        return None
    reason, message = found
    return {"type": "Completed", "status": "True", "reason": reason, "message": message}


POD = Printer(
    (
        NAME,
        Column("Ready", "How many containers of the pod are ready, of how many."),
        Column("Status", "What the pod's containers are doing, in one word."),
        Column("Restarts", "How often the containers were restarted, and when one of them last was."),
        AGE,
        Column("IP", "The address of the pod, in its primary family.", 1),
        Column("Node", "The node that the pod is assigned to.", 1),
        Column("Nominated Node", "The node that is being cleared for the pod.", 1),
        Column("Readiness Gates", "How many of the pod's readiness gates are open, of how many.", 1),
    ),
    _cells,
    _completed,
)
