"""The Pod Security Standards: each check's words, versions, and what follows from a namespace's labels."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import DEPLOYMENTS, JOBS, NAMESPACES, PODS
from netlab.api.server.admission.podsecurity import plugin, policy
from netlab.api.server.admission.podsecurity.policy import BASELINE, LATEST, PRIVILEGED, RESTRICTED, Demand, Policy
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, pod, refused, update

_SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The security context of a container that meets everything."""


def _pod(annotations: dict[str, str] | None = None, context: Any = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "pause", "securityContext": _SAFE | (context or {})}
    return {"metadata": {"annotations": annotations or {}}, "spec": {"containers": [container]} | spec}


def _told(level: str, found: dict[str, Any], version: int = LATEST) -> list[str]:
    return [f"{each.reason} ({each.detail})" for each in plugin.violations(Demand(level, version), found)]


_C = 'container "c" must not'
_PROBE = {"httpGet": {"port": 80, "host": "10.0.0.1"}}
_APPARMOR, _SECCOMP = "container.apparmor.security.beta.kubernetes.io/c", "seccomp.security.alpha.kubernetes.io/pod"

BASELINES: list[tuple[dict[str, Any], list[str]]] = [
    (_pod(), []),
    (
        _pod(context={"appArmorProfile": {"type": "Unconfined"}}),
        [f'forbidden AppArmor profile ({_C} set AppArmor profile type to "Unconfined")'],
    ),
    (
        _pod({_APPARMOR: "unconfined"}),
        [f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{_APPARMOR}="unconfined"")'],
    ),
    (
        _pod(context={"capabilities": {"add": ["NET_RAW", "CHOWN"]}}),
        [f'non-default capabilities ({_C} include "NET_RAW" in securityContext.capabilities.add)'],
    ),
    (_pod(hostNetwork=True, hostPID=True), ["host namespaces (hostNetwork=true, hostPID=true)"]),
    (_pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), ['hostPath volumes (volume "v")']),
    (
        _pod(initContainers=[{"name": "i", "ports": [{"containerPort": 1, "hostPort": 80}, {"hostPort": 81}]}]),
        ['hostPort (container "i" uses hostPorts 80, 81)'],
    ),
    (
        _pod(containers=[{"name": "c", "livenessProbe": _PROBE}]),
        ['probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")'],
    ),
    (
        _pod(containers=[{"name": "c", "lifecycle": {"preStop": _PROBE}}]),
        ['probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")'],
    ),
    (_pod(context={"privileged": True}), [f"privileged ({_C} set securityContext.privileged=true)"]),
    (
        _pod(context={"procMount": "Unmasked"}),
        [f'procMount ({_C} set securityContext.procMount to "Unmasked")'],
    ),
    (_pod(context={"procMount": "Unmasked"}, hostUsers=False), []),
    (
        _pod(securityContext={"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
        ['seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)'],
    ),
    (
        _pod(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        ['seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'],
    ),
    (
        _pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        ["forbidden sysctls (kernel.msgmax)"],
    ),
    (
        _pod(context={"windowsOptions": {"hostProcess": True}}),
        [f"hostProcess ({_C} set securityContext.windowsOptions.hostProcess=true)"],
    ),
    (
        _pod(
            context={"privileged": True},
            hostNetwork=True,
            ephemeralContainers=[{"name": "e", "securityContext": {"privileged": True}}],
        ),
        [
            "host namespaces (hostNetwork=true)",
            'privileged (containers "c", "e" must not set securityContext.privileged=true)',
        ],
    ),
]


@pytest.mark.parametrize(("found", "told"), BASELINES)
def test_what_baseline_forbids(found: dict[str, Any], told: list[str]) -> None:
    assert _told(BASELINE, found) == told
    assert _told(PRIVILEGED, found) == []


RESTRICTEDS: list[tuple[dict[str, Any], list[str]]] = [
    (_pod(), []),
    (
        {"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}},
        [
            "allowPrivilegeEscalation != false "
            '(containers "a", "b" must set securityContext.allowPrivilegeEscalation=false)',
            'unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"])',
            'runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true)',
            'seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to '
            '"RuntimeDefault" or "Localhost")',
        ],
    ),
    (
        _pod(context={"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}}),
        [f'unrestricted capabilities ({_C} include "CHOWN" in securityContext.capabilities.add)'],
    ),
    (
        _pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "e", "emptyDir": {}}]),
        ['restricted volume types (volume "v" uses restricted volume type "hostPath")'],
    ),
    (
        _pod(volumes=[{"name": "v", "nfs": {}}, {"name": "w", "rbd": {}}]),
        ['restricted volume types (volumes "v", "w" use restricted volume types "nfs", "rbd")'],
    ),
    (
        _pod(context={"runAsNonRoot": False}, securityContext={"runAsNonRoot": True}),
        [f"runAsNonRoot != true ({_C} set securityContext.runAsNonRoot=false)"],
    ),
    (_pod(context={"runAsNonRoot": None}, securityContext={"runAsNonRoot": True}), []),
    (_pod(securityContext={"runAsUser": 0}), ["runAsUser=0 (pod must not set runAsUser=0)"]),
    (_pod(context={"runAsUser": 0}, hostUsers=False), []),
    (_pod(context={"seccompProfile": None}, securityContext={"seccompProfile": {"type": "Localhost"}}), []),
    (
        _pod(context={"procMount": "Unmasked"}, hostUsers=False),
        [f'procMount ({_C} set securityContext.procMount to "Unmasked")'],
    ),
    (
        {
            "metadata": {},
            "spec": {
                "os": {"name": "windows"},
                "securityContext": {"runAsNonRoot": True},
                "containers": [{"name": "c"}],
            },
        },
        [],
    ),
]


@pytest.mark.parametrize(("found", "told"), RESTRICTEDS)
def test_what_restricted_demands(found: dict[str, Any], told: list[str]) -> None:
    assert _told(RESTRICTED, found) == told


@pytest.mark.parametrize(
    ("level", "found", "since"),
    [
        (BASELINE, _pod(containers=[{"name": "c", "livenessProbe": _PROBE}]), range(34, 40)),
        (BASELINE, _pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), range(32)),
        (BASELINE, _pod(securityContext={"seLinuxOptions": {"type": "container_engine_t"}}), range(31)),
        (BASELINE, _pod({_SECCOMP: "unconfined"}), range(19)),
        (BASELINE, _pod(context={"seccompProfile": {"type": "Unconfined"}}), range(19, 40)),
        (BASELINE, _pod(context={"procMount": "Unmasked"}, hostUsers=False), range(35)),
        (RESTRICTED, _pod(context={"allowPrivilegeEscalation": True}), range(8, 40)),
        (RESTRICTED, _pod(context={"capabilities": {}}), range(22, 40)),
        (RESTRICTED, _pod(context={"runAsUser": 0}), range(23, 40)),
    ],
)
def test_versions(level: str, found: dict[str, Any], since: range) -> None:
    assert [version for version in range(40) if _told(level, found, version)] == list(since)


_P = policy.PREFIX


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({}, Policy()),
        ({f"{_P}enforce": "baseline"}, Policy(Demand(BASELINE), Demand(BASELINE))),
        (
            {f"{_P}enforce": "baseline", f"{_P}enforce-version": "v1.25"},
            Policy(Demand(BASELINE, 25), Demand(BASELINE, 25)),
        ),
        ({f"{_P}enforce": "baseline", f"{_P}warn": "restricted"}, Policy(Demand(BASELINE), Demand(RESTRICTED))),
        ({f"{_P}enforce": "restricted", f"{_P}warn": "privileged"}, Policy(Demand(RESTRICTED), Demand(PRIVILEGED))),
        ({f"{_P}enforce": "strict"}, Policy(Demand(RESTRICTED), Demand(PRIVILEGED))),
        ({f"{_P}warn": "strict"}, Policy()),
    ],
)
def test_the_policy_of_labels(labels: dict[str, str], wanted: Policy) -> None:
    assert policy.of_labels(labels)[0] == wanted


def _namespace(registry: Registry, **labels: str) -> Any:
    named = {f"{_P}{mode.replace('_', '-')}": level for mode, level in labels.items()}
    return create(registry, NAMESPACES, {"metadata": {"name": "n", "labels": named}})


def test_a_pod_that_asks_for_too_much_is_refused(registry: Registry) -> None:
    _namespace(registry, enforce="baseline", enforce_version="v1.30")
    with refused(
        403, 'pods "p" is forbidden: violates PodSecurity "baseline:v1.30": host namespaces (hostNetwork=true)'
    ):
        create(registry, PODS, pod(hostNetwork=True), "n")
    made = create(registry, PODS, pod(), "n")
    made["metadata"]["labels"] = {"a": "b"}
    update(registry, PODS, made)


def test_who_writes_a_workload_is_warned(registry: Registry) -> None:
    _namespace(registry, enforce="baseline")
    asked = deployment()
    asked["spec"]["template"]["spec"]["hostPID"] = True
    outcome = registry.create(DEPLOYMENTS, "n", asked)  # type: ignore[arg-type]
    warning = 'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    assert warning in outcome.warnings
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod(hostPID=True, restartPolicy="Never")["spec"]}}}
    assert warning in registry.create(JOBS, "n", job).warnings  # type: ignore[arg-type]


def test_a_change_of_the_image_is_looked_at(registry: Registry) -> None:
    made = _namespace(registry)
    present = create(registry, PODS, pod(hostPID=True), "n")
    made["metadata"]["labels"][f"{_P}enforce"] = "baseline"
    update(registry, NAMESPACES, made)
    present["spec"]["containers"][0]["image"] = "pause"
    with refused(403, 'violates PodSecurity "baseline:latest"'):
        update(registry, PODS, present)


def test_who_makes_a_namespace_stricter_is_told_what_is_there(registry: Registry) -> None:
    made = _namespace(registry)
    for name in ("a", "b", "c"):
        create(registry, PODS, pod(name, hostPID=True), "n")
    create(registry, PODS, pod("d", volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "n")
    create(registry, PODS, pod("e"), "n")
    made["metadata"]["labels"][f"{_P}enforce"] = "baseline"
    outcome = registry.update(NAMESPACES, "", "n", made)  # type: ignore[arg-type]
    assert outcome.warnings == (
        'existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 2 other pods): host namespaces",
        "d: hostPath volumes",
    )


def test_labels_that_mean_nothing_are_refused(registry: Registry) -> None:
    with refused(
        422,
        f'metadata.labels[{_P}enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted',
        f'metadata.labels[{_P}warn-version]: Invalid value: "1.30": must be "latest" or "v1.x"',
    ):
        _namespace(registry, enforce="strict", warn_version="1.30")
