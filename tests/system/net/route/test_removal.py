"""Links that are removed without waiting until the kernel has freed them."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from netlab.net.netlink import NetlinkError
from netlab.net.route import removal
from tests.sandbox import isolated


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def names() -> set[str]:
    return {path.name for path in Path("/proc/sys/net/ipv4/conf").iterdir()} - {"all", "default"}


def make_port() -> None:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "host", "master", "br0", "type", "veth", "peer", "name", "pod")
    for name in ("br0", "host", "pod"):
        ip("link", "set", name, "up")


@isolated
def test_a_bridges_port_is_gone_with_its_peer_and_its_name_is_free() -> None:
    for _ in range(10):
        make_port()
        removal.remove("host")
        assert names() == {"lo", "br0"}
        removal.remove("br0")
        assert names() == {"lo"}


@isolated
def test_many_are_removed_at_once() -> None:
    for number in range(20):
        ip("link", "add", f"host{number}", "type", "veth", "peer", "name", f"pod{number}")
    threads = [threading.Thread(target=removal.remove, args=(f"host{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names() == {"lo"}


@isolated
def test_a_link_that_is_not_there_is_no_failure() -> None:
    removal.remove("none")


@isolated
def test_what_the_kernel_refuses_is_raised() -> None:
    with pytest.raises(NetlinkError, match="link lo"):
        removal.remove("lo")


@isolated
def test_without_another_thread_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(removal, "start_new_thread", refuse)
    make_port()
    removal.remove("host")
    assert names() == {"lo", "br0"}
