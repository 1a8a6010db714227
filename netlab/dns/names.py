"""Domain names as text: lower case, without the dot at the end; the root is the empty text. Pure."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator

REVERSE_ZONES = ("in-addr.arpa", "ip6.arpa")


def normal(text: str) -> str:
    """A name as it is compared (RFC 4343): `Web.Default.` is `web.default`."""
    return text.lower().removesuffix(".")


def is_within(name: str, zone: str) -> bool:
    """Whether a name is a zone's apex or below it. Every name is in the root."""
    return not zone or name == zone or name.endswith(f".{zone}")


def closest(name: str, zones: Iterable[str]) -> str | None:
    """The longest of the zones that a name is in."""
    return max((zone for zone in zones if is_within(name, zone)), key=len, default=None)


def ancestors(name: str) -> Iterator[str]:
    """The names above a name, which exist because of it (RFC 8020)."""
    while name := name.partition(".")[2]:
        yield name


@functools.lru_cache(maxsize=16_384)
def reverse(address: str) -> str:
    """The name at which an address's PTR record is: 10.96.0.1 is `1.0.96.10.in-addr.arpa`."""
    return ipaddress.ip_address(address).reverse_pointer


def dashed(address: str) -> str:
    """An address as a label, as pods have it: 10.244.1.5 is `10-244-1-5`, fd00::5 is `fd00--5`."""
    return address.replace(".", "-").replace(":", "-")


def undashed(label: str) -> str | None:
    """The address that a label stands for; None if it is none."""
    dotted = label.count("-") == 3 and "--" not in label
    try:
        return str(ipaddress.ip_address(label.replace("-", "." if dotted else ":")))
    except ValueError:
        return None
