"""netlab proxy in a lab: pods and Services by their names, the nodes' own kernels, a hand that meddles."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Netlab

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers: [{name: web, image: agnhost, args: [netexec]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  type: NodePort
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""


@pytest.fixture(scope="module")
def shop(lab: Netlab) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=WEB)
    lab.wait_available("shop", 2)
    yield lab
    lab.ok("delete", "-f", "-", stdin=WEB)


def test_a_connection_between_pods_and_services_is_explained_by_their_names(shop: Netlab) -> None:
    pods = [pod for pod in shop.json("get", "pods")["items"] if pod["metadata"]["name"].startswith("shop-")]
    name, node = pods[0]["metadata"]["name"], pods[0]["spec"]["nodeName"]
    found = shop.json("proxy", "explain", name, "svc/shop:http")
    assert (found["node"], found["origin"], found["decision"]) == (node, "a pod", "translated")
    assert {endpoint["address"] for endpoint in found["endpoints"]} == {pod["status"]["podIP"] for pod in pods}
    port = shop.json("get", "service", "shop")["spec"]["ports"][0]["nodePort"]
    text = shop.ok("proxy", "explain", "outside", f"node/node-2:{port}")
    assert (
        f"on node-2: translated\n  source      no pod\n  frontend    *:{port}/tcp of Service default/shop:http" in text
    )
    assert text.endswith("  kernel      as planned\n")
    assert "there is no Service 'shob'" in shop.fails(3, "proxy", "explain", name, "svc/shob:80")
    assert "choose one with --node" in shop.fails(2, "proxy", "explain", "outside", "svc/shop")


def test_a_nodes_rules_are_compared_and_made_anew_after_a_cleanup(shop: Netlab) -> None:
    for _ in range(2):
        lines = shop.ok("proxy", "diff").splitlines()
        assert lines == [f"{name}: as planned" for name in sorted({line.partition(":")[0] for line in lines})]
        assert "node-1: as planned" in lines
        shop.ok("proxy", "cleanup", "--node", "node-1")
        while "kube-proxy" not in shop.ok("exec", "node/node-1", "--", "nft", "list", "tables"):
            time.sleep(0.1)
    assert "has no node 'node-77'" in shop.fails(2, "proxy", "diff", "--node", "node-77")


def test_a_nodes_proxy_tells_of_itself(shop: Netlab) -> None:
    fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')"
    ask = ["exec", "node/node-1", "--", sys.executable, "-c", fetch]
    assert '"nodeEligible": true' in shop.ok(*ask, "http://127.0.0.1:10256/healthz")
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in shop.ok(*ask, "http://127.0.0.1:10249/metrics")
    assert shop.ok(*ask, "http://127.0.0.1:10249/proxyMode") in ("nftables", "iptables")
