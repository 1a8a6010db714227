"""What a new kubelet makes of what the old one left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.core_types import Container, Pod
from netlab.api.meta_types import ObjectMeta
from netlab.machine.protocol import ContainerStatus
from netlab.node.podstate import Sandbox, plan
from netlab.node.recovery import labels, of_pods, orphans, recover

NOW = 1_000_000.0


def make_pod(status: dict[str, Any] | None = None, **spec: Any) -> Pod:
    body = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"containers": [{"name": "a"}], **spec},
        "status": status or {},
    }
    return msgspec.convert(body, Pod)


def container(attempt: int, exit_code: int | None = None) -> ContainerStatus:
    return ContainerStatus(
        id=f"u1_a_{attempt}",
        pid=0 if exit_code is not None else 5,
        image="agnhost",
        sandbox="u1_1",
        started_at=NOW - 50,
        finished_at=None if exit_code is None else NOW - 1,
        exit_code=exit_code,
        labels=labels(make_pod(), Container(name="a"), attempt, ["10.0.0.2"]),
    )


def reported(state: dict[str, Any], **fields: Any) -> dict[str, Any]:
    status = {"name": "a", "ready": True, "restartCount": 1, "image": "", "imageID": "", "state": state, **fields}
    return {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "containerStatuses": [status]}


_TEXT = st.text(max_size=12) | st.sampled_from(["0", "[]", "[1]", "{}", "9" * 5000, "٣", "[" * 5000, "u1", "a"])
_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True) | st.sampled_from(["u1_0", "u1_1", "u2_9"])
_OURS = labels(make_pod(), Container(name="a"), 0, ["10.0.0.2"])
_LABELS = st.dictionaries(st.sampled_from([*_OURS]), _TEXT).map(lambda odd: _OURS | odd) | st.dictionaries(_TEXT, _TEXT)
_TIMES = (
    st.none()
    | _TEXT
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z"])
)
_ENDED = st.fixed_dictionaries(
    {"exitCode": st.integers(-(2**31), 2**31 - 1), "startedAt": _TIMES, "finishedAt": _TIMES}
)
_STATES = st.dictionaries(st.sampled_from(["terminated"]), _ENDED) | st.fixed_dictionaries(
    {"running": st.fixed_dictionaries({"startedAt": _TIMES})}
)
_STATUSES = st.builds(
    lambda state, last, count: reported(state, lastState=last, restartCount=count, containerID="netlab://u1_a_1"),
    _STATES | st.just({"waiting": {}}),
    _STATES,
    st.integers(-(2**31), 2**31 - 1),
)


@given(status=_STATUSES, found=st.lists(_LABELS, max_size=4), sandboxes=st.lists(_NAMES, max_size=3))
def test_nothing_that_is_found_or_was_reported_is_too_odd(
    status: dict[str, Any], found: list[dict[str, str]], sandboxes: list[str]
) -> None:
    """Statuses are the API's users', labels are of whoever commands the machine. One bad pod is no kubelet's end."""
    left = of_pods(replace(container(0, exit_code), labels=each) for each in found for exit_code in (None, 1))
    pods = [make_pod(status), *orphans([], dict.fromkeys(sandboxes), left)]
    for pod in pods:
        recovered = recover(pod, sandboxes, left, NOW)
        plan(pod, recovered.state, NOW)


def test_running_pod_is_taken_over() -> None:
    pod = make_pod(
        reported({"running": {}}, containerID="netlab://u1_a_1"), containers=[{"name": "a", "readinessProbe": {}}]
    )
    found = recover(pod, ["u1_0", "u1_1", "u2_0"], [container(1), container(0, exit_code=1)], NOW)
    assert found.state.sandbox == Sandbox("u1_1", ["10.0.0.2"], attempt=1)
    assert found.state.sandbox_attempt == 2
    assert found.unused_sandboxes == ["u1_0"]
    assert found.unused_containers == ["u1_a_0"]
    run = found.state.runs["a"]
    assert (run.attempt, run.running, run.started, run.ready) == (1, True, True, True)


def test_readiness_reported_of_another_run_does_not_count() -> None:
    pod = make_pod(
        reported({"running": {}}, containerID="netlab://u1_a_0"), containers=[{"name": "a", "readinessProbe": {}}]
    )
    assert not recover(pod, ["u1_1"], [container(1)], NOW).state.runs["a"].ready


def test_container_that_exited_meanwhile() -> None:
    run = recover(make_pod(), ["u1_1"], [container(0, exit_code=3)], NOW).state.runs["a"]
    assert run.exit is not None
    assert run.exit.code == 3


def test_sandbox_without_containers_is_made_anew() -> None:
    found = recover(make_pod(), ["u1_0"], [], NOW)
    assert found.state.sandbox is None
    assert found.state.sandbox_attempt == 1
    assert found.unused_sandboxes == ["u1_0"]


def test_machine_was_restarted() -> None:
    init = {"name": "i", "ready": True, "restartCount": 0, "image": "", "imageID": "", "containerID": "netlab://x"}
    status = reported({"running": {}}, containerID="netlab://u1_a_1")
    status["initContainerStatuses"] = [init | {"state": {"terminated": {"exitCode": 0}}}]
    found = recover(make_pod(status, initContainers=[{"name": "i"}]), [], [], NOW)
    run, first = found.state.runs["a"], found.state.runs["i"]
    assert found.state.sandbox is None
    assert run.exit is not None
    assert (run.exit.code, run.exit.reason, run.attempt) == (137, "ContainerStatusUnknown", 1)
    assert (first.exit, first.attempt) == (None, 1)


def test_crash_loop_goes_on() -> None:
    ended = {"terminated": {"exitCode": 2, "finishedAt": "2026-01-01T00:00:00Z"}}
    status = reported({"waiting": {"reason": "CrashLoopBackOff"}}, containerID="netlab://u1_a_1", lastState=ended)
    run = recover(make_pod(status), [], [], NOW).state.runs["a"]
    assert run.exit is not None
    assert (run.exit.code, run.last) == (2, None)


def test_orphans_are_known_by_notes_and_labels() -> None:
    noted = {"u3_0": ObjectMeta(namespace="shop", name="db", uid="u3"), "u1_1": None, "u4_0": None, "u2_0": None}
    found = orphans({"u2"}, noted, [container(0)])
    assert {(pod.metadata.uid, pod.key, tuple(c.name for c in pod.spec.containers)) for pod in found} == {
        ("u1", "default/web", ("a",)),
        ("u3", "shop/db", ()),
        ("u4", "u4", ()),
    }


def test_a_container_whose_image_has_changed_meanwhile_is_started_again() -> None:
    pod = make_pod()
    pod.spec.containers[0].image = "other"
    found = recover(pod, ["u1_1"], [container(0)], NOW)
    assert found.state.runs["a"].outdated
