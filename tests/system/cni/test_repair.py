"""An ADD leaves the tables as their layout says, whatever has been done to them, and looks at them without nft."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.plugins import repair
from netlab.cni.runtime.attachments import Attachment
from netlab.cni.runtime.configurations import NetworkList, parse_network
from netlab.net.nftables.socket import Nfnetlink
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import NODE, OUTSIDE, sandboxes

pytestmark = pytest.mark.usefixtures("way")

MASQUERADE = "inet netlab_cni_masquerade"
SPOOFING = "bridge netlab_cni_macspoofchk"
PORTMAP = "inet netlab_cni_portmap"

TAMPERINGS: dict[str, list[str]] = {
    "the ruleset is flushed": ["flush ruleset"],
    "the tables are deleted": [f"delete table {table}" for table in (MASQUERADE, SPOOFING, PORTMAP)],
    "their rules are deleted": [f"flush table {table}" for table in (MASQUERADE, SPOOFING, PORTMAP)],
    "they sleep": [f"add table {table} {{ flags dormant; }}" for table in (MASQUERADE, SPOOFING, PORTMAP)],
    "a chain is flushed": [
        f"flush chain {MASQUERADE} postrouting",
        f"flush chain {SPOOFING} prerouting",
        f"flush chain {PORTMAP} masquerade-13",
    ],
    "a chain is deleted": [
        f"flush chain {MASQUERADE} postrouting; delete chain {MASQUERADE} postrouting",
        f"flush chain {SPOOFING} prerouting; delete chain {SPOOFING} prerouting",
        f"flush chain {PORTMAP} output; delete chain {PORTMAP} output",
    ],
    "a rule comes first": [
        f"insert rule {MASQUERADE} postrouting return",
        f"insert rule {SPOOFING} prerouting accept",
        f"insert rule {PORTMAP} host-ports return",
    ],
    "a policy drops": [
        f"chain {MASQUERADE} postrouting {{ policy drop; }}",
        f"chain {SPOOFING} prerouting {{ policy drop; }}",
        f"chain {PORTMAP} guard {{ policy drop; }}",
    ],
    "the rules of one mark are gone": [f"flush chain {PORTMAP} masquerade-14", f"flush chain {PORTMAP} mark-14"],
    "one rule is deleted": [],
}


def network(tmp_path: Path, mark: int = 13) -> NetworkList:
    ipam = {"type": "netlab-ipam", "dataDir": str(tmp_path / "ipam"), "ranges": pods.FAMILIES["dual"]}
    main = {"type": "netlab", "bridge": "cni0", "isDefaultGateway": True, "ipMasq": True, "macspoofchk": True}
    ports = {"type": "netlab-portmap", "capabilities": {"portMappings": True}, "markMasqBit": mark}
    text = json.dumps({"cniVersion": "1.1.0", "name": "net", "plugins": [{**main, "ipam": ipam}, ports]})
    return parse_network(text.encode(), "test")


def attachment(netns: str, container: str, port: int) -> Attachment:
    mapping: dict[str, Any] = {"hostPort": port, "containerPort": 80, "protocol": "tcp"}
    return Attachment(container, netns, runtime_config={"portMappings": [mapping]})


def nft(text: str) -> str:
    return subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=True).stdout


def tables() -> list[str]:
    """Each table's sets and chains in any order, without elements and records."""
    found, table = [], ""
    listed = subprocess.run(["nft", "--terse", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    for block in listed.replace("\n\n", "\n").split("\t}\n"):
        if named := re.search(r"^\}?\n?(table .* \{)\n", block):
            table = named[1]
        found.append(f"{table} {block.removeprefix('}').lstrip().removeprefix(table).strip()}")
    return sorted(block for block in found if "chain layout-" not in block)


def delete_one_rule() -> None:
    listed = subprocess.run(["nft", "-a", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    table = chain = ""
    done = set()
    for line in listed.splitlines():
        if found := re.match(r"table (\w+ \w+)", line):
            table = found[1]
        elif found := re.match(r"\tchain (\S+)", line):
            chain = found[1]
        elif (
            found := re.match(r"\t\t.* (?:masquerade|drop|map @\S+|dnat .*) # handle (\d+)", line)
        ) and table not in done:
            nft(f"delete rule {table} {chain} handle {found[1]}")
            done.add(table)
    assert len(done) == 3, done


@pytest.mark.parametrize("what", TAMPERINGS)
@isolated
def test_whatever_was_done_to_the_tables_the_next_add_makes_good(tmp_path: Path, what: str) -> None:
    subject, net = pods.runtime(tmp_path), network(tmp_path)
    with pods.outside(knows_pods=False) as world, sandboxes(3) as (one, two, three):
        subject.add(net, attachment(one, "one", 8001))
        if "mark" in what:
            subject.add(network(tmp_path, 14), attachment(two, "two", 8002))
        before = tables()
        for text in TAMPERINGS[what]:
            nft(text)
        if not TAMPERINGS[what]:
            delete_one_rule()
        assert tables() != before
        subject.add(net, attachment(three, "three", 8003))
        assert tables() == before
        for family in (4, 6):
            assert pods.reaches(three, world, OUTSIDE[family]) == NODE[family]
        subject.check(net, attachment(three, "three", 8003))


@isolated
def test_an_add_that_finds_all_as_it_was_sends_its_elements_and_nothing_else(tmp_path: Path) -> None:
    subject, net = pods.runtime(tmp_path), network(tmp_path)
    with sandboxes(2) as (one, two), Nfnetlink() as kernel:
        subject.add(net, attachment(one, "one", 8001))
        before = kernel.generation()
        subject.add(net, attachment(two, "two", 8002))
        assert kernel.generation() - before == 3, "a batch for each of the three tables"


@isolated
def test_a_table_without_a_record_gets_one_and_a_stale_record_goes(tmp_path: Path) -> None:
    text = (
        "table inet t {\n chain c {\n type filter hook input priority 0; policy accept;\n }\n}\nflush chain inet t c\n"
    )
    nft(text)
    nft("add chain inet t layout-0123456789abcdef")
    with Nfnetlink() as kernel:
        repair.ensure(kernel, {}, "inet t", lambda _: text)
        records = [line for line in pods.ruleset().splitlines() if "layout-" in line]
        assert len(records) == 1
        assert "0123456789abcdef" not in records[0]
        generation = kernel.generation()
        repair.ensure(kernel, {}, "inet t", lambda _: text)
        assert kernel.generation() == generation
        another = text.replace("accept", "drop")
        repair.ensure(kernel, {}, "inet t", lambda _: another)
        assert "policy drop" in pods.ruleset()
        assert pods.ruleset().count("layout-") == 1
