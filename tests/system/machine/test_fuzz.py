"""Whatever a caller sends to a machine: one answer for each line, none of them a fault of the machine, and it lives."""

from __future__ import annotations

import json
import socket
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.machine import protocol
from tests.system.machine.lab import Lab

OPERATIONS = [
    getattr(protocol, name)
    for name in dir(protocol)
    if name.isupper() and isinstance(getattr(protocol, name), str) and name != "EVENTS"
]
FIELDS = [
    "id", "name", "socket", "hostname", "image", "log", "sandbox", "command", "args", "env", "cwd", "hosts",
    "resolv_conf", "labels", "argv", "signal", "timeout", "grace", "mounts", "memory_limit", "cpu_limit",
]  # fmt: skip

texts = st.text(max_size=8) | st.sampled_from(
    [
        "a",
        "b",
        "/",
        "/nonexistent/x",
        "pause",
        "agnhost",
        "host",
        "true",
        "..",
        "\0",
        "\ud800",
        "\x1b]0;x\x07",
        "x" * 70_000,
    ]
)
numbers = st.sampled_from([0, 1, 9, -1, 0.01, 1e308, 1 << 70, float("inf"), float("nan")])
scalars = st.none() | st.booleans() | numbers | texts
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=3)
requests = st.fixed_dictionaries(
    {"op": st.sampled_from(OPERATIONS) | values},
    optional={
        **dict.fromkeys(FIELDS, values),
        "id": st.sampled_from(["a", "b"]) | values,
        "name": st.sampled_from(["a", "b"]) | values,
        "log": st.just("/tmp/fuzz.log") | values,
        "command": st.just(["true"]) | values,
        "argv": st.just(["true"]) | values,
        "timeout": st.just(0.5) | values,
    },
).map(lambda request: json.dumps(request).encode())
lines = (requests | st.binary(max_size=60)).map(lambda line: line.replace(b"\n", b" ") + b"\n")


def exchange(lab: Lab, sent: list[bytes]) -> list[dict[str, Any]]:
    """Send lines, in pieces that are not theirs; the answer to each."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(lab.directory / "node-1.sock"))
        whole = b"".join(sent)
        for start in range(0, len(whole), 50_001):
            client.sendall(whole[start : start + 50_001])
        with client.makefile("rb") as reader:
            return [json.loads(reader.readline()) for _ in sent]


def is_documented(answer: dict[str, Any]) -> bool:
    """Whether it is a result, or an error in one line with an errno."""
    if set(answer) == {"ok"}:
        return True
    text = answer["error"]
    return (
        set(answer) == {"error", "errno"}
        and isinstance(answer["errno"], int)
        and "internal error" not in text
        and "\n" not in text
        and len(text) < 1000
    )


def test_what_a_machine_answers(shared_lab: Lab) -> None:
    @settings(max_examples=200, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(lines, min_size=1, max_size=6))
    def run(sent: list[bytes]) -> None:
        for line, answer in zip(sent, exchange(shared_lab, sent), strict=True):
            assert is_documented(answer), (line[:1000], answer)

    run()
    assert shared_lab.node.state().name == "node-1"
    assert "Traceback" not in shared_lab.said()
