"""The executables in real namespaces, called as a runtime calls them."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from netlab.cni.plugins.ipam.store import holders
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import GO_PLUGINS, PLUGINS, addresses, network, runtime, sandboxes

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]


pytestmark = pytest.mark.usefixtures("way")


def nothing_is_left(data_dir: Path) -> None:
    assert pods.links() <= {"lo", "cni0"}
    assert holders(str(data_dir), "net") == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("family", pods.FAMILIES)
@isolated
def test_two_pods_reach_each_other_and_leave_nothing(tmp_path: Path, version: str, family: str) -> None:
    net = network(tmp_path, version=version, ranges=pods.FAMILIES[family])
    subject = runtime(tmp_path)
    with sandboxes(2) as (one, two):
        first, second = Attachment("one", one), Attachment("two", two)
        result, other = subject.add(net, first), subject.add(net, second)
        assert result["cniVersion"] == version
        bridge, host, pod = result["interfaces"]
        assert (bridge["name"], pod["name"], pod["sandbox"]) == ("cni0", "eth0", one)
        assert pods.links() >= {"lo", "cni0", host["name"]}
        assert all(ip["interface"] == 2 for ip in result["ips"])
        assert all(("version" in ip) == (version < "1.0.0") for ip in result["ips"])
        for source, target in zip(addresses(result), addresses(other), strict=True):
            assert pods.reaches(one, two, target) == source, "no address is translated on the way"
            assert pods.reaches(None, two, target) == next(
                ip["gateway"] for ip in other["ips"] if ip["address"].startswith(target)
            )
        if version != "0.3.1":
            subject.check(net, first)
        for attachment in (first, second):
            subject.delete(net, attachment)
            subject.delete(net, attachment)
        with pods.inside(one):
            assert pods.links() == {"lo"}
    nothing_is_left(tmp_path)


@isolated
def test_interface_routes_and_sysctls_are_what_was_asked_for(tmp_path: Path) -> None:
    routes = [{"dst": "192.0.2.0/24", "gw": "10.244.1.9"}]
    plugin_ipam = {**network(tmp_path).plugins[0]["ipam"], "routes": routes}
    net = network(tmp_path, ipam=plugin_ipam)
    with sandboxes(1) as (one,):
        result = runtime(tmp_path).add(net, Attachment("one", one))
        assert result["routes"] == [
            *routes,
            {"dst": "0.0.0.0/0", "gw": "10.244.1.1"},
            {"dst": "::/0", "gw": "fd00:10:244:1::1"},
        ]
        assert result["interfaces"][2]["mac"] == "0a:58:0a:f4:01:02"
        with pods.inside(one), IPRoute() as ip:
            (link,) = ip.get_links(ifname="eth0")
            assert (link.get("mtu"), link.get("address"), link["state"]) == (1450, "0a:58:0a:f4:01:02", "up")
            v4 = {(route.get("dst"), route.get("gateway")) for route in ip.get_routes(family=2, table=254)}
            assert v4 == {(None, "10.244.1.1"), ("192.0.2.0", "10.244.1.9"), ("10.244.1.0", None)}
            v6 = {route.get("gateway") for route in ip.get_routes(family=10, table=254)}
            assert "fd00:10:244:1::1" in v6
            assert Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").read_text().strip() == "0"
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            assert Path("/proc/sys/net", name).read_text().strip() == "1"
        with IPRoute() as ip:
            (host,) = ip.get_links(ifname=result["interfaces"][1]["name"])
            info = dict(host.get("linkinfo")["attrs"])
            assert dict(info["IFLA_INFO_SLAVE_DATA"]["attrs"])["IFLA_BRPORT_MODE"] == 1


@isolated
def test_the_flat_network_has_the_nodes_own_address_as_gateway(tmp_path: Path) -> None:
    flat = {
        "subnet": "10.244.0.0/16",
        "rangeStart": "10.244.1.2",
        "rangeEnd": "10.244.1.254",
        "gateway": "10.244.1.1",
    }
    with sandboxes(1) as (one,):
        result = runtime(tmp_path).add(network(tmp_path, ranges=[[flat]]), Attachment("one", one))
        assert result["ips"] == [{"address": "10.244.1.2/16", "gateway": "10.244.1.1", "interface": 2}]
        with IPRoute() as ip:
            index = ip.link_lookup(ifname="cni0")[0]
            assert [(a.get("local"), a["prefixlen"]) for a in ip.get_addr(index=index, family=2)] == [
                ("10.244.1.1", 16)
            ]


@isolated
def test_adds_that_race_on_a_fresh_node_share_one_bridge(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(8) as paths, concurrent.futures.ThreadPoolExecutor(8) as pool:
        attachments = [Attachment(f"c{number}", path) for number, path in enumerate(paths)]
        results = list(pool.map(lambda attachment: subject.add(net, attachment), attachments))
        assert len({address for result in results for address in addresses(result)}) == 16
        assert len({result["interfaces"][0]["mac"] for result in results}) == 1
        assert pods.reaches(paths[0], paths[7], addresses(results[7])[1]) == addresses(results[0])[1]
        list(pool.map(lambda attachment: subject.delete(net, attachment), attachments))
    nothing_is_left(tmp_path)


@isolated
def test_an_address_used_again_works_at_once(tmp_path: Path) -> None:
    """Neighbours keep an entry for the address; it must hold for the address's next holder."""
    two_addresses = [[{"subnet": "10.244.1.0/24", "rangeEnd": "10.244.1.3"}]]
    net, subject = network(tmp_path, ranges=two_addresses), runtime(tmp_path)
    with sandboxes(3) as (one, two, three):
        subject.add(net, Attachment("one", one))
        (before,) = addresses(subject.add(net, Attachment("two", two)))
        pods.reaches(one, two, before)
        subject.delete(net, Attachment("two", two))
        (after,) = addresses(subject.add(net, Attachment("three", three)))
        assert after == before
        assert pods.reaches(one, three, after) == "10.244.1.2"


@isolated
def test_a_delete_does_not_mind_what_an_add_would_refuse(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        config = {**net.plugins[0], "name": "net", "cniVersion": "1.0.0", "mtu": "big", "mode": "?", "vlan": 7}
        said = pods.execute("netlab", "DEL", config, CNI_CONTAINERID="one", CNI_IFNAME="eth0", CNI_NETNS=one)
        assert said == (0, None)
    nothing_is_left(tmp_path)


SLOW_TO_IMPORT = {
    *("asyncio", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "ipaddress", "json"),
    *("logging", "pathlib", "pyroute2", "re", "socket", "subprocess", "threading", "typing"),
}
NOT_FOR_EVERY_POD = {"check", "duplicates", "garbage", "owned_table", "routed", "spoofing", "tunnel", "vxlan"}


@isolated
def test_an_ordinary_call_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """Each module costs every pod's start some tenths of a millisecond, and these many."""
    config = {**network(tmp_path).plugins[0], "name": "net", "cniVersion": "1.1.0"}
    with sandboxes(1) as (one,):
        for command in ("ADD", "DEL"):
            done = subprocess.run(
                [sys.executable, "-ISX", "importtime", PLUGINS / "netlab"],
                input=json.dumps(config).encode(),
                env={
                    "CNI_COMMAND": command,
                    "CNI_CONTAINERID": "one",
                    "CNI_NETNS": one,
                    "CNI_IFNAME": "eth0",
                    "CNI_PATH": str(PLUGINS),
                },
                capture_output=True,
                check=True,
            )
            imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
            assert "netlab.cni.plugins.main.commands" in imported
            assert not imported & (SLOW_TO_IMPORT | {f"netlab.cni.plugins.main.{name}" for name in NOT_FOR_EVERY_POD})
            assert "netlab.cni.plugins.main.mode" not in imported or command == "ADD"


FAILURES: dict[str, tuple[dict[str, Any], int, str]] = {
    "the interface exists": ({}, errors.INVALID_ENVIRONMENT, "CNI_IFNAME: lo already exists"),
    "a route leads nowhere": (
        {"routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]},
        errors.KERNEL_REFUSED,
        "route to 192.0.2.0/24: ",
    ),
    "no such executable": ({"type": "none"}, errors.INVALID_CONFIG, "ipam.type: no executable 'none'"),
    "no addresses": (
        {"ranges": [pods.V4, [{"subnet": "fd00::/126", "rangeStart": "fd00::1", "rangeEnd": "fd00::1"}]]},
        errors.INVALID_CONFIG,
        "has no address to give",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
@isolated
def test_a_failed_add_leaves_nothing(tmp_path: Path, failure: str) -> None:
    change, code, said = FAILURES[failure]
    base = network(tmp_path)
    net = network(tmp_path, ipam={**base.plugins[0]["ipam"], **change})
    with sandboxes(1) as (one,):
        ifname = "lo" if failure == "the interface exists" else "eth0"
        with pytest.raises(CniError) as caught:
            runtime(tmp_path).add(net, Attachment("one", one, ifname))
        assert caught.value.code == code
        assert said in caught.value.msg
        with pods.inside(one):
            assert pods.links() == {"lo"}
    nothing_is_left(tmp_path)


@isolated
def test_a_bridge_that_is_none_and_one_with_another_address_are_refused(tmp_path: Path) -> None:
    with sandboxes(1) as (one,), IPRoute() as ip:
        attachment = Attachment("one", one)
        with pytest.raises(CniError, match="'lo' exists and is not a bridge"):
            runtime(tmp_path).add(network(tmp_path, bridge="lo"), attachment)
        ip.link("add", ifname="cni0", kind="bridge")
        index = ip.link_lookup(ifname="cni0")[0]
        ip.addr("add", index=index, address="10.244.1.77", prefixlen=24)
        with pytest.raises(CniError, match=r"bridge cni0: has 10\.244\.1\.77/24, not 10\.244\.1\.1/24"):
            runtime(tmp_path).add(network(tmp_path), attachment)
        assert [a.get("local") for a in ip.get_addr(index=index, family=2)] == ["10.244.1.77"]
        assert holders(str(tmp_path), "net") == []
        runtime(tmp_path).add(network(tmp_path, forceAddress=True), attachment)
        assert [a.get("local") for a in ip.get_addr(index=index, family=2)] == ["10.244.1.1"]


@isolated
def test_namespaces_that_are_none(tmp_path: Path) -> None:
    for netns, said in (("/nonexistent", "No such file"), ("/proc/self/ns/net", "the plugin's own")):
        with pytest.raises(CniError, match=f"CNI_NETNS: {netns}.*{said}"):
            runtime(tmp_path).add(network(tmp_path), Attachment("one", netns))
    nothing_is_left(tmp_path)


@isolated
def test_a_delete_with_the_namespace_gone_frees_the_addresses(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
    assert len(holders(str(tmp_path), "net")) == 2
    subject.delete(net, Attachment("one", ""))
    nothing_is_left(tmp_path)


def test_addresses_are_never_given_twice(tmp_path: Path) -> None:
    config = {
        "cniVersion": "1.0.0",
        "name": "net",
        "ipam": {"type": "netlab-ipam", "dataDir": str(tmp_path), "subnet": "10.0.0.0/24"},
    }

    def add(number: int) -> str:
        answer = execute("netlab-ipam", "ADD", json.dumps(config).encode(), CNI_CONTAINERID=f"c{number}")
        return str(json.loads(answer.stdout)["ips"][0]["address"])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(add, range(200)))) == 200


def execute(plugin: str, command: str, stdin: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS),
        **more,
    }
    return subprocess.run([PLUGINS / plugin], input=stdin, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("plugin", ["netlab", "netlab-ipam"])
@pytest.mark.parametrize(
    ("command", "stdin", "code"),
    [
        ("ADD", b"", errors.DECODING_FAILURE),
        ("ADD", b"\xff{", errors.DECODING_FAILURE),
        ("ADD", b'{"cniVersion":"2.0.0","name":"net"}', errors.INCOMPATIBLE_VERSION),
        ("CHECK", b'{"cniVersion":"0.3.1","name":"net"}', errors.INCOMPATIBLE_VERSION),
        ("WHAT", b"{}", errors.INVALID_ENVIRONMENT),
    ],
)
def test_malformed_calls_get_an_error_object(plugin: str, command: str, stdin: bytes, code: int) -> None:
    answer = execute(plugin, command, stdin)
    assert (answer.returncode, answer.stderr) == (1, b"")
    assert json.loads(answer.stdout)["code"] == code


@pytest.mark.parametrize("plugin", ["netlab", "netlab-ipam"])
def test_version(plugin: str, tmp_path: Path) -> None:
    assert runtime(tmp_path).version(plugin)["supportedVersions"] == VERSIONS


@pytest.mark.parametrize("plugin", ["netlab", "netlab-ipam"])
def test_a_python_that_is_too_old_is_a_cni_error(plugin: str) -> None:
    code = "import sys; sys.version_info = (3, 9); path = sys.argv[1]; exec(compile(open(path).read(), path, 'exec'))"
    answer = subprocess.run([sys.executable, "-c", code, PLUGINS / plugin], capture_output=True, check=False)
    assert answer.returncode == 1
    assert "netlab needs 3.11" in json.loads(answer.stdout)["msg"]


needs_go = pytest.mark.skipif(not (GO_PLUGINS / "bridge").exists(), reason="containernetworking-plugins not installed")


@needs_go
@pytest.mark.parametrize(("main", "allocator"), [("bridge", "netlab-ipam"), ("netlab", "host-local")])
@isolated
def test_each_works_with_the_go_plugins(tmp_path: Path, main: str, allocator: str) -> None:
    plugin_ipam = {"type": allocator, "dataDir": str(tmp_path), "ranges": pods.FAMILIES["dual"]}
    net: NetworkList = network(tmp_path, type=main, ipam=plugin_ipam)
    subject = runtime(tmp_path)
    with sandboxes(2) as (one, two):
        first, second = Attachment("one", one), Attachment("two", two)
        result, other = subject.add(net, first), subject.add(net, second)
        assert pods.reaches(one, two, addresses(other)[0]) == addresses(result)[0]
        subject.check(net, first)
        subject.delete(net, first)
        subject.delete(net, second)
    assert pods.links() <= {"lo", "cni0"}
    assert not [path for path in (tmp_path / "net").iterdir() if path.name.startswith(("10.", "fd"))]
