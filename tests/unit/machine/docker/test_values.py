"""What a Docker engine says, as machines say it."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from netlab.errors import UnsupportedError
from netlab.machine.docker import builtin, engine, images, logs, streams
from netlab.machine.docker.containers import as_of_cgroups, status
from netlab.machine.protocol import ContainerStatus
from netlab.node.stats import counters
from netlab.node.stats.usage import Memory, Throttling, Usage


def inspected(**state: Any) -> dict[str, Any]:
    """The engine's answer about a container."""
    begun = {"Running": True, "ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-11-30T02:03:04.5Z"}
    labels = {engine.ID: "uid_web_0", engine.SANDBOX: "uid_0"}
    return {"State": begun | {"FinishedAt": "0001-01-01T00:00:00Z"} | state, "Config": {"Image": "x", "Labels": labels}}


ENDED = {"Running": False, "FinishedAt": "2026-11-30T02:03:06.123456789Z"}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, {"exit_code": None, "finished_at": None, "signal": None}),
        (ENDED, {"exit_code": 0, "finished_at": 1796004186.123456, "signal": None}),
        (ENDED | {"ExitCode": 3}, {"exit_code": 3, "finished_at": 1796004186.123456, "signal": None}),
        (ENDED | {"ExitCode": 137, "OOMKilled": True}, {"exit_code": 137, "signal": 9, "out_of_memory": True}),
        (ENDED | {"ExitCode": 255}, {"exit_code": 255, "signal": None}),
    ],
)
def test_a_containers_status_is_read_from_the_engine(state: dict[str, Any], expected: dict[str, Any]) -> None:
    found = status(inspected(**state))
    assert isinstance(found, ContainerStatus)
    assert (found.id, found.sandbox, found.pid, found.started_at) == ("uid_web_0", "uid_0", 0, 1796004184.5)
    assert {name: getattr(found, name) for name in expected} == expected


def stats(details: dict[str, int]) -> dict[str, Any]:
    """The engine's answer about what a container uses."""
    throttling = {"periods": 10, "throttled_periods": 4, "throttled_time": 7_000_000}
    return {
        "memory_stats": {"usage": 1000, "stats": details},
        "cpu_stats": {"cpu_usage": {"total_usage": 5_000_000}, "throttling_data": throttling},
    }


@pytest.mark.parametrize(
    "details",
    [
        {"anon": 600, "file": 300, "inactive_file": 100, "pgfault": 8, "pgmajfault": 1},
        {"total_rss": 600, "total_cache": 300, "total_inactive_file": 100, "total_pgfault": 8, "total_pgmajfault": 1},
    ],
    ids=["v2", "v1"],
)
def test_what_a_container_uses_reads_as_from_its_cgroups(details: dict[str, int]) -> None:
    found = counters.of_cgroup(as_of_cgroups(stats(details)), Usage())
    assert found.cpu == 5_000_000
    assert found.memory == Memory(1000, 900, 600, 300, 0, 8, 1)
    assert found.throttling is not None
    assert found.throttling == Throttling(10, 4, 7_000_000)


def test_of_what_has_ended_nothing_is_counted() -> None:
    assert as_of_cgroups(stats({}) | {"memory_stats": {}}) == {}


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("reference", "digests", "expected"),
    [
        ("nginx", [f"nginx@{DIGEST}"], f"docker.io/library/nginx@{DIGEST}"),
        ("nginx:1", [f"other@{DIGEST}", f"nginx@{DIGEST}"], f"docker.io/library/nginx@{DIGEST}"),
        ("shop.example:5000/web:2", [f"nginx@{DIGEST}"], "sha256:id"),
        ("made/here", None, "sha256:id"),
        ("sha256:id", None, "sha256:id"),
    ],
)
def test_an_image_is_known_by_its_digest(reference: str, digests: list[str] | None, expected: str) -> None:
    assert images.identity(reference, {"Id": "sha256:id", "RepoDigests": digests}) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"hello\n", b"2026Z stdout F hello\n"),
        (b"\r\n", b"2026Z stdout F \r\n"),
        (b"a part", b"2026Z stdout P a part\n"),
    ],
)
def test_output_has_the_form_of_cris_logs(text: bytes, line: bytes) -> None:
    assert logs.entry(b"2026Z", "stdout", text) == line


def test_output_is_told_apart_by_stream() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(streams.HEAD.pack(1, 3) + b"out" + streams.HEAD.pack(2, 0) + streams.HEAD.pack(2, 3) + b"err")
        theirs.sendall(streams.HEAD.pack(1, 9) + b"cut")
        theirs.shutdown(socket.SHUT_WR)
        assert list(streams.pieces(ours)) == [
            ("stdout", b"out"),
            ("stderr", b""),
            ("stderr", b"err"),
            ("stdout", b"cut"),
        ]


def test_a_built_in_program_is_executed_by_the_interpreter() -> None:
    assert builtin.executable(["sh", "-c", "true"]) == ["sh", "-c", "true"]
    assert builtin.executable(["/pause"])[0] == sys.executable


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("tcp://192.0.2.1:2375", "is not on this host"),
        ("unix:///nowhere/docker.sock", r"no Docker engine answers at unix:///nowhere/docker.sock \(No such file"),
    ],
)
def test_without_an_engine_there_is_one_line(where: str, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        engine.connect(where)
    assert "\n" not in str(caught.value)
