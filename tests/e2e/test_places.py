import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Netlab

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  nodeName: node-1
  containers:
  - {name: web, image: agnhost, args: [netexec]}
  - {name: shell, image: any, command: [sh, -c, "echo first; echo second; exec sleep 1000"]}
"""


@pytest.fixture(scope="module")
def talker(lab: Netlab) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=PODS)
    for _ in range(300):
        statuses = lab.json("get", "pod", "talker").get("status", {}).get("containerStatuses", [])
        if len(statuses) == 2 and all(s["ready"] for s in statuses):
            break
        time.sleep(0.1)
    yield lab
    lab.ok("delete", "pod", "talker", "--grace-period", "1")


STATUSES = [
    (["true"], 0),
    (["sh", "-c", "exit 42"], 42),
    (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
    (["/nonexistent/program"], 127),
    (["/etc"], 126),
]


@pytest.mark.parametrize("place", ["talker", "pod/talker", "node/node-1", "outside"])
@pytest.mark.parametrize(("command", "status"), STATUSES)
def test_the_exit_status_is_passed_through(talker: Netlab, place: str, command: list[str], status: int) -> None:
    assert talker.run("exec", place, "--", *command).returncode == status


def test_a_command_runs_in_the_pod(talker: Netlab) -> None:
    pod = talker.json("get", "pod", "talker")
    assert talker.ok("exec", "talker", "--", "hostname") == "talker\n"
    assert pod["status"]["podIP"] in talker.ok("exec", "talker", "-c", "shell", "--", "cat", "/etc/hosts")
    assert pod["status"]["podIP"] in talker.ok("exec", "talker", "--", "ip", "-brief", "address")


def test_input_and_output_are_the_callers(talker: Netlab) -> None:
    assert talker.ok("exec", "talker", "--", "tr", "a-z", "A-Z", stdin="words") == "WORDS"


def test_options_of_the_command_are_the_commands(talker: Netlab) -> None:
    assert talker.ok("exec", "talker", "--", "echo", "-n", "--name", "x") == "--name x"


NOT_FOUND = [
    (["exec", "talkr", "--", "true"], 3, "did you mean talker?"),
    (["exec", "node/node-9", "--", "true"], 3, "node-9"),
    (["exec", "talker", "-c", "nobody", "--", "true"], 3, "it has web, shell"),
    (["exec", "outside", "-c", "web", "--", "true"], 2, "leave -c out"),
    (["exec", "deploy/web", "--", "true"], 2, "name a POD"),
    (["logs", "absent"], 3, "there is no pod 'absent'"),
    (["logs", "talker", "-c", "shell", "-p"], 3, "no earlier run"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), NOT_FOUND)
def test_a_wrong_place_is_said_in_one_line(talker: Netlab, arguments: list[str], status: int, message: str) -> None:
    assert message in talker.fails(status, *arguments)


def test_logs_are_what_the_container_printed(talker: Netlab) -> None:
    assert talker.ok("logs", "talker", "-c", "shell") == "first\nsecond\n"
    assert talker.ok("logs", "talker", "-c", "shell", "--tail", "1") == "second\n"


def test_a_shell_has_a_terminal(talker: Netlab) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        talker.argv("shell", "talker"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=talker.environment | {"SHELL": "/bin/sh"},
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, b"tty; hostname; exit 7\n")
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(leader)
    assert process.wait(30) == 7
    assert b"\ntalker" in seen
