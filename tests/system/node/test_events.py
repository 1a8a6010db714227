"""The events of pods, as upstream's kubelet writes them."""

from __future__ import annotations

from functools import partial
from typing import Any

from netlab.api.core_types import Pod
from netlab.api.resources import PODS
from tests.system.node.cluster import Cluster, Said
from tests.system.node.conftest import Play

SLEEP = {"image": "host", "command": ["sleep", "1000"]}
FALSE = {"exec": {"command": ["sh", "-c", "echo no; exit 1"]}, "periodSeconds": 1, "failureThreshold": 1}
C0, INIT, ADDED = "spec.containers{c0}", "spec.initContainers{i}", "spec.ephemeralContainers{e}"
QUICKLY: dict[str, Any] = {"terminationGracePeriodSeconds": 1}
AS_ROOT = 'container has runAsNonRoot and image will run as root (pod: "root_default(UID)", container: c0)'
MISSING = {"volumes": [{"name": "v", "configMap": {"name": "none"}}], **QUICKLY}


def started(path: str, image: str = "host") -> list[Said]:
    present = f'Container image "{image}" already present on machine and can be accessed by the pod'
    return [
        ("Normal", "Pulled", present, path),
        ("Normal", "Created", "Container created", path),
        ("Normal", "Started", "Container started", path),
    ]


def waits(reason: str, pod: Pod) -> bool:
    waiting = [each.state.waiting for each in pod.status.containerStatuses]
    return [each.reason for each in waiting if each is not None] == [reason]


def warned(reason: str, message: str, path: str = C0) -> Said:
    return "Warning", reason, message, path


PODS_AND_EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[Said]]] = {
    "runs": (SLEEP, {"initContainers": [{"name": "i", "image": "host", "command": ["true"]}]}, started(INIT)),
    "crash": (
        {"image": "host", "command": ["false"]},
        {},
        [*started(C0), warned("BackOff", "Back-off restarting failed container c0 in pod crash_default(UID)")],
    ),
    "typo": (
        {"image": "host", "command": ["/no/such/program"]},
        {},
        [
            warned("Failed", "Error: failed to start container c0: *"),
            warned("BackOff", "Back-off restarting failed container c0 in pod typo_default(UID)"),
        ],
    ),
    "image": (
        {"image": "redis"},
        {},
        [
            warned("Failed", 'Failed to pull image "redis": *'),
            warned("Failed", "Error: ErrImagePull"),
            ("Normal", "BackOff", 'Back-off pulling image "redis"', C0),
            warned("Failed", "Error: ImagePullBackOff"),
        ],
    ),
    "image-never": (
        {"image": "redis", "imagePullPolicy": "Never"},
        {},
        [
            warned("ErrImageNeverPull", 'Container image "redis" is not present with pull policy of Never'),
            warned("Failed", "Error: ErrImageNeverPull"),
        ],
    ),
    "root": (
        SLEEP | {"securityContext": {"runAsNonRoot": True}},
        {},
        [
            warned("Failed", f"Error: {AS_ROOT}"),
        ],
    ),
    "no-source": (
        SLEEP | {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
        {},
        [*started(C0)[:1], warned("Failed", "Error: *")],
    ),
    "no-volume": (
        SLEEP | {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        MISSING,
        [warned("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "none" not found', "")],
    ),
    "lives": (
        SLEEP | {"livenessProbe": FALSE},
        QUICKLY,
        [
            warned("Unhealthy", "Liveness probe failed: no\n"),
            ("Normal", "Killing", "Container c0 failed liveness probe, will be restarted", C0),
        ],
    ),
    "lives-once": (
        SLEEP | {"startupProbe": FALSE},
        QUICKLY | {"restartPolicy": "Never"},
        [
            warned("Unhealthy", "Startup probe failed: no\n"),
            ("Normal", "Killing", "Container c0 failed startup probe", C0),
        ],
    ),
    "closed": (
        SLEEP | {"readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1}},
        QUICKLY,
        [warned("Unhealthy", "Readiness probe failed: dial tcp *")],
    ),
    "closed-web": (
        SLEEP | {"readinessProbe": {"httpGet": {"port": 9, "path": "/z"}, "periodSeconds": 1}},
        QUICKLY,
        [
            warned(
                "Unhealthy", 'Readiness probe failed: Get "http://IP:9/z": dial tcp IP:9: connect: connection refused'
            )
        ],
    ),
    "hook": (
        SLEEP | {"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}},
        QUICKLY,
        [
            warned("FailedPostStartHook", "PostStartHook failed"),
            ("Normal", "Killing", "FailedPostStartHook", C0),
        ],
    ),
    "unsafe": (
        SLEEP,
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        [warned("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted', "")],
    ),
}


def test_what_happens_to_pods_is_said(play: Play) -> None:
    async def scenario(cluster: Cluster) -> None:
        for name, (container, spec, _) in PODS_AND_EVENTS.items():
            await cluster.create(name, container, **spec)
        for name, (_, _, wanted) in PODS_AND_EVENTS.items():
            if any("IP" in message for _, _, message, _ in wanted):
                await cluster.pod_until(name, lambda pod: bool(pod.status.podIP), "it has an address")
            pod = await cluster.pod(name)
            uid, ip = pod.metadata.uid, pod.status.podIP
            await cluster.said(name, *((t, r, m.replace("UID", uid).replace("IP", ip), p) for t, r, m, p in wanted))

        pod = await cluster.pod_until("unsafe", lambda pod: pod.status.phase == "Failed", "it is rejected")
        assert pod.status.message.startswith("Pod was rejected: forbidden sysctl")
        for name, reason in (("no-volume", "ContainerCreating"), ("root", "CreateContainerConfigError")):
            await cluster.pod_until(name, partial(waits, reason), f"it waits: {reason}")

        async def counted() -> bool:
            again = [each.count for each in await cluster.events("Started") if each.involvedObject.name == "crash"]
            assert len(again) == 1
            return again[0] > 1

        await cluster.until(counted, "what happens again is counted")

    play(scenario)


def test_pods_that_go_say_so(play: Play) -> None:
    async def scenario(cluster: Cluster) -> None:
        hooks = {"lifecycle": {"preStop": {"exec": {"command": ["false"]}}}}
        await cluster.create("goes", SLEEP | hooks, **QUICKLY)
        await cluster.create("late", SLEEP, **QUICKLY)
        await cluster.running("goes")
        await cluster.running("late")
        deadline = {"spec": {"activeDeadlineSeconds": 1}}
        await cluster.client.patch(PODS, "late", "default", deadline)
        await cluster.said(
            "late",
            ("Normal", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline", ""),
            ("Normal", "Killing", "Stopping container c0", C0),
        )
        added = {"name": "e", "image": "host", "command": ["true"], "volumeMounts": []}
        body = {"spec": {"ephemeralContainers": [added]}}
        await cluster.client.patch(PODS, "goes", "default", body, subresource="ephemeralcontainers")

        def looked(pod: Pod) -> bool:
            listed = pod.status.ephemeralContainerStatuses
            return bool(listed and listed[0].state.terminated)

        await cluster.pod_until("goes", looked, "the added container has run")
        await cluster.said("goes", *started(ADDED))
        await cluster.client.delete(PODS, "goes", "default")
        await cluster.gone("goes")
        await cluster.said(
            "goes",
            ("Normal", "Killing", "Stopping container c0", C0),
            warned("FailedPreStopHook", "PreStopHook failed"),
        )

    play(scenario)
