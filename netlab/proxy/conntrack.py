"""Connection tracking outlives endpoints: UDP flows whose endpoint is gone must be deleted.

TCP recovers by itself (a reset, a timeout, a new source port); a UDP client keeps sending from the same port, each
packet renews the entry, and the rules are never consulted again (kubernetes issue 19029).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pyroute2 import AsyncNFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from netlab.proxy.plan import Family, Frontend, Plan

log = logging.getLogger(__name__)

_AF = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class Flow(NamedTuple):
    """A UDP flow that the kernel tracks: what the client sent, and which endpoint answers."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    reply_source: str
    reply_source_port: int


def stale(flows: Iterable[Flow], plan: Plan, node_addresses: frozenset[str]) -> list[Flow]:
    """The flows to frontends in the plan that do not go to a serving endpoint."""
    found = []
    for flow in flows:
        target = plan.get(Frontend(flow.destination, "udp", flow.destination_port))
        if target is None and (flow.destination in node_addresses or flow.reply_source != flow.destination):
            target = plan.get(Frontend(None, "udp", flow.destination_port))
        if target is not None and (flow.reply_source, flow.reply_source_port) not in target.serving:
            found.append(flow)
    return found


async def forget_stale(family: Family, plan: Plan, node_addresses: frozenset[str]) -> int:
    """Delete this network namespace's stale UDP flows from connection tracking; returns how many.

    Call it after the rules are in force: a flow deleted earlier comes back through the old ones.
    Raises OSError when the kernel does not answer.
    """
    if not any(frontend.protocol == "udp" for frontend in plan):
        return 0
    async with AsyncNFCTSocket(nfgen_family=_AF[family]) as conntrack:
        udp = NFCTAttrTuple(proto=socket.IPPROTO_UDP)
        messages = [message async for message in await conntrack.dump(tuple_orig=udp)]
        forgotten = 0
        for flow in stale(_flows(messages), plan, node_addresses):
            try:
                await conntrack.entry("del", tuple_orig=_tuple(family, flow))
                forgotten += 1
            except NetlinkError as error:
                # It may have ended by itself (ENOENT); anything else is retried by the next sync.
                log.debug("UDP flow %s: %s", flow, error)
    return forgotten


def _flows(messages: Iterable[Any]) -> Iterator[Flow]:
    for message in messages:
        original = _endpoints(message.get_attr("CTA_TUPLE_ORIG"))
        reply = _endpoints(message.get_attr("CTA_TUPLE_REPLY"))
        yield Flow(*original, *reply[:2])


def _endpoints(attribute: Any) -> tuple[str, int, str, int]:
    ip, protocol = attribute.get_attr("CTA_TUPLE_IP"), attribute.get_attr("CTA_TUPLE_PROTO")
    version = "V4" if ip.get_attr("CTA_IP_V4_SRC") else "V6"
    return (
        ip.get_attr(f"CTA_IP_{version}_SRC"),
        protocol.get_attr("CTA_PROTO_SRC_PORT"),
        ip.get_attr(f"CTA_IP_{version}_DST"),
        protocol.get_attr("CTA_PROTO_DST_PORT"),
    )


def _tuple(family: Family, flow: Flow) -> NFCTAttrTuple:
    return NFCTAttrTuple(
        family=_AF[family],
        saddr=flow.source,
        daddr=flow.destination,
        proto=socket.IPPROTO_UDP,
        sport=flow.source_port,
        dport=flow.destination_port,
    )
