"""tcpdump in namespaces of the test's own."""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from netlab.capture.packets import read, select
from netlab.capture.tcpdump import Capture
from netlab.errors import NetlabError, NotFoundError, UnsupportedError, UsageError
from netlab.net import syscalls
from tests.sandbox import isolated

BURST = 500
"""Each is in the ring twice on a loopback, of 2,048 slots: none is lost however late tcpdump is scheduled."""


def _bring_loopback_up() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _send(count: int, port: int = 4000) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(count):
            sender.sendto(str(number).encode(), ("127.0.0.1", port))


@isolated
def test_every_packet_sent_before_the_stop_is_in_the_file(tmp_path: Path) -> None:
    _bring_loopback_up()
    path = tmp_path / "new" / "lo.pcap"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        Capture(path, interface="lo", expression="udp port 4000") as capture,
    ):
        receiver.bind(("127.0.0.1", 4000))
        _send(BURST)
    seen = read(path)
    payloads = [packet.payload for packet in select(seen, protocol="UDP", destination_port=4000)]
    assert payloads == [str(number).encode() for number in range(BURST)]
    assert capture.dropped == 0
    assert [packet.time for packet in seen] == sorted(packet.time for packet in seen)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@isolated
def test_a_capture_enters_the_namespace_of_its_interface(tmp_path: Path) -> None:
    _bring_loopback_up()
    there = os.open("/proc/self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)  # this process leaves; its loopback here is down
    with Capture(tmp_path / "lo.pcap", interface="lo", enter=lambda: syscalls.setns(there)):
        syscalls.setns(there)
        _send(3)
    assert len(select(read(tmp_path / "lo.pcap"), protocol="UDP")) == 3


@isolated
@pytest.mark.parametrize(
    ("interface", "expression", "error", "says"),
    [
        ("lo", "tcp prot 80", UsageError, "filter 'tcp prot 80': can't parse filter expression: syntax error"),
        ("lo", "tcp port nosuch", UsageError, "unknown port 'nosuch'"),
        ("lo", "-w /tmp/elsewhere", UsageError, "syntax error"),
        ("nosuch0", "", NotFoundError, "nosuch0"),
        ("nosuch0", "tcp port 80", NotFoundError, "nosuch0"),
    ],
)
def test_a_refusal_says_why_in_one_line(
    tmp_path: Path, interface: str, expression: str, error: type[NetlabError], says: str
) -> None:
    with pytest.raises(error) as caught, Capture(tmp_path / "x.pcap", interface=interface, expression=expression):
        pass
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@isolated
def test_why_a_namespace_cannot_be_entered_is_told(tmp_path: Path) -> None:
    def enter() -> None:
        raise NotFoundError("the pod has ended meanwhile")

    with (
        pytest.raises(NetlabError, match="the pod has ended meanwhile"),
        Capture(tmp_path / "x.pcap", interface="lo", enter=enter),
    ):
        pass


@isolated
def test_a_killed_tcpdump_is_an_error_and_the_file_so_far_is_whole(tmp_path: Path) -> None:
    _bring_loopback_up()
    path = tmp_path / "x.pcap"
    capture = Capture(path, interface="lo")
    capture.wait_listening()
    _send(5)
    capture._settle()
    os.kill(capture._process.pid, signal.SIGKILL)
    with pytest.raises(NetlabError, match="tcpdump ended"):
        capture.stop()
    assert len(select(read(path), protocol="UDP")) == 5


def test_without_tcpdump_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(UnsupportedError, match="install the package tcpdump"):
        Capture(tmp_path / "x.pcap", interface="lo")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetlabError, match="file: File exists: packets cannot be written there"):
        Capture(tmp_path / "file" / "x.pcap", interface="lo")
