"""kubectl's logs, exec, cp, attach, port-forward and proxies: over WebSocket, and over SPDY as older ones."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pty
import re
import subprocess
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.kubectl import Kubectl, kubectl_in

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: c, image: agnhost, args: [netexec], ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: sh}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: host, command: [sh, -c, 'echo one; echo two >&2; echo three; exec sleep 1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: cat}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: host, stdin: true, command: [cat]}]
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: host, command: [sh, -c, 'echo run; test -e /run/x || exit 1'], ports: []}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


@pytest.fixture(scope="module", params=["package", "package over SPDY", "system"])
def kubectl(lab: Netlab, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    which, _, over = request.param.partition(" over ")
    with kubectl_in(lab, which, f"streams-{which}{'-spdy' if over else ''}") as found:
        found.environment |= SPDY if over else {}
        found.ok("apply", "-f", "-", stdin=PODS)
        found.ok("wait", "--for=condition=Ready", "pod/web", "pod/sh", "pod/cat", "--timeout=120s")
        yield found


def test_logs(kubectl: Kubectl) -> None:
    eventually(lambda: kubectl.ok("logs", "sh").count("\n") == 3)
    assert sorted(kubectl.ok("logs", "sh").split()) == ["one", "three", "two"]
    assert kubectl.ok("logs", "sh", "--tail=0") == ""
    assert kubectl.ok("logs", "sh", "--limit-bytes=2") in ("on", "tw")
    stamped = kubectl.ok("logs", "sh", "--timestamps").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z \w+$", line) for line in stamped)
    assert kubectl.ok("logs", "sh", "--since=24h").count("\n") == 3
    assert kubectl.ok("logs", "sh", "--since-time=2100-01-01T00:00:00Z") == ""
    assert "container x is not valid for pod sh" in kubectl.fails("logs", "sh", "-c", "x")
    eventually(lambda: kubectl.run("logs", "again", "--previous").stdout == "run\n")
    assert 'previous terminated container "c" in pod "sh" not found' in kubectl.fails("logs", "sh", "--previous")


@contextlib.contextmanager
def _running(kubectl: Kubectl, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A kubectl that goes on until it is ended."""
    command, pipe = kubectl.command(*arguments), subprocess.PIPE
    with subprocess.Popen(command, env=kubectl.environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.terminate()


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def test_attaching_and_following(kubectl: Kubectl) -> None:
    with _running(kubectl, "logs", "-f", "cat") as following:
        for line in ("hello\n", "again\n"):
            with _running(kubectl, "attach", "-i", "cat") as attached:
                _say(attached, line)
                assert _heard(attached) == line
            assert _heard(following) == line


def test_commands(kubectl: Kubectl) -> None:
    done = kubectl.run("exec", "sh", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (3, "out\n", "err")
    assert kubectl.ok("exec", "-i", "sh", "--", "cat", stdin="to and fro\n") == "to and fro\n"
    assert kubectl.ok("exec", "-i", "sh", "--", "true", stdin="x" * 200_000) == ""
    assert "exec 'nope': No such file or directory" in kubectl.fails("exec", "sh", "--", "nope")
    # What goes on in the background holds the streams open.
    assert kubectl.ok("exec", "sh", "--", "sh", "-c", "sleep 60 & echo done") == "done\n"


def test_a_command_on_a_terminal(kubectl: Kubectl) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 77))
    script = (
        "test -t 0 && tty && echo $TERM; until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; echo sized; exit 5"
    )
    command = kubectl.command("exec", "-it", "sh", "--", "sh", "-c", script)
    with subprocess.Popen(command, env=kubectl.environment, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(4096):
                said += chunk
    assert running.returncode == 5
    assert said.split()[:3] == [b"/dev/pts/0", b"xterm", b"sized"]


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(os.urandom(700_000))
    # An ordinary user's lab has no other ids than root's: tar could not give the file to its owner here.
    kubectl.ok("cp", "--no-preserve", str(tmp_path / "there"), f"{kubectl.namespace}/sh:/tmp/there")
    kubectl.ok("cp", f"{kubectl.namespace}/sh:/tmp/there", str(tmp_path / "back"))
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("there", "back")]
    assert digests[0] == digests[1]


def test_ports_are_forwarded(kubectl: Kubectl) -> None:
    with _running(kubectl, "port-forward", "pod/web", ":8080", ":9") as forwarding:
        ports: dict[str, str] = {}
        while len(ports) < 2:
            local, remote = re.findall(r":(\d+) -> (\d+)", _heard(forwarding))[0]
            ports[remote] = local
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['8080']}/hostname", timeout=60) as answer:
                assert answer.read() == b"web"
        with pytest.raises((urllib.error.URLError, ConnectionError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://127.0.0.1:{ports['9']}/", timeout=60)
        assert forwarding.stderr is not None
        assert "failed to connect to localhost:9 inside pod web" in forwarding.stderr.readline()


def test_proxies(kubectl: Kubectl) -> None:
    path = f"/api/v1/namespaces/{kubectl.namespace}"
    for place in ("pods/web", "pods/web:8080", "pods/http:web:8080", "services/web:http", "services/web:80"):
        assert kubectl.ok("get", "--raw", f"{path}/{place}/proxy/echo?msg=a%2Fb") == "a/b", place
    assert kubectl.ok("get", "--raw", "/api/v1/nodes/node-1/proxy/healthz") == "ok"
    assert "dial tcp" in kubectl.fails("get", "--raw", f"{path}/pods/web:9/proxy/")
    kubectl.ok("run", "page", "--image=httpd")
    kubectl.ok("wait", "--for=condition=Ready", "pod/page", "--timeout=60s")
    kubectl.ok("exec", "page", "--", "sh", "-c", "echo '<a href=/x>' > /usr/local/apache2/htdocs/a.html")
    assert (
        kubectl.ok("get", "--raw", f"{path}/pods/page/proxy/a.html").strip() == f'<a href="{path}/pods/page/proxy/x">'
    )
    assert 'no endpoints available for service "none"' in _no_endpoints(kubectl, path)


def test_who_may(kubectl: Kubectl, lab: Netlab) -> None:
    for command in ("exec sh -- true", "logs sh", "attach sh", "port-forward sh 80"):
        refused = kubectl.fails("--as=jane", *command.split())
        assert 'User "jane" cannot' in refused, command


def test_who_may_ask_a_kubelet(kubectl: Kubectl, lab: Netlab) -> None:
    """By its own port: whoever has a certificate or a token, and may by what the API server says."""

    def asked(token: str = "") -> str:
        flags = ["-H", f"Authorization: Bearer {token}"] if token else []
        curl = ["curl", "-sk", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", *flags]
        return lab.ok("exec", "node/node-2", "--", *curl, "https://192.0.2.1:10250/pods")

    def token_of(name: str) -> str:
        kubectl.ok("create", "serviceaccount", name)
        return lab.ok("kubectl", "-n", kubectl.namespace, "create", "token", name).strip()

    role = f"reader-{kubectl.namespace}"
    reader = f"--serviceaccount={kubectl.namespace}:reader"
    kubectl.ok("create", "clusterrole", role, "--verb=get", "--resource=nodes/pods")
    kubectl.ok("create", "clusterrolebinding", role, f"--clusterrole={role}", reader)
    assert asked() == "401"
    assert asked("nonsense") == "401"
    assert asked(token_of("stranger")) == "403"
    assert asked(token_of("reader")) == "200"
    kubectl.ok("delete", "clusterrole,clusterrolebinding", role)


def _no_endpoints(kubectl: Kubectl, path: str) -> str:
    kubectl.ok("create", "service", "clusterip", "none", "--tcp=80")
    return kubectl.fails("get", "--raw", f"{path}/services/none:80/proxy/")
