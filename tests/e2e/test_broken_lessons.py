"""The lessons that break something: whatever becomes of them, the machines of the lab are afterwards as they were."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.machines import configuration, state


@pytest.fixture(scope="module")
def warm(lab: Netlab, tmp_path_factory: pytest.TempPathFactory) -> Netlab:
    """A lab in which pods have been: the bridge that the first one brings stays."""
    lab.ok("scenario", "run", "02-pod-to-pod", "--pcap-dir", str(tmp_path_factory.mktemp("warm")))
    return lab


def has_firewall(lab: Netlab) -> bool:
    return "netlab-demo-mtu" in lab.ok("exec", "node/node-1", "--", "nft", "list", "tables")


def has_stopped_proxy(lab: Netlab) -> bool:
    return "kube-proxy-node T" in lab.ok("exec", "node/node-1", "--", "ps", "-eo", "comm,state")


def is_narrow(lab: Netlab) -> bool:
    return "rangeStart" in configuration(lab)


def lacks_entry(lab: Netlab) -> bool:
    return "dst 192.0.2.2" not in lab.ok("exec", "node/node-1", "--", "bridge", "fdb", "show", "dev", "vxlan0")


@pytest.mark.parametrize(
    ("lesson", "broken"),
    [
        ("07-mtu-black-hole", has_firewall),
        ("10-stale-udp-conntrack", has_stopped_proxy),
        ("12-exhausted-subnet", is_narrow),
        ("14-missing-fdb-entry", lacks_entry),
    ],
)
def test_an_interruption_repairs_what_is_broken(
    warm: Netlab, tmp_path: Path, lesson: str, broken: Callable[[Netlab], bool]
) -> None:
    before = state(warm)
    argv = warm.argv("scenario", "run", lesson, "--pcap-dir", str(tmp_path))
    running = subprocess.Popen(argv, env=warm.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: broken(warm))
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.strip()) == (130, "netlab: interrupted")
    assert state(warm) == before


def test_a_lesson_is_skipped_where_it_makes_no_sense(netlab: Netlab, tmp_path: Path) -> None:
    argv = ["14-missing-fdb-entry", "--network", "routed", "--pcap-dir", str(tmp_path), "-o", "json"]
    (result,) = json.loads(netlab.ok("scenario", "run", *argv))
    assert result["status"] == "skipped"
    assert {check["observed"] for check in result["checks"]} == {"it needs network vxlan, not routed"}


UNREPAIRED = """
from netlab.scenario import Context, check

@check("It breaks two things, and can repair one")
def broken(ctx: Context) -> None:
    set_ = ["sysctl", "-qw"]
    ctx.fault(ctx.outside, [*set_, "net.ipv4.conf.eth0.arp_ignore=1"], undo=[*set_, "net.ipv4.conf.eth0.arp_ignore=0"])
    ctx.fault(ctx.outside, [*set_, "net.ipv4.conf.eth0.arp_announce=1"], undo=["false"])
    ctx.expect(1, 2)
"""


def test_what_cannot_be_undone_is_told_and_ends_the_run(warm: Netlab, tmp_path: Path) -> None:
    lesson = tmp_path / "lesson"
    (lesson / "manifests").mkdir(parents=True)
    (lesson / "manifests/none.yaml").touch()
    (lesson / "scenario.yaml").write_text("{name: lesson, title: A lesson of mine, traffic: pod-to-pod}")
    (lesson / "README.md").write_text("# Mine\n")
    (lesson / "checks.py").write_text(UNREPAIRED)
    told = warm.fails(1, "scenario", "run", str(lesson), "02-pod-to-pod", "--pcap-dir", str(tmp_path))
    assert "not undone: outside: `sysctl -qw net.ipv4.conf.eth0.arp_announce=1`: " in told
    assert "`false`: no message (exit status 1)" in told
    settings = ["net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.eth0.arp_announce"]
    assert warm.ok("exec", "outside", "--", "sysctl", "-n", *settings).split() == ["0", "1"]
    warm.ok("exec", "outside", "--", "sysctl", "-qw", f"{settings[1]}=0")


def test_an_interruption_while_a_module_loads_has_the_status_of_any_other(netlab: Netlab, tmp_path: Path) -> None:
    lesson = tmp_path / "lesson"
    (lesson / "manifests").mkdir(parents=True)
    (lesson / "manifests/none.yaml").touch()
    (lesson / "scenario.yaml").write_text("{name: lesson, title: A lesson of mine, traffic: pod-to-pod}")
    # As dataclasses run the source of their methods.
    (lesson / "checks.py").write_text('exec("raise KeyboardInterrupt")')
    assert netlab.fails(130, "scenario", "show", str(lesson)) == "netlab: interrupted"
