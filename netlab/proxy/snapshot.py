"""The plan for a cluster's objects at one moment. Pure."""

from __future__ import annotations

from typing import NamedTuple

from netlab.api.core_types import Node, Service
from netlab.api.discovery_types import EndpointSlice
from netlab.net.addresses import Family
from netlab.proxy.book import Book
from netlab.proxy.config import ProxyConfig
from netlab.proxy.plan import Frontend, NodeInfo, Target
from netlab.proxy.planner import node_info, plan_service


class Objects(NamedTuple):
    """The part of a cluster that decides a node's rules."""

    services: dict[str, Service]
    slices: dict[str, list[EndpointSlice]]
    """By the key of their Service."""
    node: Node | None


def plan_of(objects: Objects, config: ProxyConfig, family: Family) -> dict[Frontend, Target]:
    """The plan that a proxy makes of the objects; their errors go to its log."""
    node = node_info(objects.node) if objects.node is not None else NodeInfo(config.node_name)
    book = Book()
    for key, service in objects.services.items():
        planned = plan_service(service, objects.slices.get(key, ()), node, family)
        book.set_service(key, service.metadata.creationTimestamp or "", planned.frontends)
    return book.plan
