"""What of a Service and its EndpointSlices reaches a plan: the edges that no packet can tell apart."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api.core_types import Node, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.net.addresses import Family, family_of
from netlab.proxy.book import Book
from netlab.proxy.plan import Endpoint, Frontend, HealthCheck, NodeInfo, Scope, Target, apply, difference
from netlab.proxy.planner import Planned, node_info, plan_service

HERE = NodeInfo("here", "zone-1", ("192.0.2.1", "2001:db8::1"))


def service(labels: Any = None, ingress: Any = (), **spec: object) -> Service:
    return msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": "default", "labels": labels or {}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1"],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                **spec,
            },
            "status": {"loadBalancer": {"ingress": list(ingress)}},
        },
        Service,
    )


def endpoint(address: str, state: str = "ready", on: str = "here", **hints: str) -> dict[str, object]:
    """An endpoint; `state` is one letter each for ready, serving, terminating, or a name for the usual ones."""
    letters = {"ready": "rs", "draining": "st", "broken": "", "gone": "t", "published": "r", "odd": "s"}[state]
    found: dict[str, object] = {
        "addresses": [address],
        "nodeName": on,
        "conditions": {"ready": "r" in letters, "serving": "s" in letters, "terminating": "t" in letters},
    }
    if hints:
        found["hints"] = {f"for{kind}s": [{"name": name}] for kind, name in hints.items()}
    return found


def slice_of(
    *endpoints: dict[str, object], name: str = "web-1", labels: tuple[str, ...] = (), **values: object
) -> EndpointSlice:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "default", "labels": dict.fromkeys(labels, "")},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            **values,
        },
        EndpointSlice,
    )


def planned(of: Service, *slices: EndpointSlice, node: NodeInfo = HERE, family: Family = "IPv4") -> Planned:
    return plan_service(of, slices, node, family)


def messages(result: Planned) -> list[str]:
    return [str(error) for error in result.errors]


def addresses(endpoints: Iterable[Endpoint]) -> list[str]:
    return [e.address for e in endpoints]


A = "10.244.1.1"
B = "10.244.2.1"


# --- The node ----------------------------------------------------------------------------------------------------


def test_what_decides_of_a_node() -> None:
    node = msgspec.convert(
        {
            "metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "zone-1"}},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "192.0.2.9"},
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "ExternalIP", "address": "2001:DB8::1"},
                    {"type": "InternalIP", "address": "nonsense"},
                ]
            },
        },
        Node,
    )
    assert node_info(node) == HERE


# --- Which Services ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ignored",
    [
        service(clusterIP="None", clusterIPs=["None"]),
        service(clusterIP="", clusterIPs=[]),
        service(type="ExternalName", externalName="example.com"),
        service(labels={"service.kubernetes.io/service-proxy-name": "another"}),
    ],
    ids=["headless", "not allocated", "ExternalName", "service-proxy-name"],
)
def test_services_of_others_have_no_frontends(ignored: Service) -> None:
    assert planned(ignored, slice_of(endpoint(A))) == Planned({}, [])


def test_slices_labelled_headless_are_not_used() -> None:
    ((_, target),) = planned(
        service(),
        slice_of(endpoint(A)),
        slice_of(endpoint(B), name="web-2", labels=("service.kubernetes.io/headless",)),
    ).frontends.items()
    assert addresses(target.cluster) == [A]


def test_ports_are_found_by_their_names_and_protocols() -> None:
    """The same number of a port on three protocols; each has a target of its own, and one has none."""
    of = service(
        ports=[
            {"name": "web", "port": 53, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "sig", "port": 53, "protocol": "SCTP"},
            {"name": "more", "port": 54},
        ]
    )
    ports = [
        {"name": "web", "port": 5353},
        {"name": "dns", "port": 1053, "protocol": "UDP"},
        {"name": "sig", "port": 2053, "protocol": "SCTP"},
        {"name": "more", "port": 7, "protocol": "UDP"},
        {"name": "web"},
    ]
    found = planned(of, slice_of(endpoint(A), ports=ports)).frontends
    assert {(f.protocol, f.port): [e.port for e in t.cluster] for f, t in found.items()} == {
        ("tcp", 53): [5353],
        ("udp", 53): [1053],
        ("sctp", 53): [2053],
        ("tcp", 54): [],
    }
    assert {f.protocol for f, t in found.items() if t.serving} == {"udp"}


def test_each_family_has_its_own_addresses() -> None:
    of = service(
        type="NodePort",
        clusterIPs=["10.96.0.1", "fd00:10:96::1"],
        externalIPs=["198.51.100.1", "2001:db8:ffff::1"],
        ports=[{"name": "http", "port": 80, "nodePort": 30080}],
    )
    slices = [slice_of(endpoint(A)), slice_of(endpoint("fd00::1"), name="web-6", addressType="IPv6")]
    for family, ips, pod in (
        ("IPv4", ["10.96.0.1", "198.51.100.1", None], A),
        ("IPv6", ["fd00:10:96::1", "2001:db8:ffff::1", None], "fd00::1"),
    ):
        found = planned(of, *slices, family=family)  # type: ignore[arg-type]
        assert ([f.address for f in found.frontends], found.errors) == (ips, [])
        assert all(addresses(t.cluster) == [pod] for t in found.frontends.values())
    single = service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    assert planned(single, *slices, family="IPv6").frontends == {}


# --- Addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("172.30.0.041", "172.30.0.41"),
        ("010.0.0.010", "10.0.0.10"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_addresses_are_put_into_their_normal_form(text: str, normal: str) -> None:
    """Wherever they stand, and leading zeros are no octal numbers (upstream: TestBadIPs; KEP-4858)."""
    family: Family = "IPv6" if ":" in normal else "IPv4"
    of = service(
        type="LoadBalancer",
        clusterIPs=[text],
        externalIPs=[text],
        ingress=[{"ip": text}],
        loadBalancerSourceRanges=[f" {normal}/24 "],
    )
    found = planned(of, slice_of(endpoint(text), addressType=family), family=family)
    assert found.errors == []
    ((frontend, target),) = found.frontends.items()
    assert (frontend, addresses(target.cluster)) == (Frontend(normal, "tcp", 80), [normal])


@pytest.mark.parametrize(
    ("of", "slices", "message"),
    [
        (service(clusterIPs=["10.96.0.256"]), [], "Service default/web: clusterIP '10.96.0.256' is not an IP address"),
        (service(externalIPs=["fe80::1%eth0"]), [], "Service default/web: externalIPs 'fe80::1%eth0' has a zone"),
        (
            service(ports=[{"port": 0}]),
            [],
            "Service default/web: port 0 is not in 1..65535",
        ),
        (
            service(ports=[{"port": 80, "nodePort": 70000}]),
            [],
            "Service default/web: nodePort 70000 is not in 1..65535",
        ),
        (
            service(ports=[{"port": 80, "protocol": "DCCP"}]),
            [],
            "Service default/web: protocol 'DCCP' is not one of TCP, UDP, SCTP",
        ),
        (
            service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
            [],
            "Service default/web: 10.96.0.1:80/tcp is declared twice; the first holds",
        ),
        (
            service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}),
            [],
            "Service default/web: sessionAffinityConfig.clientIP.timeoutSeconds 0 is not in 1..86400",
        ),
        (
            service(),
            [slice_of(endpoint("nowhere"))],
            "EndpointSlice default/web-1: address 'nowhere' is not an IP address",
        ),
        (
            service(),
            [slice_of(endpoint("fd00::1"))],
            "EndpointSlice default/web-1: address fd00::1 is not of its addressType IPv4",
        ),
        (
            service(),
            [slice_of({"addresses": []})],
            "EndpointSlice default/web-1: an endpoint has no address",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(of: Service, slices: list[EndpointSlice], message: str) -> None:
    assert messages(planned(of, *slices)) == [message]


def test_the_rest_of_what_is_wrong_is_planned() -> None:
    of = service(
        externalIPs=["nonsense", "198.51.100.1"], ports=[{"name": "bad", "port": -1}, {"name": "http", "port": 80}]
    )
    found = planned(of, slice_of(endpoint("nonsense"), endpoint(A)))
    assert [f.address for f in found.frontends] == ["10.96.0.1", "198.51.100.1"]
    assert all(addresses(t.cluster) == [A] for t in found.frontends.values())


# --- Load balancers ----------------------------------------------------------------------------------------------


def balancer(ingress: Any = ({"ip": "203.0.113.1"},), **spec: object) -> Service:
    return service(ingress=ingress, type="LoadBalancer", **spec)


@pytest.mark.parametrize(("mode", "has_rules"), [(None, True), ("VIP", True), ("Proxy", False)])
def test_a_load_balancer_that_is_a_proxy_is_left_alone(mode: str | None, has_rules: bool) -> None:
    """KEP-1860: such a balancer must be reached itself, also from inside."""
    found = planned(balancer([{"ip": "203.0.113.1", "ipMode": mode}, {"hostname": "lb.example.com"}]))
    assert (Frontend("203.0.113.1", "tcp", 80) in found.frontends) == has_rules


@pytest.mark.parametrize(
    ("ranges", "sources"),
    [
        ([], ()),
        (["198.51.100.0/24"], ("198.51.100.0/24",)),
        ([" 198.51.100.0/24 ", "198.51.100.77/24"], ("198.51.100.0/24",)),
        (["10.244.0.0/16", "10.0.0.0/8", "10.0.0.0/8"], ("10.0.0.0/8",)),
        (["2001:db8::/64"], ()),
        # The node may: then it may also with the balancer's address, which it has when the balancer is on the node.
        (["192.0.2.0/24"], ("192.0.2.0/24", "203.0.113.1/32")),
        (["0.0.0.0/0"], ("0.0.0.0/0",)),
    ],
)
def test_source_ranges(ranges: list[str], sources: tuple[str, ...]) -> None:
    """On the balancer's addresses alone. A range of the other family says nothing of this one, as upstream has it."""
    of = balancer(
        loadBalancerSourceRanges=ranges, externalIPs=["198.51.100.9"], ports=[{"port": 80, "nodePort": 30080}]
    )
    found = planned(of)
    assert found.errors == []
    assert {f.address: t.sources for f, t in found.frontends.items()} == {
        "10.96.0.1": (),
        "203.0.113.1": sources,
        "198.51.100.9": (),
        None: (),
    }


def test_an_address_that_is_both_external_ip_and_balancer_keeps_its_ranges() -> None:
    found = planned(balancer(loadBalancerSourceRanges=["198.51.100.0/24"], externalIPs=["203.0.113.1"]))
    assert found.frontends[Frontend("203.0.113.1", "tcp", 80)].sources == ("198.51.100.0/24",)
    assert found.errors == []


def test_a_load_balancer_whose_ranges_cannot_be_read_is_closed() -> None:
    some = planned(balancer(loadBalancerSourceRanges=["10.0.0.0/33", "198.51.100.0/24"]))
    assert messages(some) == ["Service default/web: loadBalancerSourceRanges '10.0.0.0/33' is not a network"]
    assert some.frontends[Frontend("203.0.113.1", "tcp", 80)].sources == ("198.51.100.0/24",)
    none = planned(balancer(loadBalancerSourceRanges=["10.0.0.0/33"]))
    assert len(none.errors) == 2
    assert [f.address for f in none.frontends] == ["10.96.0.1"]


@pytest.mark.parametrize(
    ("states", "count"),
    [(("ready", "ready"), 2), (("ready", "draining"), 1), (("draining", "draining"), 0), (("broken", "gone"), 0)],
)
def test_the_health_check_counts_ready_endpoints_of_this_node(states: tuple[str, str], count: int) -> None:
    """Terminating ones are served as the last resort, but the balancer is to go elsewhere (KEP-1669)."""
    of = balancer(
        externalTrafficPolicy="Local",
        healthCheckNodePort=32000,
        ports=[{"name": "http", "port": 80}, {"name": "more", "port": 81}],
    )
    here = [endpoint(f"10.244.1.{n}", state) for n, state in enumerate(states, start=1)]
    assert planned(of, slice_of(*here, endpoint(B, on="there"))).health_checks == (
        HealthCheck("default/web", 32000, count),
    )  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "NodePort", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 32000},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
    ],
)
def test_other_services_have_no_health_check(spec: dict[str, object]) -> None:
    assert planned(service(**spec)).health_checks == ()


# --- Endpoints ---------------------------------------------------------------------------------------------------


def both_local(*endpoints: dict[str, object]) -> Target:
    of = service(
        type="NodePort", externalTrafficPolicy="Local", ports=[{"name": "http", "port": 80, "nodePort": 30080}]
    )
    return planned(of, slice_of(*endpoints)).frontends[Frontend(None, "tcp", 30080)]


@pytest.mark.parametrize(
    ("here", "there", "cluster", "local"),
    [
        ("ready", "ready", [A, B], [A]),
        ("draining", "ready", [B], [A]),
        ("draining", "draining", [A, B], [A]),
        ("ready", "draining", [A], [A]),
        ("broken", "draining", [B], []),
        ("broken", "ready", [B], []),
        ("gone", "broken", [], []),
        ("published", "gone", [A], [A]),
        # Neither ready nor terminating, although it serves: no controller of Kubernetes' own says so.
        ("odd", "draining", [B], []),
    ],
)
def test_terminating_endpoints_are_the_last_resort_of_each_list(
    here: str, there: str, cluster: list[str], local: list[str]
) -> None:
    """KEP-1669: each list falls back by itself."""
    target = both_local(endpoint(A, here), endpoint(B, there, on="there"))
    assert (addresses(target.cluster), addresses(target.local)) == (cluster, local)


def test_udp_flows_live_on_where_something_serves_or_new_ones_are_sent() -> None:
    states = ("ready", "draining", "published", "broken", "gone")
    of = service(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])
    endpoints = [endpoint(f"10.244.1.{n}", state) for n, state in enumerate(states)]
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    ((_, target),) = planned(of, slice_of(*endpoints, ports=ports)).frontends.items()
    assert target.serving == {("10.244.1.0", 53), ("10.244.1.1", 53), ("10.244.1.2", 53)}


def hinted(address: str, node: str = "", zone: str = "", state: str = "ready") -> dict[str, object]:
    hints = {kind: name for kind, name in (("Node", node), ("Zone", zone)) if name}
    return endpoint(address, state, on="elsewhere", **hints)


@pytest.mark.parametrize(
    ("endpoints", "node", "expected"),
    [
        ([hinted(A, zone="zone-1"), hinted(B, zone="zone-2")], HERE, [A]),
        ([hinted(A, zone="zone-1"), hinted(B)], HERE, [A, B]),
        ([hinted(A, zone="zone-2"), hinted(B, zone="zone-3")], HERE, [A, B]),
        ([hinted(A, zone="zone-1"), hinted(B, zone="zone-2")], NodeInfo("here"), [A, B]),
        ([hinted(A, node="here", zone="zone-2"), hinted(B, node="there", zone="zone-1")], HERE, [A]),
        ([hinted(A, node="other", zone="zone-1"), hinted(B, node="there", zone="zone-2")], HERE, [A]),
        ([hinted(A, node="here", zone="zone-1"), hinted(B, zone="zone-2")], HERE, [A]),
        # What is not ready neither counts nor gets anything while something is.
        ([hinted(A, zone="zone-1", state="draining"), hinted(B, zone="zone-2")], HERE, [B]),
        ([hinted(A, state="broken"), hinted(B, zone="zone-1")], HERE, [B]),
        ([hinted(A, zone="zone-2", state="draining"), hinted(B, zone="zone-1", state="draining")], HERE, [A, B]),
    ],
    ids=[
        "same zone",
        "one has no hint",
        "none for our zone",
        "our zone is unknown",
        "same node before same zone",
        "none for our node: same zone",
        "one has no node hint: same zone",
        "the near one drains",
        "a broken one needs no hint",
        "hints say nothing of draining ones",
    ],
)
def test_hints(endpoints: list[dict[str, object]], node: NodeInfo, expected: list[str]) -> None:
    """KEP-2433, KEP-3015. The list of the policy Local is never narrowed: it is on the node already."""
    ((_, target),) = planned(service(), slice_of(*endpoints), node=node).frontends.items()
    assert addresses(target.cluster) == expected


def test_an_endpoint_in_two_slices_counts_once() -> None:
    ((_, target),) = planned(service(), slice_of(endpoint(A)), slice_of(endpoint(A), name="web-2")).frontends.items()
    assert addresses(target.cluster) == [A]


# --- Anything ----------------------------------------------------------------------------------------------------

_texts = st.sampled_from(
    [
        "",
        "None",
        "10.96.0.1",
        "10.96.0.1/24",
        "010.0.0.1",
        "fd00::1",
        "::ffff:1.2.3.4",
        "fe80::1%e",
        "x",
        "1.2.3.4.5",
        "0/0",
    ]
)
_numbers = st.sampled_from([-1, 0, 1, 80, 65535, 65536, 2**40])
_bools = st.sampled_from([None, True, False])
_ports = st.fixed_dictionaries(
    {"port": _numbers},
    optional={
        "name": st.sampled_from("ab"),
        "protocol": st.sampled_from(["TCP", "UDP", "", "x"]),
        "nodePort": _numbers,
    },
)
_timeouts = st.fixed_dictionaries({"timeoutSeconds": _numbers})
_services = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "x"]),
        "clusterIP": _texts,
        "clusterIPs": st.lists(_texts, max_size=2),
        "externalIPs": st.lists(_texts, max_size=2),
        "loadBalancerSourceRanges": st.lists(_texts, max_size=2),
        "ports": st.lists(_ports, max_size=3),
        "externalTrafficPolicy": st.sampled_from(["", "Local", "x"]),
        "internalTrafficPolicy": st.sampled_from([None, "Local", "x"]),
        "sessionAffinity": st.sampled_from(["", "ClientIP", "x"]),
        "sessionAffinityConfig": st.one_of(st.none(), st.fixed_dictionaries({"clientIP": _timeouts})),
        "healthCheckNodePort": _numbers,
        "ingress": st.lists(st.fixed_dictionaries({"ip": _texts}), max_size=2),
    }
)  # fmt: skip
_hints = st.fixed_dictionaries({"forZones": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["", "zone-1"])}))})
_slices = st.fixed_dictionaries(
    {
        "addressType": st.sampled_from(["IPv4", "IPv6", "FQDN", ""]),
        "endpoints": st.lists(
            st.fixed_dictionaries(
                {
                    "addresses": st.lists(_texts, max_size=2),
                    "conditions": st.fixed_dictionaries({"ready": _bools, "serving": _bools, "terminating": _bools}),
                    "nodeName": st.sampled_from([None, "", "here"]),
                    "hints": st.one_of(st.none(), _hints),
                }
            ),
            max_size=3,
        ),
        "ports": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from([None, "a", "b"]),
                    "port": st.one_of(st.none(), _numbers),
                    "protocol": st.sampled_from([None, "TCP", "UDP"]),
                }
            ),
            max_size=2,
        ),
    }
)


@given(_services, st.lists(_slices, max_size=3))
@settings(deadline=None, max_examples=200)
def test_whatever_the_objects_say_what_is_planned_can_be_programmed(
    spec: dict[str, Any], slices: list[dict[str, Any]]
) -> None:
    families: tuple[Family, ...] = ("IPv4", "IPv6")
    for family in families:
        made = [slice_of(*s["endpoints"], **{k: v for k, v in s.items() if k != "endpoints"}) for s in slices]
        found = planned(service(**spec), *made, family=family)
        for frontend, target in found.frontends.items():
            assert 0 < frontend.port < 65536
            assert 0 <= target.affinity_seconds <= 86400
            used = [frontend.address] if frontend.address is not None else []
            for address in (*used, *addresses(target.cluster), *addresses(target.local)):
                assert str(ipaddress.ip_address(address)) == address
                assert family_of(address) == family
            assert all(family_of(source) == family and ipaddress.ip_network(source) for source in target.sources)
            assert all(0 < e.port < 65536 for e in (*target.cluster, *target.local))
        assert all("default/web" in str(error) and "\n" not in str(error) for error in found.errors)


# --- All Services ------------------------------------------------------------------------------------------------

_frontends = st.builds(Frontend, st.sampled_from(["10.96.0.1", "10.96.0.2", None]), st.just("tcp"), st.integers(1, 3))
_targets = st.builds(
    lambda name, port: Target(name, Scope.INTERNAL, "Cluster", (Endpoint(A, port, True),), ()),
    st.text("xyz", min_size=1, max_size=1),
    st.integers(1, 3),
)
_plans = st.dictionaries(_frontends, _targets)
_changes = st.tuples(st.sampled_from("abc"), st.sampled_from(["2024", "2025"]), _plans)


@given(_plans, _plans)
def test_a_difference_leads_from_one_plan_to_the_other(
    old: dict[Frontend, Target], new: dict[Frontend, Target]
) -> None:
    assert apply(old, difference(old, new)) == new
    assert difference(new, new) == ()


@given(st.lists(_changes, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_same_services_make_the_same_plan_in_any_order(
    changes: list[tuple[str, str, dict[Frontend, Target]]], random: object
) -> None:
    """Also when Services come, change and go on the way there; and what was taken in steps adds up to the plan."""
    wandering, in_force = Book(), dict[Frontend, Target]()
    last: dict[str, tuple[str, dict[Frontend, Target]]] = {}
    for key, created, frontends in changes:
        wandering.set_service(key, created, frontends)
        last[key] = (created, frontends)
        in_force = apply(in_force, wandering.take_changes())
        assert in_force == wandering.plan
    keys = list(last)
    random.shuffle(keys)  # type: ignore[attr-defined]
    direct = Book()
    for key in keys:
        direct.set_service(key, *last[key])
    assert direct.plan == wandering.plan


def test_the_older_service_holds_a_frontend_and_the_other_is_told() -> None:
    frontend = Frontend("198.51.100.1", "tcp", 80)
    old, new = (Target(name, Scope.EXTERNAL, "Cluster", (), ()) for name in ("default/old", "default/new"))
    book = Book()
    assert book.set_service("default/new", "2025", {frontend: new}) == []
    assert book.set_service("default/old", "2024", {frontend: old}) == []
    assert book.plan == {frontend: old}
    (conflict,) = book.set_service("default/new", "2025", {frontend: new})
    assert str(conflict) == "Service default/new: 198.51.100.1:80/tcp belongs to Service default/old; ignored"
    book.set_service("default/old", "", {})
    assert book.plan == {frontend: new}


def test_a_port_of_a_slice_that_cannot_be_is_named_and_the_others_are_served() -> None:
    bad = [{"name": "http", "port": 0}, {"name": "http", "port": 65536}]
    result = planned(service(), slice_of(endpoint(A), name="web-1", ports=bad), slice_of(endpoint(B), name="web-2"))
    assert addresses(result.frontends[Frontend("10.96.0.1", "tcp", 80)].cluster) == [B]
    assert messages(result) == [
        "EndpointSlice default/web-1: port 0 is not in 1..65535",
        "EndpointSlice default/web-1: port 65536 is not in 1..65535",
    ]


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize(
    ("states", "ready", "serving"),
    [
        (("draining", "ready"), [A], {A}),
        (("gone", "ready"), [A], {A}),
        # It has been replaced by another that is not ready yet.
        (("draining", "broken"), [], set()),
    ],
)
def test_of_an_endpoint_in_two_slices_the_one_that_does_not_terminate_counts(
    states: tuple[str, str], ready: list[str], serving: set[str], protocol: str
) -> None:
    ports = [{"name": "http", "port": 8080, "protocol": protocol}]
    first, second = (slice_of(endpoint(A, each), name=each, ports=ports) for each in states)
    of = service(ports=[{"name": "http", "port": 80, "protocol": protocol}])
    frontend = Frontend("10.96.0.1", protocol.lower(), 80)
    for slices in ((first, second), (second, first)):
        target = planned(of, *slices).frontends[frontend]
        assert addresses(target.cluster) == ready
        assert {address for address, _ in target.serving} == (serving if protocol == "UDP" else set())
