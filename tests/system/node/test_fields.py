"""Fields of pods whose effect only a node with an API server can show."""

from __future__ import annotations

import asyncio
from typing import Any

from netlab.api.core_types import Pod
from netlab.api.resources import PODS
from netlab.node.podstatus import container_id
from tests.system.node.cluster import Cluster
from tests.system.node.conftest import Play

SLEEP = {"image": "host", "command": ["sleep", "1000"]}
QUICKLY: dict[str, Any] = {"terminationGracePeriodSeconds": 1}


def _exec(cluster: Cluster, pod: Pod, container: str, script: str) -> str:
    done = cluster.node.exec(container_id(pod.metadata.uid, container, 0), ["sh", "-c", script], 30)
    return done.output.decode()


def test_a_volume_changes_whole_and_a_part_of_it_stays(play: Play) -> None:
    async def scenario(cluster: Cluster) -> None:
        fields = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
        mounts = [
            {"name": "v", "mountPath": "/v"},
            {"name": "v", "mountPath": "/one", "subPath": "labels"},
        ]
        volume = {"name": "v", "downwardAPI": {"items": fields}}
        await cluster.create("web", SLEEP | {"volumeMounts": mounts, "workingDir": "/var"}, volumes=[volume], **QUICKLY)
        pod = await cluster.running("web")
        assert _exec(cluster, pod, "c0", "pwd; readlink /v/labels; cat /v/labels /one") == "/var\n..data/labels\n"
        await cluster.client.patch(PODS, "web", "default", {"metadata": {"labels": {"x": "y"}}})

        async def changed() -> bool:
            return _exec(cluster, pod, "c0", "cat /v/labels; echo; cat /one") == 'x="y"\n'

        await cluster.until(changed, "the volume changes, and its part does not")
        # So it does for a kubelet that has not made it.
        cluster.kill_kubelet()
        await asyncio.sleep(0)
        await cluster.client.patch(PODS, "web", "default", {"metadata": {"labels": {"x": "z"}}})

        async def changed_again() -> bool:
            return _exec(cluster, pod, "c0", "cat /v/labels; echo; cat /one") == 'x="z"\n'

        await cluster.until(changed_again, "the next kubelet keeps the volume up to date")

    play(scenario)


def test_who_takes_too_much_is_evicted(play: Play) -> None:
    async def scenario(cluster: Cluster) -> None:
        fills = "dd if=/dev/zero of=/v/x bs=1M count=4; sleep 1000"
        mount = {"image": "host", "command": ["sh", "-c", fills], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        disk = {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}
        memory = {"name": "v", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}}
        asks = {"resources": {"requests": {"memory": "1Mi"}}}
        await cluster.create("disk", mount, volumes=[disk])
        await cluster.create("memory", mount | asks, volumes=[memory], **QUICKLY)
        pod = await cluster.pod_until("disk", lambda pod: pod.status.phase == "Failed", "it is evicted")
        what = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
        assert (pod.status.reason, pod.status.message) == ("Evicted", what)
        await cluster.said("disk", ("Warning", "Evicted", what, ""))
        pod = await cluster.running("memory")
        sees = _exec(cluster, pod, "c0", "cat /proc/self/oom_score_adj; wc -c < /v/x")
        assert sees.split() == ["999", str(1 << 20)]

    play(scenario)


def test_mounts_reach_other_containers(play: Play) -> None:
    async def scenario(cluster: Cluster) -> None:
        def mount(**fields: Any) -> dict[str, Any]:
            return {"volumeMounts": [{"name": "v", "mountPath": "/v", **fields}]}

        mounts = "mkdir /v/x && mount -t tmpfs none /v/x && touch /v/x/there; sleep 1000"
        giver = {"image": "host", "command": ["sh", "-c", mounts], "securityContext": {"privileged": True}}
        volume = {"name": "v", "emptyDir": {}}
        await cluster.create(
            "web",
            SLEEP | mount(mountPropagation="HostToContainer"),
            SLEEP | mount(),
            giver | mount(mountPropagation="Bidirectional"),
            volumes=[volume],
            **QUICKLY,
        )
        pod = await cluster.running("web")

        async def reached() -> bool:
            return _exec(cluster, pod, "c0", "ls /v/x") == "there\n"

        await cluster.until(reached, "what one container mounts reaches the other")
        assert _exec(cluster, pod, "c1", "ls /v/x 2>/dev/null; true") == ""

    play(scenario)
