"""The chains of the iptables mode; what they do to packets is in tests/system/proxy/test_packets.py."""

from __future__ import annotations

import dataclasses
import re

import pytest

from netlab.net.addresses import Family
from netlab.proxy.iptables.chains import tables
from netlab.proxy.iptables.fixed import Tables
from netlab.proxy.iptables.restore import PART, parse, render, render_parts
from netlab.proxy.plan import Plan
from netlab.proxy.planner import plan_service
from tests.unit.proxy.flows import (
    BOTH,
    FAMILIES,
    NODE_INFO,
    READY,
    VARIANTS,
    Setting,
    config_of,
    plan_of_all,
    service_of,
    slices_of,
)


def tables_of(plan: Plan, family: Family = "IPv4") -> Tables:
    return tables(plan, family, config_of(Setting(), family, "iptables"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_chain_is_led_to_and_leads_to_chains_that_are_there(family: Family) -> None:
    for chains in tables_of(plan_of_all(family), family).values():
        led_to = {name for rules in chains.values() for rule in rules for name in re.findall(r"-j (KUBE-\S+)", rule)}
        assert led_to <= chains.keys()
        roots = {"KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-REFUSE"}
        assert chains.keys() - led_to <= roots
        # What the kernel has room for (XT_EXTENSION_MAXNAMELEN).
        assert all(len(name) <= 28 for name in chains)


def test_only_what_changed_is_sent() -> None:
    before, after = plan_of_all("IPv4"), plan_of_all("IPv4")
    planned = plan_service(service_of(VARIANTS["cluster"]), slices_of("cluster", {"a": READY}), NODE_INFO, "IPv4")
    after |= planned.frontends
    assert render(tables_of(before), tables_of(before)) == ""
    sent = render(tables_of(before), tables_of(after))
    declared = set(re.findall(r"^:(\S+) ", sent, re.MULTILINE))
    deleted = set(re.findall(r"^-X (\S+)$", sent, re.MULTILINE))
    # For each protocol, the list of endpoints, and the chain of the one that is gone.
    assert {name[:8] for name in declared - deleted} == {"KUBE-SVC"}
    assert {name[:8] for name in deleted} == {"KUBE-SEP"}
    assert (len(declared), len(deleted)) == (6, 3)
    assert sent.splitlines()[0] == "*nat"
    assert sent.endswith("COMMIT\n")


def test_in_parts_no_rule_leads_to_a_chain_that_is_not_whole() -> None:
    """As the kernel would take it: line by line, and each part must be in order by itself."""
    one = plan_service(service_of(VARIANTS["cluster"]), slices_of("cluster", BOTH), NODE_INFO, "IPv4").frontends
    old, new = tables_of(plan_of_all("IPv4")), tables_of(one)
    nothing: Tables = {"nat": {}, "filter": {}}
    for before, after in ((nothing, old), (old, new), (new, old), (old, nothing)):
        held: Tables = {table: dict(before.get(table, {})) for table in after}
        for part in render_parts(before, after):
            assert len(part.splitlines()) <= PART + 2
            table = held[part[1:].partition("\n")[0]]
            for line in part.splitlines()[1:-1]:
                verb, name, *rule = line.split(" ", 2)
                if verb == "-A":
                    target = rule[0].rpartition("-j ")[2].partition(" ")[0]
                    assert not target.startswith("KUBE-") or table[target] == after[part[1:].partition("\n")[0]][target]
                    table[name].append(rule[0])
                elif verb == "-X":
                    assert not any(rule.endswith(f"-j {name}") for rules in table.values() for rule in rules)
                    del table[name]
                else:
                    table[verb[1:]] = []
        assert held == after


def test_all_frontends_of_a_port_share_its_chains() -> None:
    one = plan_service(service_of(VARIANTS["cluster"]), slices_of("cluster", BOTH), NODE_INFO, "IPv4").frontends
    kinds = [name[:8] for name in tables_of(one)["nat"]]
    assert {kind: kinds.count(kind) for kind in ("KUBE-EXT", "KUBE-SVC", "KUBE-SEP")} == {
        "KUBE-EXT": 3,
        "KUBE-SVC": 3,
        "KUBE-SEP": 6,
    }


def test_the_mark_is_the_bit_that_was_asked_for() -> None:
    config = dataclasses.replace(config_of(Setting(), "IPv4", "iptables"), masquerade_bit=5)
    nat = tables({}, "IPv4", config)["nat"]
    assert nat["KUBE-MARK-MASQ"] == ["-j MARK --or-mark 0x20"]
    assert nat["KUBE-POSTROUTING"][:2] == ["-m mark ! --mark 0x20/0x20 -j RETURN", "-j MARK --xor-mark 0x20"]


def test_what_iptables_save_says_is_read() -> None:
    saved = (
        "# comment\n*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"
        "*filter\nCOMMIT\n"
    )
    assert parse(saved) == {"nat": {"PREROUTING": ["-j KUBE-SERVICES"], "KUBE-SERVICES": []}, "filter": {}}
