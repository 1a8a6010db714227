"""What a kubelet knows about a pod beyond its object, and what to do next. Pure: no input or output.

Times are seconds since the epoch, because deadlines are compared with times that the API server wrote.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass, field

from netlab.api.core_types import (
    Container,
    ContainerRestartRule,
    ContainerStateTerminated,
    EphemeralContainer,
    Pod,
)
from netlab.backoff import Backoff

TERMINAL = ("Succeeded", "Failed")

LOST_EXIT_CODE = 137
"""For a container that is gone without a trace: upstream's ContainerStatusUnknown."""
START_ERROR_EXIT_CODE = 128
"""For a container whose command could not be executed: containerd's StartError."""

OOM_KILLED = "OOMKilled"
"""For a container of which the kernel ended a process because it reached its memory limit."""

CRASH_LOOP = Backoff(first=10, last=300, steady=600)
"""For a container that keeps exiting (CrashLoopBackOff), with upstream's times; its first restart is at once."""
SANDBOX = Backoff(first=0.5, last=10)
"""For a pod whose sandbox cannot be made. Shorter than upstream's: a person is waiting for the lab."""
IMAGE = Backoff(first=1, last=10)
"""For a container whose image is not there: a person is about to bring it, and a look costs nothing."""
PULL = Backoff(first=10, last=300)
"""For a container whose image its runtime cannot pull, with upstream's times: a registry counts who asks."""
SYNC = Backoff(first=1, last=30, steady=60)
"""For a pod on which the kubelet fails unexpectedly."""


@dataclass(frozen=True)
class Sandbox:
    """A pod's network: `id` is the machine's name for it, None on the node's own (hostNetwork)."""

    id: str | None
    ips: list[str]
    attempt: int = 0


@dataclass(frozen=True)
class Exit:
    """How a run of a container ended."""

    code: int
    finished_at: float
    signal: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Stop:
    """A container has been stopping since `since`, and is killed `grace` seconds after that."""

    since: float
    grace: float


@dataclass
class Run:
    """A container of a pod across restarts: the current run, and how the one before it ended."""

    attempt: int = 0
    """Which run this is, from 0: Kubernetes' restartCount."""
    started_at: float | None = None
    exit: Exit | None = None
    last: ContainerStateTerminated | None = None
    waiting: tuple[str, str] | None = None
    """Reason and message if a run could not even be attempted."""
    started: bool = False
    """Past its startup probe."""
    ready: bool = False
    """What its readiness probe says."""
    unhealthy: str = ""
    """Why it must end, to be started again if the policy says so: a probe, a hook or a change, as the event has it."""
    grace: float | None = None
    """Seconds that the probe gives it which found it unhealthy; None: the pod's."""
    image_id: str = ""
    """Which image it really has; empty for a built-in one."""
    outdated: bool = False
    """Its image has changed since it began: it is started again, whatever the policy."""
    stop: Stop | None = None
    killed: bool = False
    backoff: Backoff = CRASH_LOOP
    image_backoff: Backoff = IMAGE
    retry_at: float = 0.0

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.started_at is not None and self.exit is None

    def ended(self, exit: Exit) -> None:
        """Record the end of the current run; the back-off counts from then on."""
        self.exit = exit
        self.started = self.ready = False
        if self.started_at is not None:
            self.backoff = self.backoff.after(exit.finished_at - self.started_at)
        self.retry_at = exit.finished_at + (0 if self.outdated else self.backoff.delay)

    def renew(self, last: ContainerStateTerminated | None) -> None:
        """Prepare for the next run."""
        self.backoff = self.backoff.failed()
        self.attempt += 1
        self.last = last
        self.started_at = self.exit = self.stop = self.waiting = None
        self.killed = self.started = self.ready = False
        self.unhealthy, self.grace, self.outdated, self.image_id = "", None, False, ""


@dataclass
class PodState:
    """What this node knows about a pod."""

    sandbox: Sandbox | None = None
    sandbox_attempt: int = 0
    """The number of the next sandbox: ids are not reused."""
    ips: list[str] = field(default_factory=list)
    """The addresses of the current sandbox, or of the last one."""
    sandbox_error: str = ""
    sandbox_backoff: Backoff = SANDBOX
    sandbox_retry_at: float = 0.0
    mounted: bool = False
    """Its volumes are there."""
    mount_backoff: Backoff = SANDBOX
    mount_retry_at: float = 0.0
    runs: dict[str, Run] = field(default_factory=dict)
    ending_since: float | None = None
    """Since when all of its containers are to end."""
    gone: bool = False
    """The object was removed from the API: nothing waits for this pod any more."""
    lost_sandbox: str = ""
    """The sandbox that has ended by itself: the pod gets another one."""
    failed: tuple[str, str] | None = None
    """Reason and message if the whole pod must end, such as DeadlineExceeded."""
    grace: float | None = None
    """Seconds between SIGTERM and SIGKILL, whatever the pod says."""
    probed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many probes there were, by container, kind (Liveness, Readiness, Startup) and result (successful, failed)."""

    def run(self, name: str) -> Run:
        """The run of the container called `name`."""
        return self.runs.setdefault(name, Run())


@dataclass(frozen=True)
class SetUpVolumes:
    """Make the pod's volumes, and what is in them."""


@dataclass(frozen=True)
class MakeSandbox:
    """Make the sandbox and its network."""


@dataclass(frozen=True)
class Start:
    """Start a container, for the first time or again."""

    container: str


@dataclass(frozen=True)
class StopContainer:
    """Ask a container to end: its preStop hook, then SIGTERM."""

    container: str
    grace: float


@dataclass(frozen=True)
class Kill:
    """End a container now."""

    container: str


@dataclass(frozen=True)
class RemoveSandbox:
    """Release the pod's addresses, and remove the sandbox and the dead containers."""


@dataclass(frozen=True)
class ReplaceSandbox:
    """Release the pod's addresses, and remove a sandbox that has ended; what else the pod has stays."""


@dataclass(frozen=True)
class Fail:
    """End the pod as Failed."""

    reason: str
    message: str


@dataclass(frozen=True)
class Finish:
    """Delete the pod from the API: nothing of it is left on this node."""


Action = SetUpVolumes | MakeSandbox | Start | StopContainer | Kill | RemoveSandbox | ReplaceSandbox | Fail | Finish


@dataclass(frozen=True)
class Plan:
    """What to do now, and when to look again if nothing happens (None: never)."""

    actions: list[Action] = field(default_factory=list)
    wake_at: float | None = None


def is_sidecar(spec: Container) -> bool:
    """Of an init container: whether the pod goes on with it."""
    return spec.restartPolicy == "Always"


def will_restart(pod: Pod, spec: Container, run: Run, *, init: bool = False) -> bool:
    """Whether a container that has exited is started again, by its own rules (KEP-5307) or the pod's restartPolicy."""
    assert run.exit is not None
    policy = spec.restartPolicy or pod.spec.restartPolicy or "Always"
    if run.outdated or (init and is_sidecar(spec)) or any(_applies(rule, run.exit) for rule in spec.restartPolicyRules):
        return True
    if init or policy == "OnFailure":
        # An init container that has succeeded is done, whatever the policy.
        return run.exit.code != 0 and policy != "Never"
    return policy == "Always"


def restarts_unhealthy(pod: Pod, spec: Container) -> bool:
    """Whether a container that a probe found unhealthy is started again; its rules are about exits alone."""
    return (spec.restartPolicy or pod.spec.restartPolicy or "Always") != "Never"


def _applies(rule: ContainerRestartRule, exit: Exit) -> bool:
    codes = rule.exitCodes
    return rule.action == "Restart" and codes is not None and (exit.code in codes.values) is (codes.operator == "In")


def initialized(pod: Pod, state: PodState) -> bool:
    """Whether its init containers have succeeded, and its sidecars have started."""
    runs = [(spec, state.run(spec.name)) for spec in pod.spec.initContainers]
    begun = _has_begun(pod, state)
    return all(
        begun or run.started if is_sidecar(spec) else run.exit is not None and run.exit.code == 0 for spec, run in runs
    )


def _has_begun(pod: Pod, state: PodState) -> bool:
    """Whether one of the containers for which the pod is has run: then sidecars that start again hold up no other."""
    runs = (state.run(spec.name) for spec in pod.spec.containers)
    return any(run.started_at is not None or run.exit is not None for run in runs)


def terminal(pod: Pod, state: PodState) -> bool:
    """Whether the pod has ended for good, without being deleted."""
    if pod.status.phase in TERMINAL or state.failed is not None:
        return True
    for spec in pod.spec.initContainers:
        run = state.run(spec.name)
        if run.exit is not None and run.exit.code != 0 and not will_restart(pod, spec, run, init=True):
            return True
    runs = [(spec, state.run(spec.name)) for spec in pod.spec.containers]
    return all(run.exit is not None and not will_restart(pod, spec, run) for spec, run in runs)


def ending(pod: Pod, state: PodState) -> bool:
    """Whether all of the pod's containers are to end."""
    return state.gone or pod.metadata.deletionTimestamp is not None or terminal(pod, state)


def goes_on(pod: Pod, state: PodState, spec: Container, run: Run) -> bool:
    """Whether a container that has exited is one of those that are started again."""
    if ending(pod, state) or isinstance(spec, EphemeralContainer):
        return False
    return will_restart(pod, spec, run, init=any(each.name == spec.name for each in pod.spec.initContainers))


def plan(pod: Pod, state: PodState, now: float) -> Plan:
    """What to do next for a pod."""
    if ending(pod, state):
        return _plan_end(pod, state, now)
    wake_at = None
    if pod.spec.activeDeadlineSeconds is not None and pod.status.startTime is not None:
        wake_at = parse_time(pod.status.startTime) + pod.spec.activeDeadlineSeconds
        if now >= wake_at:
            return Plan([Fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")])
    if (first := _first_step(state)) is not None:
        action, at = first
        return Plan([action]) if now >= at else Plan(wake_at=_earliest(wake_at, at))
    assert state.sandbox is not None
    if state.sandbox.id is not None and state.sandbox.id == state.lost_sandbox:
        return _plan_replacement(pod, state, now, wake_at)
    return _plan_containers(pod, state, now, wake_at)


def _first_step(state: PodState) -> tuple[Action, float] | None:
    """What comes before any container, and not before when."""
    if not state.mounted:
        return SetUpVolumes(), state.mount_retry_at
    if state.sandbox is None:
        return MakeSandbox(), state.sandbox_retry_at
    return None


def _plan_replacement(pod: Pod, state: PodState, now: float, wake_at: float | None) -> Plan:
    """End what runs in a sandbox that has ended, and then the sandbox (upstream's computePodActions)."""
    running = [(name, run) for name, run in state.runs.items() if run.running]
    if not running:
        if now >= state.sandbox_retry_at:
            return Plan([ReplaceSandbox()])
        return Plan(wake_at=_earliest(wake_at, state.sandbox_retry_at))
    actions: list[Action] = []
    for name, run in running:
        if run.stop is None:
            actions.append(StopContainer(name, _spec_grace(pod)))
            continue
        action, at = _plan_stopping(name, run, run.stop.grace, now)
        if action is not None:
            actions.append(action)
        wake_at = _earliest(wake_at, at)
    return Plan(actions, wake_at)


def initialize_again(pod: Pod, state: PodState) -> None:
    """Have init containers run again, before a new sandbox: it is a new start of the pod (computePodActions)."""
    if pod.spec.restartPolicy == "Never":
        return
    for spec in pod.spec.initContainers:
        run = state.runs.get(spec.name)
        if run is not None and run.exit is not None and run.exit.code == 0:
            run.renew(None)


def _plan_containers(pod: Pod, state: PodState, now: float, wake_at: float | None) -> Plan:
    actions: list[Action] = []
    for added in pod.spec.ephemeralContainers:
        run = state.run(added.name)
        if run.started_at is None and run.exit is None:
            if now >= run.retry_at:
                actions.append(Start(added.name))
            else:
                wake_at = _earliest(wake_at, run.retry_at)
    for spec, init in _wanted(pod, state):
        run = state.run(spec.name)
        if run.running:
            action, at = _plan_running(pod, spec, run, now)
            if action is not None:
                actions.append(action)
            wake_at = _earliest(wake_at, at)
        elif run.exit is None or will_restart(pod, spec, run, init=init):
            if now >= run.retry_at:
                actions.append(Start(spec.name))
            else:
                wake_at = _earliest(wake_at, run.retry_at)
    return Plan(actions, wake_at)


def _wanted(pod: Pod, state: PodState) -> list[tuple[Container, bool]]:
    """The containers that are to run now, and whether each is an init container: one by one, until all have their turn.

    A sidecar's successors wait until it has started.
    """
    wanted: list[tuple[Container, bool]] = []
    begun = _has_begun(pod, state)
    for spec in pod.spec.initContainers:
        run = state.run(spec.name)
        if is_sidecar(spec):
            wanted.append((spec, True))
            if not (begun or run.started):
                return wanted
        elif run.exit is None or run.exit.code != 0:
            return [*wanted, (spec, True)]
    return wanted + [(spec, False) for spec in pod.spec.containers]


def _plan_running(pod: Pod, spec: Container, run: Run, now: float) -> tuple[Action | None, float | None]:
    if run.stop is not None:
        return _plan_stopping(spec.name, run, run.stop.grace, now)
    if run.unhealthy:
        return StopContainer(spec.name, _spec_grace(pod) if run.grace is None else run.grace), None
    return None, None


def _plan_stopping(name: str, run: Run, grace: float, now: float) -> tuple[Action | None, float | None]:
    assert run.stop is not None
    if run.killed:
        return None, None
    # A second, shorter deletion shortens what is left of the first.
    kill_at = run.stop.since + min(run.stop.grace, grace)
    return (Kill(name), None) if now >= kill_at else (None, kill_at)


def _plan_end(pod: Pod, state: PodState, now: float) -> Plan:
    grace = grace_period(pod, state)
    actions: list[Action] = []
    wake_at: float | None = None
    running = [(name, run) for name, run in state.runs.items() if run.running]
    if running and state.ending_since is None:
        state.ending_since = now
    ended_at = (state.ending_since or now) + grace
    turns = _turns(pod, state)
    if any(name not in turns for name, _ in running):
        wake_at = ended_at
    for name, run in running:
        if name not in turns and now < ended_at:
            continue
        if run.stop is None:
            actions.append(StopContainer(name, min(grace, max(1.0, ended_at - now))))
            continue
        action, at = _plan_stopping(name, run, grace, now)
        if action is not None:
            actions.append(action)
        wake_at = _earliest(wake_at, at)
    if running:
        return Plan(actions, wake_at)
    if state.sandbox is not None:
        if now >= state.sandbox_retry_at:
            return Plan([RemoveSandbox()])
        return Plan(wake_at=state.sandbox_retry_at)
    if state.gone or pod.metadata.deletionTimestamp is not None:
        return Plan([Finish()])
    return Plan()


def _turns(pod: Pod, state: PodState) -> set[str]:
    """The running containers whose turn it is to end: sidecars come last, one by one from the last to the first."""
    running = {name for name, run in state.runs.items() if run.running}
    sidecars = [spec.name for spec in pod.spec.initContainers if is_sidecar(spec) and spec.name in running]
    return running - {*sidecars} or {*sidecars[-1:]}


def grace_period(pod: Pod, state: PodState) -> float:
    """How long the pod's containers have between SIGTERM and SIGKILL, in seconds."""
    if state.grace is not None:
        return state.grace
    if state.gone and pod.metadata.deletionTimestamp is None:
        # Deleted by force. Upstream's minimum is a second.
        return 1.0
    if pod.metadata.deletionGracePeriodSeconds is not None:
        return max(1.0, float(pod.metadata.deletionGracePeriodSeconds))
    return _spec_grace(pod)


def _spec_grace(pod: Pod) -> float:
    seconds = pod.spec.terminationGracePeriodSeconds
    return 30.0 if seconds is None else max(1.0, float(seconds))


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def parse_time(text: str) -> float:
    """Seconds since the epoch of a metav1.Time."""
    return datetime.datetime.fromisoformat(text).timestamp()
