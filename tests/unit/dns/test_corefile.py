"""The Corefile: what is understood, and what is refused with its line."""

from __future__ import annotations

import dataclasses

import pytest

from netlab.dns.answering import block_of
from netlab.dns.corefile import Address, Block, Corefile, Forward, Hosts, Kubernetes, parse
from netlab.dns.records import Record
from netlab.errors import UsageError
from netlab.lab.cluster_dns import COREFILE

FILES = {"/etc/resolv.conf": "nameserver 192.0.2.53\nsearch a\n", "/etc/myhosts": "# mine\n192.0.2.9 nine.test\n"}


def read(path: str) -> str:
    """The files that a Corefile may name."""
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def test_the_corefile_of_a_lab() -> None:
    assert parse(COREFILE, read) == Corefile(
        (
            Block(
                ("",),
                53,
                loadbalance=True,
                nsid="",
                kubernetes=Kubernetes(
                    *("cluster.local", ("in-addr.arpa", "ip6.arpa"), "insecure", 30, ("in-addr.arpa", "ip6.arpa"))
                ),
            ),
        ),
        health=Address("", 8080),
        lameduck=5.0,
        ready=Address("", 8181),
        prometheus=Address("", 9153),
        reload=2.0,
    )


@pytest.mark.parametrize(
    ("directive", "fields"),
    [
        ("log", {"log": True}),
        ("nsid the one", {"nsid": "the one"}),
        ("forward . 192.0.2.1", {"forwards": (Forward("", (Address("192.0.2.1", 53),)),)}),
        (
            "forward Example.COM. 192.0.2.1:5353 [2001:db8::1]:54 2001:db8::2",
            {
                "forwards": (
                    Forward(
                        "example.com",
                        (Address("192.0.2.1", 5353), Address("2001:db8::1", 54), Address("2001:db8::2", 53)),
                    ),
                )
            },
        ),
        (
            "forward . /etc/resolv.conf {\nexcept a.b c\npolicy sequential\nmax_concurrent 7\n}",
            {"forwards": (Forward("", (Address("192.0.2.53", 53),), ("a.b", "c"), "sequential", 7),)},
        ),
        (
            "hosts {\n192.0.2.7 a.test b.test # two\nttl 60\nfallthrough\n}",
            {
                "hosts": Hosts(
                    (
                        *(Record("a.test", "A", "192.0.2.7"), Record("b.test", "A", "192.0.2.7")),
                        Record("7.2.0.192.in-addr.arpa", "PTR", "a.test"),
                    ),
                    *(("",), 60, ("",)),
                )
            },
        ),
        (
            "hosts /etc/myhosts test",
            {
                "hosts": Hosts(
                    (Record("nine.test", "A", "192.0.2.9"), Record("9.2.0.192.in-addr.arpa", "PTR", "nine.test")),
                    ("test",),
                )
            },
        ),
        ("kubernetes cluster.local {\npods verified\n}", {"kubernetes": Kubernetes("cluster.local", pods="verified")}),
    ],
)
def test_a_directive(directive: str, fields: dict[str, object]) -> None:
    (block,) = parse(f". {{\n{directive}\n}}\n", read).blocks
    assert block == dataclasses.replace(Block(("",), 53), **fields)  # type: ignore[arg-type]


def test_the_block_with_the_longest_zone_answers() -> None:
    corefile = parse(".:53 {\nlog\n}\nacme.local:53, b.test:54 {\nerrors\n}\n", read)
    zones = {name: block_of(corefile, port, name) for name, port in (("a.acme.local", 53), ("a", 53), ("b.test", 54))}
    assert {name: block.zones if block else None for name, block in zones.items()} == {
        "a.acme.local": ("acme.local",),
        "a": ("",),
        "b.test": ("b.test",),
    }
    assert block_of(corefile, 54, "a") is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Corefile: there is no server block"),
        (".:53 {\nlog\n", "Corefile:1: its brace is not closed"),
        (".:53 {\nhosts {\n", "Corefile:2: its brace is not closed"),
        (".:53\nlog\n", "Corefile:1: expected ZONE:PORT {"),
        ("(snip) {\n}\n", "Corefile:1: a server block begins with its zones"),
        (".:0 {\n}\n", "Corefile:1: '0' is no number from 1 to 65535"),
        (".:53 {\n}\n.:53 {\n}\n", "Corefile: .:53 has two server blocks"),
        (
            ". {\nrewrite name a b\n}\n",
            "Corefile:2: there is no plugin 'rewrite' here; there are cache, errors, forward",
        ),
        (". {\nforward .\n}\n", "Corefile:2: forward needs a zone and whom to ask"),
        (". {\nforward . example.com\n}\n", "Corefile:2: 'example.com' is no ADDRESS or ADDRESS:PORT"),
        (". {\nforward . /nowhere\n}\n", "Corefile:2: /nowhere cannot be read: No such file"),
        (". {\nforward . 1.1.1.1 {\ntls\n}\n}\n", "Corefile:3: forward has except, policy and max_concurrent"),
        (". {\nkubernetes in-addr.arpa\n}\n", "Corefile:2: kubernetes has one zone"),
        (". {\nkubernetes c.l {\npods some\n}\n}\n", "Corefile:3: pods is disabled, insecure or verified"),
        (". {\nkubernetes c.l {\nttl x\n}\n}\n", "Corefile:3: 'x' is no number from 0 to 3600"),
        ("a {\nkubernetes c.l\n}\nb {\nkubernetes c.l\n}\n", "Corefile: `kubernetes` may be in one server block only"),
        (". {\nhosts {\nx y\n}\n}\n", "Corefile:3: 'x' is no address"),
        (". {\nhosts {\n1.2.3.4\n}\n}\n", "Corefile:3: 1.2.3.4 has no name"),
        (". {\nhealth 8080\n}\n", "Corefile:2: '8080' is no address, such as :8080"),
        (". {\nreload soon\n}\n", "Corefile:2: 'soon' is no duration"),
        ('. {\nerrors "x"\n}\n', "Corefile:2: quotation marks and variables"),
    ],
)
def test_what_is_refused(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text, read)
    assert str(raised.value).startswith(error)
