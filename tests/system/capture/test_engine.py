"""The engine on interfaces of the test's own: what is captured, what is lost, and what comes and goes meanwhile."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from netlab.capture import engine as engine_module
from netlab.capture.engine import Engine, Source
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap
from netlab.errors import ExhaustedError, NetlabError, NotFoundError, UnsupportedError, UsageError
from netlab.net import syscalls
from netlab.net.namespaces import entered
from tests.sandbox import enter, isolated
from tests.system.capture.wires import PAIR, PORT, THERE, ip, number, send, source, tap

FILTER = f"udp port {PORT}"


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def seen(frames: list[Frame], interface: str) -> list[int]:
    return [number(frame.data) for frame in frames if frame.tap.interface == interface]


@isolated
def test_every_packet_sent_before_the_stop_is_read_in_order_of_time() -> None:
    ip(PAIR)
    with Engine([source("left"), source("right"), source("lo")], FILTER) as engine:
        for first in range(0, 3000, 100):
            send(100, first=first)
            send(100, "127.0.0.1", first=first)
        engine.stop()
        send(10)
        frames = list(engine.frames())
        assert engine.finished
        assert engine.read(1) == []
    for interface in ("left", "right", "lo"):  # on the loopback each is seen once, too
        assert seen(frames, interface) == list(range(3000))
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)
    assert abs(frames[0].time - time.time_ns()) < 60 * 10**9
    assert {frame.tap.interface: frame.outgoing for frame in frames} == {"left": True, "right": False, "lo": False}
    assert {frame.length for frame in frames} == {50}
    assert engine.received == dict.fromkeys(engine.taps, 3000)
    assert engine.drops == dict.fromkeys(engine.taps, 0)
    assert engine.gone == set()


@isolated
def test_frames_of_the_same_time_are_in_the_order_of_their_way() -> None:
    """Where anybody wants stamps, a bridge hands up what came in with the stamp of its port."""
    ip(PAIR + "link add bridge type bridge\nlink set right master bridge\nlink set bridge up\n")
    ip("link set bridge address 02:00:00:00:00:01\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wants:
        wants.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
        bridge = Source(Tap("node-1", "node-1", "bridge", "bridge"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        with Engine([bridge, source("right"), source("left")], FILTER) as engine:
            for first in range(0, 1000, 10):
                send(10, first=first)
            engine.stop()
            frames = list(engine.frames())
    ways: dict[int, list[str]] = {}
    for frame in frames:
        ways.setdefault(number(frame.data), []).append(frame.tap.interface)
    assert list(ways) == list(range(1000))
    assert all(way == ["left", "right", "bridge"] for way in ways.values())


@isolated
def test_packets_are_read_while_they_come() -> None:
    ip(PAIR)
    with Engine([source("left"), source("right")], FILTER) as engine:
        assert engine.read(0.05) == []
        for turn in range(3):
            send(1, first=turn)
            found: list[Frame] = []
            while len(found) < 2:
                found += engine.read(20)
            assert [(frame.tap.interface, number(frame.data)) for frame in found] == [("left", turn), ("right", turn)]


@isolated
def test_a_stop_from_a_signal_handler_or_thread_ends_the_waiting() -> None:
    ip(PAIR)
    with Engine([source("left")], FILTER) as engine:
        send(5)
        threading.Timer(0.2, engine.stop).start()
        assert len(list(engine.frames())) == 5
        engine.stop()
    with Engine([source("left")], FILTER) as engine:
        signal.signal(signal.SIGALRM, lambda *_: engine.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        send(5)
        assert len(list(engine.frames())) == 5


@isolated
def test_taps_are_where_their_sockets_were_made() -> None:
    ip(PAIR)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    ip("link set lo up")
    with entered(here):
        taps = [source("left", "one"), source("lo", "one")]
    with Engine([*taps, source("lo", "two")], FILTER) as engine:
        send(1, "127.0.0.1")
        with entered(here):
            send(2)
        engine.stop()
        assert [frame.tap.name for frame in engine.frames()] == ["two lo", "one left", "one left"]


@isolated
def test_no_packet_that_the_filter_refuses_slips_in() -> None:
    ip(PAIR)
    done = threading.Event()

    def send_others() -> None:
        while not done.is_set():
            send(10, port=PORT + 1)

    sender = threading.Thread(target=send_others)
    sender.start()
    try:
        for _ in range(10):
            with Engine([source("left"), source("right")], FILTER) as engine:
                send(1)
                engine.stop()
                assert len(list(engine.frames())) == 2
    finally:
        done.set()
        sender.join()


@isolated
def test_a_tap_that_comes_later_is_watched_from_then_on() -> None:
    ip(PAIR)
    with Engine(expression=FILTER) as engine:
        send(1, first=0)
        engine.add(source("left"))
        send(1, first=1)
        engine.add(source("right"))
        send(1, first=2)
        engine.stop()
        frames = list(engine.frames())
        assert (seen(frames, "left"), seen(frames, "right")) == ([1, 2], [2])
        with pytest.raises(NetlabError, match="the capture has ended"):
            engine.add(source("lo"))


@isolated
def test_a_tap_that_goes_leaves_what_it_had_and_disturbs_no_other() -> None:
    ip(PAIR)
    ip("link add other type bridge\nlink set other up\n")
    with Engine([source("left"), source("right"), source("other"), source("lo")], FILTER) as engine:
        send(100)
        ip("link set other down\nlink del left\n")
        eventually(lambda: len(engine.gone) == 2)
        assert engine.gone == {tap("left"), tap("right")}
        ip("link del other\n")  # which was down before
        eventually(lambda: len(engine.gone) == 3)
        send(3, "127.0.0.1")
        engine.stop()
        frames = list(engine.frames())
    assert seen(frames, "left") == seen(frames, "right") == list(range(100))
    assert len(seen(frames, "lo")) == 3


@isolated
def test_a_tap_that_comes_back_is_one_tap() -> None:
    ip(PAIR)
    with Engine([source("left")], FILTER) as engine:
        send(2)
        ip("link del left\n")
        eventually(lambda: engine.gone == {tap("left")})
        ip(PAIR)
        engine.add(source("left"))
        assert engine.gone == set()
        send(3)
        engine.stop()
        assert len(list(engine.frames())) == 5
        assert (engine.taps, engine.received, engine.drops) == ([tap("left")], {tap("left"): 5}, {tap("left"): 0})


@isolated
def test_a_namespace_that_goes_is_not_held_by_its_taps() -> None:
    ip(PAIR)
    child = os.fork()
    if child == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        signal.pause()
    eventually(lambda: not Path(f"/proc/{child}/ns/net").samefile("/proc/self/ns/net"))
    there = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
    ip(f"link set right netns {child}\n")
    with entered(there):
        ip("link set right up\n")
        taken = source("right", "default/gone")
    with Engine([taken, source("left")], FILTER) as engine:
        send(2)
        os.close(there)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ip("link del left\n")  # as CNI's DEL does
        eventually(lambda: len(engine.gone) == 2)
        engine.stop()
        assert len(list(engine.frames())) == 4


@isolated
def test_an_interface_that_was_down_is_watched_when_it_is_up_again() -> None:
    ip(PAIR)
    watched = source("right")
    right = watched.socket.dup()
    with Engine([watched], FILTER) as engine, right:
        send(1, first=0)
        trouble = select.poll()
        trouble.register(right, 0)
        ip("link set right down\n")
        eventually(lambda: not trouble.poll(0))  # the engine has taken note of the error that this is
        ip(f"link set right up\nneigh replace {THERE} lladdr 02:00:00:00:00:01 dev left\n")
        eventually(lambda: b"state UP" in subprocess.check_output(["ip", "link", "show", "left"]))
        send(1, first=1)
        engine.stop()
        assert seen(list(engine.frames()), "right") == [0, 1]
        assert engine.gone == set()


@isolated
def test_what_there_is_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ip(PAIR)
    monkeypatch.setattr(engine_module, "_MEMORY", 1)
    with Engine([source("left"), source("right")], FILTER) as engine:
        send(10)
        eventually(lambda: sum(engine.received.values()) == 20)
        os.kill(engine._child, signal.SIGSTOP)
        send(3000, first=10)
        os.kill(engine._child, signal.SIGCONT)
        engine.stop()
        frames = list(engine.frames())
    for interface in ("left", "right"):
        found, lost = seen(frames, interface), engine.drops[tap(interface)]
        assert lost > 0
        assert len(found) == 3010 - lost
        assert found == sorted(found)
        assert found[:10] == list(range(10))
        assert engine.received[tap(interface)] == 3010


@isolated
def test_segments_are_whole_that_are_longer_than_any_mtu() -> None:
    ip("link set lo up\n")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Engine([source("lo")], f"tcp port {server.getsockname()[1]}") as engine,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            writer = threading.Thread(target=client.sendall, args=(b"abcdefgh" * 250_000,))
            writer.start()
            left = 2_000_000
            while left:
                left -= len(accepted.recv(1 << 20))
            writer.join()
        engine.stop()
        frames = list(engine.frames())
    assert max(frame.length for frame in frames) > 60_000
    assert all(len(frame.data) == frame.length for frame in frames)


@isolated
def test_only_so_many_bytes_are_kept() -> None:
    ip(PAIR)
    with Engine([source("left")], FILTER, snaplen=60) as engine:
        send(1, size=1000)
        engine.stop()
        ((_, _, _, data, length),) = engine.frames()
    assert (len(data), length) == (60, 1042)


@isolated
def test_vlan_tags_are_put_back() -> None:
    ip(PAIR)
    frame = bytes.fromhex("0200000000010200000000028100a0050800") + b"tagged" * 10
    with (
        Engine([source("left"), source("right")]) as engine,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender,
    ):
        sender.bind(("left", 0))
        sender.send(frame)
        engine.stop()
        tagged = [(each.data, each.length) for each in engine.frames() if each.data.endswith(b"tagged")]
    assert tagged == [(frame, len(frame))] * 2  # the kernel takes the tag out where a frame comes in


_TAGGED = {
    "vlan": "abcd",
    "vlan 7": "ac",
    "vlan 7 and host 192.0.2.2": "a",
    "vlan 5 and vlan 7 and udp port 7777": "d",
    "udp port 7777": "e",
    "udp port 7777 and not vlan": "e",
    "ether[14:2] & 0xfff = 8": "b",
}
"""Which of the frames below each filter takes."""


@isolated
@pytest.mark.parametrize("expression", _TAGGED)
def test_a_filter_takes_tagged_frames_at_both_ends_or_at_none(expression: str) -> None:
    ip(PAIR)
    datagram = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=7777)
    head = {"src": "02:00:00:00:00:02", "dst": "02:00:00:00:00:01"}
    sent = {
        "a": Ether(**head) / Dot1Q(vlan=7, prio=3) / datagram / b"a",
        "b": Ether(**head) / Dot1Q(vlan=8) / datagram / b"b",
        "c": Ether(**head) / Dot1Q(vlan=7) / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=1, dport=7777) / b"c",
        "d": Ether(type=0x88A8, **head) / Dot1Q(vlan=5, type=0x8100) / Dot1Q(vlan=7) / datagram / b"d",
        "e": Ether(**head) / datagram / b"e",
    }
    with (
        Engine([source("left"), source("right")], expression) as engine,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender,
    ):
        sender.bind(("left", 0))
        for packet in sent.values():
            sender.send(bytes(packet))
        engine.stop()
        frames = list(engine.frames())
    for interface in ("left", "right"):
        taken = [frame.data for frame in frames if frame.tap.interface == interface]
        assert taken == [bytes(sent[name]) for name in _TAGGED[expression]]


@isolated
def test_hundreds_of_taps_begin_and_end_together() -> None:
    ip(PAIR + "".join(f"link add a{n} type veth peer name b{n}\n" for n in range(100)))
    sources = [source(f"{end}{n}") for n in range(100) for end in "ab"]
    with Engine([*sources, source("right")], FILTER) as engine:
        send(5)
        engine.stop()
        assert seen(list(engine.frames()), "right") == list(range(5))


@isolated
@pytest.mark.parametrize(
    ("interface", "expression", "error", "says"),
    [
        ("nosuch0", "", NotFoundError, "default/web-1: no interface 'nosuch0' there"),
        ("nosuch0", "udp", NotFoundError, "nosuch0"),
        ("an-interface-name-that-is-too-long", "", NotFoundError, "an-interface-name"),
        ("lo", "tcp prot 80", UsageError, "syntax error"),
        ("tunnel", "", UnsupportedError, "not an Ethernet interface"),
    ],
)
def test_a_refusal_says_why_in_one_line_and_leaves_nothing(
    interface: str, expression: str, error: type[NetlabError], says: str
) -> None:
    if interface == "tunnel":
        made = subprocess.run(
            ["ip", "tuntap", "add", "mode", "tun", "name", "tunnel"], check=False, capture_output=True
        )
        if made.returncode:
            pytest.skip("this kernel has no such interfaces")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(error) as caught:
        Engine([source("lo"), source(interface)], expression)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@isolated
def test_a_killed_capture_is_an_error_after_what_it_had_taken() -> None:
    ip(PAIR)
    with Engine([source("left")], FILTER) as engine:
        send(5)
        eventually(lambda: sum(engine.received.values()) == 5)
        os.kill(engine._child, signal.SIGKILL)
        assert len(engine.read(20)) == 5
        with pytest.raises(NetlabError, match="was killed"):
            engine.read(20)
        with pytest.raises(NetlabError, match="was killed"):
            list(engine.frames())


@isolated
def test_a_full_disk_is_an_error_after_what_it_had_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ip(PAIR)
    syscalls.mount("tmpfs", tmp_path, "tmpfs", 0, "size=256k")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(engine_module, "_SPOOL_SHARE", 1 << 60)  # nothing in memory
    with Engine([source("left")], FILTER) as engine:
        send(5000, size=200)
        frames: list[Frame] = []
        with pytest.raises(ExhaustedError, match="No space left on device"):
            frames.extend(engine.frames())
    assert seen(frames, "left") == list(range(len(frames)))
    assert 0 < len(frames) < 5000


@isolated
def test_the_end_of_its_parent_is_the_end_of_the_capture() -> None:
    ip(PAIR)
    code = (
        "import time; from tests.system.capture.wires import source; from netlab.capture.engine import Engine\n"
        "engine = Engine([source('left')]); print(engine._child, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    eventually(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


def test_it_serves_an_ordinary_users_namespaces() -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            enter(user=True)
            ip(PAIR)
            with Engine([source("left")], FILTER) as engine:
                send(3)
                engine.stop()
                os._exit(len(list(engine.frames())))
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
