"""A trace as text: short by default, whole on request, within the terminal, and safe for it."""

from __future__ import annotations

import click

from netlab.cli.trace_text import lines
from netlab.trace.model import Hop, Trace, Verdict
from tests.changes import change

_SERVICE = "Service default/web:http, externalTrafficPolicy Cluster"


def _hop(owner: str, interface: str, ends: tuple[str, int, str, int], by: tuple[str, ...] = (), *changed: str) -> Hop:
    source, sport, destination, dport = ends
    return Hop(
        node=owner if "/" not in owner else "node-1",
        owner=owner,
        interface=interface,
        kind="underlay",
        direction="in",
        src=source,
        sport=sport,
        dst=destination,
        dport=dport,
        protocol="tcp",
        ttl=64,
        changed=list(map(change, changed)),
        by=list(by),
        nanoseconds=1000,
    )


_ASKED = ("192.0.2.253", 4000, "192.0.2.1", 30080)
_REACHED = ("10.244.1.1", 5000, "10.244.1.2", 8080)
_TRANSLATED = _hop(
    "node-1",
    "cni0",
    _REACHED,
    (
        f"{_SERVICE}: one of 3 endpoints",
        "rule of ip kube-proxy nodeport-pick-3: dnat ip to numgen random mod 3 map @nodeport-endpoints",
        f"{_SERVICE}: masqueraded",
        "rule of ip kube-proxy nat-postrouting: masquerade fully-random",
        "because of rule of ip kube-proxy dispatch: jump mark-masquerade",
        "route 10.244.1.0/24 dev cni0",
    ),
    "DNAT 192.0.2.1:30080 -> 10.244.1.2:8080",
    "SNAT 192.0.2.253:4000 -> 10.244.1.1:5000",
    "TTL 64 -> 63",
)
_TRACE = Trace(
    source="outside",
    destination="node/node-1:30080 (192.0.2.1)",
    protocol="tcp",
    hops=[
        _hop("outside", "eth0", _ASKED),
        _hop("node-1", "eth0", _ASKED),
        _TRANSLATED,
        _hop("default/web-dcb645b55-w9lmg", "eth0", _REACHED),
    ],
    reply=[_hop("default/web-dcb645b55-w9lmg", "eth0", ("10.244.1.2", 8080, "10.244.1.1", 5000))],
    verdict=Verdict("delivered", "node-1", "it answers \x1b[31m"),
    predicted=[],
    agrees=True,
    differences=[],
)


def test_in_short_it_has_a_line_for_each_machine_and_whose_translation_it_was() -> None:
    found = list(lines(_TRACE, 80, verbose=False))
    assert "    +0 µs  node-1               eth0 > cni0" in found
    assert "             DNAT to 10.244.1.2:8080 by Service web:http, one of 3 endpoints" in found
    assert "             SNAT to 10.244.1.1:5000 by Service web:http, masqueraded" in found
    assert not any("rule of" in line or "TTL" in line for line in found)
    assert any("it answers \\x1b[31m" in line for line in found)
    titles = [line for line in found if "request  192.0.2.253:4000 > 192.0.2.1:30080" in line or "reply  10" in line]
    assert len(titles) == 2


def test_in_full_it_has_each_interface_route_and_rule() -> None:
    found = " ".join(" ".join(lines(_TRACE, 80, verbose=True)).split())
    for text in (*map(str, _TRANSLATED.changed), *_TRANSLATED.by):
        assert text in found


def test_a_rule_of_others_is_named_where_no_service_is() -> None:
    theirs = "rule 'mine' of inet mine c: dnat to 10.244.1.2:8080"
    hop = _hop("node-1", "cni0", _REACHED, (theirs,), "DNAT 192.0.2.1:30080 -> 10.244.1.2:8080")
    trace = Trace("a", "b", "tcp", [hop], [], _TRACE.verdict, [], agrees=True, differences=[])
    assert f"             DNAT to 10.244.1.2:8080 by {theirs}" in list(lines(trace, 0, verbose=False))


def test_lines_fit_and_no_address_is_broken() -> None:
    for columns in (60, 80, 120):
        for verbose in (False, True):
            found = [_plain(line) for line in lines(_TRACE, columns, verbose=verbose)]
            assert max(map(len, found)) <= columns
            assert any("10.244.1.2:8080" in line for line in found)


def _plain(line: str) -> str:
    return click.unstyle(line)
