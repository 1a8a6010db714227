"""Load balancers' addresses: given, announced by one node after the other or by all, kept and given back."""

from __future__ import annotations

import functools
import os
import shutil

import pytest

from tests.e2e.conftest import Netlab, eventually

FIRST, SECOND = "192.0.2.192", "192.0.2.193"
FIRST6 = "2001:db8::2:0"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"

SHOP = """
apiVersion: v1
kind: Pod
metadata: {name: shop-1, labels: {app: shop}}
spec:
  nodeName: node-1
  containers: [{name: web, image: agnhost, args: [netexec]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  selector: {app: shop}
  ports: [{port: 80, targetPort: 8080}]
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, annotations: {%s}}
spec: {type: LoadBalancer, selector: {app: shop}, ports: [{port: 80, targetPort: 8080}], %s}
"""


@pytest.fixture(scope="module")
def shop(netlab: Netlab) -> Netlab:
    pools = ["--load-balancer-pool", "192.0.2.192/31", "--load-balancer-pool", "2001:db8::2:0/127"]
    netlab.ok("up", "--nodes", "2", "--dual-stack", *pools)
    netlab.ok("apply", "-f", "-", stdin=SHOP)
    netlab.ok("wait", "pod/shop-1", "--for=condition=Ready")
    return netlab


def make(lab: Netlab, name: str, annotations: str = "", fields: str = "") -> None:
    lab.ok("apply", "-f", "-", stdin=SERVICE % (name, annotations, fields))


def addresses(lab: Netlab, name: str) -> list[str]:
    found = lab.json("get", "service", name)["status"]["loadBalancer"]
    return [each["ip"] for each in found.get("ingress", [])]


def holder(lab: Netlab, address: str) -> str:
    leases = lab.json("get", "leases", "-n", "kube-system")["items"]
    found: dict[str, str] = {each["metadata"]["name"]: each["spec"].get("holderIdentity", "") for each in leases}
    return found.get(f"load-balancer-{address}", "")


def answers(lab: Netlab, url: str) -> str:
    return lab.run("exec", "outside", "--", "curl", "-s", "--max-time", "5", url).stdout


def is_served(lab: Netlab, host: str) -> bool:
    return answers(lab, f"http://{host}/hostname") == "shop-1"


def told(lab: Netlab, name: str, words: str) -> bool:
    events = lab.json("get", "events")["items"]
    return any(each["involvedObject"]["name"] == name and words in each.get("message", "") for each in events)


def test_a_service_gets_addresses_that_the_outside_reaches(shop: Netlab) -> None:
    eventually(lambda: addresses(shop, "shop") == [FIRST, FIRST6])
    for host in (FIRST, f"[{FIRST6}]"):
        eventually(functools.partial(is_served, shop, host))
    service = shop.json("get", "service", "shop")
    assert service["metadata"]["finalizers"] == ["service.kubernetes.io/load-balancer-cleanup"]
    assert service["status"]["loadBalancer"]["ingress"][0] == {
        "ip": FIRST,
        "ipMode": "VIP",
        "ports": [{"port": 80, "protocol": "TCP"}],
    }
    assert told(shop, "shop", f"Ensured load balancer: {FIRST}, {FIRST6}")
    # No interface has it: what listens on all addresses of a node is not reached there.
    for node in ("node-1", "node-2"):
        assert FIRST not in shop.ok("exec", f"node/{node}", "--", "ip", "addr")
    assert answers(shop, f"http://{FIRST}:10256/healthz") == ""


def test_a_packets_way_from_outside_is_predicted_followed_and_explained(shop: Netlab) -> None:
    eventually(lambda: holder(shop, FIRST) != "")
    for address in (FIRST, FIRST6):
        found = shop.json("trace", "outside", f"[{address}]:80" if ":" in address else f"{address}:80")
        assert (found["agrees"], found["verdict"]["outcome"]) == (True, "delivered")
    told_of = shop.json("proxy", "explain", "outside", f"{FIRST}:80")
    assert (told_of["announcer"], told_of["node"]) == (holder(shop, FIRST), holder(shop, FIRST))
    assert f"announced   by {told_of['announcer']}" in shop.ok("proxy", "explain", "outside", f"{FIRST}:80")


def test_another_node_takes_over_from_one_that_hangs_or_is_excluded(shop: Netlab) -> None:
    eventually(lambda: holder(shop, FIRST) != "")
    first = holder(shop, FIRST)
    other = {"node-1": "node-2", "node-2": "node-1"}[first]
    shop.ok("exec", f"node/{first}", "--", "pkill", "-STOP", "kube-proxy")
    try:
        eventually(lambda: holder(shop, FIRST) == other)
        assert answers(shop, f"http://{FIRST}/hostname") == "shop-1"
    finally:
        shop.ok("exec", f"node/{first}", "--", "pkill", "-CONT", "kube-proxy")
    label(shop, other, '""')
    try:
        eventually(lambda: holder(shop, FIRST) == first)
        assert answers(shop, f"http://{FIRST}/hostname") == "shop-1"
    finally:
        label(shop, other, "null")


def label(lab: Netlab, node: str, value: str) -> None:
    manifest = f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}, labels: {{{EXCLUDED}: {value}}}}}\n"
    lab.ok("apply", "-f", "-", stdin=manifest)


def test_policy_local_draws_traffic_to_the_node_of_the_pod(shop: Netlab) -> None:
    make(shop, "local", fields="externalTrafficPolicy: Local")
    eventually(lambda: holder(shop, SECOND) == "node-1")
    assert answers(shop, f"http://{SECOND}/clientip").startswith("192.0.2.253:")
    shop.ok("delete", "service", "local")
    eventually(lambda: holder(shop, SECOND) == "")


def test_what_cannot_be_had_is_told_and_waited_for(shop: Netlab) -> None:
    make(shop, "second")
    eventually(lambda: addresses(shop, "second") == [SECOND])
    make(shop, "third")
    make(shop, "taken", fields=f"loadBalancerIP: {SECOND}")
    make(shop, "elsewhere", '"metallb.io/loadBalancerIPs": "192.0.2.1"')
    make(shop, "others", fields="loadBalancerClass: example.com/other")
    eventually(lambda: told(shop, "third", "no IPv4 address is left: all 2 of 192.0.2.192/31 are taken"))
    eventually(lambda: told(shop, "taken", f"{SECOND} is Service default/second's"))
    eventually(lambda: told(shop, "elsewhere", "192.0.2.1 is in no pool of this lab"))
    shop.ok("delete", "service", "taken")
    shop.ok("delete", "service", "second")
    eventually(lambda: addresses(shop, "third") == [SECOND])
    assert addresses(shop, "others") == []
    assert "finalizers" not in shop.json("get", "service", "others")["metadata"]
    # A change of type gives the address back.
    shop.ok("apply", "-f", "-", stdin=(SERVICE % ("third", "", "")).replace("LoadBalancer", "ClusterIP"))
    eventually(lambda: "finalizers" not in shop.json("get", "service", "third")["metadata"])
    assert addresses(shop, "third") == []
    eventually(lambda: holder(shop, SECOND) == "")


def test_addresses_outlive_the_controller_and_the_lab(shop: Netlab) -> None:
    make(shop, "last", '"metallb.io/allow-shared-ip": a', f"loadBalancerIP: {SECOND}")
    eventually(lambda: addresses(shop, "last") == [SECOND])
    shop.ok("exec", "fabric", "--", "pkill", "-KILL", "controller-m")
    make(shop, "sharer", '"metallb.io/allow-shared-ip": a')
    assert "LoadBalancer" in shop.ok("get", "service", "sharer")
    eventually(lambda: told(shop, "sharer", "no IPv4 address is left"))  # both have port 80
    assert addresses(shop, "shop") == [FIRST, FIRST6]
    assert addresses(shop, "last") == [SECOND]
    eventually(lambda: answers(shop, f"http://{SECOND}/hostname") == "shop-1")


BALANCED, BALANCED6 = "203.0.113.0", "2001:db8:fffe::"


@pytest.mark.skipif(not shutil.which("bird", path=f"{os.environ['PATH']}:/usr/sbin"), reason="bird is not installed")
def test_all_nodes_announce_to_a_router(netlab: Netlab) -> None:
    name = ["--name", "routed"]
    netlab.ok("up", *name, "--nodes", "3", "--dual-stack", "--load-balancer-protocol", "bgp")
    netlab.ok("apply", *name, "--wait", "-f", "-", stdin=SHOP)

    def ways(address: str) -> list[str]:
        version = "-6" if ":" in address else "-4"
        told = netlab.ok("exec", *name, "outside", "--", "ip", version, "route", "show", address)
        return [line.split("via ")[1].split()[0] for line in told.splitlines() if "via " in line]

    def is_by(*nodes: int) -> bool:
        """Whether the outside sends packets for both addresses to these nodes."""
        four, six = ([f"{prefix}{number}" for number in nodes] for prefix in ("192.0.2.", "2001:db8::"))
        return (ways(BALANCED), ways(BALANCED6)) == (four, six)

    def served() -> bool:
        urls = [f"http://{host}/hostname" for host in (BALANCED, f"[{BALANCED6}]")]
        curl = ["exec", *name, "outside", "--", "curl", "-s", "--max-time", "5"]
        return [netlab.run(*curl, url).stdout for url in urls] == ["shop-1"] * 2

    eventually(lambda: is_by(1, 2, 3) and served())
    assert netlab.json("trace", *name, "outside", f"{BALANCED}:80")["agrees"]
    # One is excluded, one hangs: the router takes them out, and what is left serves.
    labelled = f"apiVersion: v1\nkind: Node\nmetadata: {{name: node-2, labels: {{{EXCLUDED}: ''}}}}\n"
    netlab.ok("apply", *name, "-f", "-", stdin=labelled)
    eventually(lambda: is_by(1, 3))
    netlab.ok("exec", *name, "node/node-3", "--", "pkill", "-STOP", "kube-proxy")
    eventually(lambda: is_by(1))
    assert served()
    netlab.ok("exec", *name, "node/node-3", "--", "pkill", "-CONT", "kube-proxy")
    eventually(lambda: is_by(1, 3))
    netlab.ok("delete", *name, "service", "shop")
    eventually(is_by)
    netlab.ok("down", *name)
