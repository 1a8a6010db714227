"""Policies at scale: a load, a pod's labels changed, the first packet; beside a raw batch and chains per policy.

    python -m benchmarks.policy [--pods N] [--policies P] [--changes C] [--connections K] [--json]

All pods are on one node, ten of each app, a hundred in each namespace. Each policy isolates an app of a namespace, and
admits another one of the namespace and an app of all namespaces with a label, at a port. Loading is from the bytes of
the API's answers, already read, to rules in force, and from objects that are decoded; the raw batch is the same
elements, packed beforehand, into an empty table. All three are medians of five. A change is from the event to the
kernel's answer; the first packet is a whole TCP connect through the node, which tracks connections, with no policies
and with all. Chains per policy are the same policies with a chain and two sets each, as text for `nft -f`,
which packets pass one after another.
It runs in namespaces of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from netlab.api import decoding
from netlab.api.networking_types import NetworkPolicy
from netlab.api.resources import NETWORKPOLICIES
from netlab.net.nftables.batch import Batch, messages
from netlab.net.nftables.socket import Nfnetlink
from netlab.policy.book import Book
from netlab.policy.facts import facts
from netlab.policy.nftables.elements import contents
from netlab.policy.nftables.executor import NftablesExecutor
from netlab.policy.nftables.layout import TABLE, Layout
from netlab.policy.objects import PODS
from netlab.policy.rules import read
from tests.sandbox import enter
from tests.system.proxy.hosts import Host

LOADS, ROUNDS = 5, 5
NODE = "node-1"
CLIENT, SERVER = "10.200.0.2", "10.0.0.1"
"""The server is the first pod."""
_PER_APP, _APPS = 10, 10

Json = dict[str, Any]


def address(number: int) -> str:
    """A pod's address."""
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def namespace_of(number: int) -> str:
    """A pod's namespace."""
    return f"ns-{number // (_PER_APP * _APPS)}"


def pods(count: int) -> list[Json]:
    """Pods of ten apps in each namespace."""
    return [
        {
            "metadata": {
                "name": f"pod-{number}",
                "namespace": namespace_of(number),
                "uid": f"00000000-0000-0000-0000-{number:012}",
                "resourceVersion": str(number + 1),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": f"app-{number // _PER_APP % _APPS}", "pod-template-hash": f"{number // _PER_APP:x}"},
            },
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": address(number), "podIPs": [{"ip": address(number)}]},
        }
        for number in range(count)
    ]


def policies(count: int) -> list[Json]:
    """Policies for the apps, one after another."""
    return [
        {
            "metadata": {"name": f"policy-{number}", "namespace": f"ns-{number // _APPS}", "resourceVersion": "1"},
            "spec": {
                "podSelector": {"matchLabels": {"app": f"app-{number % _APPS}"}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            {"podSelector": {"matchLabels": {"app": f"app-{(number + 1) % _APPS}"}}},
                            {
                                "namespaceSelector": {"matchLabels": {"team": "0"}},
                                "podSelector": {"matchLabels": {"app": f"app-{(number + 2) % _APPS}"}},
                            },
                            {"ipBlock": {"cidr": "10.200.0.0/16"}},
                        ],
                        "ports": [{"port": 8080 + number % 5}],
                    }
                ],
            },
        }
        for number in range(count)
    ]


def known(found_pods: list[Any], found_policies: list[NetworkPolicy], namespaces: int) -> Book:
    """A book that knows them."""
    book = Book()
    for number in range(namespaces):
        book.set_namespace(f"ns-{number}", {"team": str(number % 10)})
    for pod in found_pods:
        book.set_pod(pod.key, facts(pod, NODE))
    for policy in found_policies:
        book.set_policy(policy.key, read(policy))
    return book


def connects(client: Host, count: int) -> float:
    """The median seconds of a TCP connect to the server."""
    return client.call(connect, SERVER, 8080, count)


def connect(to: str, port: int, count: int) -> float:
    """Run in the client."""
    taken = []
    for _ in range(count):
        with socket.socket() as dialling:
            dialling.settimeout(5)
            began = time.perf_counter()
            dialling.connect((to, port))
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def listen() -> None:
    """Run in the server: take what comes, as a thread."""
    listening = socket.create_server(("", 8080), backlog=128)

    def take() -> None:
        while True:
            listening.accept()[0].close()

    threading.Thread(target=take, daemon=True).start()


def network() -> tuple[Host, Host]:
    """A client and the first pod, with the node between them."""
    for name in ("ipv4/ip_forward", "ipv4/tcp_tw_reuse"):
        Path("/proc/sys/net", name).write_text("1", encoding="ascii")
    client, server = Host("client"), Host("server")
    for host, there, here in ((client, CLIENT, "10.200.0.1"), (server, SERVER, "10.0.0.254")):
        lines = [
            f"link add {host.name} type veth peer name eth0 netns {host.pid}",
            f"address add {here}/24 dev {host.name}",
            f"link set {host.name} up",
        ]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        host.ip(f"address add {there}/24 dev eth0\nlink set eth0 up\nroute add default via {here}")
    server.call(listen)
    # Connections are tracked on every node, by its kube-proxy.
    chain = "chain forward { type filter hook forward priority 0; ct state established accept; }"
    subprocess.run(["nft", f"table ip tracking {{ {chain}; }}"], check=True)
    return client, server


def chains(found_pods: list[Any], found_policies: list[NetworkPolicy]) -> Iterator[str]:
    """The same policies with a chain and two sets each."""
    apps: dict[tuple[str, str], list[str]] = {}
    for pod in found_pods:
        apps.setdefault((pod.metadata.namespace, pod.metadata.labels["app"]), []).append(pod.status.podIP)
    spaces = sorted({space for space, _ in apps})
    yield "add table ip alike\nadd chain ip alike forward { type filter hook forward priority 0; }"
    yield "add rule ip alike forward ct state established,related accept"
    for number, policy in enumerate(found_policies):
        own, team, _ = policy.spec.ingress[0].from_
        space = policy.metadata.namespace
        assert own.podSelector is not None
        assert team.podSelector is not None
        peers = list(apps.get((space, own.podSelector.matchLabels["app"]), []))
        for each in spaces:
            if int(each[3:]) % 10 == 0:
                peers += apps.get((each, team.podSelector.matchLabels["app"]), [])
        subjects = apps.get((space, policy.spec.podSelector.matchLabels["app"]), [])
        for name, listed in (("subjects", subjects), ("peers", dict.fromkeys(peers))):
            yield f"add set ip alike {name}-{number} {{ type ipv4_addr; elements = {{ {', '.join(listed)} }}; }}"
        yield f"add chain ip alike policy-{number}"
        for match in (f"ip saddr @peers-{number}", "ip saddr 10.200.0.0/16"):
            yield f"add rule ip alike policy-{number} {match} tcp dport {policy.spec.ingress[0].ports[0].port} accept"
        yield f"add rule ip alike policy-{number} drop"
    # The policy about the server is the last: that of a pod in the middle costs half.
    for number in reversed(range(len(found_policies))):
        yield f"add rule ip alike forward ip daddr @subjects-{number} jump policy-{number}"


def load(texts: list[bytes], spaces: int, executor: NftablesExecutor) -> tuple[Book, list[Any], dict[str, float]]:
    """Load the lists several times, and the raw batch beside each."""
    whole, planned, raw = [], [], []
    for _ in range(LOADS):
        executor.remove()
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        found_pods, found_policies = decoding.listed(PODS, texts[0])[0], decoding.listed(NETWORKPOLICIES, texts[1])[0]
        decoded = time.perf_counter()
        book = known(found_pods, found_policies, spaces)
        book.take_changes()
        executor.replace(book.plan, book.profiles)
        ended = time.perf_counter()
        gc.enable()
        whole.append(ended - began)
        planned.append(ended - decoded)

        layout, wanted = Layout("IPv4"), contents(book.plan, book.profiles, "IPv4")
        listed = messages(layout.ip, TABLE, Batch(come=wanted), layout.ranges)
        executor.remove()
        subprocess.run(["nft", "-f", "-"], input=layout.script(), text=True, check=True)
        with Nfnetlink() as kernel:
            began = time.perf_counter()
            kernel.commit(listed)
            raw.append(time.perf_counter() - began)
    figures = {
        "elements": float(sum(map(len, wanted.values()))),
        "load, from the list (s)": statistics.median(whole),
        "load, from objects (s)": statistics.median(planned),
        "raw batch (s)": statistics.median(raw),
        "load / raw": statistics.median(one / other for one, other in zip(planned, raw, strict=True)),
    }
    return book, found_pods, figures


def relabel(book: Book, found_pods: list[Any], executor: NftablesExecutor, count: int) -> dict[str, float]:
    """Change labels, one pod's after another's."""
    gc.freeze()
    taken = []
    for number in range(count):
        pod = found_pods[number * 7919 % len(found_pods)]
        app = f"app-{(number + int(pod.metadata.labels['app'][4:])) % _APPS}"
        metadata = msgspec.structs.replace(pod.metadata, labels=pod.metadata.labels | {"app": app})
        changed = msgspec.structs.replace(pod, metadata=metadata)
        began = time.perf_counter()
        book.set_pod(changed.key, facts(changed, NODE))
        executor.apply(book.take_changes())
        taken.append(time.perf_counter() - began)
    assert not executor.differences(book.plan, book.profiles)
    return {
        "label change, median (ms)": statistics.median(taken) * 1e3,
        "label change, p99 (ms)": statistics.quantiles(taken, n=100)[98] * 1e3,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--changes", type=int, default=2_000)
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    enter()
    client, _server = network()
    executor = NftablesExecutor("IPv4")
    texts = [msgspec.json.encode({"items": listed}) for listed in (pods(asked.pods), policies(asked.policies))]
    book, found_pods, figures = load(texts, max(asked.pods // (_PER_APP * _APPS), 1), executor)
    none, every = [], []
    for _ in range(ROUNDS):  # by turns, as the machine has its moods
        executor.remove()
        none.append(connects(client, asked.connections // ROUNDS))
        executor.replace(book.plan, book.profiles)
        every.append(connects(client, asked.connections // ROUNDS))
    figures["connect, no policies (us)"] = statistics.median(none) * 1e6
    figures["connect, all policies (us)"] = statistics.median(every) * 1e6
    figures["connect, all / none"] = statistics.median(one / other for one, other in zip(every, none, strict=True))
    figures |= relabel(book, found_pods, executor, asked.changes)
    executor.remove()
    script = "\n".join(chains(found_pods, decoding.listed(NETWORKPOLICIES, texts[1])[0])) + "\n"
    began = time.perf_counter()
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
    figures["chains per policy: load (s)"] = time.perf_counter() - began
    figures["chains per policy: connect (us)"] = connects(client, asked.connections) * 1e6
    if asked.json:
        print(json.dumps(figures, indent=2))
    for name, value in {} if asked.json else figures.items():
        print(f"{name:<36} {value:>12.3f}")


if __name__ == "__main__":
    main()
