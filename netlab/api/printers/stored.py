"""The columns of the kinds that are stored and returned, and nothing else (pkg/printers/internalversion)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
    duration,
    labels,
    name,
    selector,
)

UNSET = "<unset>"

_Cells = Callable[[JSONObject, float], Sequence[Cell]]


def _texts(*named: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(title, description) for title, description in named)


def _named_and_aged(cells: Callable[[JSONObject], Sequence[Cell]]) -> _Cells:
    """The cells of a kind whose first column is its name and whose last is its age."""
    return lambda obj, now: [name(obj), *cells(obj), age(obj, now)]


def _deleted_or(phase: str, obj: JSONObject) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else phase


def _default_marked(annotation: str, obj: JSONObject) -> str:
    is_default = obj["metadata"].get("annotations", {}).get(annotation) == "true"
    return name(obj) + (" (default)" if is_default else "")


# --- storage -------------------------------------------------------------------------------------------------------

_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def _access_modes(modes: Iterable[str]) -> str:
    given = set(modes)
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in given)


def _class_of(obj: JSONObject) -> str:
    named = obj["metadata"].get("annotations", {}).get(_CLASS_ANNOTATION) or obj["spec"].get("storageClassName", "")
    return str(named)


def _volume(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    claim = spec.get("claimRef")
    return [
        name(obj),
        str(spec.get("capacity", {}).get("storage", "0")),
        _access_modes(spec.get("accessModes", ())),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _deleted_or(status.get("phase", ""), obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName", UNSET),
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode", UNSET),
    ]


_OF_A_VOLUME = (
    Column("StorageClass", "The class of its storage."),
    Column("VolumeAttributesClass", "The class of its attributes."),
)
_VOLUME_MODE = Column("VolumeMode", "Filesystem, or Block.", 1)

PERSISTENT_VOLUME = Printer(
    (
        NAME,
        *_texts(
            ("Capacity", "How much it holds."),
            ("Access Modes", "How it can be mounted."),
            ("Reclaim Policy", "What becomes of it once its claim is gone."),
            ("Status", "Available, Bound, Released or Failed."),
            ("Claim", "The claim that it is bound to."),
        ),
        *_OF_A_VOLUME,
        Column("Reason", "Why it is in its state."),
        AGE,
        _VOLUME_MODE,
    ),
    _volume,
)


def _claim(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    volume = spec.get("volumeName", "")
    return [
        name(obj),
        _deleted_or(status.get("phase", ""), obj),
        volume,
        str(status.get("capacity", {}).get("storage", "0")) if volume else "",
        _access_modes(status.get("accessModes", ())) if volume else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName", UNSET),
        age(obj, now),
        spec.get("volumeMode", UNSET),
    ]


PERSISTENT_VOLUME_CLAIM = Printer(
    (
        NAME,
        *_texts(
            ("Status", "Pending, Bound or Lost."),
            ("Volume", "The volume that it is bound to."),
            ("Capacity", "How much the volume holds."),
            ("Access Modes", "How the volume can be mounted."),
        ),
        *_OF_A_VOLUME,
        AGE,
        _VOLUME_MODE,
    ),
    _claim,
)


def _storage_class(obj: JSONObject, now: float) -> list[Cell]:
    return [
        _default_marked("storageclass.kubernetes.io/is-default-class", obj),
        obj["provisioner"],
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        obj.get("allowVolumeExpansion", False),
        age(obj, now),
    ]


STORAGE_CLASS = Printer(
    (
        NAME,
        *_texts(
            ("Provisioner", "What makes its volumes."),
            ("ReclaimPolicy", "What becomes of a volume once its claim is gone."),
            ("VolumeBindingMode", "When volumes are made and bound."),
            ("AllowVolumeExpansion", "Whether its volumes can grow."),
        ),
        AGE,
    ),
    _storage_class,
)

VOLUME_ATTRIBUTES_CLASS = Printer(
    (NAME, Column("DriverName", "The CSI driver."), AGE), _named_and_aged(lambda obj: [obj["driverName"]])
)


def _csi_driver(obj: JSONObject) -> list[Cell]:
    spec = obj["spec"]
    tokens = spec.get("tokenRequests")
    return [
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        UNSET if tokens is None else ",".join(each.get("audience", "") for each in tokens),
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes", ())) or NONE,
    ]


CSI_DRIVER = Printer(
    (
        NAME,
        Column("AttachRequired", "Whether its volumes are attached to nodes.", type="boolean"),
        Column("PodInfoOnMount", "Whether it is told about the pod.", type="boolean"),
        Column("StorageCapacity", "Whether it publishes how much it can hold.", type="boolean"),
        Column("TokenRequests", "The audiences of the tokens that it asks for."),
        Column("RequiresRepublish", "Whether its volumes are published again and again.", type="boolean"),
        Column("Modes", "The life cycles of volumes that it supports."),
        AGE,
    ),
    _named_and_aged(_csi_driver),
)
CSI_NODE = Printer(
    (NAME, Column("Drivers", "How many CSI drivers the node has.", type="integer"), AGE),
    _named_and_aged(lambda obj: [len(obj["spec"]["drivers"])]),
)
CSI_STORAGE_CAPACITY = Printer(
    (NAME, *_texts(("StorageClassName", "The class of the storage."), ("Capacity", "How much can be made."))),
    lambda obj, _: [name(obj), obj["storageClassName"], str(obj.get("capacity", UNSET))],
)


def _volume_attachment(obj: JSONObject) -> list[Cell]:
    spec = obj["spec"]
    volume = spec["source"].get("persistentVolumeName", "")
    return [spec["attacher"], volume, spec["nodeName"], obj.get("status", {}).get("attached", False)]


VOLUME_ATTACHMENT = Printer(
    (
        NAME,
        *_texts(("Attacher", "What attaches it."), ("PV", "The volume."), ("Node", "The node.")),
        Column("Attached", "Whether it is attached.", type="boolean"),
        AGE,
    ),
    _named_and_aged(_volume_attachment),
)

# --- HorizontalPodAutoscaler -----------------------------------------------------------------------------------------

_MOST_METRICS = 2


def _metrics(obj: JSONObject) -> str:
    """The present value and the target of each metric of an autoscaling/v2 object."""
    wanted, present = obj["spec"].get("metrics", ()), obj.get("status", {}).get("currentMetrics") or ()
    shown = [_metric(each, present[number] if number < len(present) else {}) for number, each in enumerate(wanted)]
    more = f" + {len(shown) - _MOST_METRICS} more..." if len(shown) > _MOST_METRICS else ""
    return (", ".join(shown[:_MOST_METRICS]) or NONE) + more


def _metric(wanted: JSONObject, present: JSONObject) -> str:
    field = wanted["type"][:1].lower() + wanted["type"][1:]
    source = wanted.get(field)
    if source is None:
        return "<unknown type>"
    target, current = source["target"], present.get(field, {}).get("current", {})
    of_resource = wanted["type"] in ("Resource", "ContainerResource")
    prefix = f"{source['name']}: " if of_resource else ""
    if "averageValue" in target:
        suffix = "" if of_resource or wanted["type"] == "Pods" else " (avg)"
        return f"{prefix}{current.get('averageValue', UNKNOWN)}/{target['averageValue']}{suffix}"
    if of_resource:
        percents = (each.get("averageUtilization") for each in (current, target))
        used, asked = (None if each is None else f"{each}%" for each in percents)
        return f"{prefix}{used or UNKNOWN}/{asked or '<auto>'}"
    return f"{current.get('value', UNKNOWN)}/{target.get('value', 0)}"


def _autoscaler(obj: JSONObject) -> list[Cell]:
    spec = obj["spec"]
    target = spec["scaleTargetRef"]
    return [
        f"{target['kind']}/{target['name']}",
        _metrics(obj),
        str(spec.get("minReplicas", UNSET)),
        spec["maxReplicas"],
        obj.get("status", {}).get("currentReplicas", 0),
    ]


HORIZONTAL_POD_AUTOSCALER = Printer(
    (
        NAME,
        *_texts(
            ("Reference", "What is scaled."),
            ("Targets", "The present value and the target of each metric."),
            ("MinPods", "The fewest pods."),
            ("MaxPods", "The most pods."),
            ("Replicas", "How many pods there are."),
        ),
        AGE,
    ),
    _named_and_aged(_autoscaler),
)

# --- flow control --------------------------------------------------------------------------------------------------


def _flow_schema(obj: JSONObject, now: float) -> list[Cell]:
    spec = obj["spec"]
    dangling = [each["status"] for each in obj.get("status", {}).get("conditions", ()) if each["type"] == "Dangling"]
    return [
        name(obj),
        spec["priorityLevelConfiguration"]["name"],
        spec.get("matchingPrecedence", 0),
        spec.get("distinguisherMethod", {}).get("type", NONE),
        age(obj, now),
        dangling[0] if dangling else "?",
    ]


FLOW_SCHEMA = Printer(
    (
        NAME,
        *_texts(
            ("PriorityLevel", "The priority level of its requests."),
            ("MatchingPrecedence", "Which of several schemas counts: the one with the least."),
            ("DistinguisherMethod", "How its flows are told apart."),
        ),
        AGE,
        Column("MissingPL", "Whether its priority level is missing."),
    ),
    _flow_schema,
)


def _priority_level(obj: JSONObject) -> list[Cell]:
    limited = obj["spec"].get("limited", {})
    queuing = limited.get("limitResponse", {}).get("queuing", {})
    return [
        obj["spec"]["type"],
        limited.get("nominalConcurrencyShares", NONE),
        *(queuing.get(field, NONE) for field in ("queues", "handSize", "queueLengthLimit")),
    ]


PRIORITY_LEVEL = Printer(
    (
        NAME,
        *_texts(
            ("Type", "Exempt, or Limited."),
            ("NominalConcurrencyShares", "Its share of the requests that are served at once."),
            ("Queues", "How many queues it has."),
            ("HandSize", "How many queues a flow is spread over."),
            ("QueueLengthLimit", "The most requests in a queue."),
        ),
        AGE,
    ),
    _named_and_aged(_priority_level),
)

# --- networking ----------------------------------------------------------------------------------------------------

NETWORK_POLICY = Printer(
    (NAME, Column("Pod-Selector", "The labels of its pods."), AGE),
    _named_and_aged(lambda obj: [selector(obj.get("spec", {}).get("podSelector"))]),
)

_MOST_HOSTS = 3


def _hosts(rules: Sequence[JSONObject]) -> str:
    named = [each["host"] for each in rules[:_MOST_HOSTS] if each.get("host")]
    more = f" + {len(rules) - _MOST_HOSTS} more..." if len(rules) > _MOST_HOSTS and named else ""
    return (",".join(named) or "*") + more


def _ingress(obj: JSONObject) -> list[Cell]:
    spec = obj.get("spec", {})
    reached = obj.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    return [
        spec.get("ingressClassName", NONE),
        _hosts(spec.get("rules", ())),
        ",".join(sorted({each.get("ip") or each.get("hostname", "") for each in reached} - {""})),
        "80, 443" if spec.get("tls") else "80",
    ]


INGRESS = Printer(
    (
        NAME,
        *_texts(
            ("Class", "The IngressClass."),
            ("Hosts", "The hosts that it serves."),
            ("Address", "Where it is reached."),
            ("Ports", "The ports at which it is reached."),
        ),
        AGE,
    ),
    _named_and_aged(_ingress),
)


def _ingress_class(obj: JSONObject, now: float) -> list[Cell]:
    spec = obj.get("spec", {})
    parameters, shown = spec.get("parameters"), NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if "apiGroup" in parameters else ""
        shown = f"{parameters['kind']}{group}/{parameters['name']}"
    marked = _default_marked("ingressclass.kubernetes.io/is-default-class", obj)
    return [marked, spec.get("controller", ""), shown, age(obj, now)]


INGRESS_CLASS = Printer(
    (NAME, *_texts(("Controller", "What serves its Ingresses."), ("Parameters", "What configures it.")), AGE),
    _ingress_class,
)


def _ip_address(obj: JSONObject) -> list[Cell]:
    parent = obj.get("spec", {}).get("parentRef")
    if not parent:
        return [NONE]
    group = f".{parent['group']}" if parent.get("group") else ""
    parts = [f"{parent['resource']}{group}".lower(), parent.get("namespace", ""), parent["name"]]
    return ["/".join(filter(None, parts))]


IP_ADDRESS = Printer((NAME, Column("ParentRef", "Whose address it is."), AGE), _named_and_aged(_ip_address))
SERVICE_CIDR = Printer(
    (NAME, Column("CIDRs", "The ranges of the Services' addresses."), AGE),
    _named_and_aged(lambda obj: [",".join(obj.get("spec", {}).get("cidrs", ()))]),
)

# --- scheduling and policy -------------------------------------------------------------------------------------------

RUNTIME_CLASS = Printer(
    (NAME, Column("Handler", "The configuration of the container runtime."), AGE),
    _named_and_aged(lambda obj: [obj["handler"]]),
)


def _priority_class(obj: JSONObject, now: float) -> list[Cell]:
    value, is_default = obj["value"], obj.get("globalDefault", False)
    return [name(obj), value, is_default, age(obj, now), obj.get("preemptionPolicy", "")]


PRIORITY_CLASS = Printer(
    (
        NAME,
        Column("Value", "The priority of its pods.", type="integer"),
        Column("Global-Default", "Whether it is the class of pods that name none.", type="boolean"),
        AGE,
        Column("PreemptionPolicy", "Whether its pods take the place of others.", 1),
    ),
    _priority_class,
)


def _pod_template(obj: JSONObject, now: float) -> list[Cell]:
    template = obj.get("template", {})
    containers = template.get("spec", {}).get("containers", ())
    names, images = ([each.get(field, "") for each in containers] for field in ("name", "image"))
    return [name(obj), ",".join(names), ",".join(images), labels(template.get("metadata", {}).get("labels"))]


POD_TEMPLATE = Printer(
    (
        NAME,
        *_texts(
            ("Containers", "The names of its containers."),
            ("Images", "The images of its containers."),
            ("Pod Labels", "The labels of its pods."),
        ),
    ),
    _pod_template,
)
CREATED_AT = Printer(
    (NAME, Column("Created At", "When the object was created.", type="date")),
    lambda obj, _: [name(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN],
)
"""Of a kind that upstream has no columns for."""


def _quota(obj: JSONObject) -> list[Cell]:
    status = obj.get("status", {})
    used, columns = status.get("used", {}), {True: [""][:0], False: [""][:0]}
    for resource, hard in sorted(status.get("hard", {}).items()):
        columns[resource.startswith("limits.")].append(f"{resource}: {used.get(resource, 0)}/{hard}")
    return [", ".join(columns[False]), ", ".join(columns[True])]


RESOURCE_QUOTA = Printer(
    (
        NAME,
        *_texts(
            ("Request", "What is used of what may be asked for."),
            ("Limit", "What is used of what may be set as a limit."),
        ),
        AGE,
    ),
    _named_and_aged(_quota),
)

# --- admission and certificates --------------------------------------------------------------------------------------

WEBHOOKS = Printer(
    (NAME, Column("Webhooks", "How many webhooks there are.", type="integer"), AGE),
    _named_and_aged(lambda obj: [len(obj.get("webhooks", ()))]),
)


def _policy(rules: str) -> _Cells:
    def cells(obj: JSONObject) -> list[Cell]:
        kind = obj.get("spec", {}).get("paramKind")
        return [
            len(obj.get("spec", {}).get(rules, ())),
            f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET,
        ]

    return _named_and_aged(cells)


def _policy_binding(obj: JSONObject) -> list[Cell]:
    spec = obj.get("spec", {})
    ref = spec.get("paramRef") or {}
    param = f"{ref.get('namespace') or '*'}/{ref['name']}" if ref.get("name") else UNSET
    return [spec.get("policyName", ""), selector(ref["selector"]) if ref.get("selector") else param]


_PARAM_KIND = Column("ParamKind", "The kind of the objects with the policy's parameters.")
VALIDATING_POLICY = Printer(
    (NAME, Column("Validations", "How many rules there are.", type="integer"), _PARAM_KIND, AGE), _policy("validations")
)
MUTATING_POLICY = Printer(
    (NAME, Column("Mutations", "How many changes there are.", type="integer"), _PARAM_KIND, AGE), _policy("mutations")
)
POLICY_BINDING = Printer(
    (
        NAME,
        *_texts(("PolicyName", "The policy that is put in force."), ("ParamRef", "The object with its parameters.")),
        AGE,
    ),
    _named_and_aged(_policy_binding),
)


def _signing_request(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    conditions = {each["type"] for each in status.get("conditions", ())}
    parts = [next((each for each in ("Denied", "Approved") if each in conditions), "Pending")]
    parts += ["Failed"] if "Failed" in conditions else []
    parts += ["Issued"] if status.get("certificate") else []
    seconds = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now),
        spec["signerName"],
        spec.get("username", ""),
        NONE if seconds is None else duration(seconds),
        ",".join(parts),
    ]


CERTIFICATE_SIGNING_REQUEST = Printer(
    (
        NAME,
        AGE,
        *_texts(
            ("SignerName", "Who is to sign it."),
            ("Requestor", "Who asks for it."),
            ("RequestedDuration", "For how long it is asked for."),
            ("Condition", "Pending, Approved or Denied; Failed or Issued."),
        ),
    ),
    _signing_request,
)
