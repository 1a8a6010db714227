"""netlab proxy outside any lab: a real API server, a namespace, and the program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.api.client import Client
from netlab.api.core_types import Node, NodeAddress, NodeStatus, Service, ServicePort, ServiceSpec
from netlab.api.discovery_types import Endpoint, EndpointPort, EndpointSlice
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import ENDPOINTSLICES, NODES, SERVICES
from tests.sandbox import isolated
from tests.system.api.serving import Server
from tests.system.proxy.hosts import run_ip

CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
hostnameOverride: node-1
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 15m
logging: {format: json}
"""
CLUSTER_IP = "10.96.0.10"


def netlab(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "netlab", "proxy", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@contextlib.contextmanager
def api(folder: Path) -> Iterator[Path]:
    server = Server(folder)
    server.start()
    try:
        asyncio.run(fill(server.socket))
        yield server.socket
    finally:
        assert server.process is not None
        server.process.kill()
        server.process.communicate()


async def fill(socket: Path) -> None:
    async with Client(socket) as client:
        address = NodeAddress(type="InternalIP", address="192.0.2.1")
        await client.create(NODES, Node(metadata=ObjectMeta(name="node-1"), status=NodeStatus(addresses=[address])))
        ports = [ServicePort(port=80, targetPort=8080, nodePort=30080)]
        spec = ServiceSpec(type="NodePort", clusterIP=CLUSTER_IP, ports=ports)
        await client.create(SERVICES, Service(metadata=ObjectMeta(name="web", namespace="default"), spec=spec))
        pods = {"10.244.1.2": "node-1", "10.244.2.2": "node-2"}
        await client.create(
            ENDPOINTSLICES,
            EndpointSlice(
                metadata=ObjectMeta(name="web-1", namespace="default", labels={"kubernetes.io/service-name": "web"}),
                addressType="IPv4",
                endpoints=[Endpoint(addresses=[pod], nodeName=node) for pod, node in pods.items()],
                ports=[EndpointPort(name="", port=8080, protocol="TCP")],
            ),
        )


@contextlib.contextmanager
def proxy(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "netlab", "proxy", "run", *map(str, arguments)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def meddle(mode: str) -> None:
    """Take away one endpoint's rule."""
    if mode == "nftables":
        element = f"{{ {CLUSTER_IP} . tcp . 80 . 1 }}"
        subprocess.run(["nft", f"delete element ip kube-proxy endpoints {element}"], check=True)
    else:
        listed = subprocess.run(["iptables-nft", "-t", "nat", "-S"], capture_output=True, text=True, check=True).stdout
        rule = next(line for line in listed.splitlines() if "10.244.2.2:8080" in line)
        subprocess.run(["iptables-nft", "-t", "nat", "-D", *rule.split()[1:]], check=True)


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_a_proxy_is_run_asked_and_cleaned_up(tmp_path: Path, mode: str) -> None:
    run_ip(
        "link set lo up\n" + "".join(f"link add {name} type bridge\nlink set {name} up\n" for name in ("eth0", "cni0"))
    )
    run_ip("addr add 192.0.2.1/24 dev eth0\naddr add 10.244.1.1/24 dev cni0\n")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with api(tmp_path) as socket:
        of_api: list[str | Path] = ["--api-socket", socket, "--config", config, "--proxy-mode", mode]
        assert netlab("diff", *of_api).returncode == 1, "no proxy has run"
        with proxy(*of_api) as process:
            deadline = time.monotonic() + 60
            while netlab("diff", *of_api).returncode:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
            explained(of_api)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        warning, *lines = said.splitlines()
        assert warning == f"Warning: {config}: these have no effect here: configSyncPeriod"
        first = [json.loads(line) for line in lines]
        assert "the first rules are in force" in [line["msg"] for line in first]
        assert {"IPv4"} < {line.get("family") for line in first}, "both families"

        # Its rules stay, and nobody repairs them any more.
        meddle(mode)
        differs = netlab("diff", *of_api, "-o", "json")
        assert differs.returncode == 1
        [line] = json.loads(differs.stdout)["node-1"]
        assert line.startswith("IPv4: ")
        done = netlab("explain", *of_api, "10.244.1.9", f"{CLUSTER_IP}:80")
        assert done.returncode == 1
        assert f"  differs     {line}" in done.stdout

        foreign = "table ip mine {\n\tset kept {\n\t\ttype ipv4_addr\n\t}\n}\n"
        subprocess.run(["nft", "-f", "-"], input=foreign, text=True, check=True)
        for _ in range(2):
            done = netlab("cleanup")
            assert (done.returncode, done.stderr) == (0, "")
        assert "10.244.1.2" not in rules()
        assert "table ip kube-proxy" not in rules()
        assert "KUBE-" not in rules()
        assert foreign.strip() in rules()


def explained(of_api: list[str | Path]) -> None:
    done = netlab("explain", *of_api, "10.244.1.9", "svc/web:80", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["node"], found["decision"], found["service"]) == ("node-1", "translated", "default/web")
    assert found["endpoints"] == [
        {"address": "10.244.1.2", "port": 8080, "local": True, "chance": 0.5},
        {"address": "10.244.2.2", "port": 8080, "local": False, "chance": 0.5},
    ]
    assert any("10.244.2.2" in rule for rule in found["rules"])
    assert found["masquerade"] is False, "it is a pod's: the bridge leads to it"
    assert found["differences"] == []

    # The kernel's routes tell where a packet comes in, and whether it is for the node.
    found = json.loads(netlab("explain", *of_api, "192.0.2.9", "192.0.2.1:30080", "-o", "json").stdout)
    assert (found["frontend"], found["masquerade"], found["origin"]) == ("*:30080/tcp", True, "no pod")
    found = json.loads(netlab("explain", *of_api, "192.0.2.1", "10.244.1.1:30080", "-o", "json").stdout)
    assert (found["decision"], found["origin"]) == ("not a Service's", "this node"), "nodePortAddresses is primary"

    text = netlab("explain", *of_api, "192.0.2.1", f"{CLUSTER_IP}:81").stdout
    assert text.splitlines()[0] == f"192.0.2.1 -> {CLUSTER_IP}:81/tcp on node-1: rejected"
    assert text.splitlines()[-1] == "  kernel      as planned"
    done = netlab("explain", *of_api, "198.18.0.1", f"{CLUSTER_IP}:80")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("netlab: 198.18.0.1: this node has no route to it")


@pytest.mark.parametrize(
    ("config", "options", "status", "message"),
    [
        ("mode: ipvs", [], 2, "{config}: mode: 'ipvs' is neither nftables nor iptables"),
        ("mode: nftables", ["--kubeconfig", "/nonexistent"], 2, "/nonexistent"),
        ("mode: nftables", [], 2, "this is not a pod (KUBERNETES_SERVICE_HOST and _PORT are not set)"),
        (
            "mode: nftables",
            ["--kubeconfig", "a", "--api-socket", "b"],
            2,
            "--kubeconfig and --api-socket both name an API",
        ),
        (
            "detectLocalMode: NodeCIDR",
            ["--api-socket", "{socket}"],
            3,
            "Node node-9 does not exist, or lacks addresses",
        ),
        ("mode: nftables", ["--api-socket", "/nonexistent"], 6, ""),
    ],
    ids=["mode", "kubeconfig", "no pod", "two", "no node", "no server"],
)
@isolated
def test_what_is_wrong_is_one_line(tmp_path: Path, config: str, options: list[str], status: int, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{config}\n")
    with api(tmp_path) as socket:
        given = [option.format(socket=socket) for option in options]
        done = netlab("diff", "--config", path, "--node", "node-9", *given)
    assert done.returncode == status, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("netlab: " + message.format(config=path))
