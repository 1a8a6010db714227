"""Nothing is created in a namespace that is not there or is going, and some namespaces stay (NamespaceLifecycle)."""

from __future__ import annotations

from typing import Any

from netlab.api.meta_types import StatusCause
from netlab.api.resources import NAMESPACES, NODE_LEASES, Resource
from netlab.api.server import refusals
from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.storage.store import Store

SYSTEM_NAMESPACES = ("default", NODE_LEASES, "kube-system")
"""Those that the server makes, and that nobody may delete."""

_NAMESPACES: Resource[Any] = NAMESPACES


def check(attributes: Attributes, store: Store) -> None:
    """Raise `ApiError` (403, 404)."""
    if attributes.operation is Operation.CREATE and attributes.resource.namespaced:
        _check_namespace(attributes, store)
    is_deletion = attributes.operation is Operation.DELETE and attributes.resource is NAMESPACES
    if is_deletion and attributes.name in SYSTEM_NAMESPACES:
        raise attributes.forbidden("this namespace may not be deleted")


def _check_namespace(attributes: Attributes, store: Store) -> None:
    namespace = attributes.namespace
    stored = store.get(_NAMESPACES, "", namespace)
    if stored is None:
        raise refusals.not_found(_NAMESPACES, namespace)
    if stored.fields["status.phase"] == "Terminating":
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        message = f"namespace {namespace} is being terminated"
        cause = StatusCause(reason="NamespaceTerminating", message=message, field="metadata.namespace")
        raise attributes.forbidden(why, [cause])
