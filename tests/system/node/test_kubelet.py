"""The kubelet beside a real machine, API server and CNI plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from netlab.api.core_types import Container, Pod, Service
from netlab.api.media_types import STRATEGIC_MERGE_PATCH
from netlab.api.resources import LEASES, NODE_LEASES, NODES, PODS, SERVICES
from netlab.machine import crilog
from netlab.node import recovery
from netlab.node.logs import log_path
from netlab.node.podstatus import container_id
from tests.system.machine.lab import Lab
from tests.system.node.cluster import NODE_IPS, Cluster

Scenario = Callable[[Cluster], Awaitable[None]]
SERVER = {"args": ["netexec"]}
SLEEP = {"image": "host", "command": ["sleep", "1000"]}
CHANGED = ("Normal", "Killing", "Container c0 definition changed, will be restarted", "spec.containers{c0}")


def _service(name: str) -> Service:
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 7}]}}
    return msgspec.convert(body, Service)


def play(scenario: Scenario) -> None:
    async def main(lab: Lab) -> None:
        async with Cluster(lab) as cluster:
            await scenario(cluster)

    with Lab() as lab:
        asyncio.run(main(lab))


def test_node_is_ready_once_the_network_is_configured() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.start_kubelet()
        node = await cluster.node_object()
        assert [(each.type, each.address) for each in node.status.addresses] == [
            *(("InternalIP", ip) for ip in NODE_IPS),
            ("Hostname", "node-1"),
        ]
        (condition,) = [each for each in node.status.conditions if each.type == "Ready"]
        assert condition.status == "False"
        assert "NetworkPluginNotReady" in condition.message
        await cluster.create("host", SLEEP, hostNetwork=True)
        await cluster.running("host")
        await cluster.create("waits", SLEEP)
        cluster.configure_network()
        await cluster.running("waits")
        await cluster.client.delete(NODES, "node-1")
        await cluster.until(cluster._registered, "a deleted Node is registered again")

        async def has_lease() -> bool:
            leases, _ = await cluster.client.list(LEASES, NODE_LEASES)
            return [lease.spec.holderIdentity for lease in leases] == ["node-1"]

        silent = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
        await cluster.client.patch(NODES, "node-1", None, silent, subresource="status")
        await cluster.until(cluster._node_ready, "a node that was taken for silent says that it is not")
        await cluster.until(has_lease, "the kubelet renews its lease")

    play(scenario)


def test_life_of_a_pod() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        await cluster.client.create(SERVICES, _service("my-link"))
        probe = {"httpGet": {"path": "/healthz", "port": "web"}}
        server = SERVER | {"ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": probe}
        shell = {
            "image": "host",
            "command": [
                "sh",
                "-c",
                "hostname; cat /etc/hosts /etc/resolv.conf; echo $MY_LINK_SERVICE_PORT $IP $NODE; sleep 1000",
            ],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                {"name": "NODE", "value": "$(IP)@$$"},
            ],
        }
        init = [{"name": "first", "image": "host", "command": ["true"]}]
        await cluster.create("web", server, shell, initContainers=init, terminationGracePeriodSeconds=2)
        pod = await cluster.running("web")
        assert pod.status.phase == "Running"
        assert [(each.status, each.reason, each.message) for each in pod.status.conditions] == [("True", "", "")] * 4
        ips = [each.ip for each in pod.status.podIPs]
        assert ips[0].startswith("10.244.1.")
        assert ips[1].startswith("fd00:10:244:1:")
        assert [each.restartCount for each in pod.status.containerStatuses] == [0, 0]
        assert pod.status.initContainerStatuses[0].state.terminated is not None
        log = log_path(cluster.log_dir, pod, "c1", 0)
        assert log.stat().st_mode & 0o777 == 0o600

        async def printed() -> bool:
            return _printed(log).endswith("@$\n")

        await cluster.until(printed, "the container prints what it sees")
        text = _printed(log)
        assert text.startswith("web\n# Kubernetes-managed hosts file.")
        assert f"{ips[0]}\tweb\n{ips[1]}\tweb\n" in text
        assert f"7 {ips[0]},{ips[1]} {ips[0]},{ips[1]}@$" in text
        await cluster.client.delete(PODS, "web", "default")
        await cluster.gone("web")
        await cluster.nothing_left()

    play(scenario)


@pytest.mark.parametrize(
    ("policy", "status", "phase"), [("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")]
)
def test_pod_ends_by_itself(policy: str, status: int, phase: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        await cluster.client.create(SERVICES, _service("my-link"))
        shell = {"image": "host", "command": ["sh", "-c", f"exit ${{MY_LINK_SERVICE_PORT:-{status}}}"]}
        await cluster.create("job", shell, restartPolicy=policy, enableServiceLinks=False)
        pod = await cluster.pod_until("job", lambda p: p.status.phase == phase, f"the pod has {phase}")
        ended = pod.status.containerStatuses[0].state.terminated
        assert ended is not None
        assert (ended.exitCode, ended.reason) == (status, "Error" if status else "Completed")
        assert pod.status.podIP

        async def released() -> bool:
            return not cluster.reservations()

        await cluster.until(released, "the addresses of a pod that has ended are free")
        assert (await cluster.pod("job")).status.podIPs == pod.status.podIPs

    play(scenario)


def test_containers_that_cannot_go_on() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        await cluster.create("crash", {"image": "host", "command": ["false"]})
        await cluster.create("typo", {"image": "host", "command": ["/no/such/program"]})
        await cluster.create("image-again", {"image": "redis:7", "command": ["redis-server"]})
        await cluster.create("image-never", {"image": "redis", "imagePullPolicy": "Never"})
        await cluster.create(
            "env", SLEEP | {"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "no.field"}}}]}
        )
        for name, reason in [
            ("crash", "CrashLoopBackOff"),
            ("typo", "CrashLoopBackOff"),
            ("image-again", "ImagePullBackOff"),
            ("image-never", "ErrImageNeverPull"),
            ("env", "CreateContainerConfigError"),
        ]:

            def waits(pod: object, reason: str = reason) -> bool:
                statuses = pod.status.containerStatuses  # type: ignore[attr-defined]
                waiting = statuses[0].state.waiting if statuses else None
                return waiting is not None and waiting.reason == reason

            pod = await cluster.pod_until(name, waits, f"{name} waits: {reason}")
            if reason == "CrashLoopBackOff":
                assert pod.status.containerStatuses[0].restartCount == 1
                last = pod.status.containerStatuses[0].lastState.terminated
                assert last is not None
                assert last.reason == ("Error" if name == "crash" else "StartError")
            await cluster.client.delete(PODS, name, "default")
            await cluster.gone(name)
        taken = SLEEP | {"ports": [{"containerPort": 80, "hostPort": 8000}]}
        await cluster.create("first", taken)
        await cluster.running("first")
        await cluster.create("second", taken)
        second = await cluster.pod_until("second", lambda pod: pod.status.phase == "Failed", "a port is taken")
        assert second.status.reason == "NodePorts"
        for name in ("first", "second"):
            await cluster.client.delete(PODS, name, "default", grace_period_seconds=0)
            await cluster.gone(name)
        await cluster.nothing_left()

    play(scenario)


def test_volumes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        shared = [{"name": "shared", "mountPath": "/data/in"}]
        writer = {
            "image": "host",
            "command": [
                "sh",
                "-c",
                "cat /etc/own/name /etc/own/labels > /data/in/new && mv /data/in/new /data/in/x; sleep 1000",
            ],
            "volumeMounts": [*shared, {"name": "own", "mountPath": "/etc/own"}],
        }
        reader = {
            "image": "host",
            "command": [
                "sh",
                "-c",
                "until cat /data/in/x; do sleep 0.1; done; echo OK > /dev/own-log; ! touch /data/in/y",
            ],
            "terminationMessagePath": "/dev/own-log",
            "volumeMounts": [shared[0] | {"readOnly": True}],
        }
        fields = [{"path": name, "fieldRef": {"fieldPath": f"metadata.{name}"}} for name in ("name", "labels")]
        volumes = [
            {"name": "shared", "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "own", "downwardAPI": {"items": fields}},
        ]
        pod = await cluster.create("web", writer, reader, volumes=volumes, restartPolicy="Never")

        def has_read(pod: Pod) -> bool:
            statuses = {each.name: each.state.terminated for each in pod.status.containerStatuses}
            ended = statuses.get("c1")
            return ended is not None and (ended.exitCode, ended.message) == (0, "OK\n")

        await cluster.pod_until("web", has_read, "a container reads what the other one wrote, and may not write")
        assert "web" in log_path(cluster.log_dir, pod, "c1", 0).read_text()
        await cluster.client.delete(PODS, "web", "default", grace_period_seconds=0)
        await cluster.gone("web")
        await cluster.nothing_left()

    play(scenario)


def test_a_container_has_a_part_of_a_volume_and_no_link_leads_out_of_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        writes = "mkdir /v/logs && echo x > /v/logs/x && ln -s logs /v/inside && ln -s /etc /v/out"
        mount = {"name": "v", "mountPath": "/v"}
        first = {"name": "i", "image": "host", "command": ["sh", "-c", writes], "volumeMounts": [mount]}
        parts: list[dict[str, str]] = [
            {"name": "v", "mountPath": "/part", "subPath": "inside"},
            {"name": "v", "mountPath": "/file", "subPath": "logs/x"},
            {"name": "v", "mountPath": "/made", "subPathExpr": "of/$(WHOM)"},
        ]
        reader = {**SLEEP, "env": [{"name": "WHOM", "value": "me"}], "volumeMounts": parts}
        wrong = {**SLEEP, "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "out/passwd"}]}
        volumes = [{"name": "v", "emptyDir": {}}]
        pod = await cluster.create(
            "web", reader, wrong, initContainers=[first], volumes=volumes, terminationGracePeriodSeconds=1
        )

        def has_both(pod: Pod) -> bool:
            by_name = {each.name: each.state for each in pod.status.containerStatuses}
            return bool(by_name and by_name["c0"].running) and by_name["c1"].waiting is not None

        pod = await cluster.pod_until("web", has_both, "one container runs, the other waits")
        waiting = pod.status.containerStatuses[1].state.waiting
        assert waiting is not None
        assert waiting.reason == "CreateContainerConfigError"
        refused = 'failed to prepare subPath for volumeMount "v" of container "c1": '
        assert waiting.message == f"{refused}a link in out/passwd leads out of the volume"
        container = container_id(pod.metadata.uid, "c0", 0)
        done = cluster.node.exec(container, ["sh", "-c", "cat /part/x /file && touch /made/y"], 30)
        assert (done.exit_code, done.output) == (0, b"x\nx\n")
        await cluster.client.delete(PODS, "web", "default")
        await cluster.gone("web")
        await cluster.nothing_left()

    play(scenario)


def test_exhausted_subnet_is_said_and_leaks_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.configure_network("10.244.1.0/30")
        await cluster.start_kubelet()
        await cluster.create("one", SLEEP, terminationGracePeriodSeconds=1)
        await cluster.running("one")
        await cluster.create("two", SLEEP)

        def refused(pod: object) -> bool:
            conditions = pod.status.conditions  # type: ignore[attr-defined]
            return any(each.reason == "FailedCreatePodSandBox" and "10.244.1" in each.message for each in conditions)

        await cluster.pod_until("two", refused, "the pod says why it has no sandbox")

        async def said() -> bool:
            return bool(await cluster.events("FailedCreatePodSandBox"))

        await cluster.until(said, "an event says so")
        assert len(cluster.node.state().sandboxes) <= 2
        await cluster.client.delete(PODS, "one", "default")
        await cluster.running("two")
        await cluster.client.delete(PODS, "two", "default", grace_period_seconds=0)
        await cluster.nothing_left()

    play(scenario)


def test_probes() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        quick = {"periodSeconds": 1, "failureThreshold": 1}
        tcp = quick | {"tcpSocket": {"port": 8080}}
        flag = quick | {"exec": {"command": ["test", "-e", "/tmp/alive"]}}
        lives = {
            "image": "host",
            "command": ["sh", "-c", "touch /tmp/alive; sleep 2; rm /tmp/alive; sleep 1000"],
            "livenessProbe": flag,
        }
        await cluster.create("tcp", SERVER | {"startupProbe": tcp | {"failureThreshold": 30}, "readinessProbe": tcp})
        await cluster.create("never", SLEEP | {"readinessProbe": tcp})
        await cluster.create("dies", lives, terminationGracePeriodSeconds=1)
        await cluster.running("tcp")
        pod = await cluster.pod_until(
            "dies", lambda p: bool(p.status.containerStatuses and p.status.containerStatuses[0].restartCount), "restart"
        )
        last = pod.status.containerStatuses[0].lastState.terminated
        assert last is not None
        assert last.exitCode == 137
        # What the node controller writes when a node falls silent does not outlive the silence.
        conditions = [{"type": "Ready", "status": "False"}]
        await cluster.client.patch(
            PODS,
            "tcp",
            "default",
            {"status": {"conditions": conditions}},
            subresource="status",
            patch_type=STRATEGIC_MERGE_PATCH,
        )
        await cluster.running("tcp")
        never = await cluster.pod("never")
        assert never.status.phase == "Running"
        assert not never.status.containerStatuses[0].ready

    play(scenario)


def test_hooks_and_grace() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        hooks = {
            "postStart": {"exec": {"command": ["sh", "-c", "echo started >>/proc/1/fd/1"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >>/proc/1/fd/1; sleep 0.5"]}},
        }
        polite = {"image": "host", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"], "lifecycle": hooks}
        pod = await cluster.create("polite", polite, terminationGracePeriodSeconds=60)
        await cluster.running("polite")
        path = log_path(cluster.log_dir, pod, "c0", 0)
        assert _printed(path) == "started\n"
        copy = path.open("rb")
        await cluster.client.delete(PODS, "polite", "default")
        await cluster.gone("polite")
        assert crilog.text(copy.read()) == b"started\nstopping\n"
        copy.close()
        await cluster.nothing_left()

    play(scenario)


def test_sidecars_and_changed_images() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        started = {"exec": {"command": ["test", "-e", "/v/started"]}, "periodSeconds": 1}
        mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        sidecar = {"name": "s", **SLEEP, **mount, "restartPolicy": "Always", "startupProbe": started}
        first = {"name": "i", "image": "host", "command": ["touch", "/v/first"], **mount}
        hook = {"lifecycle": {"postStart": {"sleep": {"seconds": 0}}}}
        await cluster.create(
            "web",
            {**SLEEP, **hook},
            initContainers=[sidecar, first],
            volumes=[{"name": "v", "emptyDir": {}}],
            restartPolicy="Never",
            terminationGracePeriodSeconds=1,
        )

        def waits(pod: Pod) -> bool:
            listed = pod.status.initContainerStatuses
            return bool(listed and listed[0].state.running) and listed[1].state.waiting is not None

        pod = await cluster.pod_until("web", waits, "the second waits for the sidecar")
        assert pod.status.phase == "Pending"
        container = container_id(pod.metadata.uid, "s", 0)
        assert cluster.node.exec(container, ["touch", "/v/started"], 30).exit_code == 0
        pod = await cluster.running("web")
        assert cluster.node.exec(container, ["test", "-e", "/v/first"], 30).exit_code == 0
        assert [(each.ready, each.started) for each in pod.status.initContainerStatuses] == [
            (True, True),
            (True, False),
        ]

        image = {"spec": {"containers": [{"name": "c0", "image": "other"}]}}
        await cluster.client.patch(PODS, "web", "default", image, patch_type=STRATEGIC_MERGE_PATCH)

        def changed(pod: Pod) -> bool:
            (status,) = pod.status.containerStatuses
            return status.restartCount == 1 and status.ready and status.image == "other"

        await cluster.pod_until("web", changed, "the container is started again, though the policy is Never")
        await cluster.said("web", CHANGED)
        await cluster.client.delete(PODS, "web", "default")
        await cluster.gone("web")
        await cluster.nothing_left()

    play(scenario)


def test_killed_kubelet_restarts_and_leaks_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        for name in ("stays", "goes", "forced"):
            await cluster.create(name, SERVER, terminationGracePeriodSeconds=1)
        before = {name: await cluster.running(name) for name in ("stays", "goes", "forced")}
        cluster.kill_kubelet()
        await cluster.client.delete(PODS, "goes", "default")
        await cluster.client.delete(PODS, "forced", "default", grace_period_seconds=0)
        await cluster.gone("goes")

        async def one_left() -> bool:
            return len(cluster.containers()) == 1 == len(cluster.node.state().sandboxes)

        await cluster.until(one_left, "the forced pod is cleaned up")
        after = await cluster.pod("stays")
        assert after.status == before["stays"].status
        assert len(cluster.reservations()) == 2
        # Pods in the making, at whatever point the kill finds them.
        for i in range(6):
            await cluster.create(f"new-{i}", SERVER, terminationGracePeriodSeconds=1)
            await asyncio.sleep(0.05)
        cluster.kill_kubelet()
        for i in range(6):
            pod = await cluster.running(f"new-{i}")
            assert pod.status.containerStatuses[0].restartCount == 0
        for name in ["stays", *(f"new-{i}" for i in range(6))]:
            await cluster.client.delete(PODS, name, "default")
        await cluster.nothing_left()

    play(scenario)


async def _ended(cluster: Cluster, container: str) -> bool:
    return not next(each for each in cluster.node.state().containers if each.id == container).running


def test_pods_on_which_the_kubelet_fails_say_so_and_do_not_hold_up_others() -> None:
    """What it finds on the machine is not as it wrote it: an address that is no text, and no address at all."""

    async def scenario(cluster: Cluster) -> None:
        cluster.configure_network()
        found = {"step": ("false", "[1]"), "probe": ("sleep", "[]")}
        stranger = {recovery.UID_LABEL: "nobody", recovery.RESTART_COUNT_LABEL: "often"}
        cluster.node.run_container(cluster.lab.spec("stranger", "sleep", "1000", labels=stranger))
        for name, (program, addresses) in found.items():
            probe = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
            pod = await cluster.create(name, {**SLEEP, "readinessProbe": probe}, hostNetwork=True)
            labels = recovery.labels(pod, Container(name="c0"), 0, []) | {recovery.POD_IPS_LABEL: addresses}
            identity = container_id(pod.metadata.uid, "c0", 0)
            cluster.node.run_container(cluster.lab.spec(identity, program, "1000", labels=labels))
        await cluster.create("good", SLEEP)
        await cluster.start_kubelet()
        await cluster.running("good")

        async def repeated() -> bool:
            told = await cluster.events("FailedSync")
            return {each.involvedObject.name for each in told if each.count > 1} == set(found)

        await cluster.until(repeated, "both pods' events are there, and the work is tried again")
        for event in await cluster.events("FailedSync"):
            assert event.message.startswith("error syncing pod: "), event.message
            assert event.type == "Warning"
            assert (event.source.component, event.source.host) == ("kubelet", "node-1")
        assert [each.restarts for each in cluster.node.services()] == [0]
        for name in (*found, "good"):
            await cluster.client.delete(PODS, name, "default", grace_period_seconds=0)
        cluster.node.kill("stranger", 9)
        await cluster.until(lambda: _ended(cluster, "stranger"), "the stranger ends")
        cluster.node.remove("stranger")
        await cluster.nothing_left()

    play(scenario)


def test_restarted_machine_runs_its_pods_anew() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.ready()
        await cluster.create("web", SERVER, terminationGracePeriodSeconds=1)
        await cluster.create("gone", SERVER)
        await cluster.running("web")
        await cluster.running("gone")
        cluster.restart_machine()
        await cluster.client.delete(PODS, "gone", "default", grace_period_seconds=0)
        await cluster.start_kubelet()
        pod = await cluster.pod_until(
            "web", lambda p: p.status.containerStatuses[0].restartCount == 1 and bool(p.status.podIP), "web runs again"
        )
        last = pod.status.containerStatuses[0].lastState.terminated
        assert last is not None
        assert last.reason == "ContainerStatusUnknown"

        async def one_pod() -> bool:
            return len(cluster.reservations()) == 2

        await cluster.until(one_pod, "the addresses of the lost sandboxes are free")
        await cluster.client.delete(PODS, "web", "default")
        await cluster.gone("web")
        await cluster.nothing_left()

    play(scenario)


def _printed(log: Path) -> str:
    return crilog.text(log.read_bytes()).decode()
