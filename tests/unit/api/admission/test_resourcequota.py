"""ResourceQuotas: what is charged, and what is refused, in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import CONFIGMAPS, DEPLOYMENTS, PODS, RESOURCEQUOTAS, SECRETS, SERVICES, STORED
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, pod, refused, service, update

_CLAIMS: Any = next(each for each in STORED if each.plural == "persistentvolumeclaims")
_QUOTAS: Any = RESOURCEQUOTAS


def _quota(registry: Registry, used: dict[str, str] | None = None, name: str = "q", **spec: Any) -> None:
    """A quota as the controller leaves it: with its limits in force, and what is used of them."""
    made = create(registry, RESOURCEQUOTAS, {"metadata": {"name": name}, "spec": spec})
    hard = spec["hard"]
    made["status"] = {"hard": hard, "used": dict.fromkeys(hard, "0") | (used or {})}
    update(registry, RESOURCEQUOTAS, made, "status")


def _used(registry: Registry, name: str = "q") -> Any:
    return registry.get(_QUOTAS, "default", name).decode()["status"]["used"]


def _container(name: Any = "c", **resources: Any) -> dict[str, Any]:
    return {"name": name, "image": "pause", "resources": resources}


_ASKS = {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "200Mi"}}


def test_what_is_created_is_charged(registry: Registry) -> None:
    hard = {
        "pods": "5",
        "count/pods": "5",
        "requests.cpu": "1",
        "cpu": "1",
        "limits.cpu": "4",
        "requests.memory": "1Gi",
        "limits.memory": "1Gi",
        "secrets": "1",
        "count/secrets": "3",
        "configmaps": "3",
        "count/deployments.apps": "1",
        "resourcequotas": "3",
        "requests.example.com/gpu": "3",
    }
    _quota(registry, hard=hard)
    asked = {part: amounts | ({"example.com/gpu": 2}) for part, amounts in _ASKS.items()}
    create(registry, PODS, pod(containers=[_container(**asked), _container("d", **_ASKS)]))
    create(registry, SECRETS, {"metadata": {"name": "s"}})
    create(registry, CONFIGMAPS, {"metadata": {"name": "m"}})
    create(registry, DEPLOYMENTS, deployment())
    assert _used(registry) == {
        "pods": "1",
        "count/pods": "1",
        "requests.cpu": "200m",
        "cpu": "200m",
        "limits.cpu": "2",
        "requests.memory": "200Mi",
        "limits.memory": "400Mi",
        "secrets": "1",
        "count/secrets": "1",
        "configmaps": "1",
        "count/deployments.apps": "1",
        "resourcequotas": "0",
        "requests.example.com/gpu": "2",
    }
    with refused(
        403, 'secrets "t" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=1, limited: secrets=1'
    ):
        create(registry, SECRETS, {"metadata": {"name": "t"}})
    with refused(403, "requested: count/deployments.apps=1, used: count/deployments.apps=1"):
        create(registry, DEPLOYMENTS, deployment("e"))


def test_nothing_is_charged_for_what_is_refused_or_tried_out(registry: Registry) -> None:
    _quota(registry, hard={"pods": "1", "requests.cpu": "1"})
    asked = pod(containers=[_container(requests={"cpu": "900m"})])
    registry.create(PODS, "default", asked, dry_run=True)  # type: ignore[arg-type]
    assert _used(registry) == {"pods": "0", "requests.cpu": "0"}
    create(registry, PODS, pod(containers=[_container(requests={"cpu": "900m"})]))
    why = "exceeded quota: q, requested: pods=1,requests.cpu=200m, used: pods=1,requests.cpu=900m, "
    with refused(403, f'pods "o" is forbidden: {why}limited: pods=1,requests.cpu=1'):
        create(registry, PODS, pod("o", containers=[_container(requests={"cpu": "200m"})]))
    with refused(409):
        create(registry, PODS, pod(containers=[_container(requests={"cpu": "1m"})]))
    assert _used(registry) == {"pods": "1", "requests.cpu": "900m"}


def test_what_becomes_free_is_the_controllers_matter(registry: Registry) -> None:
    _quota(registry, hard={"pods": "1"})
    create(registry, PODS, pod())
    registry.delete(PODS, "default", "p", DeleteOptions())  # type: ignore[arg-type]
    assert _used(registry) == {"pods": "1"}


@pytest.mark.parametrize(
    ("containers", "why"),
    [
        ([_container(**_ASKS)], ""),
        ([_container("b"), _container("a", requests={"memory": "1"})], "requests.cpu for: a,b; requests.memory for: b"),
        ([_container(limits={"cpu": "1", "memory": "1"})], ""),
    ],
)
def test_containers_have_to_say_what_is_limited(registry: Registry, containers: Any, why: str) -> None:
    _quota(registry, hard={"requests.cpu": "1", "requests.memory": "1Gi"})
    if not why:
        create(registry, PODS, pod(containers=containers))
        return
    with refused(403, f'pods "p" is forbidden: failed quota: q: must specify {why}'):
        create(registry, PODS, pod(containers=containers))


def test_before_the_controller_has_counted_nothing_is_limited_or_all_is_refused(registry: Registry) -> None:
    made = create(registry, RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    create(registry, PODS, pod())
    made["status"] = {"hard": {"pods": "3"}}
    update(registry, RESOURCEQUOTAS, made, "status")
    with refused(403, "status unknown for quota: q, resources: pods"):
        create(registry, PODS, pod("o"))


def test_all_quotas_of_the_namespace_must_have_room(registry: Registry) -> None:
    _quota(registry, hard={"pods": "5"}, name="a")
    _quota(registry, hard={"pods": "0"}, name="b")
    with refused(403, "exceeded quota: b"):
        create(registry, PODS, pod())
    assert _used(registry, "a") == {"pods": "0"}
    create(registry, PODS, pod(), "kube-system")


def test_services(registry: Registry) -> None:
    _quota(registry, hard={"services": "4", "services.nodeports": "3", "services.loadbalancers": "1"})
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    made = create(registry, SERVICES, service("n", type="NodePort", ports=ports))
    create(registry, SERVICES, service("l", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert _used(registry) == {"services": "2", "services.nodeports": "2", "services.loadbalancers": "1"}
    why = "exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=1"
    made["spec"]["type"] = "LoadBalancer"
    with refused(403, why):
        update(registry, SERVICES, made)
    plain = create(registry, SERVICES, service("c"))
    plain["spec"]["type"] = "NodePort"
    update(registry, SERVICES, plain)
    assert _used(registry) == {"services": "3", "services.nodeports": "3", "services.loadbalancers": "1"}


def test_claims(registry: Registry) -> None:
    by_class = "gold.storageclass.storage.k8s.io"
    hard = {"persistentvolumeclaims": "3", "requests.storage": "4Gi", f"{by_class}/requests.storage": "2Gi"}
    _quota(registry, hard=hard | {f"{by_class}/persistentvolumeclaims": "1"})

    def claim(name: str, **spec: Any) -> dict[str, Any]:
        asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        return {"metadata": {"name": name}, "spec": asked | spec}

    create(registry, _CLAIMS, claim("a"))
    create(registry, _CLAIMS, claim("b", storageClassName="gold"))
    assert _used(registry) == {
        "persistentvolumeclaims": "2",
        "requests.storage": "2Gi",
        f"{by_class}/requests.storage": "1Gi",
        f"{by_class}/persistentvolumeclaims": "1",
    }
    with refused(403, f"exceeded quota: q, requested: {by_class}/persistentvolumeclaims=1"):
        create(registry, _CLAIMS, claim("c", storageClassName="gold"))


_IN = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 60}, {}),
        ({"scopes": ["NotTerminating"]}, {}, {"activeDeadlineSeconds": 60}),
        ({"scopes": ["BestEffort"]}, {}, {"containers": [_container(requests={"cpu": "1"})]}),
        ({"scopes": ["NotBestEffort"]}, {"containers": [_container(requests={"cpu": "1"})]}, {}),
        ({"scopes": ["BestEffort", "Terminating"]}, {"activeDeadlineSeconds": 60}, {}),
    ],
)
def test_scopes(registry: Registry, scope: Any, inside: Any, outside: Any) -> None:
    _quota(registry, hard={"pods": "5"}, **scope)
    create(registry, PODS, pod("out", **outside))
    assert _used(registry) == {"pods": "0"}
    create(registry, PODS, pod("in", **inside))
    assert _used(registry) == {"pods": "1"}


def test_a_deadline_moves_a_pod_into_another_scope(registry: Registry) -> None:
    _quota(registry, hard={"pods": "1"}, scopes=["Terminating"])
    made = create(registry, PODS, pod())
    made["spec"]["activeDeadlineSeconds"] = 5
    update(registry, PODS, made)
    assert _used(registry) == {"pods": "1"}
    other = create(registry, PODS, pod("o"))
    other["spec"]["activeDeadlineSeconds"] = 5
    with refused(403, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"):
        update(registry, PODS, other)


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"hard": {"gpus": "1"}}, ["spec.hard[gpus]", "must be a standard resource for quota"]),
        ({"hard": {"pods": "500m"}}, ["must be an integer"]),
        ({"hard": {"pods": "-1"}}, ["must be greater than or equal to 0"]),
        ({"hard": {"pods": "1"}, "scopes": ["Nice"]}, ["unsupported scope"]),
        ({"hard": {"services": "1"}, "scopes": ["BestEffort"]}, ["unsupported scope applied to resource"]),
        ({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}, ["unsupported scope applied to resource"]),
        ({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}, ["conflicting scopes"]),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "In", "values": ["x"]}]}},
            ["must be 'Exists' when scope is any of ResourceQuotaScopeTerminating"],
        ),
        (
            {"scopeSelector": {"matchExpressions": [_IN | {"values": []}]}},
            ["must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"],
        ),
        (
            {"scopeSelector": {"matchExpressions": [_IN | {"operator": "Exists"}]}},
            ["must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"],
        ),
    ],
)
def test_what_is_no_quota(registry: Registry, spec: Any, texts: list[str]) -> None:
    with refused(422, *texts):
        create(registry, RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": spec})


def test_the_scopes_of_a_quota_stay(registry: Registry) -> None:
    spec = {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}
    made = create(registry, RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": spec})
    made["spec"]["scopes"] = ["NotBestEffort"]
    with refused(422, "spec.scopes", "field is immutable"):
        update(registry, RESOURCEQUOTAS, made)
