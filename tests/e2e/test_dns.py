"""Cluster DNS in a dual-stack lab: what pods find under which names, as Kubernetes' conformance tests ask for it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Netlab, eventually

_OBJECTS = """
apiVersion: v1
kind: Pod
metadata: {name: dns-test, labels: {dns-test: "true"}}
spec:
  hostname: dns-querier-1
  subdomain: dns-test-service
  hostAliases: [{ip: 192.0.2.9, hostnames: [foo.local, bar.local]}]
  dnsConfig: {nameservers: [192.0.2.53, 192.0.2.54], searches: [extra.test]}
  volumes: [{name: results, emptyDir: {}}]
  containers:
  - {name: webserver, image: registry.k8s.io/e2e-test-images/agnhost:2.59, args: [test-webserver],
     volumeMounts: [{name: results, mountPath: /results}]}
  - name: querier
    image: registry.k8s.io/e2e-test-images/agnhost:2.59
    volumeMounts: [{name: results, mountPath: /results}]
    command: [sh, -c, 'for i in `seq 1 600`; do SCRIPT sleep 1; done']
---
apiVersion: v1
kind: Service
metadata: {name: dns-test-service}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {dns-test: "true"}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: test-service-2}
spec: {ipFamilyPolicy: RequireDualStack, selector: {dns-test: "true"}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns-test-service-3}
spec: {type: ExternalName, externalName: foo.example.com}
---
apiVersion: v1
kind: Pod
metadata: {name: own-dns}
spec:
  dnsPolicy: None
  dnsConfig: {nameservers: [1.1.1.1], searches: [resolv.conf.local]}
  containers: [{name: c, image: agnhost}]
---
apiVersion: v1
kind: Pod
metadata: {name: host-net}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  containers: [{name: c, image: agnhost}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: acme}
data:
  Corefile: |
    . {
      hosts {
        1.1.1.1 abc.acme.test
        192.0.2.123 foo.example.com
      }
    }
---
apiVersion: v1
kind: Pod
metadata: {name: acme}
spec:
  volumes: [{name: config, configMap: {name: acme}}]
  containers:
  - {name: c, image: agnhost, command: [/coredns], args: [-conf, /etc/coredns/Corefile],
     volumeMounts: [{name: config, mountPath: /etc/coredns, readOnly: true}]}
"""

_LOOKUPS = [
    "kubernetes.default.svc.cluster.local A",
    "kubernetes.default A",
    "dns-test-service A",
    "dns-test-service.default.svc AAAA",
    "_http._tcp.dns-test-service.default.svc SRV",
    "_http._tcp.test-service-2.default.svc SRV",
    "test-service-2.default AAAA",
]
_HOSTS = ["dns-querier-1.dns-test-service.default.svc.cluster.local", "dns-querier-1"]


def _script() -> tuple[str, list[str]]:
    """The commands of the conformance tests (test/e2e/network/dns_common.go), and the files that they write."""
    commands, files = [], []
    for number, lookup in enumerate(_LOOKUPS):
        for switch in ("+notcp", "+tcp"):
            files.append(f"{number}{switch}")
            commands.append(
                f'check="$$(dig {switch} +noall +answer +search {lookup})" && test -n "$$check" '
                f"&& echo OK > /results/{files[-1]};"
            )
    for name in _HOSTS:
        files.append(name)
        commands.append(f'test -n "$$(getent hosts {name})" && echo OK > /results/{name};')
    return " ".join(commands), files


@pytest.fixture(scope="module")
def named(netlab: Netlab) -> Netlab:
    """A lab with the objects above."""
    netlab.ok("up", "--nodes", "2", "--dual-stack")
    script, _ = _script()
    netlab.ok("apply", "--wait", "-f", "-", stdin=_OBJECTS.replace("SCRIPT", script.replace("'", "''")))
    netlab.wait_available("coredns", 1, "-n", "kube-system")
    netlab.ok("wait", "--synced")
    return netlab


def dig(named: Netlab, *arguments: str) -> str:
    """What dig prints in the pod."""
    return named.ok("exec", "dns-test", "-c", "querier", "--", "dig", *arguments).strip()


def short(named: Netlab, name: str, kind: str) -> list[str]:
    """The answers alone."""
    return sorted(dig(named, "+short", "+search", name, kind).splitlines())


def test_what_the_conformance_tests_ask(named: Netlab) -> None:
    _, files = _script()
    path = "/api/v1/namespaces/default/pods/dns-test/proxy/results"
    for file in files:
        eventually(lambda file=file: named.run("kubectl", "get", "--raw", f"{path}/{file}").stdout == "OK\n")  # type: ignore[misc]


def test_the_service_has_the_tenth_address_of_each_family(named: Netlab) -> None:
    spec = named.json("get", "service", "kube-dns", "-n", "kube-system")["spec"]
    assert spec["clusterIPs"] == ["10.96.0.10", "fd00:10:96::a"]
    for address in spec["clusterIPs"]:
        assert dig(named, "+short", f"@{address}", "-x", address) == "kube-dns.kube-system.svc.cluster.local."


def test_the_files_of_a_pod(named: Netlab) -> None:
    assert named.ok("exec", "dns-test", "--", "cat", "/etc/resolv.conf") == (
        "search default.svc.cluster.local svc.cluster.local cluster.local extra.test\n"
        "nameserver 10.96.0.10\nnameserver fd00:10:96::a\nnameserver 192.0.2.53\noptions ndots:5\n"
    )
    events = named.json("get", "events")["items"]
    said = [each["message"] for each in events if each["reason"] == "DNSConfigForming"]
    assert said == [
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        "10.96.0.10 fd00:10:96::a 192.0.2.53"
    ]
    assert "192.0.2.9\tfoo.local\tbar.local" in named.ok("exec", "dns-test", "--", "/agnhost", "etc-hosts")
    for subcommand, expected in (("dns-suffix", "resolv.conf.local"), ("dns-server-list", "1.1.1.1")):
        assert named.ok("exec", "own-dns", "--", "/agnhost", subcommand) == f"{expected}\n"


def test_a_pod_on_its_nodes_network_asks_the_cluster_if_it_says_so(named: Netlab) -> None:
    assert "10.96.0.1 " in named.ok("exec", "host-net", "--", "getent", "hosts", "kubernetes.default")


def test_nslookup(named: Netlab) -> None:
    """What the conformance tests of Services ask by (test/e2e/framework/service/jig.go)."""
    ask = ["exec", "dns-test", "-c", "querier", "--", "nslookup"]
    assert "Address: 10.96.0.1\n" in named.ok(*ask, "kubernetes.default")
    assert "kubernetes.default.svc.cluster.local" in named.ok(*ask, "10.96.0.1")
    assert "canonical name = " in named.ok(*ask, "dns-test-service-3")
    done = named.run(*ask, "nosuch.default")
    assert (done.returncode, "can't find nosuch.default" in done.stdout) == (1, True)


def test_an_external_name_that_changes(named: Netlab) -> None:
    name = "dns-test-service-3"
    assert short(named, name, "CNAME") == ["foo.example.com."]
    patch = ["kubectl", "patch", "service", name, "--type=merge", "-p"]
    named.ok(*patch, json.dumps({"spec": {"externalName": "bar.example.com"}}))
    eventually(lambda: short(named, name, "CNAME") == ["bar.example.com."])
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]
    named.ok(*patch, json.dumps({"spec": {"type": "ClusterIP", "externalName": "", "ports": ports}}))
    address = named.json("get", "service", name)["spec"]["clusterIP"]
    eventually(lambda: short(named, name, "A") == [address])
    named.ok(
        *patch, json.dumps({"spec": {"type": "ExternalName", "externalName": "foo.example.com", "clusterIP": None}})
    )


def test_a_stub_domain_and_upstreams(named: Netlab) -> None:
    assert "REFUSED" in dig(named, "abc.acme.test")
    server = named.json("get", "pod", "acme")["status"]["podIP"]
    config = named.json("get", "configmap", "coredns", "-n", "kube-system")
    before = config["data"]["Corefile"]
    stub = f"acme.test:53 {{\n forward . {server}\n}}\n"
    config["data"]["Corefile"] = before.replace("loadbalance\n", f"loadbalance\n forward example.com {server}\n") + stub
    named.ok("apply", "-f", "-", stdin=json.dumps(config))
    # As the tests do, which do not wait for the kubelet to bring the file.
    named.ok("kubectl", "delete", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "--grace-period=0", "--force")
    eventually(lambda: "1.1.1.1" in named.run("exec", "dns-test", "-c", "querier", "--", "dig", "abc.acme.test").stdout)
    assert short(named, "dns-test-service-3", "A") == ["192.0.2.123", "foo.example.com."]


def test_a_trace_of_a_name_says_what_dns_said(named: Netlab) -> None:
    named.wait_available("coredns", 1, "-n", "kube-system")
    traced = named.run("trace", "dns-test", "dns/test-service-2:80")
    lines = traced.stdout.splitlines()
    start = lines.index(
        "names  test-service-2 by ndots:5, search default.svc.cluster.local svc.cluster.local cluster.local extra.test"
    )
    first = lines[start + 1].split()
    assert first[:2] == ["test-service-2.default.svc.cluster.local.", "A"]
    assert first[4].startswith("coredns-")
    assert any(line.startswith("request  ") for line in lines)
    failed = named.run("trace", "dns-test", "dns/nosuch:80")
    assert failed.returncode == 3
    assert [line.split()[0] for line in failed.stdout.splitlines()[1::2]][:3] == [
        "nosuch.default.svc.cluster.local.",
        "nosuch.svc.cluster.local.",
        "nosuch.cluster.local.",
    ]
    assert "'nosuch' has no address: DNS was asked for 5 names, and said NXDOMAIN, REFUSED" in failed.stderr
    assert "only pods look names up" in named.fails(2, "trace", "node/node-1", "dns/nosuch:80")


def test_a_dns_pod_that_dies_is_replaced(named: Netlab) -> None:
    pod = named.json("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"][0]["metadata"]["name"]
    named.run("exec", pod, "-n", "kube-system", "--", "sh", "-c", "kill -9 -1; kill 1")
    eventually(
        lambda: (
            named.run(
                "exec", "dns-test", "-c", "querier", "--", "dig", "+short", "kubernetes.default.svc.cluster.local"
            ).stdout
            == "10.96.0.1\n"
        )
    )


def test_a_lab_without(netlab: Netlab, named: Netlab) -> None:
    netlab.ok("up", "--name", "without", "--nodes", "1", "--no-dns")
    assert netlab.json("get", "all", "-n", "kube-system", "--name", "without")["items"] == []
    netlab.ok("down", "--name", "without")
