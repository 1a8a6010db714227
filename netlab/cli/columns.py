"""The columns in which `netlab get` shows each kind: like kubectl's, with both families' addresses and pod subnets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from netlab.api.printers import age, pods

Json = dict[str, Any]
Column = tuple[str, Callable[[Json], str], bool]
"""Header, how its cell is computed, and whether it is shown with -o wide only."""

_NONE = "<none>"


def columns(kind: str, *, wide: bool) -> list[Column]:
    """The columns of a kind, its name and age among them."""
    listed: list[Column] = [
        ("NAME", _name, False),
        *_OF_KIND.get(kind, []),
        ("AGE", lambda o: age(o, time.time()), False),
    ]
    # As kubectl: what only -o wide shows stands after the age.
    return [c for c in listed if not c[2]] + ([c for c in listed if c[2]] if wide else [])


def _name(obj: Json) -> str:
    name: str = obj["metadata"]["name"]
    return name


def _status(obj: Json) -> Json:
    status: Json = obj.get("status", {})
    return status


def _pod_ready(pod: Json) -> str:
    return f"{pods.summarize(pod).ready}/{pods.containers(pod)}"


def _restarts(pod: Json) -> str:
    return pods.restarts(pods.summarize(pod), time.time())


def _pod_ips(pod: Json) -> str:
    return ",".join(ip["ip"] for ip in _status(pod).get("podIPs", [])) or _NONE


def _node_status(node: Json) -> str:
    ready = next((c["status"] for c in _status(node).get("conditions", []) if c["type"] == "Ready"), "Unknown")
    shown = {"True": "Ready", "False": "NotReady"}.get(ready, ready)
    return shown + (",SchedulingDisabled" if node["spec"].get("unschedulable") else "")


def _node_ips(node: Json) -> str:
    return ",".join(a["address"] for a in _status(node).get("addresses", []) if a["type"] == "InternalIP") or _NONE


def _service_ports(service: Json) -> str:
    shown = []
    for port in service["spec"].get("ports", []):
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or _NONE


def _external_ips(service: Json) -> str:
    spec = service["spec"]
    ingress = _status(service).get("loadBalancer", {}).get("ingress", [])
    addresses = [*spec.get("externalIPs", []), *(i.get("ip") or i.get("hostname", "") for i in ingress)]
    if spec.get("type") == "LoadBalancer" and not addresses:
        return "<pending>"
    return ",".join(addresses) or spec.get("externalName") or _NONE


def _labels(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or _NONE


def _slice_ports(slice_: Json) -> str:
    return ",".join(str(p.get("port", "*")) for p in slice_.get("ports", [])) or "<unset>"


def _slice_endpoints(slice_: Json) -> str:
    addresses = [a for e in slice_.get("endpoints", []) for a in e["addresses"]]
    more = f" + {len(addresses) - 3} more..." if len(addresses) > 3 else ""
    return (",".join(addresses[:3]) or "<unset>") + more


def _images(workload: Json) -> str:
    return ",".join(c.get("image", "") for c in workload["spec"]["template"]["spec"]["containers"])


def _involved(event: Json) -> str:
    involved = event.get("involvedObject", {})
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _replicas(field: str) -> Callable[[Json], str]:
    return lambda obj: str(_status(obj).get(field, 0))


_OF_KIND: dict[str, list[Column]] = {
    "Namespace": [("STATUS", lambda o: _status(o).get("phase", "Active"), False)],
    "Node": [
        ("STATUS", _node_status, False),
        ("INTERNAL-IP", _node_ips, True),
        ("POD-CIDR", lambda o: ",".join(o["spec"].get("podCIDRs", [])) or _NONE, True),
        ("VERSION", lambda o: _status(o).get("nodeInfo", {}).get("kubeletVersion", ""), False),
        ("KERNEL-VERSION", lambda o: _status(o).get("nodeInfo", {}).get("kernelVersion", ""), True),
    ],
    "Pod": [
        ("READY", _pod_ready, False),
        ("STATUS", lambda o: pods.summarize(o).reason, False),
        ("RESTARTS", _restarts, False),
        ("IP", _pod_ips, True),
        ("NODE", lambda o: o["spec"].get("nodeName") or _NONE, True),
    ],
    "Service": [
        ("TYPE", lambda o: o["spec"].get("type", ""), False),
        ("CLUSTER-IP", lambda o: ",".join(o["spec"].get("clusterIPs", [])) or _NONE, False),
        ("EXTERNAL-IP", _external_ips, False),
        ("PORT(S)", _service_ports, False),
        ("SELECTOR", lambda o: _labels(o["spec"].get("selector")), True),
    ],
    "Deployment": [
        ("READY", lambda o: f"{_status(o).get('readyReplicas', 0)}/{o['spec'].get('replicas', 0)}", False),
        ("UP-TO-DATE", _replicas("updatedReplicas"), False),
        ("AVAILABLE", _replicas("availableReplicas"), False),
        ("IMAGES", _images, True),
        ("SELECTOR", lambda o: _labels(o["spec"]["selector"].get("matchLabels")), True),
    ],
    "ReplicaSet": [
        ("DESIRED", lambda o: str(o["spec"].get("replicas", 0)), False),
        ("CURRENT", _replicas("replicas"), False),
        ("READY", _replicas("readyReplicas"), False),
        ("IMAGES", _images, True),
    ],
    "EndpointSlice": [
        ("ADDRESSTYPE", lambda o: o["addressType"], False),
        ("PORTS", _slice_ports, False),
        ("ENDPOINTS", _slice_endpoints, False),
    ],
    "Lease": [
        ("HOLDER", lambda o: o.get("spec", {}).get("holderIdentity") or "", False),
    ],
    "Event": [
        ("TYPE", lambda o: o.get("type", ""), False),
        ("REASON", lambda o: o.get("reason", ""), False),
        ("OBJECT", _involved, False),
        ("COUNT", lambda o: str(o.get("count", 1)), True),
        ("MESSAGE", lambda o: o.get("message", ""), False),
    ],
}
