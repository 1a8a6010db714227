"""CHECK names any single thing that was broken by hand, and lets pass what others may have added."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import inside, ip, runtime, sandboxes

pytestmark = pytest.mark.usefixtures("way")

ONE = Attachment("one", "")
HOST = "HOST"
"""Stands for the name of the host end."""


def network(data_dir: Path, **more: Any) -> NetworkList:
    routes = [{"dst": "192.0.2.0/24", "gw": "10.244.1.9"}, {"dst": "198.51.100.0/24", "table": 1000}]
    plain = pods.network(data_dir).plugins[0]
    given = {"version": "1.1.0", "ipMasq": True, "macspoofchk": True, "portIsolation": True, **more}
    return pods.network(data_dir, **{"ipam": {**plain["ipam"], "routes": routes}, **given})


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def sysctl(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def address_is_removed(text: str) -> Callable[[], object]:
    return lambda: ip("address", "del", text, "dev", "eth0")


def links_change_places() -> None:
    ip("link", "set", "eth0", "name", "eth1")
    ip("link", "add", "eth0", "type", "bridge")


def another_pair() -> None:
    ip("link", "set", "eth0", "name", "eth1")
    ip("link", "add", "eth0", "mtu", "1450", "type", "veth", "peer", "name", "eth2")
    mac = next(line.split()[1] for line in ip("link", "show", "eth1").splitlines() if "link/ether" in line)
    ip("link", "set", "eth0", "address", mac, "up")
    ip("address", "flush", "dev", "eth1")
    for text in ("10.244.1.2/24", "fd00:10:244:1::2/64"):
        ip("address", "add", text, "dev", "eth0", "nodad")
    ip("route", "add", "192.0.2.0/24", "via", "10.244.1.9")
    ip("route", "add", "198.51.100.0/24", "via", "10.244.1.1", "table", "1000")
    ip("route", "add", "default", "via", "10.244.1.1")
    ip("-6", "route", "replace", "default", "via", "fd00:10:244:1::1", "dev", "eth0")


def element_is_removed(table: str, name: str, element: str) -> Callable[[], object]:
    return lambda: nft(f"delete element {table} {name} {{ {element} }}")


MASQUERADE, SPOOFING = "inet netlab_cni_masquerade", "bridge netlab_cni_macspoofchk"

IN_CONTAINER: dict[str, tuple[Callable[[], object], str]] = {
    "interface renamed": (lambda: ip("link", "set", "eth0", "name", "eth1"), "link eth0: missing"),
    "interface replaced": (links_change_places, "link eth0: it is of kind 'bridge', not veth"),
    "interface of another pair": (another_pair, f"link eth0: its other end is not {HOST}"),
    "interface down": (lambda: ip("link", "set", "eth0", "down"), "link eth0: down"),
    "mac": (
        lambda: ip("link", "set", "eth0", "address", "02:00:00:00:00:01"),
        "link eth0: its address is 02:00:00:00:00:01, not 0a:58:0a:f4:01:02",
    ),
    "mtu": (lambda: ip("link", "set", "eth0", "mtu", "1400"), "link eth0: its MTU is 1400, not 1450"),
    "IPv4 address": (address_is_removed("10.244.1.2/24"), "link eth0: missing address 10.244.1.2/24"),
    "IPv6 address": (address_is_removed("fd00:10:244:1::2/64"), "link eth0: missing address fd00:10:244:1::2/64"),
    "prefix length": (
        lambda: (ip("address", "add", "10.244.1.2/16", "dev", "eth0"), address_is_removed("10.244.1.2/24")()),
        "link eth0: missing address 10.244.1.2/24",
    ),
    "route": (lambda: ip("route", "del", "192.0.2.0/24"), "route to 192.0.2.0/24: missing"),
    "default route": (lambda: ip("route", "del", "default"), "route to 0.0.0.0/0: missing"),
    "IPv6 route": (lambda: ip("-6", "route", "del", "default"), "route to ::/0: missing"),
    "route changed": (
        lambda: ip("route", "replace", "192.0.2.0/24", "via", "10.244.1.8"),
        "route to 192.0.2.0/24: it goes via 10.244.1.8, not via 10.244.1.9",
    ),
    "route turned off": (
        lambda: (ip("route", "del", "default"), ip("route", "add", "blackhole", "default")),
        "route to 0.0.0.0/0: it goes nowhere, not via 10.244.1.1",
    ),
    "route of another table": (
        lambda: ip("route", "flush", "table", "1000"),
        "route to 198.51.100.0/24: missing",
    ),
}
ON_NODE: dict[str, tuple[Callable[[], object], str]] = {
    "host end": (lambda: ip("link", "set", host(), "name", "veth1"), f"link {HOST}: missing"),
    "host end down": (lambda: ip("link", "set", host(), "down"), f"link {HOST}: down"),
    "no port": (lambda: ip("link", "set", host(), "nomaster"), f"link {HOST}: it is not a port of bridge cni0"),
    "port of another bridge": (
        lambda: (ip("link", "add", "br1", "type", "bridge"), ip("link", "set", host(), "master", "br1")),
        f"link {HOST}: it is not a port of bridge cni0",
    ),
    "hairpin": (lambda: port("hairpin", "off"), f"link {HOST}: its hairpin mode is off"),
    "isolation": (lambda: port("isolated", "off"), f"link {HOST}: its isolation is off"),
    "mtu of the host end": (lambda: ip("link", "set", host(), "mtu", "1400"), f"link {HOST}: its MTU is 1400"),
    "alias": (lambda: ip("link", "set", host(), "alias", "mine"), f"link {HOST}: its alias is 'mine'"),
    "bridge": (lambda: ip("link", "set", "cni0", "down", "name", "br1"), "link cni0: missing"),
    "bridge down": (lambda: ip("link", "set", "cni0", "down"), "link cni0: down"),
    "IPv4 gateway": (
        lambda: ip("address", "del", "10.244.1.1/24", "dev", "cni0"),
        "link cni0: missing address 10.244.1.1/24",
    ),
    "IPv6 gateway": (
        lambda: ip("address", "del", "fd00:10:244:1::1/64", "dev", "cni0"),
        "link cni0: missing address fd00:10:244:1::1/64",
    ),
    "IPv4 forwarding": (lambda: sysctl("ipv4/ip_forward", "0"), "sysctl net.ipv4.ip_forward: 0, not 1"),
    "IPv6 forwarding": (
        lambda: sysctl("ipv6/conf/all/forwarding", "0"),
        "sysctl net.ipv6.conf.all.forwarding: 0, not 1",
    ),
    "masqueraded address": (
        element_is_removed(MASQUERADE, "pods4", "10.244.1.2"),
        f"set {MASQUERADE} pods4: the element of net/one/eth0 is missing",
    ),
    "masqueraded IPv6 address": (
        element_is_removed(MASQUERADE, "pods6", "fd00:10:244:1::2"),
        f"set {MASQUERADE} pods6: the element of net/one/eth0 is missing",
    ),
    "what is not masqueraded": (
        element_is_removed(MASQUERADE, "inside4", "10.244.1.2 . 10.244.1.0/24"),
        f"set {MASQUERADE} inside4: the element of net/one/eth0 is missing",
    ),
    "element of another owner": (
        lambda: nft(
            f"delete element {MASQUERADE} pods4 {{ 10.244.1.2 }}\n"
            f'add element {MASQUERADE} pods4 {{ 10.244.1.2 comment "x" }}'
        ),
        f"set {MASQUERADE} pods4: the element of net/one/eth0 is missing",
    ),
    "masquerade rules": (
        lambda: nft(f"flush chain {MASQUERADE} postrouting"),
        f"table {MASQUERADE}: chain postrouting: 'ip saddr . ip daddr @inside4 return' is missing",
    ),
    "a masquerade rule too many": (
        lambda: nft(f"insert rule {MASQUERADE} postrouting accept"),
        f"table {MASQUERADE}: chain postrouting: it has extra rules",
    ),
    "masquerade table": (lambda: nft(f"delete table {MASQUERADE}"), f"table {MASQUERADE}: missing"),
    "spoofing table": (lambda: nft(f"delete table {SPOOFING}"), f"table {SPOOFING}: missing"),
    "spoofing rules": (
        lambda: nft(f"flush chain {SPOOFING} prerouting"),
        f"table {SPOOFING}: chain prerouting: 'iifname . ether saddr @senders return' is missing",
    ),
    "checked port": (
        lambda: nft(f"flush set {SPOOFING} ports"),
        f"set {SPOOFING} ports: the element of net/one/eth0 is missing",
    ),
    "allowed sender": (
        lambda: nft(f"flush set {SPOOFING} senders"),
        f"set {SPOOFING} senders: the element of net/one/eth0 is missing",
    ),
}


def host() -> str:
    return next(name for name in pods.links() if name.startswith("veth"))


def port(flag: str, value: str) -> None:
    ip("link", "set", "dev", host(), "type", "bridge_slave", flag, value)


@pytest.mark.parametrize("thing", [*IN_CONTAINER, *ON_NODE])
@isolated
def test_whatever_is_broken_is_named(tmp_path: Path, thing: str) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        attachment = Attachment("one", one)
        name = subject.add(net, attachment)["interfaces"][1]["name"]
        subject.check(net, attachment)
        if thing in IN_CONTAINER:
            break_it, said = IN_CONTAINER[thing]
            with inside(one):
                break_it()
        else:
            break_it, said = ON_NODE[thing]
            break_it()
        with pytest.raises(CniError) as caught:
            subject.check(net, attachment)
        assert said.replace(HOST, name) in caught.value.msg
        assert caught.value.code == errors.CHECK_FAILED
        subject.delete(net, attachment)
        assert "net/one" not in pods.ruleset()


@isolated
def test_a_bridge_that_is_not_promiscuous_any_more(tmp_path: Path) -> None:
    net, subject = network(tmp_path, hairpinMode=False, promiscMode=True), runtime(tmp_path)
    with sandboxes(1) as (one,):
        attachment = Attachment("one", one)
        subject.add(net, attachment)
        subject.check(net, attachment)
        ip("link", "set", "cni0", "promisc", "off")
        with pytest.raises(CniError, match="link cni0: it is not promiscuous"):
            subject.check(net, attachment)


@isolated
def test_a_reservation_that_is_gone(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        attachment = Attachment("one", one)
        subject.add(net, attachment)
        (tmp_path / "net" / "10.244.1.2").unlink()
        with pytest.raises(CniError, match="reserv"):
            subject.check(net, attachment)


@isolated
def test_what_others_add_passes(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        attachment = Attachment("one", one)
        subject.add(net, attachment)
        with inside(one):
            ip("link", "add", "eth1", "type", "bridge")
            ip("link", "set", "eth1", "up")
            ip("address", "add", "10.9.9.9/24", "dev", "eth0")
            ip("route", "add", "203.0.113.0/24", "dev", "eth0")
            ip("route", "add", "192.0.2.0/24", "via", "10.244.1.8", "metric", "50")
        ip("address", "add", "10.99.0.1/24", "dev", "cni0")
        nft("table inet mine {\n\tchain c {\n\t\taccept\n\t}\n}\n")
        subject.check(net, attachment)


@isolated
def test_the_result_is_for_this_container(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        result = subject.add(net, Attachment("one", one))
        config = {**net.plugins[0], "name": "net", "cniVersion": "1.1.0"}
        for change, netns, code, said in (
            ({}, one, errors.INVALID_CONFIG, "prevResult: CHECK needs the result of the ADD"),
            ({"prevResult": {"cniVersion": "1.1.0"}}, one, errors.INVALID_CONFIG, "prevResult.interfaces: no eth0"),
            (
                {"prevResult": result},
                two,
                errors.CHECK_FAILED,
                f"CNI_NETNS: {two}: by prevResult eth0 was added to {one}",
            ),
        ):
            variables = {"CNI_CONTAINERID": "one", "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
            status, answer = pods.execute("netlab", "CHECK", config | change, **variables)
            assert (status, answer["code"]) == (1, code)
            assert said in answer["msg"]
