"""What a check captures: whole in its file whatever ended the block, once each, by interface."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.capture import pcapng
from netlab.capture.engine import Source
from netlab.capture.taps import Tap
from netlab.errors import NetlabError, NotFoundError
from netlab.scenario.recording import Recording, find, recording
from tests.sandbox import isolated

LO, VETH = Tap("node-1", "ns/pod", "lo", "loopback"), Tap("node-1", "node-1", "veth0", "veth")
PORT = 20000


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True)


def sources() -> list[Source]:
    """Both taps, in the namespace of the test."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "veth0", "type", "veth", "peer", "veth1")
    for name, address in (("veth0", "10.0.0.1/24"), ("veth1", "10.0.1.1/24")):
        ip("link", "set", name, "up")
        ip("address", "add", address, "dev", name)
    return [Source(tap, socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) for tap in (LO, VETH)]


@contextlib.contextmanager
def taken(path: Path, expression: str = "udp") -> Iterator[tuple[Recording, Recording]]:
    with recording(path, sources(), expression) as (lo, veth):
        yield lo, veth


def send(address: str, *texts: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("", PORT))
        for text in texts:
            sender.sendto(text.encode(), (address, 9))


@isolated
def test_each_packet_is_with_its_interface_and_once(tmp_path: Path) -> None:
    with taken(tmp_path / "new" / "a.pcapng") as (lo, veth):
        send("127.0.0.1", "a", "b")
    # What loopback carries is sent and received at one interface.
    assert [p.payload for p in lo.select(protocol="UDP")] == [b"a", b"b"]
    assert lo.first() == f"127.0.0.1:{PORT} > 127.0.0.1:9 UDP"
    assert (veth.packets, veth.first()) == ([], "nothing")
    assert lo.path == veth.path
    assert pcapng.read(lo.path).taps == [LO, VETH]


@isolated
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_block_that_was_broken_off_leaves_what_it_took(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.pcapng"

    def broken_off() -> None:
        with taken(path):
            send("127.0.0.1", "a")
            raise error

    with pytest.raises(error):
        broken_off()
    assert [p.payload for p in Recording(path, LO).packets] == [b"a"]


@isolated
def test_what_was_lost_is_told_of_its_interface_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    pcapng.write(path, [], taps=[LO, VETH], drops={LO: 3})
    with pytest.raises(NetlabError, match=r"a\.pcapng: 3 packets of ns/pod lo lost"):
        _ = Recording(path, LO).packets
    assert Recording(path, VETH).packets == []


def test_an_interface_that_is_not_there_is_told_with_those_that_are() -> None:
    taps = {(tap.owner, tap.interface): tap for tap in (LO, VETH, Tap("node-1", "ns/pod", "eth0", "pod"))}
    assert find(taps, "node-1", "veth0") == VETH
    with pytest.raises(NotFoundError, match=r"ns/pod has no interface 'eth1' that is up; it has eth0, lo"):
        find(taps, "ns/pod", "eth1")
    with pytest.raises(NotFoundError, match=r"ns/gone has no interface 'eth0' that is up; it has none"):
        find(taps, "ns/gone", "eth0")
