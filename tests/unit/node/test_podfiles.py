"""What a container finds in its files and its environment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.core_types import Container, Pod
from netlab.errors import UsageError
from netlab.node.environment import environment, expand
from netlab.node.podfiles import ClusterDNS, hostname, hosts, resolv_conf

DNS = ClusterDNS(["10.96.0.10"])


def make_pod(name: str = "web-0", **spec: Any) -> Pod:
    meta = {"name": name, "namespace": "shop", "uid": "u1", "labels": {"app": "web"}}
    return msgspec.convert({"metadata": meta, "spec": {"containers": [], "nodeName": "node-1", **spec}}, Pod)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(), ("web-0", "")),
        (make_pod(name="a" * 62 + "-bcd"), ("a" * 62, "")),
        (make_pod(hostname="db", subdomain="sql"), ("db", "db.sql.shop.svc.cluster.local")),
        (
            make_pod(hostname="db", subdomain="sql", setHostnameAsFQDN=True),
            ("db.sql.shop.svc.cluster.local", "db.sql.shop.svc.cluster.local"),
        ),
        (make_pod(hostNetwork=True), ("node-1", "")),
    ],
)
def test_hostname(pod: Pod, expected: tuple[str, str]) -> None:
    assert hostname(pod, "cluster.local", "node-1") == expected


def test_hosts() -> None:
    pod = make_pod(subdomain="web", hostAliases=[{"ip": "192.0.2.9", "hostnames": ["one", "two"]}])
    text = hosts(pod, ["10.244.1.5", "fd00::5"], "cluster.local", "node-1")
    assert text.splitlines()[0] == "# Kubernetes-managed hosts file."
    assert "127.0.0.1\tlocalhost" in text
    assert text.splitlines()[7:] == [
        "10.244.1.5\tweb-0.web.shop.svc.cluster.local\tweb-0",
        "fd00::5\tweb-0.web.shop.svc.cluster.local\tweb-0",
        "",
        "# Entries added by HostAliases.",
        "192.0.2.9\tone\ttwo",
    ]


CLUSTER_FIRST = (
    "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
)
OWN = {"nameservers": ["192.0.2.53"], "searches": ["example"], "options": [{"name": "ndots", "value": "2"}]}


@pytest.mark.parametrize(
    ("pod", "dns", "expected"),
    [
        (make_pod(), DNS, CLUSTER_FIRST),
        (make_pod(), ClusterDNS(), ""),
        (make_pod(dnsPolicy="Default"), DNS, ""),
        (make_pod(hostNetwork=True), DNS, ""),
        (make_pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), DNS, CLUSTER_FIRST),
        (
            make_pod(dnsPolicy="None", dnsConfig=OWN),
            DNS,
            "search example\nnameserver 192.0.2.53\noptions ndots:2\n",
        ),
        (
            make_pod(dnsConfig=OWN),
            DNS,
            "search shop.svc.cluster.local svc.cluster.local cluster.local example\n"
            "nameserver 10.96.0.10\nnameserver 192.0.2.53\noptions ndots:2\n",
        ),
        (
            make_pod(dnsPolicy="None", dnsConfig={"nameservers": ["::1", "::2", "::3", "::4"]}),
            DNS,
            "nameserver ::1\nnameserver ::2\nnameserver ::3\n",
        ),
        (
            make_pod(dnsPolicy="None", dnsConfig={"nameservers": ["::1"], "options": [{"name": "edns0"}]}),
            DNS,
            "nameserver ::1\noptions edns0\n",
        ),
    ],
)
def test_resolv_conf(pod: Pod, dns: ClusterDNS, expected: str) -> None:
    assert resolv_conf(pod, dns).text == expected


LONG = [f"{'a' * 60}.{n}" for n in range(1000, 1032)]


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (OWN, []),
        (
            {"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]},
            [
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
                "10.96.0.10 192.0.2.1 192.0.2.2"
            ],
        ),
        (
            {"searches": [f"{n}.test" for n in range(32)]},
            [
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
                f"shop.svc.cluster.local svc.cluster.local cluster.local {' '.join(f'{n}.test' for n in range(29))}"
            ],
        ),
        (
            {"searches": LONG[:31]},
            [
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
                f"shop.svc.cluster.local svc.cluster.local cluster.local {' '.join(LONG[:29])}"
            ],
        ),
    ],
    ids=["few", "servers", "domains", "characters"],
)
def test_what_is_too_much_for_resolv_conf_is_left_out_and_told(config: dict[str, object], kept: list[str]) -> None:
    assert resolv_conf(make_pod(dnsConfig=config), DNS).warnings == kept


def test_a_full_name_that_the_kernel_does_not_take_is_no_hostname() -> None:
    pod = make_pod(hostname="h" * 40, subdomain="s", setHostnameAsFQDN=True)
    with pytest.raises(UsageError, match="64 characters is the max, 65 characters requested"):
        hostname(pod, "cluster.local", "node-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(MISSING)", "$(MISSING)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text(alphabet="ab()"))
def test_text_without_a_dollar_stays(text: str) -> None:
    assert expand(text, {"a": "1", "": "2"}) == text


def fields(*entries: dict[str, Any]) -> Container:
    return msgspec.convert({"name": "c", "env": list(entries)}, Container)


def ref(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def test_environment() -> None:
    container = fields(
        ref("IP", "status.podIP"),
        ref("IPS", "status.podIPs"),
        ref("NODE", "spec.nodeName"),
        ref("HOST", "status.hostIP"),
        ref("APP", "metadata.labels['app']"),
        ref("NONE", "metadata.annotations['x']"),
        {"name": "URL", "value": "http://$(IP):80/$(LATER)"},
        {"name": "LATER", "value": "x"},
    )
    assert environment(make_pod(), container, ["10.0.0.2", "fd00::2"], ["192.0.2.1"]) == {
        "IP": "10.0.0.2",
        "IPS": "10.0.0.2,fd00::2",
        "NODE": "node-1",
        "HOST": "192.0.2.1",
        "APP": "web",
        "NONE": "",
        "URL": "http://10.0.0.2:80/$(LATER)",
        "LATER": "x",
    }


def test_environment_names_what_cannot_be_had() -> None:
    with pytest.raises(UsageError, match=r"container c: env\[0\] X: fieldPath 'spec.x' is not supported"):
        environment(make_pod(), fields(ref("X", "spec.x")), [], [])
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    with pytest.raises(UsageError, match=r'env\[0\] S: secret "s" not found'):
        environment(make_pod(), fields(secret), [], [])
