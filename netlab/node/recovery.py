"""How a kubelet that has just started takes over what it finds. Pure.

The runtime says what runs and what has exited; the API says what was reported before. Container labels hold what only
the kubelet knew, so that after a kubelet is killed, at any moment, the next one continues where it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from netlab.api.core_types import Container, ContainerStatus, Pod, PodSpec
from netlab.api.meta_types import ObjectMeta
from netlab.node.podstate import (
    LOST_EXIT_CODE,
    OOM_KILLED,
    TERMINAL,
    Exit,
    PodState,
    Run,
    Sandbox,
    initialize_again,
    parse_time,
)
from netlab.node.podstatus import container_id
from netlab.node.runtime.service import ContainerStatus as FoundContainer
from netlab.node.sandboxes import pod_uid, sandbox_attempt

NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
POD_LABEL = "io.kubernetes.pod.name"
UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_LABEL = "io.kubernetes.container.name"
RESTART_COUNT_LABEL = "io.kubernetes.container.restartCount"
POD_IPS_LABEL = "netlab.dev/pod-ips"
IMAGE_LABEL = "netlab.dev/image"

_RESTARTS = re.compile(r"[0-9]{1,10}")


def labels(pod: Pod, container: Container, attempt: int, pod_ips: list[str]) -> dict[str, str]:
    """The labels of a container: upstream's names, the addresses of its pod, and the image as its spec had it."""
    return {
        NAMESPACE_LABEL: pod.metadata.namespace,
        POD_LABEL: pod.metadata.name,
        UID_LABEL: pod.metadata.uid,
        CONTAINER_LABEL: container.name,
        RESTART_COUNT_LABEL: str(attempt),
        POD_IPS_LABEL: json.dumps(pod_ips),
        IMAGE_LABEL: container.image,
    }


def of_pods(containers: Iterable[FoundContainer]) -> list[FoundContainer]:
    """The containers that a kubelet started, by their labels; others may have been started in the runtime by hand."""
    return [each for each in containers if _is_of_pod(each.labels)]


def _is_of_pod(found: Mapping[str, str]) -> bool:
    if not found.keys() >= {NAMESPACE_LABEL, POD_LABEL, UID_LABEL, CONTAINER_LABEL, RESTART_COUNT_LABEL, POD_IPS_LABEL}:
        return False
    try:
        addresses = json.loads(found[POD_IPS_LABEL])
    except (ValueError, RecursionError):
        return False
    return isinstance(addresses, list) and _RESTARTS.fullmatch(found[RESTART_COUNT_LABEL]) is not None


@dataclass(frozen=True)
class Recovered:
    """A pod's state as found, and the ids of what is no longer needed."""

    state: PodState
    unused_sandboxes: list[str]
    """Made, but not yet used: whether their network was complete is not known."""
    unused_containers: list[str]
    """Dead, and replaced."""


def orphans(
    bound: Collection[str], sandboxes: Mapping[str, ObjectMeta | None], containers: Iterable[FoundContainer]
) -> list[Pod]:
    """Pods that the API no longer has on this node, but that left something here: what is known about them.

    `bound` are the uids of the pods that the API has here; `sandboxes` has the pods' names, where they were noted.
    """
    metas: dict[str, ObjectMeta] = {}
    names: dict[str, dict[str, None]] = {}
    for identity, noted in sandboxes.items():
        uid = pod_uid(identity)
        metas[uid] = noted or metas.get(uid) or ObjectMeta(name=uid, uid=uid)
    for each in containers:
        uid = each.labels[UID_LABEL]
        metas[uid] = ObjectMeta(namespace=each.labels[NAMESPACE_LABEL], name=each.labels[POD_LABEL], uid=uid)
        names.setdefault(uid, {})[each.labels[CONTAINER_LABEL]] = None
    return [
        Pod(metadata=meta, spec=PodSpec(containers=[Container(name=name) for name in names.get(uid, ())]))
        for uid, meta in metas.items()
        if uid not in bound
    ]


def recover(pod: Pod, sandboxes: Iterable[str], containers: Iterable[FoundContainer], now: float) -> Recovered:
    """The state of a pod, from what is left of it."""
    uid = pod.metadata.uid
    mine = [each for each in containers if each.labels.get(UID_LABEL) == uid]
    state = PodState()
    latest: dict[str, FoundContainer] = {}
    for each in sorted(mine, key=lambda c: int(c.labels[RESTART_COUNT_LABEL])):
        latest[each.labels[CONTAINER_LABEL]] = each

    owned = [each for each in sandboxes if pod_uid(each) == uid]
    used = next((each for each in latest.values() if each.sandbox in owned or each.sandbox is None), None)
    if used is not None:
        attempt = sandbox_attempt(used.sandbox) if used.sandbox else 0
        state.sandbox = Sandbox(used.sandbox, json.loads(used.labels[POD_IPS_LABEL]), attempt)
    state.ips = state.sandbox.ips if state.sandbox else [each.ip for each in pod.status.podIPs]
    state.sandbox_attempt = max((sandbox_attempt(each) + 1 for each in owned), default=0)

    status = pod.status
    listed = (*status.initContainerStatuses, *status.containerStatuses, *status.ephemeralContainerStatuses)
    reported = {each.name: each for each in listed}
    for spec in pod.spec.all_containers():
        known = reported.get(spec.name)
        if spec.name in latest:
            state.runs[spec.name] = _known(uid, spec, latest[spec.name], known)
        elif known is not None:
            state.runs[spec.name] = _unknown(known, now)
    if state.sandbox is None and pod.status.phase not in TERMINAL:
        initialize_again(pod, state)
    return Recovered(
        state,
        unused_sandboxes=[each for each in owned if state.sandbox is None or each != state.sandbox.id],
        unused_containers=[each.id for each in mine if each not in latest.values() and not each.running],
    )


def _known(uid: str, spec: Container, found: FoundContainer, status: ContainerStatus | None) -> Run:
    run = Run(attempt=int(found.labels[RESTART_COUNT_LABEL]), started_at=found.started_at, image_id=found.image_id)
    if status is not None:
        run.last = status.lastState.terminated
    if found.exit_code is not None:
        reason = OOM_KILLED if found.out_of_memory else ""
        run.ended(Exit(found.exit_code, found.finished_at or found.started_at, found.signal or 0, reason))
        return run
    run.outdated = found.labels.get(IMAGE_LABEL, spec.image) != spec.image
    # Probe results hold until there are new ones: a kubelet's restart takes no pod out of service.
    same = status is not None and status.containerID == f"netlab://{container_id(uid, spec.name, run.attempt)}"
    run.started = spec.startupProbe is None or bool(same and status and status.started)
    run.ready = run.started and (spec.readinessProbe is None or bool(same and status and status.ready))
    return run


def _unknown(status: ContainerStatus, now: float) -> Run:
    run = Run(attempt=status.restartCount, last=status.lastState.terminated)
    ended = status.state.terminated
    if ended is None and status.state.waiting is not None and status.containerID:
        # It was waiting for its next run: its end was reported as its last state.
        ended, run.last = run.last, None
    if ended is not None:
        finished = _moment(ended.finishedAt, now)
        run.started_at = _moment(ended.startedAt, finished) if ended.startedAt else None
        run.ended(Exit(ended.exitCode, finished, ended.signal, ended.reason, ended.message))
    elif status.state.running is not None:
        run.started_at = _moment(status.state.running.startedAt, now)
        message = "The container could not be located: its machine was restarted"
        run.ended(Exit(LOST_EXIT_CODE, now, 0, "ContainerStatusUnknown", message))
    return run


def _moment(written: str | None, otherwise: float) -> float:
    """A time in a status, which anybody may have written who may write statuses."""
    try:
        return parse_time(written) if written else otherwise
    except (ValueError, OverflowError):
        return otherwise
