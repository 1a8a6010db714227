"""What no rule shows: the kernel's counters of packets that it dropped, before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

_REASONS = {
    "TcpExt IPReversePathFilter": "rp_filter: the reply to its source would leave by another interface",
    "IpExt InNoRoutes": "there is no route to the destination, or none back to the source",
    "Ip OutNoRoutes": "there is no route to the destination",
    "Ip InAddrErrors": "the destination is not for this host, and forwarding is off",
    "Ip InHdrErrors": "its TTL has expired, or its header is wrong",
    "Ip FragFails": "it is larger than the MTU and may not be fragmented",
    "Ip6InNoRoutes": "there is no route to the destination",
    "Ip6OutNoRoutes": "there is no route to the destination",
    "Ip6InAddrErrors": "the destination is not for this host, and forwarding is off",
    "Ip6InTooBigErrors": "it is larger than the MTU",
    "Ip6InHdrErrors": "its hop limit is exceeded, or its header is wrong",
    "Udp NoPorts": "nothing listens at the port",
    "Udp6NoPorts": "nothing listens at the port",
    "TcpExt ListenOverflows": "the server does not accept connections as fast as they arrive",
}
_TRANSMIT = 8
"""The number of receive fields in /proc/net/dev, which come before the transmit fields."""
_DROPPED = 3


def read() -> dict[str, int]:
    """The counters of the current network namespace, by name. An interface's drops are named `NAME dropped`."""
    net = Path("/proc/thread-self/net")
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        found |= _paired((net / name).read_text(encoding="ascii"))
    try:
        lines = (net / "snmp6").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # this kernel has no IPv6
        lines = []
    found |= {name: int(value) for name, value in (line.split() for line in lines)}
    for line in (net / "dev").read_text(encoding="ascii").splitlines()[2:]:
        name, _, values = line.partition(":")
        found[f"{name.strip()} dropped"] = int(values.split()[_TRANSMIT + _DROPPED])
    return found


def _paired(text: str) -> dict[str, int]:
    """The counters in a file with a line of names before each line of values."""
    lines = text.splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        group, *keys = names.split()
        found |= {f"{group[:-1]} {key}": int(value) for key, value in zip(keys, values.split()[1:], strict=True)}
    return found


def reasons(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """Why packets were dropped in between, the most specific reason first."""
    risen = {name for name, value in after.items() if value > before.get(name, 0)}
    for name, reason in _REASONS.items():
        if name in risen:
            yield f"{reason} (counter {name.split()[-1]})"
    for name in sorted(risen):
        if name.endswith(" dropped"):
            yield f"interface {name.split()[0]} dropped it"
