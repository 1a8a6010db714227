"""The kinds that netlab stores and returns, and does nothing about: a row for each, and no code.

Everything else that the API does with them follows from the table of resources and that of their fields (api/kinds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from netlab.api.printers import Printer, stored

STATUS, APPROVAL = "status", "approval"
"""Subresources that are parts of an object's status: all of it, and the conditions of a certificate's approval."""


class StoredKind(NamedTuple):
    """A kind of object: where the API serves it, under which names, how it is shown."""

    api_version: str
    kind: str
    plural: str
    printer: Printer
    short_names: tuple[str, ...] = ()
    cluster_scoped: bool = False
    parts_of_status: tuple[str, ...] = ()
    """STATUS, APPROVAL."""
    categories: tuple[str, ...] = ()
    has_generation: bool = False
    """Whether changes of what is wanted are numbered."""
    defaults: Mapping[str, Any] = {}
    """What stands in the place of absent fields, in the form of an object: with a list, in each of its items."""
    first_status: Mapping[str, Any] = {}
    """The status of a new object."""

    @property
    def group(self) -> str:
        """The API group; empty for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version of the group."""
        return self.api_version.rpartition("/")[2]


_MATCHED = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
_POLICY = {"spec": {"failurePolicy": "Fail", "matchConstraints": {**_MATCHED, "resourceRules": [{"scope": "*"}]}}}
_POLICY_BINDING = {"spec": {"matchResources": {**_MATCHED, "resourceRules": [{"scope": "*"}]}}}

ROWS: tuple[StoredKind, ...] = (
    StoredKind(
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        stored.PERSISTENT_VOLUME,
        ("pv",),
        cluster_scoped=True,
        parts_of_status=(STATUS,),
        defaults={"spec": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}},
        first_status={"phase": "Pending"},
    ),
    StoredKind(
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        stored.PERSISTENT_VOLUME_CLAIM,
        ("pvc",),
        parts_of_status=(STATUS,),
        defaults={"spec": {"volumeMode": "Filesystem"}},
        first_status={"phase": "Pending"},
    ),
    StoredKind("v1", "PodTemplate", "podtemplates", stored.POD_TEMPLATE, has_generation=True),
    StoredKind(
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        stored.MUTATING_POLICY,
        cluster_scoped=True,
        categories=("api-extensions",),
        has_generation=True,
        defaults=_POLICY,
    ),
    StoredKind(
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        stored.POLICY_BINDING,
        cluster_scoped=True,
        categories=("api-extensions",),
        has_generation=True,
        defaults=_POLICY_BINDING,
    ),
    StoredKind(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        stored.VALIDATING_POLICY,
        cluster_scoped=True,
        parts_of_status=(STATUS,),
        categories=("api-extensions",),
        has_generation=True,
        defaults=_POLICY,
    ),
    StoredKind(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        stored.POLICY_BINDING,
        cluster_scoped=True,
        categories=("api-extensions",),
        has_generation=True,
        defaults=_POLICY_BINDING,
    ),
    StoredKind(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        stored.HORIZONTAL_POD_AUTOSCALER,
        ("hpa",),
        categories=("all",),
        parts_of_status=(STATUS,),
    ),
    StoredKind(
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        "flowschemas",
        stored.FLOW_SCHEMA,
        cluster_scoped=True,
        parts_of_status=(STATUS,),
        has_generation=True,
        defaults={"spec": {"matchingPrecedence": 1000}},
    ),
    StoredKind(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        stored.PRIORITY_LEVEL,
        cluster_scoped=True,
        parts_of_status=(STATUS,),
        has_generation=True,
    ),
    StoredKind("networking.k8s.io/v1", "IPAddress", "ipaddresses", stored.IP_ADDRESS, ("ip",), cluster_scoped=True),
    StoredKind(
        "storage.k8s.io/v1",
        "CSIDriver",
        "csidrivers",
        stored.CSI_DRIVER,
        cluster_scoped=True,
        defaults={
            "spec": {
                "attachRequired": True,
                "podInfoOnMount": False,
                "storageCapacity": False,
                "fsGroupPolicy": "ReadWriteOnceWithFSType",
                "volumeLifecycleModes": ["Persistent"],
                "requiresRepublish": False,
                "seLinuxMount": False,
            }
        },
    ),
    StoredKind("storage.k8s.io/v1", "CSINode", "csinodes", stored.CSI_NODE, cluster_scoped=True),
    StoredKind("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities", stored.CSI_STORAGE_CAPACITY),
    StoredKind(
        "storage.k8s.io/v1",
        "StorageClass",
        "storageclasses",
        stored.STORAGE_CLASS,
        ("sc",),
        cluster_scoped=True,
        defaults={"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
    ),
    StoredKind(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        "volumeattachments",
        stored.VOLUME_ATTACHMENT,
        cluster_scoped=True,
        parts_of_status=(STATUS,),
        first_status={"attached": False},
    ),
    StoredKind(
        "storage.k8s.io/v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
        stored.VOLUME_ATTRIBUTES_CLASS,
        ("vac",),
        cluster_scoped=True,
    ),
)
"""Ordered by group."""
