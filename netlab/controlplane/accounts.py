"""What every namespace has: a ServiceAccount `default`, and the certificate by which its pods trust the API server."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netlab.api.config_types import ConfigMap, ServiceAccount
from netlab.api.core_types import Namespace
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, ObjectMeta
from netlab.api.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS, Resource
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller

ROOT_CA = "kube-root-ca.crt"
_DEFAULT = "default"
_DESCRIPTION = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed "
    "across distributions of Kubernetes clusters."
}
"""Upstream's annotation of the ConfigMap, which its clients compare (publisher.go)."""


class _InEveryNamespace(Controller):
    """Keeps one object of a name in each namespace that is not being deleted."""

    resource = NAMESPACES
    kept: Resource[Any]
    kept_name: str

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.namespaces.on_change(self._namespace_changed)
        cluster.informers[self.kept].on_change(self._kept_changed)

    def keys(self) -> Iterable[str]:
        """Every namespace."""
        return list(self.cluster.namespaces.items)

    def wanted(self, namespace: str) -> Object:
        """The object as it is to be."""
        raise NotImplementedError

    def is_right(self, found: Any) -> bool:
        """Whether an object is as it is to be."""
        return True

    async def reconcile(self, key: str) -> None:
        """Make the namespace's object, or bring it to what it is to be."""
        if key not in self.cluster.namespaces.items or self.cluster.is_terminating(key):
            return
        found = self.cluster.informers[self.kept].items.get(f"{key}/{self.kept_name}")
        try:
            if found is None:
                await self.client.create(self.kept, self.wanted(key))
            elif not self.is_right(found):
                wanted = self.wanted(key)
                wanted.metadata = found.metadata
                await self.client.update(self.kept, wanted)
        except ApiError as error:
            # The informer is behind, or the namespace is going: what comes next tells.
            if error.reason not in ("AlreadyExists", "NotFound", "Forbidden", "Conflict"):
                raise

    def _namespace_changed(self, _: Namespace | None, new: Namespace | None) -> None:
        if new is not None:
            self.queue.add(new.metadata.name)

    def _kept_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old
        if changed is not None and changed.metadata.name == self.kept_name:
            self.queue.add(changed.metadata.namespace)


class ServiceAccountController(_InEveryNamespace):
    """The ServiceAccount `default` (upstream's serviceaccounts_controller.go)."""

    name = "serviceaccount-controller"
    kept = SERVICEACCOUNTS
    kept_name = _DEFAULT

    def wanted(self, namespace: str) -> ServiceAccount:
        """The account."""
        return ServiceAccount(metadata=ObjectMeta(name=_DEFAULT, namespace=namespace))


class RootCAPublisher(_InEveryNamespace):
    """The ConfigMap `kube-root-ca.crt` (upstream's certificates/rootcacertpublisher)."""

    name = "root-ca-certificate-publisher"
    kept = CONFIGMAPS
    kept_name = ROOT_CA

    def __init__(self, cluster: Cluster, certificate: Path) -> None:
        """`certificate` is a file, in PEM form, which the API server makes before it answers."""
        super().__init__(cluster)
        self._certificate = certificate

    def wanted(self, namespace: str) -> ConfigMap:
        """The ConfigMap."""
        meta = ObjectMeta(name=ROOT_CA, namespace=namespace, annotations=_DESCRIPTION)
        return ConfigMap(metadata=meta, data=self._data)

    def is_right(self, found: ConfigMap) -> bool:
        """Whether it has the certificate."""
        return found.data == self._data

    @functools.cached_property
    def _data(self) -> dict[str, str]:
        return {"ca.crt": self._certificate.read_text(encoding="ascii")}
