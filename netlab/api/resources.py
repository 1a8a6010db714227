"""The resources that exist: the one table from which paths, decoding and listings are derived."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from netlab.api import certificate_types as certificates
from netlab.api import review_types as reviews
from netlab.api import stored_kinds
from netlab.api.admission_types import WebhookConfiguration
from netlab.api.apps_types import (
    ControllerRevision,
    DaemonSet,
    Deployment,
    PersistentVolumeClaim,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
)
from netlab.api.batch_types import CronJob, Job
from netlab.api.config_types import ConfigMap, Endpoints, Secret, ServiceAccount
from netlab.api.coordination_types import Lease
from netlab.api.core_types import Event, Namespace, Node, Pod, Service
from netlab.api.discovery_types import EndpointSlice, EndpointSliceV1beta1
from netlab.api.meta_types import Object
from netlab.api.metrics_types import METRICS, NodeMetrics, PodMetrics
from netlab.api.networking_types import Ingress, IngressClass, NetworkPolicy, ServiceCIDR
from netlab.api.node_types import RuntimeClass
from netlab.api.policy_types import PodDisruptionBudget
from netlab.api.printers import PLAIN, Printer, access, kinds, measured, pods, stored, workloads
from netlab.api.quota_types import LimitRange, ResourceQuota
from netlab.api.rbac_types import RBAC, ClusterRole, ClusterRoleBinding, Role, RoleBinding
from netlab.api.registration_types import APIService
from netlab.api.scheduling_types import PriorityClass
from netlab.errors import UsageError

T = TypeVar("T", bound=Object)

STATUS = stored_kinds.STATUS

SCALE = "scale"
"""The subresource through which the replicas are written, and nothing else."""

EPHEMERAL_CONTAINERS = "ephemeralcontainers"
"""The subresource through which containers are added to a pod that is there."""

KUBERNETES = ("1", "37")
"""The version of Kubernetes whose API a lab speaks, as all of its components say."""

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
"""What can be asked for of a resource."""

VERB_OF_METHOD = {
    "POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"
}  # fmt: skip
"""What a method of HTTP asks for of one object."""


class Kind(NamedTuple):
    """A kind of object, as clients name it (schema.GroupVersionKind)."""

    group: str
    version: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Subresource:
    """A part of an object, or something that is done with it, at a path of its own."""

    name: str
    verbs: tuple[str, ...]
    kind: Kind | None = None
    """What is sent and returned; None: the whole object."""
    printer: Printer | None = None
    """How it is shown; None: as the whole object."""


@dataclasses.dataclass(frozen=True, eq=False)  # There is one of each: compared and hashed as such.
class Resource(Generic[T]):
    """One kind of object: where the API serves it, under which names, what can be done with it, how it is shown."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[T]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    """The names under which a user asks for several kinds at once."""
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = ()
    printer: Printer = PLAIN
    returns_deleted: bool = False
    """Whether the answer to a deletion is what was deleted, and not a Status."""
    nullable: tuple[str, ...] = ()
    """Required lists that servers send as null if empty."""
    older: Resource[T] | None = None
    """What to read instead from a server that does not have this version yet."""
    is_stored_only: bool = False
    """Whether nothing in netlab acts upon it: its objects are stored and returned."""
    has_generation: bool = True
    """Whether changes of what is wanted are numbered."""
    stored_as: Resource[Any] | None = None
    """The version in whose form the objects are stored; None: this one."""
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the fields of `stored_as` are called in this version, where that differs."""

    @property
    def api_version(self) -> str:
        """`v1` for the core group, `group/version` for the others."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        """Whether the status is written apart from the rest."""
        return self.subresource(STATUS) is not None

    def subresource(self, name: str) -> Subresource | None:
        """One of its subresources; None if it has none of that name."""
        return next((each for each in self.subresources if each.name == name), None)

    @property
    def singular(self) -> str:
        """The singular name in lower case, as kubectl accepts it."""
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        """The kind of a list of its objects."""
        return f"{self.kind}List"

    @property
    def collection(self) -> str:
        """What its objects are stored and watched as: among all resources there is one of each, but for versions."""
        return self.plural

    def path(self, namespace: str | None = None) -> str:
        """The REST path of the collection; of a namespaced resource without a namespace (None), that of all namespaces.

        Raises `UsageError` for a namespace that is no name.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", path_segment("namespace", namespace)]
        return "/".join((*parts, self.plural))

    def object_path(self, namespace: str | None, name: str, subresource: str | None = None) -> str:
        """The REST path of one object, or of a part of it; of what is not namespaced the namespace is passed over.

        Raises `UsageError` for what is no name. An empty one is none: the path would be the collection's, and the
        request would be about every object in it.
        """
        parts = [self.path(namespace or ""), path_segment(f"{self.singular} name", name)]
        if subresource is not None:
            parts.append(path_segment("subresource", subresource))
        return "/".join(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class AddedResource(Resource[T]):
    """A resource beside Kubernetes' own: a CustomResourceDefinition adds it, or it is measured."""

    @property
    def collection(self) -> str:
        """PLURAL.GROUP, as a definition is called: the plural alone may be another's."""
        return f"{self.plural}.{self.group}"


_NAME = re.compile(r"[A-Za-z0-9._:-]+")
"""What the names of all kinds are made of, and of these none needs to be quoted in a path. Not every such text is a
name of every kind: that the server says."""

_LONGEST_NAME = 253


def path_segment(what: str, text: str) -> str:
    """A name, as a part of a path. Raises `UsageError`, which calls it `what`, for one that cannot be any object's."""
    if not text:
        raise UsageError(f"{what}: it is empty: give a name")
    if len(text) > _LONGEST_NAME:
        raise UsageError(f"{what} {text[:20]!r}...: it has {len(text)} characters, and a name at most {_LONGEST_NAME}")
    if not _NAME.fullmatch(text) or text in (".", ".."):
        raise UsageError(f"{what} {text!a}: names are made of lower-case letters, digits, '-' and '.'")
    return text


_CHANGES = ("get", "patch", "update")
_STATUS = Subresource(STATUS, _CHANGES)
_SCALE = Subresource(SCALE, _CHANGES, Kind("autoscaling", "v1", "Scale"), workloads.SCALE)
ADDED_PARTS = {STATUS: _STATUS, SCALE: _SCALE}
"""The subresources that a CustomResourceDefinition can ask for."""

_EVERYTHING = ("all",)
_STREAM = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")

NAMESPACES = Resource(
    "",
    "v1",
    "Namespace",
    "namespaces",
    Namespace,
    namespaced=False,
    short_names=("ns",),
    subresources=(_STATUS, Subresource("finalize", ("update",))),
    printer=kinds.NAMESPACE,
    returns_deleted=True,
    has_generation=False,
)
CUSTOMRESOURCEDEFINITIONS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    Object,
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=(_STATUS,),
    printer=stored.CREATED_AT,
)
"""Each adds a resource to those of this table (netlab.api.server.registry.catalog)."""
APISERVICES = Resource(
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    APIService,
    namespaced=False,
    categories=("api-extensions",),
    subresources=(_STATUS,),
    printer=access.API_SERVICE,
    has_generation=False,
)
NODES = Resource(
    "",
    "v1",
    "Node",
    "nodes",
    Node,
    namespaced=False,
    short_names=("no",),
    subresources=(_STATUS, Subresource("proxy", _PROXY, Kind("", "v1", "NodeProxyOptions"))),
    printer=kinds.NODE,
    has_generation=False,
)
PODS = Resource(
    "",
    "v1",
    "Pod",
    "pods",
    Pod,
    short_names=("po",),
    categories=_EVERYTHING,
    subresources=(
        _STATUS,
        Subresource("binding", ("create",), Kind("", "v1", "Binding")),
        Subresource("eviction", ("create",), Kind("policy", "v1", "Eviction")),
        Subresource(EPHEMERAL_CONTAINERS, _CHANGES),
        Subresource("log", ("get",)),
        Subresource("exec", _STREAM, Kind("", "v1", "PodExecOptions")),
        Subresource("attach", _STREAM, Kind("", "v1", "PodAttachOptions")),
        Subresource("portforward", _STREAM, Kind("", "v1", "PodPortForwardOptions")),
        Subresource("proxy", _PROXY, Kind("", "v1", "PodProxyOptions")),
    ),
    printer=pods.POD,
    returns_deleted=True,
)
SERVICES = Resource(
    "",
    "v1",
    "Service",
    "services",
    Service,
    short_names=("svc",),
    categories=_EVERYTHING,
    subresources=(_STATUS, Subresource("proxy", _PROXY, Kind("", "v1", "ServiceProxyOptions"))),
    printer=kinds.SERVICE,
    returns_deleted=True,
    has_generation=False,
)
EVENTS = Resource("", "v1", "Event", "events", Event, short_names=("ev",), printer=kinds.EVENT, has_generation=False)
DEPLOYMENTS = Resource(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    Deployment,
    short_names=("deploy",),
    categories=_EVERYTHING,
    subresources=(_STATUS, _SCALE),
    printer=workloads.DEPLOYMENT,
)
REPLICASETS = Resource(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    ReplicaSet,
    short_names=("rs",),
    categories=_EVERYTHING,
    subresources=(_STATUS, _SCALE),
    printer=workloads.REPLICA_SET,
)
REPLICATIONCONTROLLERS = Resource(
    "",
    "v1",
    "ReplicationController",
    "replicationcontrollers",
    ReplicationController,
    short_names=("rc",),
    categories=_EVERYTHING,
    subresources=(_STATUS, _SCALE),
    printer=workloads.REPLICATION_CONTROLLER,
)
DAEMONSETS = Resource(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    DaemonSet,
    short_names=("ds",),
    categories=_EVERYTHING,
    subresources=(_STATUS,),
    printer=workloads.DAEMON_SET,
)
STATEFULSETS = Resource(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    StatefulSet,
    short_names=("sts",),
    categories=_EVERYTHING,
    subresources=(_STATUS, _SCALE),
    printer=workloads.STATEFUL_SET,
)
CONTROLLERREVISIONS = Resource(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    ControllerRevision,
    printer=workloads.CONTROLLER_REVISION,
    has_generation=False,
)
JOBS = Resource(
    "batch",
    "v1",
    "Job",
    "jobs",
    Job,
    categories=_EVERYTHING,
    subresources=(_STATUS,),
    printer=workloads.JOB,
)
CRONJOBS = Resource(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    CronJob,
    short_names=("cj",),
    categories=_EVERYTHING,
    subresources=(_STATUS,),
    printer=workloads.CRON_JOB,
)
PODDISRUPTIONBUDGETS = Resource(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    PodDisruptionBudget,
    short_names=("pdb",),
    subresources=(_STATUS,),
    printer=workloads.POD_DISRUPTION_BUDGET,
)
PRIORITYCLASSES = Resource(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    PriorityClass,
    namespaced=False,
    short_names=("pc",),
    printer=stored.PRIORITY_CLASS,
)
_ENDPOINTSLICES_V1BETA1: Resource[EndpointSlice] = Resource(
    "discovery.k8s.io", "v1beta1", "EndpointSlice", "endpointslices", EndpointSliceV1beta1, nullable=("endpoints",)
)
"""For servers before 1.21; removed in 1.25."""
ENDPOINTSLICES = Resource(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    EndpointSlice,
    printer=kinds.ENDPOINT_SLICE,
    nullable=("endpoints",),
    older=_ENDPOINTSLICES_V1BETA1,
)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", Lease, printer=kinds.LEASE, has_generation=False)
RUNTIMECLASSES = Resource(
    "node.k8s.io",
    "v1",
    "RuntimeClass",
    "runtimeclasses",
    RuntimeClass,
    namespaced=False,
    printer=stored.RUNTIME_CLASS,
    has_generation=False,
)
_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"

CONFIGMAPS = Resource(
    "", "v1", "ConfigMap", "configmaps", ConfigMap, short_names=("cm",), printer=access.CONFIG_MAP, has_generation=False
)
SECRETS = Resource("", "v1", "Secret", "secrets", Secret, printer=access.SECRET, has_generation=False)
SERVICEACCOUNTS = Resource(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    ServiceAccount,
    short_names=("sa",),
    subresources=(Subresource("token", ("create",), Kind(_AUTHENTICATION, "v1", "TokenRequest")),),
    printer=access.SERVICE_ACCOUNT,
    has_generation=False,
)
CERTIFICATESIGNINGREQUESTS = Resource(
    certificates.GROUP,
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    certificates.CertificateSigningRequest,
    namespaced=False,
    short_names=("csr",),
    subresources=(_STATUS, Subresource(stored_kinds.APPROVAL, _CHANGES)),
    printer=stored.CERTIFICATE_SIGNING_REQUEST,
    has_generation=False,
)
MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS = (
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        kind,
        f"{kind.lower()}s",
        WebhookConfiguration,
        namespaced=False,
        categories=("api-extensions",),
        printer=stored.WEBHOOKS,
    )
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
)
LIMITRANGES = Resource(
    "",
    "v1",
    "LimitRange",
    "limitranges",
    LimitRange,
    short_names=("limits",),
    printer=stored.CREATED_AT,
    has_generation=False,
)
RESOURCEQUOTAS = Resource(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    ResourceQuota,
    short_names=("quota",),
    subresources=(_STATUS,),
    printer=stored.RESOURCE_QUOTA,
    returns_deleted=True,
    has_generation=False,
)
ENDPOINTS = Resource(
    "",
    "v1",
    "Endpoints",
    "endpoints",
    Endpoints,
    short_names=("ep",),
    printer=access.ENDPOINTS,
    is_stored_only=True,
    has_generation=False,
)
CLUSTERROLES = Resource(
    RBAC, "v1", "ClusterRole", "clusterroles", ClusterRole, namespaced=False, printer=access.ROLE, has_generation=False
)
CLUSTERROLEBINDINGS = Resource(
    RBAC,
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    ClusterRoleBinding,
    namespaced=False,
    printer=access.BINDING,
    has_generation=False,
)
ROLES = Resource(RBAC, "v1", "Role", "roles", Role, printer=access.ROLE, has_generation=False)
ROLEBINDINGS = Resource(
    RBAC, "v1", "RoleBinding", "rolebindings", RoleBinding, printer=access.BINDING, has_generation=False
)

_ASKED = ("create",)
TOKENREVIEWS = Resource(
    _AUTHENTICATION, "v1", "TokenReview", "tokenreviews", reviews.TokenReview, namespaced=False, verbs=_ASKED
)
SELFSUBJECTREVIEWS = Resource(
    _AUTHENTICATION,
    "v1",
    "SelfSubjectReview",
    "selfsubjectreviews",
    reviews.SelfSubjectReview,
    namespaced=False,
    verbs=_ASKED,
)
SUBJECTACCESSREVIEWS = Resource(
    _AUTHORIZATION,
    "v1",
    "SubjectAccessReview",
    "subjectaccessreviews",
    reviews.SubjectAccessReview,
    namespaced=False,
    verbs=_ASKED,
)
LOCALSUBJECTACCESSREVIEWS = Resource(
    _AUTHORIZATION,
    "v1",
    "LocalSubjectAccessReview",
    "localsubjectaccessreviews",
    reviews.SubjectAccessReview,
    verbs=_ASKED,
)
SELFSUBJECTACCESSREVIEWS = Resource(
    _AUTHORIZATION,
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    reviews.SelfSubjectAccessReview,
    namespaced=False,
    verbs=_ASKED,
)
SELFSUBJECTRULESREVIEWS = Resource(
    _AUTHORIZATION,
    "v1",
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    reviews.SelfSubjectRulesReview,
    namespaced=False,
    verbs=_ASKED,
)

NODE_LEASES = "kube-node-lease"
"""The namespace of the nodes' leases, each with the name of its node: a kubelet's heartbeat (KEP-589)."""

_SERVICECIDRS_V1BETA1 = Resource(
    "networking.k8s.io", "v1beta1", "ServiceCIDR", "servicecidrs", ServiceCIDR, namespaced=False
)
"""For servers before 1.33."""
SERVICECIDRS = Resource(
    "networking.k8s.io",
    "v1",
    "ServiceCIDR",
    "servicecidrs",
    ServiceCIDR,
    namespaced=False,
    subresources=(_STATUS,),
    printer=stored.SERVICE_CIDR,
    is_stored_only=True,
    older=_SERVICECIDRS_V1BETA1,
    has_generation=False,
)
"""The range that ClusterIPs are of is the server's own, whatever else is created."""

NETWORKPOLICIES = Resource(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    NetworkPolicy,
    short_names=("netpol",),
    printer=stored.NETWORK_POLICY,
)
INGRESSES = Resource(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    Ingress,
    short_names=("ing",),
    subresources=(_STATUS,),
    printer=stored.INGRESS,
)
INGRESSCLASSES = Resource(
    "networking.k8s.io",
    "v1",
    "IngressClass",
    "ingressclasses",
    IngressClass,
    namespaced=False,
    printer=stored.INGRESS_CLASS,
)

EVENTS_V1 = Resource(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    Object,
    short_names=("ev",),
    printer=kinds.EVENT,
    stored_as=EVENTS,
    renamed={
        "involvedObject": "regarding",
        "message": "note",
        "reportingComponent": "reportingController",
        "source": "deprecatedSource",
        "firstTimestamp": "deprecatedFirstTimestamp",
        "lastTimestamp": "deprecatedLastTimestamp",
        "count": "deprecatedCount",
    },
    has_generation=False,
)
"""The Events of v1, by the names of a later API."""


_SERVICECIDRS_AS_STORED: Resource[Any] = SERVICECIDRS
_ENDPOINTS_AS_STORED: Resource[Any] = ENDPOINTS

STORED: tuple[Resource[Object], ...] = (
    *(
        Resource(
            row.group,
            row.version,
            row.kind,
            row.plural,
            PersistentVolumeClaim if row.plural == "persistentvolumeclaims" else Object,
            namespaced=not row.cluster_scoped,
            short_names=row.short_names,
            categories=row.categories,
            subresources=tuple(Subresource(each, _CHANGES) for each in row.parts_of_status),
            printer=row.printer,
            is_stored_only=True,
            has_generation=row.has_generation,
        )
        for row in stored_kinds.ROWS
    ),
    _SERVICECIDRS_AS_STORED,
    _ENDPOINTS_AS_STORED,
)
"""What is stored and returned, and nothing in netlab acts upon."""

PERSISTENTVOLUMECLAIMS: Resource[Any] = next(each for each in STORED if each.type is PersistentVolumeClaim)

HORIZONTALPODAUTOSCALERS_V1: Resource[Object] = dataclasses.replace(
    _V2_AUTOSCALERS := next(each for each in STORED if each.plural == "horizontalpodautoscalers"),
    version="v1",
    stored_as=_V2_AUTOSCALERS,
)
"""HorizontalPodAutoscalers with one metric, in the form of an earlier API."""

_ACTED_UPON: tuple[Resource[Any], ...] = (
    NAMESPACES,
    CUSTOMRESOURCEDEFINITIONS,
    APISERVICES,
    NODES,
    LIMITRANGES,
    RESOURCEQUOTAS,
    PRIORITYCLASSES,
    SERVICEACCOUNTS,
    CONFIGMAPS,
    SECRETS,
    CLUSTERROLES,
    CLUSTERROLEBINDINGS,
    ROLES,
    ROLEBINDINGS,
    RUNTIMECLASSES,
    PODS,
    SERVICES,
    EVENTS,
    REPLICATIONCONTROLLERS,
    DAEMONSETS,
    DEPLOYMENTS,
    REPLICASETS,
    STATEFULSETS,
    CONTROLLERREVISIONS,
    CRONJOBS,
    JOBS,
    PODDISRUPTIONBUDGETS,
    ENDPOINTSLICES,
    LEASES,
    CERTIFICATESIGNINGREQUESTS,
    NETWORKPOLICIES,
    INGRESSCLASSES,
    INGRESSES,
    EVENTS_V1,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    MUTATINGWEBHOOKCONFIGURATIONS,
)

ALL: tuple[Resource[Object], ...] = (*_ACTED_UPON, *STORED, HORIZONTALPODAUTOSCALERS_V1)
"""Every resource whose objects are stored, in the order in which a file's objects are applied: containers of others
come first."""

REVIEWS: tuple[Resource[Object], ...] = (
    TOKENREVIEWS,
    SELFSUBJECTREVIEWS,
    SUBJECTACCESSREVIEWS,
    LOCALSUBJECTACCESSREVIEWS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTRULESREVIEWS,
)  # type: ignore[assignment]
"""Questions: what is created is answered, and not stored."""

NODEMETRICS = AddedResource(
    METRICS,
    "v1beta1",
    "NodeMetrics",
    "nodes",
    NodeMetrics,
    namespaced=False,
    verbs=("get", "list"),
    printer=measured.NODE_METRICS,
)
PODMETRICS = AddedResource(
    METRICS, "v1beta1", "PodMetrics", "pods", PodMetrics, verbs=("get", "list"), printer=measured.POD_METRICS
)
MEASURED: tuple[Resource[Object], ...] = (NODEMETRICS, PODMETRICS)  # type: ignore[assignment]
"""What is read from kubelets on request, and not stored."""

SERVED = (*ALL, *REVIEWS, *MEASURED)
"""Every resource that the lab's API server has."""

SNAPSHOT = "/netlab/snapshot"
"""Not a resource: a GET there gives all objects as of one moment (netlab.api.server.storage.snapshots)."""

CREDENTIALS = "/netlab/credentials"
"""Not a resource: a POST there issues an administrator's client certificate (netlab.api.server.access.issuing)."""

PROGRESS = "/netlab/progress"
"""Not a resource: a POST there has the server tell all watches how far they are, and answers with the present
resourceVersion."""


def by_name(name: str) -> Resource[Object] | None:
    """The resource that a user names: plural, singular, kind or short name, in any case; None if there is none."""
    wanted = name.lower()
    return next((r for r in ALL if wanted in (r.plural, r.singular, *r.short_names)), None)


def by_kind(api_version: str, kind: str) -> Resource[Object] | None:
    """The resource that a manifest names; None if there is none."""
    return next((r for r in ALL if (r.api_version, r.kind) == (api_version, kind)), None)
