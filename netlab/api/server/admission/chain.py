"""The plugins, in upstream's order (kubeapiserver/options/plugins.go), and how a request goes through them.

First all may add to the object (`admit`); then it is completed and checked as its kind demands; last all may refuse it
(`validate`), in the same step of the event loop in which it is stored: what a plugin sees there is what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from netlab.api.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    PRIORITYCLASSES,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVED,
    STATEFULSETS,
    STORED,
    Resource,
)
from netlab.api.server.admission import (
    defaulttolerationseconds,
    limitranger,
    namespacelifecycle,
    noderestriction,
    priority,
    resourcequota,
    runtimeclass,
    serviceaccount,
)
from netlab.api.server.admission.attributes import Attributes
from netlab.api.server.admission.podsecurity import plugin as podsecurity
from netlab.api.server.storage.store import Store

Step = Callable[[Attributes, Store], None]
"""Raises `ApiError` to refuse."""


class Plugin(NamedTuple):
    """One plugin: what it adds, what it refuses, and which kinds it is about."""

    name: str
    admit: Step | None = None
    validate: Step | None = None
    resources: tuple[Resource[Any], ...] | None = None
    """None: all."""


_CLAIMS, _POD_TEMPLATES = (
    next(each for each in STORED if each.plural == plural) for plural in ("persistentvolumeclaims", "podtemplates")
)
_WITH_TEMPLATES: tuple[Resource[Any], ...] = (
    *(CRONJOBS, DAEMONSETS, DEPLOYMENTS, JOBS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS),
    _POD_TEMPLATES,
)

NAMESPACE_LIFECYCLE = Plugin("NamespaceLifecycle", namespacelifecycle.check, namespacelifecycle.check)
LIMIT_RANGER = Plugin("LimitRanger", limitranger.admit, limitranger.validate, (PODS, _CLAIMS))
SERVICE_ACCOUNT = Plugin("ServiceAccount", serviceaccount.admit, serviceaccount.validate, (PODS,))
RUNTIME_CLASS = Plugin("RuntimeClass", runtimeclass.admit, runtimeclass.validate, (PODS,))
PRIORITY = Plugin("Priority", priority.admit, priority.validate, (PODS, PRIORITYCLASSES))
DEFAULT_TOLERATION_SECONDS = Plugin("DefaultTolerationSeconds", defaulttolerationseconds.admit, None, (PODS,))

NODE_RESTRICTION = Plugin("NodeRestriction", None, noderestriction.validate)
POD_SECURITY = Plugin("PodSecurity", None, podsecurity.validate, (NAMESPACES, PODS, *_WITH_TEMPLATES))
RESOURCE_QUOTA = Plugin("ResourceQuota", None, resourcequota.charge)
"""The last one: what is charged is stored."""

ALL = (
    NAMESPACE_LIFECYCLE,
    LIMIT_RANGER,
    SERVICE_ACCOUNT,
    NODE_RESTRICTION,
    POD_SECURITY,
    PRIORITY,
    DEFAULT_TOLERATION_SECONDS,
    RUNTIME_CLASS,
    RESOURCE_QUOTA,
)
"""Those of a lab's server."""

WITHOUT_CALLERS = tuple(plugin for plugin in ALL if plugin is not SERVICE_ACCOUNT)
"""Those of a server that knows its callers by nothing: it has no tokens to give to pods."""


class Chain:
    """The plugins over one store."""

    def __init__(self, plugins: Sequence[Plugin], store: Store) -> None:
        self._store = store
        self._admitting: dict[str, list[Step]] = {}
        self._validating: dict[str, list[Step]] = {}
        everyones = [each for each in plugins if each.resources is None]
        self._admitting_any = [each.admit for each in everyones if each.admit is not None]
        self._validating_any = [each.validate for each in everyones if each.validate is not None]
        for resource in SERVED:
            concerned = [each for each in plugins if each.resources is None or resource in each.resources]
            self._admitting[resource.collection] = [each.admit for each in concerned if each.admit is not None]
            self._validating[resource.collection] = [each.validate for each in concerned if each.validate is not None]

    def admit(self, attributes: Attributes) -> None:
        """Have all plugins add to an object. May run in a thread. Raises `ApiError`."""
        for step in self._admitting.get(attributes.resource.collection, self._admitting_any):
            step(attributes, self._store)

    def validate(self, attributes: Attributes) -> None:
        """Have all plugins look at an object that is about to be stored, or deleted. Raises `ApiError`."""
        for step in self._validating.get(attributes.resource.collection, self._validating_any):
            step(attributes, self._store)
