"""Packets that never stop, between two pods of a node: what comes to the node, and what goes on.

Each packet is a connection's first: UDP that nobody answers. A client sends to a port that policies leave open and to
one that they close, in both families.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from netlab.net.addresses import Family
from tests.system.proxy.hosts import Host

FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
CLIENT = ("10.244.1.2", "fd00:10:244:1::2")
SERVER = ("10.244.1.3", "fd00:10:244:1::3")
OPEN, CLOSED = 8080, 9090
_PAUSE = 0.0005
"""Seconds between two rounds of packets: the tests share the machine."""
_PATIENCE = 30.0
"""Seconds in which anything happens, on the slowest machine."""
_EVIDENCE = f"""
table inet evidence {{
  counter open-came {{ }}
  counter open-passed {{ }}
  counter closed-came {{ }}
  counter closed-passed {{ }}
  chain before {{ type filter hook forward priority -10
    udp dport {OPEN} counter name open-came
    udp dport {CLOSED} counter name closed-came
  }}
  chain behind {{ type filter hook forward priority 10
    udp dport {OPEN} counter name open-passed
    udp dport {CLOSED} counter name closed-passed
  }}
}}
"""


class Seen(NamedTuple):
    """How many packets came to the node for each port, and how many went on."""

    open_came: int
    open_passed: int
    closed_came: int
    closed_passed: int


class Traffic:
    """The two pods on a node, which is this network namespace; they send from `start` to `stop`."""

    def __init__(self) -> None:
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", name).write_text("1", encoding="ascii")
        subprocess.run(["nft", "-f", "-"], input=_EVIDENCE, text=True, check=True)
        self._client, self._server = Host("client"), Host("server")
        for host, addresses in ((self._client, CLIENT), (self._server, SERVER)):
            lines = [f"link add {host.name} type veth peer name eth0 netns {host.pid}", f"link set {host.name} up"]
            own = ["link set lo up", "link set eth0 up"]
            for address, gateway, length in zip(addresses, ("10.244.0.1", "fd00:10:244::1"), (32, 128), strict=True):
                nodad = " nodad" if ":" in address else ""
                lines += [
                    f"address add {gateway}/{length} dev {host.name}{nodad}",
                    f"route add {address}/{length} dev {host.name}",
                ]
                own += [
                    f"address add {address}/{length} dev eth0{nodad}",
                    f"route add {gateway}/{length} dev eth0",
                    f"route add default via {gateway} dev eth0",
                ]
            subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
            host.ip("\n".join(own))

    def start(self) -> None:
        """Send, and return when packets go on in both families."""
        self._client.call(_start)
        self.until(lambda seen: seen.open_passed >= 2 * len(FAMILIES))

    def stop(self) -> Seen:
        """Send no more; all that was seen."""
        self._client.call(_stop)
        # The last packets may still be on their way.
        with contextlib.suppress(TimeoutError):
            self.until(lambda seen: seen.open_passed == seen.open_came, 1)
        return self.seen()

    def forget(self) -> None:
        """Count from 0."""
        subprocess.run(["nft", "reset", "counters", "table", "inet", "evidence"], check=True, stdout=subprocess.DEVNULL)

    def seen(self) -> Seen:
        """All that was seen; packets still come."""
        done = subprocess.run(
            ["nft", "-j", "list", "counters", "table", "inet", "evidence"], capture_output=True, text=True, check=True
        )
        listed = [each["counter"] for each in json.loads(done.stdout)["nftables"] if "counter" in each]
        return Seen(**{each["name"].replace("-", "_"): each["packets"] for each in listed})

    def until(self, holds: Callable[[Seen], bool], patience: float = _PATIENCE) -> None:
        """Wait for what is seen. Raises TimeoutError."""
        deadline = time.monotonic() + patience
        while not holds(seen := self.seen()):
            if time.monotonic() > deadline:
                raise TimeoutError(str(seen))
            time.sleep(0.005)

    def until_closed(self) -> None:
        """Wait until packets come to the closed port, and none goes on. Raises TimeoutError."""
        before = self.seen()

        def closed(seen: Seen) -> bool:
            nonlocal before
            if seen.closed_came < before.closed_came + 40:
                return False
            before, last = seen, before
            return seen.closed_passed == last.closed_passed

        self.until(closed)


_ending = threading.Event()
_sending: list[threading.Thread] = []


def _start() -> None:
    """Run in the client."""
    _ending.clear()
    _sending.append(threading.Thread(target=_send, daemon=True))
    _sending[-1].start()


def _stop() -> None:
    """Run in the client."""
    _ending.set()
    _sending.pop().join()


def _send() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        while not _ending.is_set():
            for port in (OPEN, CLOSED):
                one.sendto(b"", (SERVER[0], port))
                two.sendto(b"", (SERVER[1], port))
            time.sleep(_PAUSE)
