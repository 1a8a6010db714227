"""Single values of objects that may be wrong: addresses, ports, protocols. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket

from netlab.api.core_types import Node, Service, ServicePort
from netlab.api.discovery_types import EndpointSlice
from netlab.errors import UsageError
from netlab.proxy.plan import PROTOCOLS

_MAX_PORT = 65535


class PlanError(UsageError):
    """A Service or an EndpointSlice has an invalid value; the message names the object and the field."""


def protocol_of(service: Service, port: ServicePort) -> str:
    """As the kernel's tools call it. Raises PlanError."""
    try:
        return PROTOCOLS[port.protocol or "TCP"]
    except KeyError:
        raise PlanError(f"Service {service.key}: protocol {port.protocol!r} is not one of TCP, UDP, SCTP") from None


def port_number(number: int, of: Service | EndpointSlice, field: str) -> int:
    """The number, if a port can have it. Raises PlanError."""
    if not 0 < number <= _MAX_PORT:
        raise PlanError(f"{_named(of)}: {field} {number} is not in 1..65535")
    return number


def address_in(text: str, of: Service | EndpointSlice | Node, field: str) -> str:
    """The address in normal form. Raises PlanError.

    Leading zeros are read as decimal, as Kubernetes did when objects with them were still accepted (KEP-4858).
    """
    if _is_normal(text):
        return text
    try:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12}){3}", text):
            text = ".".join(str(int(part)) for part in text.split("."))
        address = ipaddress.ip_address(text)
    except ValueError:
        raise PlanError(f"{_named(of)}: {field} {text!r} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise PlanError(f"{_named(of)}: {field} {text!r} has a zone")
    return str(mapped or address)


def _is_normal(text: str) -> bool:
    """Whether it certainly is an address in normal form: ipaddress takes ten times as long."""
    try:
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return True
        return "." not in text and socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text)) == text
    except (OSError, ValueError):
        return False


def _named(of: Service | EndpointSlice | Node) -> str:
    return f"{'EndpointSlice' if isinstance(of, EndpointSlice) else type(of).__name__} {of.key}"
