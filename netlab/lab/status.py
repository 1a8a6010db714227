"""What a lab is and how it does, as plain values for people and programs."""

from __future__ import annotations

from typing import Any

from netlab.api.resources import NODES, PODS
from netlab.lab import barrier, readiness, revisions, startup
from netlab.lab.lab import Lab
from netlab.lab.paths import FABRIC

_SYNC = 1.0
"""Seconds for the nodes to catch up before they are said to lag; it takes milliseconds."""


def status(lab: Lab) -> dict[str, Any]:
    """The lab's state as plain values: what it is, its machines, components, nodes and pods."""
    spec = lab.spec()
    up = lab.is_up()
    found: dict[str, Any] = {
        "name": lab.name,
        "state": "up" if up else "down",
        "directory": str(lab.paths.directory),
        "network": spec.network,
        "proxy": spec.proxy,
        "families": list(spec.families),
        "mtu": spec.pod_mtu,
        "podCIDRs": spec.podCIDRs,
        "serviceCIDRs": spec.serviceCIDRs,
        "outside": spec.outside_addresses,
        "revision": None,
        "lagging": [],
        "components": [],
        "nodes": [],
    }
    if up:
        found["components"] = _component_status(lab)
        found["nodes"] = _node_status(lab)
        _add_progress(lab, found)
    return found


def _add_progress(lab: Lab, found: dict[str, Any]) -> None:
    """Add the API's revision that each node has put in force, and what lags."""
    outcome = barrier.look(lab, _SYNC)
    found["revision"] = outcome.revision
    found["lagging"] = [lag._asdict() for lag in outcome.lags]
    behind = {lag.node for lag in outcome.lags}
    for node in found["nodes"]:
        name = node["name"]
        node["synced"] = name not in behind
        node["revisions"] = {
            "kubeProxy": outcome.standings.get(revisions.kube_proxy(name), revisions.Standing()).revision,
            "podNetwork": outcome.standings.get(revisions.network_agent(name), revisions.Standing()).revision,
            "policy": outcome.standings.get(revisions.enforcer(name), revisions.Standing()).revision,
        }


def _component_status(lab: Lab) -> list[dict[str, Any]]:
    with lab.machine(FABRIC) as fabric:
        services = fabric.services()
    listed = [
        {"name": s.name, "machine": FABRIC, "running": s.pid is not None, "restarts": s.restarts} for s in services
    ]
    listed += startup.component_states(lab.paths)
    return listed


def _node_status(lab: Lab) -> list[dict[str, Any]]:
    client = lab.client()
    pods = client.request("GET", PODS.path())["items"]
    boot_id = lab.paths.boot_id.read_text(encoding="ascii")
    return [
        {
            "name": node["metadata"]["name"],
            "ready": readiness.is_ready(node, boot_id),
            "addresses": [a["address"] for a in node["status"].get("addresses", []) if a["type"] == "InternalIP"],
            "podCIDRs": node["spec"].get("podCIDRs", []),
            "pods": sum(pod["spec"].get("nodeName") == node["metadata"]["name"] for pod in pods),
        }
        for node in client.request("GET", NODES.path())["items"]
    ]
