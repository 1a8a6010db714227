"""agnhost's servers over TLS and its tests of half-closed connections, as processes that have loaded what pid 1 has."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.machine.images import tls
from tests.system.machine.lab import wait_until

_PROGRAM = """
import os, sys
from netlab.machine import images
images.preload()
images.run(images.program("/agnhost"), ["/agnhost", *sys.argv[1:]], os.environ)
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A certificate for localhost and its key, in a file."""
    path = tmp_path / "tls.pem"
    path.write_bytes(tls.own_certificate())
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(*arguments: str, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), "it listens")
        yield process
    finally:
        process.terminate()
        process.communicate()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def client(port: int, secret: Path) -> Iterator[http.client.HTTPSConnection]:
    """A connection that trusts the certificate alone."""
    trusting = ssl.create_default_context(cafile=str(secret))
    with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trusting)) as made:
        yield made


def ask(connection: http.client.HTTPSConnection, method: str, path: str, body: Any = None) -> tuple[int, str]:
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_netexec_over_tls(secret: Path) -> None:
    port = free_port()
    flags = (f"--tls-cert-file={secret}", f"--tls-private-key-file={secret}", f"--http-port={port}", "--udp-port=-1")
    with running("netexec", *flags, port=port) as process, client(port, secret) as connection:
        assert ask(connection, "GET", "/hostname") == (200, socket.gethostname())
        assert ask(connection, "GET", "/serverport") == (200, str(port)), "by the same connection"
        assert ask(connection, "GET", "/echo?msg=a&code=201") == (201, "a")
        with client(port, secret) as other:
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(other, "GET", "/exit?code=7")
            assert process.wait(30) == 7


def test_without_its_files_netexec_says_so() -> None:
    arguments = ["netexec", "--tls-cert-file=/nowhere", "--tls-private-key-file=/nowhere", "--udp-port=-1"]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "listen: No such file or directory" in done.stderr


def test_webhooks_over_tls(secret: Path) -> None:
    """As Kubernetes' tests start them, with flags for a log."""
    port = free_port()
    flags = (f"--tls-cert-file={secret}", f"--tls-private-key-file={secret}", f"--port={port}")
    logging = ("--alsologtostderr", "-v=4", "2>&1")
    request = {"uid": "u", "operation": "CREATE", "object": {"metadata": {"labels": {"a": "b"}}}}
    review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    with running("webhook", *flags, *logging, port=port), client(port, secret) as connection:
        assert ask(connection, "GET", "/readyz") == (200, "ok")
        status, text = ask(connection, "POST", "/always-deny", review)
        assert status == 200
        assert json.loads(text)["response"] == {
            "allowed": False,
            "status": {"message": "this webhook denies all requests"},
            "uid": "u",
        }
        assert ask(connection, "POST", "/nowhere", review)[0] == 404
    asked = {"uid": "u", "desiredAPIVersion": "stable.example.com/v2", "objects": []}
    conversion = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": asked}
    with running("crd-conversion-webhook", *flags, *logging, port=port), client(port, secret) as connection:
        status, text = ask(connection, "POST", "/crdconvert", conversion)
        assert (status, json.loads(text)["response"]["result"]) == (200, {"status": "Success"})


def test_a_connection_that_its_server_half_closes(secret: Path) -> None:
    """`net`: one is a server of tests, another runs one itself."""
    ports = [free_port(), free_port()]
    with running("net", "--serve", f"127.0.0.1:{ports[0]}", port=ports[0]):
        server = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=60)
        with contextlib.closing(server):
            server.request(
                "POST", "/run/nat-closewait-server", json.dumps({"LocalAddr": f"127.0.0.1:{ports[1]}"}).encode()
            )
            options = json.dumps({"RemoteAddr": f"127.0.0.1:{ports[1]}", "LeakConnection": True})
            arguments = ["net", "--runner", "nat-closewait-client", "--options", options]

            done: list[subprocess.CompletedProcess[str]] = []

            def dialed() -> bool:
                command = [sys.executable, "-c", _PROGRAM, *arguments]
                done.append(subprocess.run(command, capture_output=True, text=True, check=False, timeout=60))
                return done[-1].returncode == 0

            wait_until(dialed, "the client has connected")
            assert "# Server has half-closed the connection, waiting 0 seconds\n" in done[-1].stdout
            answer = server.getresponse()
            assert answer.status == 200
            assert answer.read().decode().startswith("ok\noutput:\n\n# Server listening on 127.0.0.1:")
            server.request("POST", "/run/none", b"{}")
            assert server.getresponse().status == 500
