"""Mode `vxlan` between two nodes: two network namespaces on one wire, in each of which the executables run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from netlab.cni.plugins.main import peers
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net import overlay
from netlab.net.overlay import Overlay
from netlab.net.route.socket import Rtnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import inside, runtime, sandboxes

pytestmark = pytest.mark.usefixtures("way")

V4 = "10.244.{}.0/24"
V6 = "fd00:10:244:{}::/64"
FAMILIES = {"ipv4": [V4], "ipv6": [V6], "dual": [V4, V6]}
UNDERLAYS = {4: ("192.0.2.{}", 24), 6: ("2001:db8::{}", 64)}
MTU = {4: 1450, 6: 1430}


def endpoint(number: int, underlay: int = 4) -> str:
    return UNDERLAYS[underlay][0].format(number)


@dataclasses.dataclass
class Node:
    """A node of the test: its number, its namespace, and its network."""

    number: int
    netns: str
    folder: Path
    family: str = "dual"
    underlay: int = 4
    with_peers_file: bool = True

    @property
    def peers_file(self) -> Path:
        return self.folder / "peers.json"

    def network(self, **more: Any) -> NetworkList:
        ranges = [[{"subnet": subnet.format(self.number)}] for subnet in FAMILIES[self.family]]
        vxlan = {"id": 7, "localAddress": endpoint(self.number, self.underlay), **more.pop("vxlan", {})}
        if self.with_peers_file:
            vxlan.setdefault("peersFile", str(self.peers_file))
        data_dir = self.folder / f"node-{self.number}"
        return pods.network(data_dir, ranges=ranges, version="1.1.0", mode="vxlan", vxlan=vxlan, **{"mtu": 0, **more})

    def add(self, name: str, netns: str, **more: Any) -> dict[str, Any]:
        with inside(self.netns):
            return runtime(self.folder / f"node-{self.number}").add(self.network(**more), Attachment(name, netns))

    def check(self, name: str, netns: str, **more: Any) -> None:
        with inside(self.netns):
            runtime(self.folder / f"node-{self.number}").check(self.network(**more), Attachment(name, netns))

    def delete(self, name: str, netns: str, **more: Any) -> None:
        with inside(self.netns):
            runtime(self.folder / f"node-{self.number}").delete(self.network(**more), Attachment(name, netns))

    @contextlib.contextmanager
    def kernel(self) -> Iterator[IPRoute]:
        with inside(self.netns), IPRoute() as ip:
            yield ip

    def knows(self) -> Overlay:
        with inside(self.netns), Rtnetlink() as kernel:
            return overlay.read(kernel, "vxlan7")


def write_peers(folder: Path, *numbers: int, **more: dict[str, Any]) -> None:
    """One file for all nodes; `more` are further fields of a peer, as `node_2={...}`."""
    entries = [
        {
            "node": f"node-{number}",
            "publicIP": endpoint(number),
            "publicIPv6": endpoint(number, 6),
            "subnets": [V4.format(number), V6.format(number)],
            **more.get(f"node_{number}", {}),
        }
        for number in numbers
    ]
    (folder / "peers.json").write_text(json.dumps(entries))


@contextlib.contextmanager
def nodes(folder: Path, **more: Any) -> Iterator[tuple[Node, Node]]:
    """Two nodes with a wire between them: eth0, 1500 bytes, in both families."""
    with sandboxes(2) as paths:
        pair = tuple(Node(number, path, folder, **more) for number, path in enumerate(paths, 1))
        with inside(paths[0]):
            pods.wire(paths[1])
        for node in pair:
            with inside(node.netns):
                pods.set_up(
                    *(f"{endpoint(node.number, version)}/{length}" for version, (_, length) in UNDERLAYS.items())
                )
        yield pair[0], pair[1]


def addresses(result: dict[str, Any]) -> list[str]:
    return [ip["address"].split("/")[0] for ip in result["ips"]]


@pytest.mark.parametrize("underlay", UNDERLAYS)
@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_pods_of_two_nodes_reach_each_other(tmp_path: Path, family: str, underlay: int) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path, family=family, underlay=underlay) as (one, two), sandboxes(2) as (here, there):
        result, other = one.add("a", here), two.add("b", there)
        assert [interface["mtu"] for interface in result["interfaces"]] == [MTU[underlay]] * 3
        for source, target in zip(addresses(result), addresses(other), strict=True):
            assert pods.reaches(here, there, target) == source, "no address is translated on the way"
            assert pods.reaches(there, here, source) == target
            # The node itself is known by its VXLAN device's address, and the answer comes back the same way.
            assert pods.reaches(one.netns, there, target) == peers.gateway(next(net for net in subnets(one, target)))
        one.check("a", here)
        for node, name, netns in ((one, "a", here), (two, "b", there)):
            before = node.knows()
            node.delete(name, netns)
            node.delete(name, netns)
            with inside(node.netns):
                assert pods.links() == {"lo", "eth0", "cni0", "vxlan7"}, "the node's own stays for the next pod"
            assert node.knows() == before


@isolated
def test_masquerading_leaves_alone_what_goes_to_pods_of_other_nodes(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, two), sandboxes(2) as (here, there):
        result, other = one.add("a", here, ipMasq=True), two.add("b", there, ipMasq=True)
        for source, target, version in zip(addresses(result), addresses(other), UNDERLAYS, strict=True):
            assert pods.reaches(here, there, target) == source
            assert pods.reaches(here, two.netns, endpoint(2, version)) == endpoint(1, version)
        one.check("a", here, ipMasq=True)
        with inside(one.netns):
            subprocess.run(["nft", "flush", "set", "inet", "netlab_cni_masquerade", "overlay6"], check=True)
        with pytest.raises(CniError, match="overlay6"):
            one.check("a", here, ipMasq=True)
        one.delete("a", here, ipMasq=True)
        with inside(one.netns):
            listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
            assert "elements" not in listed


def subnets(node: Node, like: str) -> Iterator[str]:
    return (subnet.format(node.number) for subnet in FAMILIES[node.family] if (":" in subnet) == (":" in like))


@isolated
def test_a_change_of_the_peers_file_is_applied_by_the_next_add(tmp_path: Path) -> None:
    write_peers(tmp_path, 1)
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        one.add("a", here)
        nothing = one.knows()
        assert nothing == Overlay(frozenset(), frozenset(), frozenset())
        write_peers(tmp_path, 1, 2, 3, node_3={"vtepMAC": "0e:00:00:00:00:03"})
        steps: list[tuple[Callable[[], Any], set[str]]] = [
            (lambda: None, {"192.0.2.2", "192.0.2.3"}),
            (lambda: write_peers(tmp_path, 1, 2, 3, node_3={"publicIP": "192.0.2.33"}), {"192.0.2.2", "192.0.2.33"}),
            (lambda: write_peers(tmp_path, 1, 2), {"192.0.2.2"}),
            (lambda: write_peers(tmp_path, 1, 2, node_1={"vtepMAC": "0e:00:00:00:00:01"}), {"192.0.2.2"}),
            (lambda: remove(one, "vxlan7"), {"192.0.2.2"}),
            (lambda: (tmp_path / "peers.json").write_text("[]"), set()),
        ]
        for change, expected in steps:
            change()
            one.delete("a", here)
            one.add("a", here)
            known = one.knows()
            assert {destination for _, destination in known.forwarding} == expected
            assert len(known.neighbours) == len(known.routes) == 2 * len(expected)
            one.check("a", here)
        with one.kernel() as ip:
            assert ip.link("get", ifname="vxlan7")[0].get("address") == peers.vtep_mac("192.0.2.1", 7), (
                "the same after all"
            )


def remove(node: Node, link: str) -> None:
    with node.kernel() as ip:
        ip.link("del", index=ip.link_lookup(ifname=link)[0])


@isolated
def test_an_add_takes_up_what_one_that_was_killed_has_left_half_done(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(2) as (here, there):
        one.add("a", here)
        whole = one.knows()
        with one.kernel() as ip:
            # The mark is taken off before anything is changed, and put on after everything was.
            ip.link("set", index=ip.link_lookup(ifname="vxlan7")[0], ifalias="")
        with inside(one.netns), Rtnetlink() as kernel:
            overlay.apply(kernel, "vxlan7", Overlay(forwarding=whole.forwarding))
        one.add("b", there)
        assert one.knows() == whole


@isolated
def test_an_agent_of_the_node_sees_to_the_peers_where_there_is_no_file(tmp_path: Path) -> None:
    with nodes(tmp_path, with_peers_file=False) as (one, two), sandboxes(2) as (here, there):
        result, other = one.add("a", here), two.add("b", there)
        listed = [peers.Peer(f"node-{n}", endpoint(n), "", "", (V4.format(n), V6.format(n))) for n in (1, 2)]
        for node in (one, two):
            with inside(node.netns), Rtnetlink() as kernel:
                overlay.apply(kernel, "vxlan7", peers.plan(listed, endpoint(node.number), 7))
        before = one.knows()
        assert before.routes
        with sandboxes(1) as (third,):
            one.add("c", third)
        assert one.knows() == before, "the plugin leaves alone what is the agent's"
        assert pods.reaches(here, there, addresses(other)[0]) == addresses(result)[0]
        one.check("a", here)


@isolated
def test_first_adds_that_race_make_one_device(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(4) as paths, ThreadPoolExecutor(4) as pool:
        with inside(one.netns):
            runtime(tmp_path)  # starts the resident process, where there is to be one
        results = list(pool.map(lambda number: one.add(f"c{number}", paths[number]), range(4)))
        assert len({addresses(result)[0] for result in results}) == 4
        assert len(one.knows().forwarding) == 1
        for number, path in enumerate(paths):
            one.check(f"c{number}", path)


@dataclasses.dataclass(frozen=True)
class Broken:
    """One thing broken by hand, and what CHECK says of it."""

    by: Callable[[IPRoute, int], Any]
    said: str


MAC = peers.vtep_mac("192.0.2.2", 7)
BROKEN = {
    "device": Broken(lambda ip, index: ip.link("del", index=index), "link vxlan7: missing"),
    "down": Broken(lambda ip, index: ip.link("set", index=index, state="down"), "link vxlan7: down"),
    "forwarding entry": Broken(
        lambda ip, index: ip.fdb("del", lladdr=MAC, dst="192.0.2.2", ifindex=index),
        f"forwarding entry {MAC} to 192.0.2.2 on vxlan7: missing",
    ),
    "neighbour": Broken(
        lambda ip, index: ip.neigh("del", dst="10.244.2.0", ifindex=index),
        f"neighbour 10.244.2.0 with {MAC} on vxlan7: missing",
    ),
    "route": Broken(
        lambda ip, index: ip.route("del", dst="10.244.2.0/24", oif=index),
        "route to 10.244.2.0/24 via 10.244.2.0 on vxlan7: missing",
    ),
    "IPv6 route": Broken(
        lambda ip, index: ip.route("del", dst="fd00:10:244:2::/64", oif=index),
        "route to fd00:10:244:2::/64 via fd00:10:244:2:: on vxlan7: missing",
    ),
    "address": Broken(
        lambda ip, index: ip.addr("del", index=index, address="10.244.1.0", prefixlen=32),
        "link vxlan7: missing address 10.244.1.0/32",
    ),
}
# What the next ADD notices without looking at each peer.
MENDED = {"device", "down", "address"}


@isolated
def test_check_names_what_was_broken_and_add_mends_what_it_can_see(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        for name, broken in BROKEN.items():
            one.add("a", here)
            one.check("a", here)
            with one.kernel() as ip:
                broken.by(ip, ip.link_lookup(ifname="vxlan7")[0])
            with pytest.raises(CniError) as caught:
                one.check("a", here)
            assert broken.said in caught.value.msg, name
            assert caught.value.code == errors.CHECK_FAILED
            one.delete("a", here)
            if name not in MENDED:
                remove(one, "vxlan7")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no underlay": ({"vxlan": {"localAddress": ""}}, "vxlan.device: name the link"),
    "no such link": ({"vxlan": {"device": "eth7"}}, "vxlan.device: 'eth7'"),
    "no such address": ({"vxlan": {"localAddress": "192.0.2.77"}}, "vxlan.localAddress: 192.0.2.77 is not an address"),
    "address elsewhere": ({"vxlan": {"device": "lo"}}, "vxlan.localAddress: 192.0.2.1 is not an address of lo"),
    "no address": ({"vxlan": {"device": "lo", "localAddress": ""}}, "vxlan.device: 'lo' has no address"),
    "malformed address": ({"vxlan": {"localAddress": "x"}}, "vxlan.localAddress: 'x' is not"),
    "id": ({"vxlan": {"id": 1 << 24}}, "vxlan.id: 16777216 must be"),
    "port": ({"vxlan": {"port": 0}}, "vxlan.port: 0 must be"),
    "type": ({"vxlan": {"id": "7"}}, "vxlan.id: '7' must be a number"),
    "name": ({"vxlan": {"name": "a/b"}}, "vxlan.name: 'a/b'"),
    "the name is another link's": ({"vxlan": {"name": "eth0"}}, "vxlan.name: link 'eth0' exists but is not a VXLAN"),
    "no IPAM": ({"ipam": {}}, "ipam.type: mode 'vxlan' needs addresses"),
    "relative path": ({"vxlan": {"peersFile": "peers.json"}}, "vxlan.peersFile: 'peers.json' must be an absolute"),
    "mtu": ({"mtu": 1500}, "mtu: 1500 is more than the 1450"),
}


@pytest.mark.parametrize("case", REFUSED)
@isolated
def test_what_cannot_be_is_refused(tmp_path: Path, case: str) -> None:
    change, said = REFUSED[case]
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        with pytest.raises(CniError) as caught:
            one.add("a", here, **change)
        assert said in caught.value.msg
        assert caught.value.code == errors.INVALID_CONFIG
        with inside(one.netns):
            assert pods.links() == {"lo", "eth0"}


@isolated
def test_a_peers_file_that_is_wrong_or_in_the_way_is_named(tmp_path: Path) -> None:
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        path = one.peers_file

        def refused(said: str, code: int) -> None:
            with pytest.raises(CniError) as caught:
                one.add("a", here)
            assert said in caught.value.msg
            assert caught.value.code == code

        refused(f"vxlan.peersFile: {path}: No such file", errors.IO_FAILURE)
        path.write_text("[{]")
        refused(f"vxlan.peersFile: {path}: ", errors.INVALID_CONFIG)
        path.write_text('[{"publicIPv6": "2001:db8::2", "subnets": []}]')
        refused("node 2001:db8::2: publicIP is missing", errors.INVALID_CONFIG)
        write_peers(tmp_path, 1, 2, node_2={"subnets": ["192.0.2.0/24"]})
        refused("route to 192.0.2.0/24: it already leads to eth0", errors.KERNEL_REFUSED)
        write_peers(tmp_path, 1, 2)
        one.add("a", here)
        one.check("a", here)


@isolated
def test_a_device_that_is_another_tunnel_is_refused(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        one.add("a", here)
        one.delete("a", here)
        for change, said in (
            ({"id": 8, "name": "vxlan7"}, "vxlan.id: link 'vxlan7' exists with 7, not 8"),
            ({"port": 8472}, "vxlan.port: link 'vxlan7' exists with 4789, not 8472"),
            (
                {"localAddress": "2001:db8::1"},
                "vxlan.localAddress: link 'vxlan7' exists with 192.0.2.1, not 2001:db8::1",
            ),
        ):
            with pytest.raises(CniError) as caught:
                one.add("a", here, vxlan=change)
            assert said in caught.value.msg
        with pytest.raises(CniError, match=r"vxlan.id: another VXLAN device on port 4789 already has 7"):
            one.add("a", here, vxlan={"name": "vxlan-new"})
        one.add("a", here)
        # Named by its link alone, the underlay is of the link's first family: the same device.
        one.delete("a", here)
        one.add("a", here, vxlan={"device": "eth0", "localAddress": ""})


@isolated
def test_status_tells_whether_an_add_can_be_served_and_changes_nothing(tmp_path: Path) -> None:
    with nodes(tmp_path) as (one, _), inside(one.netns):
        subject, net = runtime(tmp_path), one.network()
        with pytest.raises(CniError, match=f"vxlan.peersFile: {one.peers_file}: No such file") as caught:
            subject.status(net)
        assert caught.value.code == errors.NOT_AVAILABLE
        write_peers(tmp_path, 1, 2)
        subject.status(net)
        with pytest.raises(CniError, match=r"vxlan.device: 'eth7'"):
            subject.status(one.network(vxlan={"device": "eth7"}))
        assert pods.links() == {"lo", "eth0"}


@isolated
def test_garbage_collection_leaves_the_device_and_its_peers(tmp_path: Path) -> None:
    write_peers(tmp_path, 1, 2)
    with nodes(tmp_path) as (one, _), sandboxes(1) as (here,):
        one.add("a", here)
        before = one.knows()
        with inside(one.netns):
            runtime(tmp_path / "another cache").collect_garbage(one.network(), [])
            assert pods.links() == {"lo", "eth0", "cni0", "vxlan7"}
        assert one.knows() == before
