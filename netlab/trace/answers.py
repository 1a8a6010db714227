"""What a network namespace answers: to a packet that reaches it, or that ends there. Pure."""

from __future__ import annotations

from netlab.trace.state import Listener, Namespace, end_text
from netlab.trace.translation import Packet, inverse
from netlab.trace.way import Outcome


def answered(namespace: Namespace, packet: Packet) -> tuple[Outcome, str, Packet | None]:
    """What happens to a first packet for the namespace itself: the outcome, why, and the answer."""
    if packet.protocol == "icmp":
        if namespace.sysctls.get("net/ipv4/icmp_echo_ignore_all", 0) and packet.version == 4:
            return "dropped", f"{namespace.owner} does not answer echo requests", None
        return (
            "delivered",
            f"{namespace.owner} answers the echo",
            Packet("icmp", *inverse(packet.ends), size=packet.size),
        )
    where = f"{end_text(packet.destination, packet.dport)}/{packet.protocol} of {namespace.owner}"
    answer = Packet(packet.protocol, *inverse(packet.ends))
    if any(_takes(one, packet) for one in namespace.listeners):
        return "delivered", f"reached {where}", answer
    refusal = answer if packet.protocol == "tcp" else error_about(namespace, packet)
    return "refused", f"nothing listens at {where}", refusal


def error_about(namespace: Namespace, packet: Packet) -> Packet:
    """The ICMP error about a packet as it is here, sent from this namespace's address (RFC 1812, 4.3.2.4)."""
    own = any(one.address == packet.destination for one in namespace.addresses)
    source = packet.destination if own else ""
    return Packet("icmp", source, 0, packet.source, 0, quoted=packet.ends)


def _takes(listener: Listener, packet: Packet) -> bool:
    protocol, address, port = listener
    everywhere = "0.0.0.0" if packet.version == 4 else "::"  # noqa: S104  # a socket's address, read
    return (protocol, port) == (packet.protocol, packet.dport) and address in (packet.destination, everywhere)
