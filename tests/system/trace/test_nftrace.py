"""A probe's packets in namespaces of the test's own: found before and behind translations, named after Services."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netlab.net.nftables.traces import Step
from netlab.proxy.config import DetectLocal, ProxyConfig
from netlab.proxy.executor import executor_for
from netlab.proxy.plan import Endpoint, Frontend, Scope, Target, difference
from netlab.trace import rules
from netlab.trace.nftrace import Tracer
from netlab.trace.probe import Result, Sender
from netlab.trace.rules import Decision
from tests.sandbox import isolated

_SERVICE = "10.96.0.10"
_ENDPOINT = Endpoint("10.0.0.1", 8080, local=True)


def _run(*argv: str, text: str | None = None) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=text).stdout


def _host() -> None:
    """A host with the address of an endpoint, and a way to Services (of loopback the kernel rejects nothing)."""
    _run("ip", "link", "add", "out", "type", "veth", "peer", "name", "end")
    _run("ip", "link", "set", "out", "up")
    _run("ip", "link", "set", "end", "up")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", "10.0.0.1/32", "dev", "lo")
    _run("ip", "-6", "address", "add", "fd00::1/128", "dev", "lo", "nodad")
    # The kernel takes packets for an IPv6 address once a worker has made its local route (addrconf_dad_work).
    while not _run("ip", "-6", "route", "show", "table", "local", "fd00::1"):
        time.sleep(0.01)
    _run("ip", "route", "add", "10.96.0.0/16", "dev", "out")


def _target(service: str, *endpoints: Endpoint) -> Target:
    return Target(service, Scope.INTERNAL, "Cluster", endpoints, endpoints)


_PLAN = {
    Frontend(_SERVICE, "tcp", 80): _target("default/web:http", _ENDPOINT),
    Frontend(_SERVICE, "udp", 81): _target("default/web:dns", Endpoint("10.0.0.1", 8081, local=True)),
    Frontend("10.96.0.11", "tcp", 80): _target("default/empty:http"),
}


def _proxy(mode: Any) -> None:
    config = ProxyConfig(
        node_name="n",
        mode=mode,
        detect_local=DetectLocal("ClusterCIDR", ("10.244.0.0/16",)),
        service_cidrs=("10.96.0.0/16",),
        families=["IPv4"],
    )
    executor = executor_for("IPv4", config)
    executor.replace({})
    executor.apply(difference({}, _PLAN))


@contextmanager
def _serving() -> Iterator[None]:
    """TCP on 8080, UDP on 8081, which answers with what is behind the first word."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(("10.0.0.1", 8080))
        tcp.listen(64)
        udp.bind(("10.0.0.1", 8081))

        def answer() -> None:
            while True:
                data, client = udp.recvfrom(65536)
                udp.sendto(data.removeprefix(b"echo "), client)

        threading.Thread(target=answer, daemon=True).start()
        yield


def _trace(protocol: Any, address: str, port: int) -> tuple[Result, list[Step], list[Decision]]:
    with Sender(protocol, address, port) as sender, Tracer(sender.signature, tracked=True) as tracer:
        result = sender.send(0.5)
        select.select([tracer], [], [], 2)
        steps = tracer.steps()
        found = rules.passages("n", steps, sender.signature, tracer.table)
        texts = rules.read_texts(found)
        decided = [each for passage in found for each in rules.decisions(passage, texts, _PLAN, {})]
        return result, steps, decided


_WEB = "Service default/web:http, internalTrafficPolicy Cluster"
_CASES = [
    (
        "tcp",
        _SERVICE,
        80,
        "answered",
        "DNAT",
        f"{_WEB}: one of 1 endpoint",
    ),
    ("tcp", _SERVICE, 80, "answered", "SNAT", f"{_WEB}: masqueraded, a pod that reaches itself (hairpin)"),
    (
        "udp",
        _SERVICE,
        81,
        "answered",
        "DNAT",
        "Service default/web:dns, internalTrafficPolicy Cluster: one of 1 endpoint",
    ),
    (
        "tcp",
        "10.96.0.11",
        80,
        "refused",
        "rejected",
        "Service default/empty:http, internalTrafficPolicy Cluster: there are no endpoints",
    ),
    ("tcp", _SERVICE, 82, "refused", "rejected", f"{_SERVICE} is a Service's address, and it has no port 82/tcp"),
    ("udp", "10.96.0.99", 82, "failed silent", "dropped", "no Service has the address 10.96.0.99"),
]


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_rules_of_the_real_proxy_are_named_after_services(mode: str) -> None:
    _host()
    _proxy(mode)
    with _serving():
        for protocol, address, port, outcome, kind, name in _CASES:
            result, _, decided = _trace(protocol, address, port)
            assert result.outcome in outcome.split(), (address, port, result)
            assert (kind, name) in [(each.kind, each.by[0]) for each in decided], (address, port, decided)
            rule = next(each.by[1] for each in decided if each.kind == kind)
            assert rule.startswith("rule of ip "), rule


@pytest.mark.parametrize(("protocol", "address"), [("icmp", "10.0.0.1"), ("icmp", "fd00::1"), ("tcp", "fd00::1")])
@isolated
def test_a_rule_that_drops_is_named_by_its_comment(protocol: str, address: str) -> None:
    _host()
    _run(
        "nft",
        "-f",
        "-",
        text='table inet t { chain c { type filter hook input priority 0; counter drop comment "on purpose"; }; }',
    )
    result, _, decided = _trace(protocol, address, 7)
    assert result.outcome == "silent"
    assert decided
    assert {each.kind for each in decided} == {"dropped"}
    assert decided[0].by[0].startswith("rule 'on purpose' of inet t c: ")


@isolated
def test_only_the_probe_is_traced_and_both_ways() -> None:
    _host()
    _run("nft", "-f", "-", text="table inet t { chain c { type filter hook input priority 0; accept; }; }")
    with _serving(), Sender("tcp", "10.0.0.1", 8080) as sender, Tracer(sender.signature, tracked=False) as tracer:
        for _ in range(20):
            socket.create_connection(("10.0.0.1", 8080)).close()
        assert sender.send(2).outcome == "answered"
        found = rules.passages("n", tracer.steps(), sender.signature, tracer.table)
        ports = {port for passage in found for flow in passage.flows for port in (flow[1], flow[3])}
        assert ports == {sender.source_port, 8080}
        assert {flow[1] for passage in found for flow in passage.flows} == ports


@isolated
def test_the_table_is_gone_with_the_process_that_is_killed() -> None:
    _host()
    ready, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        tracer = Tracer(Sender("udp", "10.0.0.1", 9).signature, tracked=True)
        os.write(theirs, b"x")
        time.sleep(60)
        tracer.close()
        os._exit(0)
    os.read(ready, 1)
    assert f"netlab-trace-{child}" in _run("nft", "list", "tables")
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert _run("nft", "list", "tables") == ""


@pytest.mark.parametrize(("protocol", "address"), [("udp", "10.0.0.1"), ("icmp", "10.0.0.1"), ("icmp", "fd00::1")])
@isolated
def test_the_size_is_that_of_the_packet(protocol: Any, address: str) -> None:
    _host()
    _run("ip", "link", "set", "lo", "mtu", "1400")
    assert Path("/proc/sys/net/ipv4/ip_no_pmtu_disc").read_text() == "0\n"
    with Sender(protocol, address, 8081, size=1400) as fits, _serving():
        assert fits.send(2).outcome in ("answered", "refused")
    with Sender(protocol, address, 8081, size=1401) as large:
        assert large.send(2) == Result("failed", "Message too long")
