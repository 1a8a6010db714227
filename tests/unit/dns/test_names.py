"""What names exist, and what they have: the Kubernetes DNS specification 1.1.0, a row each."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec
import pytest

from netlab.api.core_types import Namespace, Pod
from netlab.dns.corefile import Kubernetes
from netlab.dns.records import Node, Server
from tests.unit.dns.objects import CONFIG, Names, service, slice_of

WEB = service("web", clusterIP="10.96.1.1", clusterIPs=["10.96.1.1", "fd00:10:96::1"])
UNNAMED = service("unnamed", clusterIP="10.96.1.2", ports=[("", 80)])
PETS = service("pets", clusterIP="None")
PETS_4 = slice_of("pets", ("10.244.1.5", "cat", True), ("10.244.1.6", None, True), ("10.244.1.7", "dog", False))
PETS_6 = slice_of("pets", ("fd00::5", "cat", True), family="IPv6")
EMPTY = service("empty", clusterIP="None")
ALIAS = service("alias", type="ExternalName", externalName="Www.Example.com.", ports=[])
ALL = [WEB, UNNAMED, PETS, PETS_4, PETS_6, EMPTY, ALIAS]

CAT = "cat.pets.shop.svc.cluster.local"
SIX = "10-244-1-6.pets.shop.svc.cluster.local"

CASES: list[tuple[str, Node | None]] = [
    ("web.shop.svc.cluster.local", {"A": ("10.96.1.1",), "AAAA": ("fd00:10:96::1",)}),
    ("_http._tcp.web.shop.svc.cluster.local", {"SRV": (Server(80, "web.shop.svc.cluster.local"),)}),
    ("_tcp.web.shop.svc.cluster.local", {}),
    ("_http._udp.web.shop.svc.cluster.local", None),
    ("1.1.96.10.in-addr.arpa", {"PTR": ("web.shop.svc.cluster.local",)}),
    (f"{'.'.join('1' + '0' * 19)}.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa", {"PTR": ("web.shop.svc.cluster.local",)}),
    ("9.1.96.10.in-addr.arpa", None),
    ("_tcp.unnamed.shop.svc.cluster.local", None),
    ("pets.shop.svc.cluster.local", {"A": ("10.244.1.5", "10.244.1.6"), "AAAA": ("fd00::5",)}),
    (CAT, {"A": ("10.244.1.5",), "AAAA": ("fd00::5",)}),
    (SIX, {"A": ("10.244.1.6",)}),
    ("dog.pets.shop.svc.cluster.local", None),
    ("_http._tcp.pets.shop.svc.cluster.local", {"SRV": (Server(8080, CAT), Server(8080, SIX))}),
    ("5.1.244.10.in-addr.arpa", {"PTR": (CAT,)}),
    ("6.1.244.10.in-addr.arpa", {"PTR": (SIX,)}),
    ("empty.shop.svc.cluster.local", None),
    ("alias.shop.svc.cluster.local", {"CNAME": ("www.example.com",)}),
    ("shop.svc.cluster.local", {}),
    ("other.svc.cluster.local", None),
    ("svc.cluster.local", {}),
    ("pod.cluster.local", {}),
    ("shop.pod.cluster.local", {}),
    ("10-244-9-9.shop.pod.cluster.local", {"A": ("10.244.9.9",)}),
    ("fd00--9.shop.pod.cluster.local", {"AAAA": ("fd00::9",)}),
    ("10-244-9.shop.pod.cluster.local", None),
    ("10-244-9-9.other.pod.cluster.local", None),
    ("dns-version.cluster.local", {"TXT": ("1.1.0",)}),
    ("cluster.local", {"NS": ("ns.dns.cluster.local",)}),
    ("ns.dns.cluster.local", {"A": ("10.244.1.2",)}),
    ("nothing.cluster.local", None),
]


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_name_has(name: str, expected: Node | None) -> None:
    found = Names(ALL).find(name)
    assert _in_order(found) == _in_order(expected)


def _in_order(node: Node | None) -> Node | None:
    return node and {kind: tuple(sorted(data, key=str)) for kind, data in node.items()}


def test_what_is_gone_has_no_name() -> None:
    names = Names(ALL)
    names.give(*ALL, gone=True)
    for name in ("web.shop", "_tcp.web.shop", "pets.shop", "cat.pets.shop", "alias.shop"):
        assert names.find(f"{name}.svc.cluster.local") is None
    assert names.find("1.1.96.10.in-addr.arpa") is None


def test_an_address_of_two_services_keeps_its_name_when_one_goes() -> None:
    names = Names([PETS, PETS_4, service("zoo", clusterIP="None"), slice_of("zoo", ("10.244.1.5", "cat", True))])
    zoo = "cat.zoo.shop.svc.cluster.local"
    assert names.find("5.1.244.10.in-addr.arpa") == {"PTR": (CAT, zoo)}
    names.give(PETS, gone=True)
    assert names.find("5.1.244.10.in-addr.arpa") == {"PTR": (zoo,)}


@pytest.mark.parametrize(
    ("given", "about"),
    [
        (
            service("web", clusterIP="10.96.1.9", clusterIPs=["10.96.1.9", "fd00:10:96::1"]),
            {"shop/web", "1.1.96.10.in-addr.arpa", "9.1.96.10.in-addr.arpa"},
        ),
        (slice_of("pets", ("10.244.1.5", "cat", True), ("10.244.1.6", None, True)), set()),
        (slice_of("web", ("10.244.1.5", None, True)), set()),
        (slice_of("pets", ("10.244.1.5", "cat", True)), {"shop/pets", "6.1.244.10.in-addr.arpa"}),
        (msgspec.convert({"metadata": {"name": "new"}}, Namespace), {"new/"}),
    ],
    ids=["its address", "nothing that counts", "endpoints behind an address", "an endpoint", "a Namespace"],
)
def test_a_change_concerns(given: object, about: set[Hashable]) -> None:
    names = Names(ALL)
    told: set[Hashable] = set()
    names.changed = told.add
    names.give(given)
    assert told == about


def test_verified_pods_are_those_that_there_are() -> None:
    names = Names([], Kubernetes("cluster.local", pods="verified"))
    pod = {"metadata": {"namespace": "shop", "name": "p"}, "spec": {"containers": []}}
    found = msgspec.convert(pod | {"status": {"podIPs": [{"ip": "10.244.1.5"}]}}, Pod)
    assert names.find("10-244-1-5.shop.pod.cluster.local") is None
    names.give(found)
    assert names.find("10-244-1-5.shop.pod.cluster.local") == {"A": ("10.244.1.5",)}
    names.give(found, gone=True)
    assert names.find("10-244-1-5.shop.pod.cluster.local") is None


def test_pods_are_disabled_unless_the_corefile_says_so() -> None:
    assert Names([], Kubernetes("cluster.local")).find("10-244-1-5.shop.pod.cluster.local") is None
    assert CONFIG.pods == "insecure"
