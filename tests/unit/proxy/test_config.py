"""Upstream's configuration file: what it says, what it says that we do not know, and what it must not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netlab.errors import UsageError
from netlab.proxy.config import DetectLocal, Listen, ProxyConfig
from netlab.proxy.configfile import document, load, parse

HEADER = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}

# What kubeadm 1.31 writes into its ConfigMap.
KUBEADM = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""


def test_the_file_of_kubeadm_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.conf"
    path.write_text(KUBEADM)
    loaded = load(path)
    assert loaded.ignored == ("logging.options.json.infoBufferSize", "logging.options.text.infoBufferSize")
    assert loaded.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert loaded.log_format == "text"
    assert loaded.config == ProxyConfig(
        node_name="",
        mode="nftables",
        detect_local=DetectLocal("ClusterCIDR", ("10.244.0.0/16",)),
        node_port_addresses=("primary",),
        healthz=Listen("0.0.0.0", 10256),
        metrics=Listen("127.0.0.1", 10249),
        min_sync_seconds=1.0,
        resync_seconds=30.0,
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"mode": "iptables"}, {"mode": "iptables", "node_port_addresses": ()}),
        ({"hostnameOverride": " Node-1 "}, {"node_name": "node-1"}),
        (
            {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
            {"detect_local": DetectLocal("BridgeInterface", interface="cni0")},
        ),
        (
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
            {"detect_local": DetectLocal("InterfaceNamePrefix", interface="veth")},
        ),
        ({"detectLocalMode": "NodeCIDR"}, {"detect_local": DetectLocal("NodeCIDR")}),
        (
            {"clusterCIDR": "10.244.0.0/16,fd00:10:244::/48"},
            {"detect_local": DetectLocal("ClusterCIDR", ("10.244.0.0/16", "fd00:10:244::/48"))},
        ),
        ({"nodePortAddresses": ["all"]}, {"node_port_addresses": ()}),
        (
            {"nodePortAddresses": ["primary", "192.0.2.7/24", "2001:db8::/64"]},
            {"node_port_addresses": ("primary", "192.0.2.0/24", "2001:db8::/64")},
        ),
        (
            {"mode": "nftables", "nftables": {"masqueradeBit": 0, "masqueradeAll": True, "minSyncPeriod": "1m1.5s"}}
            | {"iptables": {"masqueradeBit": 7}},
            {"masquerade_bit": 0, "masquerade_all": True, "min_sync_seconds": 61.5, "resync_seconds": 90.0},
        ),
        ({"conntrack": {"tcpBeLiberal": True}}, {"conntrack_be_liberal": True}),
        ({"bindAddress": "::"}, {"healthz": Listen("::", 10256), "metrics": Listen("::1", 10249)}),
        (
            {"healthzBindAddress": "192.0.2.1", "metricsBindAddress": "[2001:db8::1]:9000"},
            {"healthz": Listen("192.0.2.1", 10256), "metrics": Listen("2001:db8::1", 9000)},
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_a_field_means(said: dict[str, Any], expected: dict[str, Any]) -> None:
    if "resync_seconds" in expected:
        said["nftables"]["syncPeriod"] = "90s"
    config = parse(HEADER | said).config
    assert {name: getattr(config, name) for name in expected} == expected


def test_fields_without_a_meaning_here_are_told_by_their_paths() -> None:
    said = {
        "configSyncPeriod": "15m",
        "ipvs": {"scheduler": "rr", "strictARP": False},
        "featureGates": {"SomeGate": True},
        "conntrack": {"maxPerCore": 1000, "tcpBeLiberal": True},
        "winkernel": {"networkName": ""},
        "ofALaterRelease": 1,
    }
    assert parse(HEADER | said).ignored == (
        "configSyncPeriod",
        "ipvs.scheduler",
        "featureGates.SomeGate",
        "conntrack.maxPerCore",
        "ofALaterRelease",
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "KubeletConfiguration"}, "expected a KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1"),
        ({"mode": "ipvs"}, "mode: 'ipvs' is neither nftables nor iptables"),
        ({"mode": 1}, "mode: Expected `str | null`, got `int`"),
        ({"bindAddressHardFail": True}, "bindAddressHardFail: Invalid enum value True"),
        ({"clusterCIDR": "10.244.0.0"}, "clusterCIDR: '10.244.0.0' is not a network"),
        ({"clusterCIDR": "pods"}, "clusterCIDR: 'pods' is not a network such as 10.244.0.0/16"),
        (
            {"clusterCIDR": "10.0.0.0/8,10.1.0.0/16"},
            "clusterCIDR: '10.0.0.0/8,10.1.0.0/16': at most one of each family",
        ),
        ({"detectLocalMode": "Magic"}, "detectLocalMode: 'Magic' is not one of ClusterCIDR, NodeCIDR, "),
        ({"detectLocalMode": "BridgeInterface"}, "detectLocal.bridgeInterface: '' is not an interface name"),
        (
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "a/b"}},
            "detectLocal.interfaceNamePrefix: 'a/b' is not an interface name",
        ),
        ({"nodePortAddresses": ["all", "none"]}, "nodePortAddresses[1]: 'none' is not a network"),
        ({"nftables": {"masqueradeBit": 32}}, "nftables.masqueradeBit: 32 is not in 0..31"),
        ({"nftables": {"masqueradeBit": "x"}}, "nftables.masqueradeBit: Expected `int | null`, got `str`"),
        ({"nftables": {"syncPeriod": "1 minute"}}, "nftables.syncPeriod: '1 minute' is not a duration such as 1m30s"),
        ({"nftables": {"syncPeriod": "5s", "minSyncPeriod": "10s"}}, "nftables.syncPeriod: 5s must be more than 0"),
        ({"nftables": {"syncPeriod": "-5s"}}, "nftables.syncPeriod: '-5s' is not a duration"),
        ({"bindAddress": "localhost"}, "bindAddress: 'localhost' is not an IP address"),
        ({"metricsBindAddress": "127.0.0.1:0"}, "metricsBindAddress: '127.0.0.1:0' is not an address and a port"),
        ({"metricsBindAddress": "::1:10249:x"}, "metricsBindAddress: '::1:10249:x' is not an address and a port"),
        ({"logging": {"format": "xml"}}, "logging.format: Invalid enum value 'xml'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_with_its_path(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(HEADER | said)
    assert str(raised.value).startswith(message)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n")
    with pytest.raises(UsageError, match=f"^{path}: mode: 'ipvs'"):
        load(path)


@pytest.mark.parametrize(
    ("config", "addresses", "pod_cidrs", "expected"),
    [
        (ProxyConfig("n", node_port_addresses=("primary",)), [], [], None),
        (
            ProxyConfig("n", node_port_addresses=("primary", "10.0.0.0/8")),
            ["192.0.2.1", "198.51.100.1", "2001:db8::1"],
            [],
            {"node_port_addresses": ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128")},
        ),
        # Nothing must not stand for everything: IPv6 NodePorts are then served nowhere.
        (
            ProxyConfig("n", node_port_addresses=("primary",)),
            ["192.0.2.1"],
            [],
            {"node_port_addresses": ("192.0.2.1/32", "::1/128")},
        ),
        (ProxyConfig("n", detect_local=DetectLocal("NodeCIDR")), ["192.0.2.1"], [], None),
        (
            ProxyConfig("n", detect_local=DetectLocal("NodeCIDR")),
            [],
            ["10.244.1.0/24"],
            {"detect_local": DetectLocal("NodeCIDR", ("10.244.1.0/24",))},
        ),
    ],
    ids=["no address yet", "the primary ones", "one family", "no podCIDR yet", "NodeCIDR"],
)
def test_what_only_the_node_knows(
    config: ProxyConfig, addresses: list[str], pod_cidrs: list[str], expected: dict[str, Any] | None
) -> None:
    assert config.needs_node
    resolved = config.on_node(addresses, pod_cidrs)
    if expected is None:
        assert resolved is None
    else:
        assert resolved is not None
        assert {name: getattr(resolved, name) for name in expected} == expected


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"hostnameOverride": "node-1", "clusterCIDR": "10.244.0.0/16,fd00:10:244::/48"},
        {"detectLocalMode": "NodeCIDR", "nodePortAddresses": ["primary", "198.18.0.0/15"]},
        {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
        {"nodePortAddresses": ["all"], "conntrack": {"tcpBeLiberal": True}},
        {"nftables": {"syncPeriod": "1m30s", "minSyncPeriod": "100ms", "masqueradeBit": 3}},
        {"iptables": {"syncPeriod": "1m30s", "minSyncPeriod": "100ms", "masqueradeAll": True}},
        {"healthzBindAddress": "192.0.2.1", "metricsBindAddress": "[2001:db8::1]:9000"},
    ],
)
def test_a_configuration_reads_back_from_what_it_writes(given: dict[str, object], mode: str) -> None:
    header = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode}
    loaded = parse(header | given)
    written = document(loaded.config)
    assert parse(written).config == loaded.config
    assert parse(written).ignored == ()
