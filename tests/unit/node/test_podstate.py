"""What the kubelet does next, and what it says of a pod."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.core_types import Pod
from netlab.api.meta_types import format_time
from netlab.node.podstate import (
    CRASH_LOOP,
    Action,
    Exit,
    Fail,
    Finish,
    Kill,
    MakeSandbox,
    Plan,
    PodState,
    RemoveSandbox,
    ReplaceSandbox,
    Run,
    Sandbox,
    SetUpVolumes,
    Start,
    Stop,
    StopContainer,
    initialize_again,
    plan,
)
from netlab.node.podstatus import pod_status

NOW = 1_000_000.0
NODE = ["192.0.2.1"]


def make_pod(*, status: dict[str, Any] | None = None, meta: dict[str, Any] | None = None, **spec: Any) -> Pod:
    body = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", **(meta or {})},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], **spec},
        "status": status or {},
    }
    return msgspec.convert(body, Pod)


def running(**fields: Any) -> Run:
    return Run(**{"started_at": NOW - 100, "started": True, "ready": True, **fields})


def exited(code: int, at: float = NOW - 1, **fields: Any) -> Run:
    run = Run(started_at=NOW - 100, **fields)
    run.ended(Exit(code, at))
    return run


def outdated() -> Run:
    run = Run(started_at=NOW - 100, outdated=True, backoff=CRASH_LOOP.failed())
    run.ended(Exit(0, NOW))
    return run


def state(sandbox: bool = True, mounted: bool = True, **runs: Run) -> PodState:
    made = Sandbox("u1_0", ["10.0.0.2"]) if sandbox else None
    return PodState(sandbox=made, mounted=mounted, ips=["10.0.0.2"], runs=runs)


DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5}
INIT = [{"name": "i"}, {"name": "j"}]
SIDECARS = [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}, {"name": "t", "restartPolicy": "Always"}]
RULED = {
    "name": "a",
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
}
WAITING = CRASH_LOOP.failed().failed()


@pytest.mark.parametrize(
    ("name", "pod", "known", "actions"),
    [
        ("a new pod needs volumes", make_pod(), state(sandbox=False, mounted=False), [SetUpVolumes()]),
        ("then a sandbox", make_pod(), state(sandbox=False), [MakeSandbox()]),
        ("then its containers", make_pod(), state(), [Start("a"), Start("b")]),
        ("init containers come first, one by one", make_pod(initContainers=INIT), state(), [Start("i")]),
        ("the next waits for the one before", make_pod(initContainers=INIT), state(i=running()), []),
        ("and follows its success", make_pod(initContainers=INIT), state(i=exited(0)), [Start("j")]),
        (
            "containers follow the last of them",
            make_pod(initContainers=INIT),
            state(i=exited(0), j=exited(0)),
            [Start("a"), Start("b")],
        ),
        ("a failed init container is run again", make_pod(initContainers=INIT), state(i=exited(1)), [Start("i")]),
        (
            "unless the policy is Never: the pod has failed",
            make_pod(initContainers=INIT, restartPolicy="Never"),
            state(i=exited(1)),
            [RemoveSandbox()],
        ),
        ("all is well", make_pod(), state(a=running(), b=running()), []),
        ("Always: success too is run again", make_pod(), state(a=exited(0), b=running()), [Start("a")]),
        ("in back-off it waits", make_pod(), state(a=exited(1, backoff=WAITING), b=running()), []),
        ("OnFailure: success is left", make_pod(restartPolicy="OnFailure"), state(a=exited(0), b=running()), []),
        ("OnFailure", make_pod(restartPolicy="OnFailure"), state(a=exited(2), b=running()), [Start("a")]),
        ("Never", make_pod(restartPolicy="Never"), state(a=exited(2), b=running()), []),
        (
            "all ended: the sandbox goes",
            make_pod(restartPolicy="Never"),
            state(a=exited(2), b=exited(0)),
            [RemoveSandbox()],
        ),
        (
            "and stays gone",
            make_pod(restartPolicy="Never", status={"phase": "Failed"}),
            state(sandbox=False),
            [],
        ),
        (
            "a container that is added later waits for no init container",
            make_pod(initContainers=INIT, ephemeralContainers=[{"name": "x"}]),
            state(),
            [Start("x"), Start("i")],
        ),
        (
            "and is never started again",
            make_pod(ephemeralContainers=[{"name": "x"}]),
            state(a=running(), b=running(), x=exited(1)),
            [],
        ),
        ("a sidecar's successors wait", make_pod(initContainers=SIDECARS), state(), [Start("s")]),
        ("until it has started", make_pod(initContainers=SIDECARS), state(s=running(started=False)), []),
        ("then the next has its turn", make_pod(initContainers=SIDECARS), state(s=running()), [Start("i")]),
        ("and goes on", make_pod(initContainers=SIDECARS), state(s=running(), i=exited(0)), [Start("t")]),
        (
            "a sidecar is started again, whatever the policy, and holds up no container that has run",
            make_pod(initContainers=SIDECARS, restartPolicy="OnFailure"),
            state(s=exited(0), i=exited(0), t=running(), a=exited(1), b=running()),
            [Start("s"), Start("a")],
        ),
        (
            "sidecars end with the last of the containers, from the last to the first",
            make_pod(initContainers=SIDECARS, restartPolicy="Never"),
            state(s=running(), i=exited(0), t=running(), a=exited(0), b=exited(0)),
            [StopContainer("t", 30.0)],
        ),
        (
            "of a deleted pod too",
            make_pod(initContainers=SIDECARS, meta=DELETED),
            state(s=running(), i=exited(0), t=running(), a=running(), b=exited(0)),
            [StopContainer("a", 5.0)],
        ),
        (
            "a changed image starts a container again, whatever the policy",
            make_pod(restartPolicy="Never"),
            state(a=outdated(), b=running()),
            [Start("a")],
        ),
        (
            "a container's own policy",
            make_pod(containers=[{"name": "a", "restartPolicy": "OnFailure"}, {"name": "b"}], restartPolicy="Never"),
            state(a=exited(3), b=running()),
            [Start("a")],
        ),
        (
            "and its own rules",
            make_pod(containers=[RULED, {"name": "b"}], restartPolicy="Never"),
            state(a=exited(42), b=running()),
            [Start("a")],
        ),
        (
            "which may not apply",
            make_pod(containers=[RULED, {"name": "b"}], restartPolicy="Never"),
            state(a=exited(1), b=running()),
            [],
        ),
        ("unhealthy", make_pod(), state(a=running(unhealthy="x"), b=running()), [StopContainer("a", 30.0)]),
        (
            "the probe's own grace period",
            make_pod(containers=[{"name": "a"}]),
            state(a=running(unhealthy="x", grace=3)),
            [StopContainer("a", 3.0)],
        ),
        (
            "stopped for long enough",
            make_pod(),
            state(a=running(unhealthy="x", stop=Stop(NOW - 30, 30)), b=running()),
            [Kill("a")],
        ),
        (
            "killed once",
            make_pod(),
            state(a=running(unhealthy="x", stop=Stop(NOW - 30, 30), killed=True), b=running()),
            [],
        ),
        (
            "deleted: all are asked to end",
            make_pod(meta=DELETED),
            state(a=running(), b=exited(0)),
            [StopContainer("a", 5.0)],
        ),
        (
            "a shorter grace period overrides",
            make_pod(meta=DELETED),
            state(a=running(stop=Stop(NOW - 6, 30))),
            [Kill("a")],
        ),
        ("deleted, ended", make_pod(meta=DELETED), state(a=exited(0), b=exited(0)), [RemoveSandbox()]),
        ("deleted before it began", make_pod(meta=DELETED), state(sandbox=False), [Finish()]),
        (
            "the deadline",
            make_pod(activeDeadlineSeconds=5, status={"startTime": format_time(NOW - 5)}),
            state(a=running(), b=running()),
            [Fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")],
        ),
    ],
)
def test_plan(name: str, pod: Pod, known: PodState, actions: list[Action]) -> None:
    assert plan(pod, known, NOW).actions == actions, name


def lost(**runs: Run) -> PodState:
    known = state(True, True, **runs)
    known.lost_sandbox = "u1_0"
    return known


@pytest.mark.parametrize(
    ("pod", "known", "actions"),
    [
        (make_pod(), lost(a=running(), b=exited(0)), [StopContainer("a", 30.0)]),
        (make_pod(), lost(a=running(stop=Stop(NOW - 31, 30)), b=exited(0)), [Kill("a")]),
        (make_pod(), lost(a=exited(137), b=exited(0)), [ReplaceSandbox()]),
        (make_pod(restartPolicy="Never"), lost(a=exited(137), b=exited(0)), [RemoveSandbox()]),
        (make_pod(meta=DELETED), lost(a=exited(137), b=exited(0)), [RemoveSandbox()]),
        (make_pod(), PodState(Sandbox("u1_1", []), mounted=True, lost_sandbox="u1_0"), [Start("a"), Start("b")]),
    ],
    ids=["ends what runs", "kills it", "then goes", "or the pod has ended", "or is deleted", "once"],
)
def test_a_sandbox_that_has_ended_is_replaced(pod: Pod, known: PodState, actions: list[Action]) -> None:
    assert plan(pod, known, NOW).actions == actions


def test_before_a_new_sandbox_init_containers_run_again() -> None:
    pod, known = make_pod(initContainers=INIT), lost(i=exited(0), j=exited(0), a=exited(137), b=exited(137))
    initialize_again(pod, known)
    known.sandbox = Sandbox("u1_1", [], 1)
    assert plan(pod, known, NOW).actions == [Start("i")]


def test_plan_says_when_to_look_again() -> None:
    waits = state(a=exited(1, backoff=WAITING), b=running())
    assert plan(make_pod(), waits, NOW) == Plan(wake_at=NOW - 1 + 20)
    stops = state(a=running(stop=Stop(NOW - 1, 5)))
    assert plan(make_pod(meta=DELETED), stops, NOW) == Plan(wake_at=NOW + 4)
    failed = state(sandbox=False)
    failed.sandbox_retry_at = NOW + 3
    assert plan(make_pod(), failed, NOW) == Plan(wake_at=NOW + 3)


def test_pod_deleted_by_force_ends_with_a_second_of_grace() -> None:
    known = state(a=running(), b=exited(0))
    known.gone = True
    assert plan(make_pod(), known, NOW).actions == [StopContainer("a", 1.0)]


def test_a_container_that_keeps_exiting_is_restarted_later_and_later_until_it_runs_long_enough() -> None:
    run, now, delays = Run(), NOW, []
    for lasted in (1, 1, 1, 1, 1, 1, 1, 1, 600, 601, 1):
        run.started_at = now
        run.ended(Exit(1, now + lasted))
        delays.append(run.retry_at - (now + lasted))
        now = run.retry_at
        run.renew(None)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300, 0, 10]


@pytest.mark.parametrize(
    ("pod", "known", "phase", "ready", "reasons"),
    [
        (make_pod(), state(sandbox=False), "Pending", "False", ["ContainerCreating", "ContainerCreating"]),
        (make_pod(initContainers=INIT), state(), "Pending", "False", ["PodInitializing", "PodInitializing"]),
        (make_pod(), state(a=running(), b=running()), "Running", "True", ["running", "running"]),
        (make_pod(), state(a=running(ready=False), b=running()), "Running", "False", ["running", "running"]),
        (make_pod(), state(a=running()), "Pending", "False", ["running", "ContainerCreating"]),
        (
            make_pod(),
            state(a=exited(1, backoff=WAITING), b=running()),
            "Running",
            "False",
            ["CrashLoopBackOff", "running"],
        ),
        (
            make_pod(restartPolicy="Never"),
            state(sandbox=False, a=exited(0), b=exited(0)),
            "Succeeded",
            "False",
            ["Completed", "Completed"],
        ),
        (
            make_pod(restartPolicy="Never"),
            state(sandbox=False, a=exited(0), b=exited(9)),
            "Failed",
            "False",
            ["Completed", "Error"],
        ),
        (make_pod(meta=DELETED), state(a=running(), b=running()), "Running", "True", ["running", "running"]),
        (make_pod(meta=DELETED), state(a=exited(0), b=exited(137)), "Failed", "False", ["Completed", "Error"]),
    ],
)
def test_status(pod: Pod, known: PodState, phase: str, ready: str, reasons: list[str]) -> None:
    status = pod_status(pod, known, NODE, NOW)
    conditions = {each.type: each.status for each in status.conditions}
    found = []
    for each in status.containerStatuses:
        ended = each.state.waiting or each.state.terminated
        found.append(ended.reason if ended else "running")
    assert (status.phase, conditions["Ready"], found) == (phase, ready, reasons)
    assert status.podIP == ("10.0.0.2" if known.sandbox or phase in ("Succeeded", "Failed") else "")


def test_conditions_keep_the_time_of_their_last_change() -> None:
    known = state(a=running(), b=running())
    pod = make_pod()
    pod.status = pod_status(pod, known, NODE, NOW)
    known.runs["b"].ready = False
    times = {c.type: c.lastTransitionTime for c in pod_status(pod, known, NODE, NOW + 60).conditions}
    assert times["Initialized"] == format_time(NOW)
    assert times["Ready"] == format_time(NOW + 60)


def test_a_status_says_which_generation_it_is_of() -> None:
    pod = make_pod(meta={"generation": 7})
    status = pod_status(pod, state(a=running(), b=running()), NODE, NOW)
    assert {status.observedGeneration, *(each.observedGeneration for each in status.conditions)} == {7}


@pytest.mark.parametrize(
    ("conditions", "status", "message"),
    [
        ([], "False", 'corresponding condition of pod readiness gate "x/y" does not exist.'),
        (
            [{"type": "x/y", "status": "False"}],
            "False",
            'the status of pod readiness gate "x/y" is not "True", but False',
        ),
        ([{"type": "x/y", "status": "True"}], "True", ""),
    ],
)
def test_readiness_gates(conditions: list[dict[str, str]], status: str, message: str) -> None:
    pod = make_pod(readinessGates=[{"conditionType": "x/y"}], status={"conditions": conditions})
    found = pod_status(pod, state(a=running(), b=running()), NODE, NOW)
    ready = next(each for each in found.conditions if each.type == "Ready")
    assert (ready.status, ready.message) == (status, message)


def test_sandbox_that_cannot_be_made_is_said_in_the_status() -> None:
    known = PodState(sandbox_error="no addresses left")
    (condition,) = [
        each for each in pod_status(make_pod(), known, NODE, NOW).conditions if each.type == "PodReadyToStartContainers"
    ]
    assert (condition.status, condition.reason, condition.message) == (
        "False",
        "FailedCreatePodSandBox",
        "no addresses left",
    )
