"""All that decides who may talk to whom: read from an API server, and as it would be with manifests."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec

from netlab.api.apply import targets_of
from netlab.api.client import Client
from netlab.api.cluster import listed
from netlab.api.core_types import Namespace, Node, Pod
from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import NAMESPACES, NETWORKPOLICIES, NODES, PODS, Resource, by_kind
from netlab.errors import UsageError
from netlab.policy.cluster_types import CLUSTERNETWORKPOLICIES, ClusterNetworkPolicy
from netlab.policy.rules import AnyPolicy

T = TypeVar("T", bound=Object)


class Objects(NamedTuple):
    """The objects at one moment."""

    policies: list[AnyPolicy]
    namespaces: list[Namespace]
    pods: list[Pod]
    nodes: list[Node]

    def with_documents(self, documents: Iterable[Any], namespace: str) -> Objects:
        """As they would be if these were applied; what has no namespace is of the given one.

        A pod of a manifest has no address until it runs: only the labels of one that there is count. Raises
        `UsageError` for what is no object.
        """
        policies: dict[str, AnyPolicy] = {each.key: each for each in self.policies}
        namespaces = {each.key: each for each in self.namespaces}
        pods = {each.key: each for each in self.pods}
        for target in targets_of(list(documents), namespace, _kind):
            sent = target.manifest
            if target.resource is NETWORKPOLICIES:
                found = _read(NETWORKPOLICIES, sent, target.namespace)
                policies[found.key] = found
            elif target.resource is CLUSTERNETWORKPOLICIES:
                of_cluster = _read(CLUSTERNETWORKPOLICIES, sent, "")
                policies[of_cluster.key] = of_cluster
            elif target.resource is NAMESPACES:
                space = _read(NAMESPACES, sent, "")
                space.metadata.labels.setdefault("kubernetes.io/metadata.name", space.metadata.name)
                namespaces[space.key] = space
            elif target.resource is PODS and (pod := pods.get(f"{target.namespace}/{target.name}")) is not None:
                metadata = msgspec.structs.replace(
                    pod.metadata, labels=_read(PODS, sent, target.namespace).metadata.labels
                )
                pods[pod.key] = msgspec.structs.replace(pod, metadata=metadata)
        return Objects([*policies.values()], [*namespaces.values()], [*pods.values()], self.nodes)


async def objects(client: Client) -> Objects:
    """The objects as they are now. Raises what the client raises."""
    return Objects(
        [*await listed(client, NETWORKPOLICIES), *await _of_cluster(client)],
        await listed(client, NAMESPACES),
        await listed(client, PODS),
        await listed(client, NODES),
    )


async def _of_cluster(client: Client) -> list[ClusterNetworkPolicy]:
    try:
        return await listed(client, CLUSTERNETWORKPOLICIES)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return []  # the server has no such kind


def _kind(api_version: str, kind: str) -> Resource[Any] | None:
    if (api_version, kind) == (CLUSTERNETWORKPOLICIES.api_version, CLUSTERNETWORKPOLICIES.kind):
        return CLUSTERNETWORKPOLICIES
    return by_kind(api_version, kind)


def _read(resource: Resource[T], manifest: Any, namespace: str) -> T:
    try:
        found = msgspec.convert(manifest, resource.type)
    except msgspec.ValidationError as error:
        raise UsageError(f"{resource.kind}: {error}") from None
    found.metadata.namespace = namespace
    return found
