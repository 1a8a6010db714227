"""The sysctls of the current network namespace, below /proc/sys."""

from __future__ import annotations


def forwarding(bits: int) -> str:
    """The sysctl that has the node forward a family."""
    return "net/ipv4/ip_forward" if bits == 32 else "net/ipv6/conf/all/forwarding"


def read(name: str) -> str:
    """The value of a sysctl in the current namespace."""
    with open(f"/proc/sys/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 15 ms to import
        return file.read().decode().strip()


def write(name: str, value: str) -> None:
    """Set a sysctl in the current namespace unless it is set already: /proc/sys may be read-only in a container."""
    if read(name) == value:
        return
    with open(f"/proc/sys/{name}", "wb", buffering=0) as file:  # noqa: PTH123
        file.write(value.encode())


def write_ipv6(name: str, value: str) -> None:
    """Set a sysctl below net/ipv6, which is empty if IPv6 is disabled altogether."""
    try:
        write(f"net/ipv6/{name}", value)
    except FileNotFoundError:
        return
