"""The columns of all other kinds."""

from __future__ import annotations

from netlab.api.printers import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Cell,
    Column,
    JSONObject,
    Printer,
    age,
    first,
    labels,
    name,
    since,
)


def _namespace(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), obj.get("status", {}).get("phase", ""), age(obj, now)]


NAMESPACE = Printer((NAME, Column("Status", "Active, or Terminating."), AGE), _namespace)


# --- Node ----------------------------------------------------------------------------------------------------------

_ROLE_PREFIX, _ROLE = "node-role.kubernetes.io/", "kubernetes.io/role"


def _node(obj: JSONObject, now: float) -> list[Cell]:
    status = obj.get("status", {})
    info = status.get("nodeInfo", {})
    architecture = f" ({info['architecture']})" if info.get("architecture") else ""
    return [
        name(obj),
        _node_status(obj),
        _node_roles(obj["metadata"].get("labels", {})),
        age(obj, now),
        info.get("kubeletVersion", ""),
        _node_address(status, "InternalIP"),
        _node_address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        (info.get("kernelVersion") or UNKNOWN) + architecture,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(node: JSONObject) -> str:
    conditions = {each["type"]: each["status"] for each in node.get("status", {}).get("conditions", ())}
    ready = {None: "Unknown", "True": "Ready"}.get(conditions.get("Ready"), "NotReady")
    return ready + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _node_roles(pairs: dict[str, str]) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in pairs if key.startswith(_ROLE_PREFIX)}
    return ",".join(sorted((roles | {pairs.get(_ROLE, "")}) - {""})) or NONE


def _node_address(status: JSONObject, kind: str) -> str:
    return next((each["address"] for each in status.get("addresses", ()) if each["type"] == kind), NONE)


NODE = Printer(
    (
        NAME,
        Column("Status", "Whether the node is ready, and whether pods are scheduled to it."),
        Column("Roles", "The roles of the node."),
        AGE,
        Column("Version", "The version of its kubelet."),
        Column("Internal-IP", "Its address in the cluster.", 1),
        Column("External-IP", "Its address outside of the cluster.", 1),
        Column("OS-Image", "Its operating system.", 1),
        Column("Kernel-Version", "Its kernel, and its architecture.", 1),
        Column("Container-Runtime", "What runs its containers.", 1),
    ),
    _node,
)


# --- Service and EndpointSlice ---------------------------------------------------------------------------------------


def _service(obj: JSONObject, now: float) -> list[Cell]:
    spec = obj["spec"]
    addresses = spec.get("clusterIPs", ())
    return [
        name(obj),
        spec.get("type", ""),
        addresses[0] if addresses else NONE,
        _external_ips(obj),
        ",".join(map(_service_port, spec.get("ports", ()))) or NONE,
        age(obj, now),
        labels(spec.get("selector")),
    ]


def _service_port(port: JSONObject) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _external_ips(service: JSONObject) -> str:
    spec = service["spec"]
    kind, external = spec.get("type"), list(spec.get("externalIPs", ()))
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind != "LoadBalancer":
        return ",".join(external) or NONE
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    balanced = {each.get("ip") or each.get("hostname", "") for each in ingress} - {""}
    return ",".join([*sorted(balanced), *external]) or "<pending>"


SERVICE = Printer(
    (
        NAME,
        Column("Type", "ClusterIP, NodePort, LoadBalancer or ExternalName."),
        Column("Cluster-IP", "The Service's virtual address, in its primary family."),
        Column("External-IP", "The addresses by which it is reached from outside of the cluster."),
        Column("Port(s)", "Its ports, each with its node port."),
        AGE,
        Column("Selector", "The labels of its pods.", 1),
    ),
    _service,
)


def _endpoint_slice(obj: JSONObject, now: float) -> list[Cell]:
    ports = [str(each.get("port") or each.get("name") or "*") for each in obj.get("ports", ())]
    addresses = [address for each in obj.get("endpoints", ()) for address in each["addresses"]]
    return [name(obj), obj["addressType"], first(ports), first(addresses), age(obj, now)]


ENDPOINT_SLICE = Printer(
    (
        NAME,
        Column("AddressType", "IPv4, IPv6 or FQDN."),
        Column("Ports", "The ports of the endpoints."),
        Column("Endpoints", "The addresses of the endpoints."),
        AGE,
    ),
    _endpoint_slice,
)


# --- Event and Lease -------------------------------------------------------------------------------------------------


def _event(obj: JSONObject, now: float) -> list[Cell]:
    series = obj.get("series")
    first_seen = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    if series:
        last_seen = since(series.get("lastObservedTime"), now)
    else:
        last_seen = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first_seen
    involved, source = obj.get("involvedObject", {}), obj.get("source", {})
    parts = [involved.get("kind", "").lower(), involved.get("name", "")]
    sources = [
        source.get("component") or obj.get("reportingComponent", ""),
        source.get("host") or obj.get("reportingInstance", ""),
    ]
    return [
        last_seen,
        obj.get("type", ""),
        obj.get("reason", ""),
        "/".join(filter(None, parts)),
        involved.get("fieldPath", ""),
        ", ".join(filter(None, sources)),
        obj.get("message", "").strip(),
        first_seen,
        (series or obj).get("count") or 1,
        name(obj),
    ]


EVENT = Printer(
    (
        Column("Last Seen", "When it last happened."),
        Column("Type", "Normal, or Warning."),
        Column("Reason", "What happened, in one word."),
        Column("Object", "The object that it happened to."),
        Column("Subobject", "The part of the object.", 1),
        Column("Source", "The component that reports it.", 1),
        Column("Message", "What happened, for people."),
        Column("First Seen", "When it first happened.", 1),
        Column("Count", "How often it has happened.", 1),
        NAME._replace(priority=1),
    ),
    _event,
)


def _lease(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), obj.get("spec", {}).get("holderIdentity", ""), age(obj, now)]


LEASE = Printer((NAME, Column("Holder", "The identity of its holder."), AGE), _lease)
