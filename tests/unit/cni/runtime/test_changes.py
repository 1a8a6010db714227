"""The difference of two snapshots, and the reading of what ip(8) and nft(8) print."""

from __future__ import annotations

import pytest

from netlab.cni.runtime.changes import Change, Line, compare, read_numbered, read_ruleset


def test_what_was_lost_and_gained_is_told_by_kind_and_what_stayed_is_not() -> None:
    stayed = [Line("link", "lo: <LOOPBACK>"), Line("sysctl", "a = 0")]
    before = [*stayed, Line("sysctl", "net.ipv4.ip_forward = 0"), Line("route", "10.0.0.0/24 dev a")]
    after = [Line("sysctl", "net.ipv4.ip_forward = 1"), Line("sysctl", "b = 1"), Line("link", "b: <UP>"), *stayed]
    assert compare(before, after) == [
        Change("+", Line("link", "b: <UP>")),
        Change("-", Line("route", "10.0.0.0/24 dev a")),
        Change("-", Line("sysctl", "net.ipv4.ip_forward = 0")),
        Change("+", Line("sysctl", "net.ipv4.ip_forward = 1")),
        Change("+", Line("sysctl", "b = 1")),
    ]
    assert compare(after, after) == []


def test_a_thing_that_changed_is_lost_and_gained_one_after_the_other() -> None:
    before = [Line("link", "a: <UP,LOWER_UP>"), Line("link", "b: <UP>")]
    after = [Line("link", "c: <UP>"), Line("link", "b: <>"), Line("link", "a: <UP>")]
    assert [(change.sign, change.line.text) for change in compare(before, after)] == [
        ("-", "a: <UP,LOWER_UP>"),
        ("+", "a: <UP>"),
        ("-", "b: <UP>"),
        ("+", "b: <>"),
        ("+", "c: <UP>"),
    ]


LINKS = r"""
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
7: veth1@if2: <UP> mtu 1500 master cni0 state UP \    link/ether 0a:58:00:00:00:01 brd ff:ff:ff:ff:ff:ff\    alias net/c1/eth0
"""  # noqa: E501 - as ip(8) prints it
ADDRESSES = r"""
2: eth0    inet 10.0.0.2/24 brd 10.0.0.255 scope global eth0\       valid_lft forever preferred_lft forever
2: eth0    inet6 fe80::1/64 scope link tentative \       valid_lft forever preferred_lft forever
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        (
            LINKS,
            [
                "lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN link/loopback 00:00:00:00:00:00"
                " brd 00:00:00:00:00:00",
                "veth1@if2: <UP> mtu 1500 master cni0 state UP link/ether 0a:58:00:00:00:01 alias net/c1/eth0",
            ],
        ),
        (
            ADDRESSES,
            ["eth0 inet 10.0.0.2/24 brd 10.0.0.255 scope global eth0", "eth0 inet6 fe80::1/64 scope link"],
        ),
    ],
)
def test_what_ip_prints(text: str, lines: list[str]) -> None:
    assert read_numbered(text) == lines


RULESET = """
table inet t {
	map m {
		type ipv4_addr : verdict
		elements = { 10.0.0.1 comment "a, {b}" : drop,
			     10.0.0.2 : accept }
	}

	chain empty {
	}

	chain c {
		type nat hook postrouting priority srcnat; policy accept;
		meta l4proto { tcp, udp } masquerade
	}
}
table ip6 none {
}
"""  # noqa: E101 - as nft(8) prints it


def test_what_nft_prints() -> None:
    assert read_ruleset(RULESET) == [
        "inet t map m type ipv4_addr : verdict",
        'inet t map m element 10.0.0.1 comment "a, {b}" : drop',
        "inet t map m element 10.0.0.2 : accept",
        "inet t chain empty",
        "inet t chain c type nat hook postrouting priority srcnat; policy accept;",
        "inet t chain c meta l4proto { tcp, udp } masquerade",
        "ip6 none",
    ]
