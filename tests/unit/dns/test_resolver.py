"""The client's side: the names that are tried, and dig's command line."""

from __future__ import annotations

import pytest

from netlab.dns import dig, resolver
from netlab.dns.resolver import ResolvConf

TEXT = """
# written by a kubelet
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
nameserver fd00:10:96::a
options ndots:5 edns0
"""
CONF = ResolvConf(
    ("10.96.0.10", "fd00:10:96::a"), ("default.svc.cluster.local", "svc.cluster.local", "cluster.local"), 5
)


def test_resolv_conf() -> None:
    assert resolver.parse(TEXT) == CONF
    assert resolver.parse("domain a\nsearch b c\noptions ndots:99 ndots:x\nnonsense\n") == ResolvConf(
        (), ("b", "c"), 15
    )


@pytest.mark.parametrize(
    ("name", "ndots", "tried"),
    [
        ("web", 5, ["web.a.", "web.b.", "web."]),
        ("web.", 5, ["web."]),
        ("x.y.z", 2, ["x.y.z.", "x.y.z.a.", "x.y.z.b."]),
        ("x.y.z", 3, ["x.y.z.a.", "x.y.z.b.", "x.y.z."]),
    ],
)
def test_the_names_that_are_tried(name: str, ndots: int, tried: list[str]) -> None:
    assert ResolvConf(("10.96.0.10",), ("a", "b"), ndots).candidates(name) == tried
    assert ResolvConf((), (".",), ndots).candidates("web") == ["web."]


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ("+notcp +noall +answer +search web A", {"name": "web", "type": "A", "tcp": False, "search": True}),
        ("+tcp _http._tcp.web SRV", {"name": "_http._tcp.web", "type": "SRV", "tcp": True}),
        ("+short @10.0.0.1 -p 5353 a.b", {"short": True, "server": "10.0.0.1", "port": 5353, "name": "a.b"}),
        ("-x 10.96.0.1", {"name": "1.0.96.10.in-addr.arpa.", "type": "PTR"}),
        ("-t aaaa a", {"name": "a", "type": "AAAA"}),
        ("a +ndots=2 +noedns +bufsize=512", {"ndots": 2, "search": True, "edns": False, "payload": 512}),
        ("", {"name": ".", "type": "NS"}),
    ],
)
def test_digs_command_line(arguments: str, fields: dict[str, object]) -> None:
    found = vars(dig.parse(arguments.split()))
    assert {key: found[key] for key in fields} == fields


def test_what_dig_shows() -> None:
    assert [part for part, shown in dig.parse(["+noall", "+answer", "a"]).shown.items() if shown] == ["answer"]


@pytest.mark.parametrize("arguments", ["-p x a", "-z", "+nosuch a", "-x nowhere", "-t nosuch a", "a +ndots=x"])
def test_what_dig_refuses(arguments: str) -> None:
    with pytest.raises(dig.UsageError):
        dig.parse(arguments.split())
