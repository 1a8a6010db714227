"""Which addresses a Service of type LoadBalancer gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import load_balancers
from netlab.api.coordination_types import Lease, LeaseSpec
from netlab.api.core_types import LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec
from netlab.api.meta_types import ObjectMeta
from netlab.controlplane.loadbalancer.planner import ADDRESSES, SHARED, Claim, allocate, claim_of, status
from netlab.errors import NetlabError

V4, V6 = "192.0.2.128/30", "2001:db8::1:0/126"
A, B, C, D = (f"192.0.2.{number}" for number in range(128, 132))
A6, B6 = "2001:db8::1:0", "2001:db8::1:1"
SHOP = {SHARED: "shop"}


def service(
    name: str = "web",
    families: str = "IPv4",
    *,
    policy: str = "SingleStack",
    annotations: Mapping[str, str] | None = None,
    port: int = 80,
    protocol: str = "TCP",
    age: int = 5,
    **spec: Any,
) -> Service:
    return Service(
        metadata=ObjectMeta(
            name=name,
            namespace="default",
            annotations=dict(annotations or {}),
            creationTimestamp=f"2026-01-01T00:00:0{age}Z",
        ),
        spec=ServiceSpec(
            type="LoadBalancer",
            ports=[ServicePort(port=port, protocol=protocol)],
            ipFamilies=families.split(","),
            ipFamilyPolicy=policy,
            **spec,
        ),
    )


def claim(*args: Any, **fields: Any) -> Claim:
    return claim_of(service(*args, **fields))


class Case(NamedTuple):
    why: str
    claim: Claim
    expected: list[str] | str
    """The addresses; or what the refusal says."""
    present: tuple[str, ...] = ()
    holders: dict[str, Claim] = {}
    pools: tuple[str, ...] = (V4, V6)


OTHER = claim("other")
LOCAL = {"externalTrafficPolicy": "Local", "selector": {"app": "shop"}}
CASES = [
    Case("the first of the pool", claim(), [A]),
    Case("the first that nobody has", claim(), [B], holders={A: OTHER}),
    Case("it keeps what it has", claim(), [C], present=(C,)),
    Case("not what is in no pool", claim(), [A], present=("192.0.2.1",)),
    Case("not what an older one has", claim(), [B], present=(A,), holders={A: claim("other", age=1)}),
    Case("what a younger one has, too", claim(), [A], present=(A,), holders={A: claim("other", age=9)}),
    Case("IPv6", claim("web", "IPv6"), [A6]),
    Case("both families, the primary first", claim("web", "IPv6,IPv4", policy="RequireDualStack"), [A6, A]),
    Case("one family becomes two", claim("web", "IPv4,IPv6", policy="PreferDualStack"), [C, A6], present=(C,)),
    Case("two families become one", claim(), [C], present=(C, A6)),
    Case("what there is", claim("web", "IPv4,IPv6", policy="PreferDualStack"), [A], pools=(V4,)),
    Case("or nothing", claim("w", "IPv4,IPv6", policy="RequireDualStack"), "has no IPv6 pool", pools=(V4,)),
    Case("no pool", claim(), "has no IPv4 pool", pools=()),
    Case("none is left", claim(), f"all 4 of {V4} are taken", holders=dict.fromkeys((A, B, C, D), OTHER)),
    Case("the second pool", claim(), [A], holders={"192.0.2.64": OTHER}, pools=("192.0.2.64/32", V4)),
    Case("loadBalancerIP", claim(loadBalancerIP=C), [C]),
    Case("loadBalancerIP instead of what it has", claim(loadBalancerIP=C), [C], present=(A,)),
    Case("the annotation", claim(annotations={ADDRESSES: D}), [D]),
    Case("the annotation before the field", claim(annotations={ADDRESSES: D}, loadBalancerIP=C), [D]),
    Case(
        "one of each family",
        claim("web", "IPv4,IPv6", policy="RequireDualStack", annotations={ADDRESSES: f"{B6}, {D}"}),
        [B6, D],
    ),
    Case("IPv6 in another form", claim("web", "IPv6", annotations={ADDRESSES: "2001:DB8:0::1:1"}), [B6]),
    Case(
        "one of two that it needs",
        claim("web", "IPv4,IPv6", policy="RequireDualStack", loadBalancerIP=D),
        "asks for no IPv6 address",
    ),
    Case("one of two that it would like", claim("web", "IPv4,IPv6", policy="PreferDualStack", loadBalancerIP=D), [D]),
    Case("no address", claim(loadBalancerIP="192.0.2.300"), "'192.0.2.300' is no address"),
    Case("the wrong family", claim(loadBalancerIP=B6), f"{B6} is IPv6, and the Service is IPv4"),
    Case("two of a family", claim(annotations={ADDRESSES: f"{A},{B}"}), f"{A} and {B} are both IPv4"),
    Case("outside of the pools", claim(loadBalancerIP="192.0.2.1"), "192.0.2.1 is in no pool of this lab: 192.0.2.128"),
    Case("taken", claim(loadBalancerIP=A), f"{A} is Service default/other's: to share it, both", holders={A: OTHER}),
    Case("asked for and had first", claim(loadBalancerIP=A), [A], (A,), {A: claim("other", age=9)}),
    Case("shared", claim(annotations=SHOP, port=443), [A], holders={A: claim("other", annotations=SHOP)}),
    Case("shared by protocol", claim(annotations=SHOP), [A], (), {A: claim("x", annotations=SHOP, protocol="UDP")}),
    Case("another key", claim(annotations={SHARED: "x"}, port=1), [B], holders={A: claim("other", annotations=SHOP)}),
    Case("the same port", claim(annotations=SHOP), [B], holders={A: claim("other", annotations=SHOP)}),
    Case(
        "the same port, asked for",
        claim(annotations=SHOP, loadBalancerIP=A),
        f"{A} is Service default/other's: both have the port 80/TCP",
        holders={A: claim("other", annotations=SHOP)},
    ),
    Case(
        "Cluster and Local",
        claim(annotations=SHOP, port=1, loadBalancerIP=A, **LOCAL),
        "both need externalTrafficPolicy Cluster, or Local and the same selector",
        holders={A: claim("other", annotations=SHOP)},
    ),
    Case(
        "Local, and the same pods",
        claim(annotations=SHOP, port=1, **LOCAL),
        [A],
        holders={A: claim("other", annotations=SHOP, **LOCAL)},
    ),
    Case(
        "Local, and other pods",
        claim(annotations=SHOP, port=1, externalTrafficPolicy="Local", selector={"app": "x"}),
        [B],
        holders={A: claim("other", annotations=SHOP, **LOCAL)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_addresses(case: Case) -> None:
    holders = {address: [holder] for address, holder in case.holders.items()}
    if isinstance(case.expected, str):
        with pytest.raises(NetlabError, match=re.escape(case.expected)):
            allocate(case.claim, case.present, holders, case.pools)
    else:
        assert allocate(case.claim, case.present, holders, case.pools) == case.expected


@given(st.lists(st.tuples(st.sampled_from([A, B, C, ""]), st.sampled_from(["", "k"]), st.integers(80, 82)), max_size=8))
def test_nobody_gets_what_is_anothers(wishes: list[tuple[str, str, int]]) -> None:
    """Whatever is asked for, two Services have one address only if they have one key and different ports."""
    holders: dict[str, list[Claim]] = {}
    for number, (address, key, port) in enumerate(wishes):
        asks = claim(f"s{number}", annotations={SHARED: key}, port=port, loadBalancerIP=address)
        try:
            found = allocate(asks, [], holders, (V4,))
        except NetlabError:
            continue
        for each in found:
            holders.setdefault(each, []).append(asks)
    for sharers in holders.values():
        assert len({port for each in sharers for port in each.ports}) == len(sharers)
        assert len(sharers) == 1 or {each.sharing for each in sharers} == {"k"}


def test_the_status_says_the_ports_and_that_packets_keep_the_address() -> None:
    found = status([A], service()).ingress
    assert [(each.ip, each.ipMode, [(p.port, p.protocol) for p in each.ports]) for each in found] == [
        (A, "VIP", [(80, "TCP")])
    ]


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        ({"type": "LoadBalancer"}, True),
        ({"type": "LoadBalancer", "loadBalancerClass": "netlab"}, True),
        ({"type": "LoadBalancer", "loadBalancerClass": "example.com/other"}, False),
        ({"type": "NodePort"}, False),
    ],
)
def test_whose_a_service_is(spec: dict[str, Any], ours: bool) -> None:
    assert load_balancers.is_ours(Service(spec=ServiceSpec(**spec))) is ours


def test_an_addresses_announcer_is_the_holder_of_its_lease_while_that_is_good() -> None:
    def lease(address: str, holder: str, renewed: int) -> Lease:
        spec = LeaseSpec(holder, 5, renewTime=f"1970-01-01T00:00:{renewed:02}.000000Z")
        return Lease(metadata=ObjectMeta(name=load_balancers.lease_name(address)), spec=spec)

    found = service()
    found.status.loadBalancer = status([A, B, C, B6], service())
    leases = [lease(A, "node-1", 30), lease(B, "node-2", 29), lease(B6, "", 30), lease(D, "node-1", 30)]
    assert load_balancers.announcers([found], leases, 34.5) == {A: "node-1", B: "", C: "", B6: ""}


def test_addresses_of_a_status_are_in_normal_form_and_nonsense_is_none() -> None:
    ingress = [LoadBalancerIngress(ip=each) for each in ("2001:DB8::0:1", "x", "")]
    written = Service()
    written.status.loadBalancer = LoadBalancerStatus(ingress=ingress)
    assert load_balancers.addresses(written) == ["2001:db8::1"]
