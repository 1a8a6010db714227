"""The defaults that Kubernetes 1.31 fills in (pkg/apis/core/v1/defaults.go, apps/v1, discovery/v1), on the JSON.

They are written into the stored object, as the real server does, so that every client reads the same whichever its
language's zero values are. Each function takes an object whose fields have the right types.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from typing import Any

from netlab.api.rbac_types import RBAC
from netlab.api.server.objects import service_types
from netlab.api.server.objects.schema import JSONObject

CLIENT_IP_TIMEOUT = 10800
"""Seconds: v1.DefaultClientIPServiceAffinitySeconds."""


def _fill(obj: JSONObject, **defaults: Any) -> None:
    """Set what is absent or empty: in Go an empty string is the same as none."""
    for name, value in defaults.items():
        if obj.get(name) in (None, ""):
            obj[name] = value


def namespace(obj: JSONObject) -> None:
    """The label by which a namespace selector finds a namespace by name."""
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def node(obj: JSONObject) -> None:
    """podCIDR and podCIDRs say the same."""
    spec = obj.setdefault("spec", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


_NODE_INFO = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)


def node_status(obj: JSONObject) -> None:
    """The fields that upstream's server always sends, even if they are empty: generated clients require them."""
    status = obj.get("status", {})
    if "nodeInfo" in status:
        status["nodeInfo"] = dict.fromkeys(_NODE_INFO, "") | status["nodeInfo"]


_CONTAINER_STATUS = {"ready": False, "restartCount": 0, "image": "", "imageID": ""}


def pod_status(obj: JSONObject) -> None:
    """The same of a pod's containers."""
    for kind in ("containerStatuses", "initContainerStatuses"):
        for container in obj.get("status", {}).get(kind, ()):
            container |= {name: value for name, value in _CONTAINER_STATUS.items() if name not in container}


def replica_set_status(obj: JSONObject) -> None:
    """The same of a ReplicaSet."""
    obj.setdefault("status", {}).setdefault("replicas", 0)


def event(obj: JSONObject) -> None:
    """The same of an Event."""
    obj.setdefault("involvedObject", {})


def pod(obj: JSONObject) -> None:
    """v1.Pod."""
    spec = obj["spec"]
    pod_spec(spec)
    _fill(spec, enableServiceLinks=True)
    for holder in (spec, *spec.get("initContainers", ()), *spec.get("containers", ())):
        _requests(holder)


def _requests(holder: JSONObject) -> None:
    """What may be used is asked for, if nothing else is said; not in a template, whose pods get it."""
    resources = holder.get("resources") or {}
    if limits := resources.get("limits"):
        resources["requests"] = limits | (resources.get("requests") or {})


def limit_range(obj: JSONObject) -> None:
    """v1.LimitRange: the most is the default limit, and that, or the least, is asked for."""
    for item in obj.get("spec", {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        default = (item.get("max") or {}) | (item.get("default") or {})
        asked = (item.get("min") or {}) | default | (item.get("defaultRequest") or {})
        item |= {name: value for name, value in (("default", default), ("defaultRequest", asked)) if value}


def priority_class(obj: JSONObject) -> None:
    """scheduling.k8s.io/v1.PriorityClass."""
    obj.setdefault("value", 0)
    _fill(obj, preemptionPolicy="PreemptLowerPriority")


def pod_spec(spec: JSONObject) -> None:
    """v1.PodSpec, of a pod or of a template."""
    _fill(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        terminationGracePeriodSeconds=30,
        securityContext={},
    )
    # An older name of the same field.
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes") or ():
        if volume.keys() <= {"name"}:
            volume["emptyDir"] = {}
        if (host_path := volume.get("hostPath")) is not None:
            _fill(host_path, type="")
        if (projected := volume.get("projected")) is not None:
            _projected(projected)
        for kind in ("configMap", "secret", "downwardAPI"):
            if (source := volume.get(kind)) is not None:
                source.setdefault("defaultMode", 0o644)
        _field_references(volume.get("downwardAPI") or {})
    for container in (
        *spec.get("initContainers", ()), *spec.get("containers", ()), *spec.get("ephemeralContainers", ())
    ):  # fmt: skip
        _container(container, host_network=spec.get("hostNetwork", False))


def _projected(volume: JSONObject) -> None:
    volume.setdefault("defaultMode", 0o644)
    for source in volume.get("sources") or ():
        if token := source.get("serviceAccountToken"):
            token.setdefault("expirationSeconds", 3600)
        _field_references(source.get("downwardAPI") or {})


def _field_references(source: JSONObject) -> None:
    for item in source.get("items") or ():
        if reference := item.get("fieldRef"):
            _fill(reference, apiVersion="v1")


def _container(container: JSONObject, *, host_network: bool) -> None:
    image = container.get("image", "")
    _, _, tag = image.rpartition("/")[2].partition(":")
    newest = "@" not in image and tag in ("", "latest")
    _fill(
        container,
        imagePullPolicy="Always" if newest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},  # no default upstream, but in Go it is never absent
    )
    for port in container.get("ports", ()):
        _fill(port, protocol="TCP")
        if host_network and not port.get("hostPort") and "containerPort" in port:
            port["hostPort"] = port["containerPort"]
    for variable in container.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("fieldRef"):
            _fill(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict) and "httpGet" in handler:
            _fill(handler["httpGet"], path="/", scheme="HTTP")


def _probe(probe: JSONObject) -> None:
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        # Zero, too, means the default.
        probe[name] = probe.get(name) or value
    if "httpGet" in probe:
        _fill(probe["httpGet"], path="/", scheme="HTTP")


def service(obj: JSONObject) -> None:
    """v1.Service; families, addresses and node ports are chosen in service_addresses."""
    spec = obj.setdefault("spec", {})
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        _fill(spec["sessionAffinityConfig"]["clientIP"], timeoutSeconds=CLIENT_IP_TIMEOUT)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports", ()):
        _fill(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0) and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster")
    if service_types.is_reached_from_outside(spec):
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)


def deployment(obj: JSONObject) -> None:
    """apps/v1.Deployment."""
    spec = obj["spec"]
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _fill(spec.setdefault("strategy", {}), type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _fill(spec["strategy"].setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    _template(obj)


def replica_set(obj: JSONObject) -> None:
    """apps/v1.ReplicaSet."""
    _fill(obj["spec"], replicas=1)
    _template(obj)


def replication_controller(obj: JSONObject) -> None:
    """v1.ReplicationController."""
    spec = obj.setdefault("spec", {})
    _fill(spec, replicas=1)
    if "template" not in spec:
        return
    labels = spec["template"].get("metadata", {}).get("labels", {})
    if not spec.get("selector") and labels:
        spec["selector"] = dict(labels)
    if not obj["metadata"].get("labels") and labels:
        obj["metadata"]["labels"] = dict(labels)
    _template(obj)


def daemon_set(obj: JSONObject) -> None:
    """apps/v1.DaemonSet."""
    spec = obj["spec"]
    _fill(spec, revisionHistoryLimit=10)
    _fill(spec.setdefault("updateStrategy", {}), type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _fill(spec["updateStrategy"].setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)
    _template(obj)


def daemon_set_status(obj: JSONObject) -> None:
    """The fields that upstream's server always sends."""
    fields = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    obj["status"] = dict.fromkeys(fields, 0) | obj.get("status", {})


def stateful_set(obj: JSONObject) -> None:
    """apps/v1.StatefulSet."""
    spec = obj["spec"]
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _fill(spec.setdefault("updateStrategy", {}), type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _fill(spec["updateStrategy"].setdefault("rollingUpdate", {}), partition=0)
    _fill(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    for claim in spec.get("volumeClaimTemplates") or ():
        _fill(claim, apiVersion="v1", kind="PersistentVolumeClaim", status={"phase": "Pending"})
        _fill(claim.setdefault("spec", {}), volumeMode="Filesystem")
    _template(obj)


def stateful_set_status(obj: JSONObject) -> None:
    """The fields that upstream's server always sends."""
    obj["status"] = {"replicas": 0, "availableReplicas": 0} | obj.get("status", {})


_NEVER = 2**31 - 1


def job(obj: JSONObject) -> None:
    """batch/v1.Job: its defaults, and the labels by which it knows its pods (job/strategy.go)."""
    spec = obj["spec"]
    job_spec(spec)
    uid, name = obj["metadata"].get("uid"), obj["metadata"].get("name", "")
    if spec.get("manualSelector") or "selector" in spec or not uid:
        return
    meta = spec["template"].setdefault("metadata", {})
    for prefix in ("", "batch.kubernetes.io/"):
        meta.setdefault("labels", {}).update({f"{prefix}controller-uid": uid, f"{prefix}job-name": name})
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def job_spec(spec: JSONObject) -> None:
    """batch/v1.JobSpec, of a Job or of a CronJob's template."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    policy = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    _fill(
        spec,
        parallelism=1,
        backoffLimit=_NEVER if per_index else 6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy=policy,
    )
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for pattern in rule.get("onPodConditions", ()):
            _fill(pattern, status="True")
    if "spec" in spec.get("template", {}):
        pod_spec(spec["template"]["spec"])


def cron_job(obj: JSONObject) -> None:
    """batch/v1.CronJob."""
    spec = obj["spec"]
    _fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job_spec(spec["jobTemplate"]["spec"])


def _template(obj: JSONObject) -> None:
    pod_spec(obj["spec"]["template"]["spec"])


def endpoint_slice(obj: JSONObject) -> None:
    """discovery.k8s.io/v1.EndpointSlice."""
    for port in obj.get("ports", ()):
        port.setdefault("name", "")
        _fill(port, protocol="TCP")


def listed(obj: JSONObject, defaults: Mapping[str, Any]) -> None:
    """Those of a kind that is stored only, as its row lists them."""
    for name, value in defaults.items():
        present = obj.get(name)
        if isinstance(value, Mapping) and value:
            if present is not None:
                listed(present, value)
        elif isinstance(value, list) and isinstance(value[0], Mapping):
            for item in present or ():
                listed(item, value[0])
        elif present is None:
            obj[name] = copy.deepcopy(value)


_WEBHOOK = {
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "timeoutSeconds": 10,
    "rules": [{"scope": "*"}],
    "clientConfig": {"service": {"port": 443}},
}


def webhooks(obj: JSONObject) -> None:
    """admissionregistration.v1.ValidatingWebhookConfiguration."""
    listed(obj, {"webhooks": [_WEBHOOK]})


def mutating_webhooks(obj: JSONObject) -> None:
    """admissionregistration.v1.MutatingWebhookConfiguration."""
    listed(obj, {"webhooks": [{**_WEBHOOK, "reinvocationPolicy": "Never"}]})


def endpoints(obj: JSONObject) -> None:
    """v1.Endpoints."""
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            _fill(port, protocol="TCP")


def binding(obj: JSONObject) -> None:
    """rbac.v1.RoleBinding and ClusterRoleBinding."""
    _fill(obj["roleRef"], apiGroup=RBAC)
    for subject in obj.get("subjects") or ():
        if subject["kind"] in ("User", "Group"):
            _fill(subject, apiGroup=RBAC)


def budget_status(obj: JSONObject) -> None:
    """The fields of a PodDisruptionBudget that upstream's server always sends."""
    fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    obj["status"] = dict.fromkeys(fields, 0) | obj.get("status", {})


def secret(obj: JSONObject) -> None:
    """v1.Secret: its texts come into its data, and are not kept beside it."""
    _fill(obj, type="Opaque")
    if texts := obj.pop("stringData", None):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        obj["data"] = obj.get("data", {}) | encoded


def network_policy(obj: JSONObject) -> None:
    """networking.k8s.io/v1.NetworkPolicy: egress rules imply the type Egress."""
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            _fill(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def ingress_class(obj: JSONObject) -> None:
    """networking.k8s.io/v1.IngressClass."""
    if parameters := (obj.get("spec") or {}).get("parameters"):
        _fill(parameters, scope="Cluster")


def nothing(obj: JSONObject) -> None:
    """A kind without defaults."""
