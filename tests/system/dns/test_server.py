"""The program itself, as a container runs it, without a cluster: its file, its sockets, other servers, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode

from netlab.dns import resolver
from netlab.machine.host import bring_up_loopback
from tests.sandbox import isolated

_PROGRAM = (
    "import os, sys; from netlab.dns.program import main; sys.exit(main(['/coredns', *sys.argv[1:]], os.environ))"
)
_MANY = "\n".join(f"  192.0.2.{n} many.acme.test" for n in range(1, 120))
STUB = f".:54 {{\n hosts {{\n  192.0.2.7 www.acme.test\n{_MANY}\n }}\n}}\n"
FRONT = """
.:53 {{
 health
 ready
 prometheus :9153
 reload 50ms
 hosts {{
  192.0.2.1 {name}.test
  fallthrough
 }}
}}
acme.test {{
 log
 forward . 127.0.0.1:54
}}
dead.test {{
 forward . 127.0.0.1:55
}}
"""


@contextmanager
def running(file: Path, text: str) -> Iterator[subprocess.Popen[str]]:
    """The program with a Corefile."""
    file.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "-conf", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "netlab's cluster DNS" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def ask(name: str, kind: str = "A", *, tcp: bool = False, address: str = "127.0.0.1") -> dns.message.Message:
    """The answer to a question."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    answer = dns.message.from_wire(resolver.exchange(address, 53, query.to_wire(), tcp=tcp, seconds=20))
    assert query.is_response(answer)
    return answer


def said(answer: dns.message.Message) -> str:
    """The response code, and the first answer."""
    records = [rdata.to_text() for each in answer.answer for rdata in each][:1]
    return " ".join([dns.rcode.to_text(answer.rcode()), *records])


def get(url: str) -> tuple[int, str]:
    """What an HTTP server says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1{url}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@isolated
def test_a_server_and_those_that_it_asks(tmp_path: Path) -> None:
    bring_up_loopback()
    file = tmp_path / "Corefile"
    with running(tmp_path / "stub", STUB), running(file, FRONT.format(name="one")) as front:
        assert said(ask("one.test")) == "NOERROR 192.0.2.1"
        assert said(ask("1.2.0.192.in-addr.arpa", "PTR", address="::1")) == "NOERROR one.test."
        for tcp in (False, True):
            assert said(ask("www.acme.test", tcp=tcp)) == "NOERROR 192.0.2.7"
            assert said(ask("no.acme.test", tcp=tcp)) == "NXDOMAIN"
        assert ask("many.acme.test").flags & dns.flags.TC
        assert len(ask("many.acme.test", tcp=True).answer[0]) == 119
        dead = ask("x.dead.test")
        assert (said(dead), dead.options[0].to_text()) == (
            "SERVFAIL",
            "EDE 22 (No Reachable Authority): none of 127.0.0.1 answered",
        )
        nonsense()
        assert get(":8080/health") == (200, "OK")
        assert get(":8181/ready") == (200, "OK")
        assert get(":8080/other")[0] == 404
        metrics = get(":9153/metrics")[1]
        assert 'coredns_forward_requests_total{rcode="NOERROR",zone="."} 5.0' in metrics
        assert 'rcode="NXDOMAIN",server="dns://:53",view="",zone="acme.test."} 2.0' in metrics
        assert "coredns_panics_total 0.0" in metrics
        # Another file takes over, and one that is wrong does not.
        file.write_text(FRONT.format(name="two"))
        until(lambda: said(ask("two.test")) == "NOERROR 192.0.2.1")
        assert said(ask("one.test")) == "REFUSED"
        file.write_text(FRONT.format(name="three").replace("hosts", "hoists"))
        until(lambda: "coredns_reload_failed_total 1.0" in get(":9153/metrics")[1])
        assert said(ask("two.test")) == "NOERROR 192.0.2.1"
        file.write_text(FRONT.format(name="four"))
        until(lambda: said(ask("four.test")) == "NOERROR 192.0.2.1")
        front.send_signal(signal.SIGTERM)
        output, _ = front.communicate(timeout=60)
        assert front.returncode == 0
    assert "[ERROR] plugin/reload: Corefile:7: there is no plugin 'hoists' here" in output
    assert '"A IN www.acme.test. udp ' in output
    assert "Traceback" not in output


def nonsense() -> None:
    """Bytes that are no questions, by UDP and TCP: the answers come all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 53))
        for size in (0, 1, 11, 12, 100, 2000):
            client.send(os.urandom(size))
    with socket.create_connection(("127.0.0.1", 53)) as client:
        client.sendall(b"\0\4none" + b"\xff\xff" + os.urandom(100))
    with socket.create_connection(("127.0.0.1", 53)) as client:
        # Two questions at once, each cut in two, on one connection (RFC 7766, section 6.2.1.1).
        wires = [dns.message.make_query(name, "A").to_wire() for name in ("one.test", "www.acme.test")]
        sent = b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires)
        for part in (sent[:20], sent[20:]):
            client.sendall(part)
        for expected in ("NOERROR 192.0.2.1", "NOERROR 192.0.2.7"):
            length = int.from_bytes(resolver._exactly(client, 2), "big")
            assert said(dns.message.from_wire(resolver._exactly(client, length))) == expected


def test_a_corefile_that_is_wrong_ends_it_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "Corefile"
    for text, reason in (
        (". {\n nosuch\n}\n", "coredns: Corefile:2: there is no plugin 'nosuch' here"),
        (None, f"coredns: {file}x: No such file or directory"),
        (". {\n kubernetes cluster.local\n}\n", "coredns: this is not a pod"),
    ):
        file.write_text(text or "")
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, "-conf", f"{file}{'' if text else 'x'}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(reason)
