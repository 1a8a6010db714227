"""Requests are read strictly, states go over the wire and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.machine.protocol import (
    ContainerSpec,
    ContainerStatus,
    InvalidRequestError,
    MachineState,
    Request,
    ServiceStatus,
)
from netlab.machine.security_context import NamespaceOption, SecurityContext

_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_FIELDS = ["id", "image", "log", "sandbox", "command", "args", "env", "cwd", "hostname", "hosts", "labels"]


def test_a_spec_survives_the_wire() -> None:
    spec = ContainerSpec(
        id="a", image="pause", log="/l", command=["x"], env={"A": ""}, cwd="/", hosts="h\n", labels={"pod": "p"}
    )
    shared = SecurityContext(namespace_options=NamespaceOption(pid="TARGET", ipc="NODE", target_id="b"))
    for each in (spec, replace(spec, security_context=shared)):
        for request in (asdict(each), each.as_request()):
            assert Request(json.loads(json.dumps({"op": "container.run", **request}))).container_spec() == each
    assert "security_context" not in spec.as_request()


def test_a_state_survives_the_wire() -> None:
    state = MachineState(
        name="node-1",
        sandboxes=["s"],
        containers=[ContainerStatus(id="c", pid=0, image="i", sandbox=None, started_at=1.5, exit_code=137, signal=9)],
        services=[ServiceStatus(name="d", pid=None, restarts=2, started_at=1.0)],
        machines={"m": 3},
    )
    assert MachineState.from_json(json.loads(json.dumps(asdict(state)))) == state


@given(st.dictionaries(st.sampled_from(_FIELDS), _ANY))
def test_no_request_breaks_the_reader(value: dict[str, Any]) -> None:
    try:
        spec = Request({"id": "c", "image": "i", "log": "/l", **value}).container_spec()
    except InvalidRequestError:
        return
    assert spec.log.startswith("/")
    assert "/" not in spec.id
    assert all("\0" not in text for text in [*spec.command, *spec.args, *spec.env, *spec.env.values()])


@pytest.mark.parametrize("value", [0, -1, 86401, float("nan"), float("inf"), True, "1", None])
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="timeout: expected seconds"):
        Request({"timeout": value}).seconds("timeout")
