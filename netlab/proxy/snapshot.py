"""The plan of a cluster's objects as they are at one time. Pure."""

from __future__ import annotations

from typing import NamedTuple

from netlab.api.core_types import Node, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.proxy.book import Book
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Family, Frontend, NodeInfo, Target
from netlab.proxy.planner import node_info, plan_service


class Objects(NamedTuple):
    """What of a cluster decides a node's rules."""

    services: dict[str, Service]
    slices: dict[str, list[EndpointSlice]]
    """By the key of their Service."""
    node: Node | None


def plan_of(objects: Objects, config: ProxyConfig, family: Family) -> dict[Frontend, Target]:
    """The plan that a proxy makes of the objects; what is wrong with them is for its log."""
    node = node_info(objects.node) if objects.node is not None else NodeInfo(config.node_name)
    book = Book()
    for key, service in objects.services.items():
        planned = plan_service(service, objects.slices.get(key, ()), node, family)
        book.set_service(key, service.metadata.creationTimestamp or "", planned.frontends)
    return book.plan
