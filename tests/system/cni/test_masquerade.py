"""ipMasq: who is seen by whom as whom, and what is left in nftables."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins.main import masquerade
from netlab.cni.plugins.main.addressing import Addressing
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import parse_prefix
from netlab.cni.spec.errors import CniError
from netlab.net.nftables.socket import Nfnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import NODE, OUTSIDE, addresses, runtime, sandboxes, version

pytestmark = pytest.mark.usefixtures("way")


def network(data_dir: Path, **more: Any) -> NetworkList:
    return pods.network(data_dir, version="1.1.0", ipMasq=True, **more)


def another(data_dir: Path, name: str = "other", third: int = 2) -> NetworkList:
    """A second network of the same node, with a bridge and subnets of its own."""
    ranges = [[{"subnet": f"10.244.{third}.0/24"}], [{"subnet": f"fd00:10:244:{third}::/64"}]]
    net = network(data_dir, bridge=f"cni{third}", ranges=ranges)
    return dataclasses.replace(net, name=name)


def elements() -> int:
    return pods.ruleset().count("comment")


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("mode", ["bridge", "routed"])
@isolated
def test_only_what_leaves_the_subnet_is_masqueraded(tmp_path: Path, mode: str, backend: str) -> None:
    net, subject = network(tmp_path, mode=mode, ipMasqBackend=backend), runtime(tmp_path)
    with pods.outside(knows_pods=False) as world, sandboxes(2) as (one, two):
        result = subject.add(net, Attachment("one", one))
        other = subject.add(net, Attachment("two", two))
        for source, target in zip(addresses(result), addresses(other), strict=True):
            assert pods.reaches(one, two, target) == source, "within the subnet"
            assert pods.reaches(one, world, OUTSIDE[version(source)]) == NODE[version(source)]
        subject.check(net, Attachment("one", one))
        assert elements() == 8
        subject.delete(net, Attachment("one", one))
        assert elements() == 4
        subject.delete(net, Attachment("two", two))
        assert elements() == 0


@pytest.mark.parametrize("mode", ["bridge", "routed"])
@isolated
def test_what_goes_to_the_excepted_subnets_is_not_masqueraded(tmp_path: Path, mode: str) -> None:
    # The first two have the container's own subnets in them; a set takes no elements that overlap.
    excepted = ["10.244.0.0/16", "fd00:10:244::/48", f"{OUTSIDE[4]}/32", f"{OUTSIDE[4]}/31", f"{OUTSIDE[6]}/127"]
    subject = runtime(tmp_path)
    with pods.outside(knows_pods=True) as world, sandboxes(1) as (one,):
        for cidrs, seen_as_itself in ((excepted, True), (excepted[:2], False)):
            net = network(tmp_path, mode=mode, nonMasqueradeCIDRs=cidrs)
            for source in addresses(subject.add(net, Attachment("one", one))):
                expected = source if seen_as_itself else NODE[version(source)]
                assert pods.reaches(one, world, OUTSIDE[version(source)]) == expected
            subject.check(net, Attachment("one", one))
            subject.delete(net, Attachment("one", one))
            assert elements() == 0


@isolated
def test_networks_with_different_subnets_are_masqueraded_to_each_other(tmp_path: Path) -> None:
    first, second, subject = network(tmp_path), another(tmp_path), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        subject.add(first, Attachment("one", one))
        result = subject.add(second, Attachment("two", two))
        before = pods.ruleset()
        for target, gateway in zip(addresses(result), [ip["gateway"] for ip in result["ips"]], strict=True):
            assert pods.reaches(one, two, target) == gateway
        assert before.count("masquerade\n") == 2, "rules do not grow with networks"
        subject.delete(first, Attachment("one", one))
        subject.check(second, Attachment("two", two))


@isolated
def test_a_hundred_containers_have_as_many_rules_and_chains_as_one(tmp_path: Path) -> None:
    for number in range(100):
        prefixes = [parse_prefix(f"10.244.1.{number + 2}/24"), parse_prefix(f"fd00::{number + 2:x}/64")]
        addressing = Addressing(prefixes, prefixes, [None, None], [])
        masquerade.TABLE.add({}, masquerade.elements(f"net/c{number}/eth0", addressing, overlay=""))
    listing = pods.ruleset()
    assert listing.count("chain ") == 2, "one, and the record of the layout"
    assert (listing.count(" masquerade\n"), elements()) == (2, 400)
    with Nfnetlink() as kernel:
        masquerade.TABLE.remove(kernel, lambda owner: owner.endswith("7/eth0"))
    assert elements() == 360


@isolated
def test_adds_and_deletes_that_race_on_a_fresh_node(tmp_path: Path) -> None:
    net, subject = network(tmp_path, macspoofchk=True), runtime(tmp_path)
    with sandboxes(8) as paths, concurrent.futures.ThreadPoolExecutor(8) as pool:
        attachments = [Attachment(f"c{number}", path) for number, path in enumerate(paths)]
        list(pool.map(lambda attachment: subject.add(net, attachment), attachments))
        assert elements() == 8 * 6
        assert pods.ruleset().count(" masquerade\n") == 2, "made once"
        for attachment in attachments:
            subject.check(net, attachment)
        list(pool.map(lambda attachment: subject.delete(net, attachment), attachments))
        assert elements() == 0


@isolated
def test_a_delete_frees_by_owner_without_result_namespace_or_table(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        subject.add(net, Attachment("one", one))
        subject.add(net, Attachment("two", two))
    config = {**net.plugins[0], "name": "net", "cniVersion": "1.1.0"}
    for attempt in range(2):
        said = pods.execute("netlab", "DEL", config, CNI_CONTAINERID="one", CNI_IFNAME="eth0")
        assert said == (0, None), attempt
    assert elements() == 4
    assert '"net/two/eth0"' in pods.ruleset()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert pods.execute("netlab", "DEL", config, CNI_CONTAINERID="two", CNI_IFNAME="eth0") == (0, None)
    assert pods.ruleset() == ""


@isolated
def test_a_flushed_ruleset_is_found_by_check_and_mended_by_the_next_add(tmp_path: Path) -> None:
    net, subject = network(tmp_path), runtime(tmp_path)
    with pods.outside(knows_pods=False) as world, sandboxes(2) as (one, two):
        subject.add(net, Attachment("one", one))
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        with pytest.raises(CniError, match="table inet netlab_cni_masquerade: missing") as caught:
            subject.check(net, Attachment("one", one))
        assert caught.value.code == errors.CHECK_FAILED
        subject.add(net, Attachment("two", two))
        subject.check(net, Attachment("two", two))
        assert pods.reaches(two, world, OUTSIDE[4]) == NODE[4]
        with pytest.raises(CniError, match="the element of net/one/eth0 is missing"):
            subject.check(net, Attachment("one", one))


@isolated
def test_what_another_container_left_behind_gives_way(tmp_path: Path) -> None:
    """Its reservation was removed by hand; the address, and with it the element, is another's now."""
    few = [[{"subnet": "10.244.1.0/24", "rangeEnd": "10.244.1.2"}]]
    net, subject = network(tmp_path, ranges=few), runtime(tmp_path)
    with sandboxes(2) as (one, two):
        subject.add(net, Attachment("one", one))
        pods.execute(
            "netlab-ipam",
            "DEL",
            {**net.plugins[0], "name": "net", "cniVersion": "1.1.0"},
            CNI_CONTAINERID="one",
            CNI_IFNAME="eth0",
        )
        subject.add(net, Attachment("two", two))
        subject.check(net, Attachment("two", two))
        subject.delete(net, Attachment("one", one))
        subject.check(net, Attachment("two", two))
        assert elements() == 2


@isolated
def test_foreign_tables_are_left_alone(tmp_path: Path) -> None:
    foreign = "table inet mine {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.244.1.2 }\n\t}\n}\n"
    subprocess.run(["nft", "-f", "-"], input=foreign, text=True, check=True)
    net, subject = network(tmp_path, macspoofchk=True), runtime(tmp_path)
    with sandboxes(1) as (one,):
        subject.add(net, Attachment("one", one))
        assert foreign in pods.ruleset()
        subject.delete(net, Attachment("one", one))
    assert foreign in pods.ruleset()
