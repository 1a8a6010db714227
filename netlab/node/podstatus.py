"""The status a kubelet reports for a pod: computed from the pod, its state here and what was reported before."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.api.core_types import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    EphemeralContainer,
    Pod,
    PodIP,
    PodStatus,
)
from netlab.api.meta_types import Condition, format_time
from netlab.node import wording
from netlab.node.podstate import (
    TERMINAL,
    Exit,
    PodState,
    Run,
    initialized,
    is_sidecar,
    terminal,
    will_restart,
)


def container_id(pod_uid: str, container: str, attempt: int) -> str:
    """The machine's name for one run of a container."""
    return f"{pod_uid}_{container}_{attempt}"


def pod_status(pod: Pod, state: PodState, host_ips: list[str], now: float) -> PodStatus:
    """The whole status, but the conditions that the scheduler and the owners of readiness gates write."""
    init = [_container_status(pod, spec, state, now, init=True) for spec in pod.spec.initContainers]
    main = [_container_status(pod, spec, state, now) for spec in pod.spec.containers]
    ephemeral = [_ephemeral_status(pod, spec, state, now) for spec in pod.spec.ephemeralContainers]
    phase = _phase(pod, state)
    reason, message = state.failed or (pod.status.reason, pod.status.message)
    # A pod that has ended keeps its addresses: its logs and events mention them.
    over = phase in TERMINAL or pod.metadata.deletionTimestamp is not None
    ips = [PodIP(ip=ip) for ip in state.ips] if state.sandbox is not None or over else []
    return PodStatus(
        phase=phase,
        conditions=_conditions(pod, state, phase, init, main, format_time(now)),
        reason=reason,
        message=message,
        hostIP=host_ips[0],
        hostIPs=[PodIP(ip=ip) for ip in host_ips],
        podIP=ips[0].ip if ips else "",
        podIPs=ips,
        startTime=pod.status.startTime or format_time(now),
        initContainerStatuses=init,
        containerStatuses=main,
        ephemeralContainerStatuses=ephemeral,
        qosClass=pod.status.qosClass or "BestEffort",
        observedGeneration=pod.metadata.generation,
    )


def terminated(pod: Pod, name: str, run: Run) -> ContainerStateTerminated:
    """How a container's current run ended."""
    assert run.exit is not None
    return _terminated(container_id(pod.metadata.uid, name, run.attempt), run.exit, run.started_at)


def _terminated(identity: str, exit: Exit, started_at: float | None) -> ContainerStateTerminated:
    return ContainerStateTerminated(
        exitCode=exit.code,
        signal=exit.signal,
        reason=exit.reason or ("Completed" if exit.code == 0 else "Error"),
        message=exit.message,
        startedAt=None if started_at is None else format_time(started_at),
        finishedAt=format_time(exit.finished_at),
        containerID=f"netlab://{identity}",
    )


def _container_status(pod: Pod, spec: Container, state: PodState, now: float, *, init: bool = False) -> ContainerStatus:
    run = state.run(spec.name)
    is_first = init and not is_sidecar(spec)
    done = is_first and run.exit is not None and run.exit.code == 0
    status = ContainerStatus(
        name=spec.name,
        # An init container is ready once it has succeeded.
        ready=done or (run.running and run.ready and not is_first),
        restartCount=run.attempt,
        image=spec.image,
        imageID=(run.image_id or spec.image) if run.started_at is not None else "",
        started=run.running and run.started,
    )
    if run.started_at is not None or run.exit is not None:
        status.containerID = f"netlab://{container_id(pod.metadata.uid, spec.name, run.attempt)}"
    if run.last is not None:
        status.lastState = ContainerState(terminated=run.last)
    if run.running:
        assert run.started_at is not None
        status.state = ContainerState(running=ContainerStateRunning(startedAt=format_time(run.started_at)))
    elif run.exit is not None:
        ended = terminated(pod, spec.name, run)
        if now < run.retry_at and not terminal(pod, state) and will_restart(pod, spec, run, init=init):
            delay = wording.duration(run.backoff.delay)
            wait = f"back-off {delay} restarting failed container={spec.name} pod={wording.full_name(pod)}"
            status.state = ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff", message=wait))
            status.lastState = ContainerState(terminated=ended)
        else:
            status.state = ContainerState(terminated=ended)
    else:
        reason, message = run.waiting or (_waiting_reason(pod, state, init=init), "")
        status.state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
    return status


def _ephemeral_status(pod: Pod, spec: EphemeralContainer, state: PodState, now: float) -> ContainerStatus:
    """The status of a container that is never started again, and on which no one relies."""
    status = _container_status(pod, spec, state, now)
    status.ready, status.started = False, None
    run = state.run(spec.name)
    if run.exit is not None:
        status.state, status.lastState = ContainerState(terminated=terminated(pod, spec.name, run)), ContainerState()
    elif not run.running and run.waiting is None:
        status.state = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
    return status


def _waiting_reason(pod: Pod, state: PodState, *, init: bool) -> str:
    if pod.spec.initContainers and (init or not initialized(pod, state)):
        return "PodInitializing"
    return "ContainerCreating"


def _phase(pod: Pod, state: PodState) -> str:
    if pod.status.phase in TERMINAL or state.failed is not None:
        return "Failed" if state.failed is not None else pod.status.phase
    runs = [state.run(spec.name) for spec in pod.spec.containers]
    all_ended = all(run.exit is not None for run in runs)
    if terminal(pod, state) or (pod.metadata.deletionTimestamp is not None and all_ended):
        if any(run.running for run in state.runs.values()):
            return "Running"
        return "Succeeded" if all(run.exit is not None and run.exit.code == 0 for run in runs) else "Failed"
    # A container that waits for its next run has run: the pod stays Running.
    begun = all(run.started_at is not None or run.exit is not None or run.attempt > 0 for run in runs)
    return "Running" if begun and initialized(pod, state) else "Pending"


def _conditions(
    pod: Pod, state: PodState, phase: str, init: list[ContainerStatus], main: list[ContainerStatus], now: str
) -> list[Condition]:
    has_network = state.sandbox is not None
    sandbox = Condition(type="PodReadyToStartContainers", status=_truth(has_network))
    if not has_network and state.sandbox_error:
        sandbox.reason, sandbox.message = "FailedCreatePodSandBox", state.sandbox_error

    ready_to_run = Condition(type="Initialized", status=_truth(initialized(pod, state) or phase == "Succeeded"))
    if ready_to_run.status == "False":
        ready_to_run.reason = "ContainersNotInitialized"
        ready_to_run.message = (
            f"containers with incomplete status: [{_names(each for each in init if not (each.ready or each.started))}]"
        )
    elif phase == "Succeeded":
        ready_to_run.reason = "PodCompleted"

    lasting = [*_of_sidecars(pod, init), *main]
    containers = Condition(type="ContainersReady", status=_truth(all(each.ready for each in lasting)))
    if phase in TERMINAL:
        containers.status = "False"
        containers.reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    elif containers.status == "False":
        containers.reason = "ContainersNotReady"
        containers.message = f"containers with unready status: [{_names(each for each in lasting if not each.ready)}]"

    ready = Condition(type="Ready", status=containers.status, reason=containers.reason, message=containers.message)
    if ready.status == "True" and (missing := _closed_gates(pod)):
        ready.status, ready.reason, ready.message = "False", "ReadinessGatesNotReady", ", ".join(missing)

    conditions = [sandbox, ready_to_run, ready, containers]
    before = {each.type: each for each in pod.status.conditions}
    for condition in conditions:
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status
        condition.lastTransitionTime = old.lastTransitionTime if old is not None and same else now
        condition.observedGeneration = pod.metadata.generation
    return conditions


def _of_sidecars(pod: Pod, statuses: list[ContainerStatus]) -> list[ContainerStatus]:
    """Of the statuses of init containers, those of sidecars."""
    return [each for each, spec in zip(statuses, pod.spec.initContainers, strict=True) if is_sidecar(spec)]


def _closed_gates(pod: Pod) -> list[str]:
    values = {each.type: each.status for each in pod.status.conditions}
    messages = []
    for gate in pod.spec.readinessGates:
        kind = gate.conditionType
        if kind not in values:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif values[kind] != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {values[kind]}')
    return messages


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _names(statuses: Iterable[ContainerStatus]) -> str:
    return " ".join(each.name for each in statuses)
