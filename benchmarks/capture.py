"""Packets captured at every interface of a path at once: how many are lost, beside tcpdump, one for each interface.

    python -m benchmarks.capture [--rate PACKETS] [--seconds S] [--size BYTES] [--json]

A sender at a steady pace sends UDP from a pod through two nodes, each with a bridge, to another pod: a packet passes
eight interfaces, in four network namespaces. Lost is what the kernel had no room for; that all else was read, in order
and in time, is verified. The floor is tcpdump on the same load, with its own ring (2 MiB) and with the engine's size;
it is left out for an ordinary user, as tcpdump calls setgroups(2), which a user namespace refuses. Everything runs in
namespaces of its own.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from netlab.capture import pcapng
from netlab.capture.engine import Engine, Source
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap
from netlab.net.namespaces import entered, write_sysctls
from tests.sandbox import enter
from tests.system.proxy.hosts import Host

ADDRESS, PORT = "10.1.2.2", 5000
FILTER = f"udp port {PORT}"
GOAL = 50_000
"""Packets a second of which none is lost, on two cores."""
PATH = (
    ("pod-a", "eth0"), ("node-1", "veth-a"), ("node-1", "cni0"), ("node-1", "eth0"),
    ("node-2", "eth0"), ("node-2", "cni0"), ("node-2", "veth-b"), ("pod-b", "eth0"),
)  # fmt: skip
NODE = """
link add cni0 type bridge
addr add 10.1.{node}.1/24 dev cni0
link set cni0 up
link set veth-{pod} master cni0 up
addr add 192.0.2.{node}/24 dev eth0
link set eth0 up
route add 10.1.{other}.0/24 via 192.0.2.{other}
"""
POD = """
addr add 10.1.{node}.2/24 dev eth0
link set eth0 up
route add default via 10.1.{node}.1
"""


class Sent(NamedTuple):
    """What the sender did, in how many seconds."""

    packets: int
    seconds: float


def path() -> dict[str, Host]:
    """The hosts, wired."""
    hosts = {name: Host(name) for name in ("pod-a", "node-1", "node-2", "pod-b")}
    for pod, owner in (("a", "node-1"), ("b", "node-2")):
        hosts[owner].ip(f"link add veth-{pod} type veth peer name eth0 netns {hosts[f'pod-{pod}'].pid}\n")
    hosts["node-1"].ip(f"link add eth0 type veth peer name eth0 netns {hosts['node-2'].pid}\n")
    for node, pod, other in ((1, "a", 2), (2, "b", 1)):
        hosts[f"node-{node}"].call(write_sysctls, {"net/ipv4/ip_forward": "1"})
        hosts[f"node-{node}"].ip(NODE.format(node=node, pod=pod, other=other))
        hosts[f"pod-{pod}"].ip(POD.format(node=node))
    hosts["pod-b"].call(receive)
    while not hosts["pod-b"].call(arrived):  # links that have come up carry packets some time later
        hosts["pod-a"].call(send, 100, 0.1, 64)
    return hosts


_receivers: list[socket.socket] = []


def receive() -> None:
    """Keep the port open: nothing needs to read."""
    _receivers.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    _receivers[0].bind((ADDRESS, PORT))


def arrived() -> bool:
    """Whether a packet has come."""
    try:
        return bool(_receivers[0].recv(9000, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def send(rate: int, seconds: float, size: int) -> Sent:
    """Send at a steady pace, each packet with its number."""
    payload = bytearray(size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((ADDRESS, PORT))
        began = time.perf_counter()
        sent, wanted = 0, int(rate * seconds)
        while sent < wanted:
            due = min(wanted, int((time.perf_counter() - began) * rate) + 1)
            while sent < due:
                payload[:8] = sent.to_bytes(8)
                sender.send(payload)
                sent += 1
            time.sleep(0.0005)
        return Sent(sent, time.perf_counter() - began)


def source(hosts: dict[str, Host], owner: str, interface: str) -> Source:
    """A tap, with a socket made where it is."""
    descriptor = os.open(f"/proc/{hosts[owner].pid}/ns/net", os.O_RDONLY)
    try:
        with entered(descriptor):
            taker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    finally:
        os.close(descriptor)
    return Source(Tap(owner, owner, interface, "bridge" if interface == "cni0" else "other"), taker)


def numbers(frames: list[Frame]) -> dict[Tap, list[int]]:
    """The packets that each tap saw, by their numbers: after Ethernet, IPv4 and UDP."""
    found: dict[Tap, list[int]] = collections.defaultdict(list)
    for frame in frames:
        found[frame.tap].append(int.from_bytes(frame.data[42:50]))
    return found


def by_engine(hosts: dict[str, Host], work: Callable[[], Sent], folder: Path) -> dict[str, Any]:
    """The work watched by the engine, without reading; then all of it is read and written."""
    with Engine([source(hosts, *each) for each in PATH], FILTER) as engine:
        sent = work()
        began = time.perf_counter()
        engine.stop()
        stopped = time.perf_counter() - began
        with pcapng.Writer(folder / "x.pcapng", engine.taps, expression=FILTER) as writer:
            began = time.perf_counter()
            frames = []
            for frame in engine.frames():
                writer.write(frame)
                frames.append(frame)
            writer.flush()
            reading = time.perf_counter() - began
        seen = numbers(frames)
        received, drops = engine.received, engine.drops
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames), "out of order"
    for tap, total in received.items():
        assert len(seen[tap]) == total - drops[tap], f"{tap.name}: frames were lost on their way here"
        assert seen[tap] == sorted(set(seen[tap])), f"{tap.name}: out of order, or twice"
    return {
        "capture": "netlab",
        "rate": round(sent.packets / sent.seconds),
        "sent": sent.packets,
        "received": sum(received.values()),
        "dropped": sum(drops.values()),
        # A tap is passed over by what was lost on the way to it, which no capture can help.
        "unseen": sum(sent.packets - total for total in received.values()),
        "stop_ms": round(stopped * 1e3, 1),
        "read_and_written_a_second": round(len(frames) / reading),
    }


_COUNT = re.compile(r"(\d+) packets (received by filter|dropped by kernel)")


def by_tcpdump(hosts: dict[str, Host], work: Callable[[], Sent], folder: Path, kibibytes: int) -> dict[str, Any]:
    """The work watched by a tcpdump for each tap."""
    running = []
    for number, (owner, interface) in enumerate(PATH):
        argv = ["nsenter", f"--net=/proc/{hosts[owner].pid}/ns/net", "tcpdump", "-i", interface, "-n"]
        argv += ["-B", str(kibibytes), "-Z", "root", "-w", str(folder / f"{number}.pcap"), FILTER]
        running.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
    said = [""] * len(running)
    for index, process in enumerate(running):
        assert process.stderr is not None
        while "listening on" not in said[index]:
            line = process.stderr.readline()
            assert line, f"tcpdump ended: {said[index]}"
            said[index] += line
    sent = work()
    time.sleep(1.5)  # it ends without reading what it has in its ring; a block is handed over after a second
    counts: collections.Counter[str] = collections.Counter()
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        for value, what in _COUNT.findall(process.communicate()[1]):
            counts[what] += int(value)
    return {
        "capture": f"tcpdump -B {kibibytes}",
        "rate": round(sent.packets / sent.seconds),
        "sent": sent.packets,
        "received": counts["received by filter"],
        "dropped": counts["dropped by kernel"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=GOAL, help="packets a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=64, help="bytes of payload")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    root = os.geteuid() == 0
    enter()
    hosts = path()

    def work() -> Sent:
        return hosts["pod-a"].call(send, options.rate, options.seconds, options.size)

    with tempfile.TemporaryDirectory() as folder:
        rows = [by_engine(hosts, work, Path(folder))]
        if root:
            rows += [by_tcpdump(hosts, work, Path(folder), kibibytes) for kibibytes in (2048, 16384)]
    if options.json:
        print(json.dumps({"goal": GOAL, "taps": len(PATH), "figures": rows}, indent=2))
        return
    print(f"{options.rate} packets a second of {options.size} bytes for {options.seconds:g} s, {len(PATH)} taps")
    for row in rows:
        extra = f", read and written at {row['read_and_written_a_second']} a second" if "stop_ms" in row else ""
        share = row["dropped"] / max(row["received"], 1)
        print(
            f"{row['capture']:17} sent {row['sent']} at {row['rate']} a second; received {row['received']}, "
            f"dropped {row['dropped']} ({share:.2%}){extra}"
        )


if __name__ == "__main__":
    main()
