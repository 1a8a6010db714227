"""A restart, and hands that meddle: the difference is made good, and nothing else is touched."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from netlab.net.addresses import Family
from netlab.net.nftables.schemas import NFT_FAMILY
from netlab.net.programs import generation
from netlab.proxy.config import ProxyConfig
from netlab.proxy.nftables import executor as executor_module
from netlab.proxy.nftables.contents import whole
from netlab.proxy.nftables.elements import Ruleset
from netlab.proxy.nftables.fixed import layout_of
from netlab.proxy.plan import Endpoint, Frontend, Plan, Scope, Target, difference
from tests.sandbox import isolated
from tests.system.proxy.hosts import ANSWERS, dial, executor, network
from tests.unit.proxy.flows import FAMILIES, NODE, VARIANTS, dialled, plan_of_all


def nft(*arguments: str) -> str:
    return subprocess.run(["nft", *arguments], capture_output=True, text=True, check=True).stdout


def restart(family: Family, plan: Plan) -> list[str]:
    """What a proxy that begins anew finds wrong once it has begun."""
    begun = executor(family)
    begun.replace(plan)
    return begun.differences()


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_a_restart_with_the_same_plan_sends_nothing(family: Family) -> None:
    plan = plan_of_all(family)
    assert restart(family, plan) == []
    before = generation()
    assert restart(family, plan) == []
    assert generation() == before


@isolated
def test_a_restart_sends_the_difference_and_keeps_the_rest() -> None:
    frontend = Frontend("10.96.0.1", "tcp", 80)

    def plan(*numbers: int) -> Plan:
        listed = tuple(Endpoint(f"10.244.2.{number}", 80, False) for number in numbers)
        return {frontend: Target("d/x", Scope.INTERNAL, "Cluster", listed, ())}

    restart("IPv4", plan(1, 2, 3))
    before = generation()
    assert restart("IPv4", plan(2, 3, 4)) == []
    assert generation() == before + 1, "one batch"
    slots = nft("list", "map", "ip", "kube-proxy", "endpoints")
    assert ". 1 : 10.244.2.2 . 80" in slots, "what stays keeps its slot"
    assert ". 0 : 10.244.2.4 . 80" in slots


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_clients_keep_their_pods_across_a_restart(family: Family) -> None:
    hosts = network()
    plan = {f: replace(t, affinity_seconds=60) for f, t in plan_of_all(family).items()}
    node, address = hosts[NODE], dialled(VARIANTS["cluster"], "clusterIP", family)
    assert node.call(restart, family, plan) == []
    first = hosts["c"].call(dial, family, "tcp", *address, ANSWERS).split()[0]
    for _ in range(6):
        assert node.call(restart, family, plan) == []
        assert hosts["c"].call(dial, family, "tcp", *address, ANSWERS).split()[0] == first


def meddled(family: Family, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is told of a meddling by `nft`, and what is wrong after the repair."""
    plan = plan_of_all(family)
    mine = executor(family)
    mine.replace(plan)
    nft(*arguments)
    told = mine.differences()
    assert not mine.intact()
    mine.replace(plan)
    return told, mine.differences()


def frontends(family: Family) -> dict[str, str]:
    address = dialled(VARIANTS["cluster"], "clusterIP", family)[0]
    return {"key": f"{address} . tcp . 80", "table": f"{NFT_FAMILY[family]} kube-proxy", "ip": NFT_FAMILY[family]}


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("flush ruleset", ["table {table} is missing"]),
        ("delete element {table} endpoints {{ {key} . 0 }}", ["map endpoints lacks {key} . 0 : "]),
        ("delete element {table} cluster-ips {{ 10.96.0.11 }}", ["set cluster-ips lacks 10.96.0.11"]),
        ("add element {table} picks {{ 10.9.9.9 . udp . 9 : drop }}", ["map picks has beyond the plan 10.9.9.9"]),
        ("flush map {table} picks", ["map picks lacks "]),
        ("flush chain {table} dispatch", ["chain dispatch has the wrong rules"]),
        ("insert rule {table} refuse accept", ["chain refuse has the wrong rules"]),
        ("flush chain {table} pick-2", ["chain pick-2 has the wrong rules"]),
        ("delete chain {table} filter-input", ["chain filter-input is missing"]),
        ("delete chain {table} nat-prerouting", ["chain nat-prerouting is missing"]),
        ("add chain {table} stray", ["chain stray is not in the plan"]),
        ("add set {table} stray {{ type mark; }}", ["set stray is not in the plan"]),
    ],
)
@isolated
def test_a_meddling_hand_is_told_of_and_made_good(
    command: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is just now: elements are compared each time.
    monkeypatch.setattr(executor_module, "_QUICK", math.inf)
    words = frontends("IPv4")
    told, left = meddled("IPv4", command.format(**words).split(" ", 2))
    for line in lines:
        assert any(each.startswith(line.format(**words)) for each in told), told
    assert left == []


@isolated
def test_a_rule_replaced_by_another_is_told_of() -> None:
    """Only by the proxy that made it: a restart counts rules."""
    handles = "nft -a list chain ip kube-proxy mark-masquerade"

    def replaced() -> list[str]:
        mine = executor("IPv4")
        mine.replace(plan_of_all("IPv4"))
        listing = subprocess.run(handles.split(), capture_output=True, text=True, check=True).stdout
        (handle,) = (line.split("handle ")[1] for line in listing.splitlines() if "mark set" in line)
        nft("replace", "rule", "ip", "kube-proxy", "mark-masquerade", "handle", handle, "accept")
        return mine.differences()

    assert replaced() == ["chain mark-masquerade has the wrong rules"]


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_a_table_of_another_layout_is_replaced(family: Family) -> None:
    ip = NFT_FAMILY[family]
    chain = "{ type nat hook prerouting priority -100; }"
    for line in (f"add table {ip} kube-proxy", f"add chain {ip} kube-proxy theirs {chain}"):
        nft(line)
    assert restart(family, plan_of_all(family)) == []
    assert "theirs" not in nft("list", "table", ip, "kube-proxy")


@pytest.mark.parametrize("family", FAMILIES)
@isolated
def test_what_netlink_makes_is_what_the_text_for_people_says(family: Family) -> None:
    plan = plan_of_all(family)
    plan = plan | {
        frontend: replace(target, affinity_seconds=60)
        for frontend, target in plan.items()
        if target.service.endswith("/local")
    }
    layout = layout_of(family, ProxyConfig(node_name=NODE))
    ruleset = Ruleset(layout)
    ruleset.change(difference({}, plan))
    restart(family, plan)

    def listed() -> dict[str, str]:
        """Chains by name."""
        blocks = (block.strip(" \t\n{}") for block in nft("list", "table", layout.ip, "kube-proxy").split("\n\n"))
        return {block.splitlines()[0]: block for block in blocks if block.startswith("chain")}

    by_netlink = listed()
    subprocess.run(["nft", "-f", "-"], input=whole(layout, ruleset.contents(plan)), text=True, check=True)
    assert by_netlink == listed()
    assert restart(family, plan) == []


@isolated
def test_foreign_tables_at_the_same_hooks_stay_as_they_are() -> None:
    nft("add table ip foreign")
    nft("add chain ip foreign theirs { type nat hook prerouting priority -100; }")
    nft("add rule ip foreign theirs tcp dport 80 redirect to :81")
    before = nft("list", "table", "ip", "foreign")
    restart("IPv4", plan_of_all("IPv4"))
    meddled("IPv4", ["flush", "chain", "ip kube-proxy dispatch"])
    assert nft("list", "table", "ip", "foreign") == before


@isolated
def test_people_are_told_which_elements_and_rules_take_a_frontend() -> None:
    mine = executor("IPv4")
    frontend = Frontend("10.96.0.11", "tcp", 80)
    mine.replace(plan_of_all("IPv4"))
    assert mine.explain(frontend) == [
        "set cluster-ips: 10.96.0.11",
        "set hairpins: 10.244.1.2 . 10.244.1.2",
        "set internal: 10.96.0.11 . tcp . 80",
        "map picks: 10.96.0.11 . tcp . 80 : goto pick-2",
        "map endpoints: 10.96.0.11 . tcp . 80 . 0 : 10.244.1.2 . 8080",
        "map endpoints: 10.96.0.11 . tcp . 80 . 1 : 10.244.2.2 . 8080",
        "chain pick: ip daddr . meta l4proto . th dport vmap @picks",
        "chain refuse: ip daddr @cluster-ips reject",
        "chain nat-postrouting: ct status dnat ip saddr . ip daddr @hairpins masquerade fully-random",
        "chain pick-2: dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints",
    ]
    assert mine.explain(Frontend("10.96.99.99", "tcp", 80)) == []
