"""The official Python client, lightkube and kr8s, which know nothing of netlab, on both stores."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kr8s.asyncio
import kubernetes
import lightkube
import pytest
from kr8s.asyncio.objects import ConfigMap as AsyncConfigMap
from kr8s.asyncio.objects import Deployment as AsyncDeployment
from kr8s.asyncio.objects import Namespace as AsyncNamespace
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace

from netlab.lab import relay
from tests.system.api.secured import SecureServer, serving_securely
from tests.unit.api.definitions import definition

Config = dict[str, Any]


@pytest.fixture(scope="module", params=["sqlite", "etcd"])
def config(request: pytest.FixtureRequest) -> Iterator[Config]:
    """A kubeconfig of a cluster."""
    url = request.getfixturevalue("etcd_url") if request.param == "etcd" else None
    with serving_securely(url) as server:
        yield _kubeconfig(server)


def _kubeconfig(server: SecureServer) -> Config:
    listener = relay.listen("127.0.0.1", 0)
    relay.Relay(listener, relay.into(server.tls, os.geteuid())).start()
    signed = server.authority.issue_client("kubernetes-admin", ["system:masters"])

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    address = f"https://127.0.0.1:{listener.getsockname()[1]}"
    cluster = {"server": address, "certificate-authority-data": encoded(server.authority.certificate)}
    user = {"client-certificate-data": encoded(signed.certificate), "client-key-data": encoded(signed.key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": user}],
    }


# --- the official client ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(config: Config) -> Any:
    return kubernetes.config.new_client_from_config_dict(config)


@pytest.fixture(scope="module")
def core(api: Any) -> Any:
    return kubernetes.client.CoreV1Api(api)


def test_what_a_cluster_says_of_itself(api: Any, core: Any) -> None:
    client = kubernetes.client
    assert client.VersionApi(api).get_code().minor.isdigit()
    assert client.CoreApi(api).get_api_versions().versions == ["v1"]
    assert "apps" in {group.name for group in client.ApisApi(api).get_api_versions().groups}
    assert "pods" in {each.name for each in core.get_api_resources().resources}
    # All fields that the client's models require are there, though nobody has sent them.
    core.create_node({"metadata": {"name": "n"}})
    (node,) = core.list_node().items
    assert node.metadata.name == "n"
    core.delete_node("n")
    review = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}
    assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed


def test_objects_written_conflicting_and_gone(core: Any) -> None:
    made = core.create_namespaced_config_map("default", {"metadata": {"name": "c"}, "data": {"a": "1"}})
    made.data = {"a": "2"}
    assert core.replace_namespaced_config_map("c", "default", made).data == {"a": "2"}
    with pytest.raises(ApiException) as refusal:
        core.replace_namespaced_config_map("c", "default", made)  # its resourceVersion is the first one's
    assert (refusal.value.status, "the object has been modified" in refusal.value.body) == (409, True)
    assert core.patch_namespaced_config_map("c", "default", {"data": {"b": "3"}}).data == {"a": "2", "b": "3"}
    with pytest.raises(ApiException) as refusal:
        core.create_namespaced_config_map("default", {"metadata": {"name": "UPPER"}})
    assert (refusal.value.status, "metadata.name" in refusal.value.body) == (422, True)
    core.delete_namespaced_config_map("c", "default")
    with pytest.raises(ApiException) as refusal:
        core.read_namespaced_config_map("c", "default")
    assert refusal.value.status == 404


def test_pages_and_watches(core: Any) -> None:
    for number in range(5):
        meta = {"name": f"page-{number}", "labels": {"page": ""}}
        core.create_namespaced_config_map("default", {"metadata": meta})
    found, more = [], None
    while more != "":
        options: dict[str, Any] = {} if more is None else {"_continue": more}
        page = core.list_namespaced_config_map("default", label_selector="page", limit=2, **options)
        found += [each.metadata.name for each in page.items]
        more = page.metadata._continue or ""
    assert found == [f"page-{number}" for number in range(5)]
    core.delete_collection_namespaced_config_map("default", label_selector="page")
    watch, seen = kubernetes.watch.Watch(), []
    since = page.metadata.resource_version
    for event in watch.stream(core.list_namespaced_config_map, "default", resource_version=since, timeout_seconds=60):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 5:
            watch.stop()
    assert seen == [("DELETED", name) for name in found]


def test_workloads_custom_objects_and_the_dynamic_client(api: Any) -> None:
    client, dynamic = kubernetes.client, DynamicClient(api)
    apps = client.AppsV1Api(api)
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    apps.create_namespaced_deployment("default", {"metadata": {"name": "d"}, "spec": spec})
    apps.patch_namespaced_deployment_scale("d", "default", {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment("d", "default").spec.replicas == 3
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.get(name="d", namespace="default").spec.replicas == 3
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    maps.server_side_apply(body=applied, name="a", namespace="default", field_manager="one")
    other = applied | {"data": {"k": "other"}}
    with pytest.raises(ApiException) as refusal:
        maps.server_side_apply(body=other, name="a", namespace="default", field_manager="two")
    assert refusal.value.status == 409
    client.ApiextensionsV1Api(api).create_custom_resource_definition(definition())
    custom = client.CustomObjectsApi(api)
    place = ("example.com", "v1", "default", "boxes")
    box = {"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 3}}
    assert custom.create_namespaced_custom_object(*place, box)["spec"] == {"size": 3, "color": "red"}
    assert [each["metadata"]["name"] for each in custom.list_namespaced_custom_object(*place)["items"]] == ["b"]
    apps.delete_namespaced_deployment("d", "default", propagation_policy="Background")


# --- lightkube -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light(config: Config) -> Any:
    return lightkube.Client(config=lightkube.KubeConfig.from_dict(config), field_manager="lightkube")


def test_lightkube(light: Any) -> None:
    light.create(Namespace(metadata=ObjectMeta(name="light")))
    spec = DeploymentSpec(
        selector=LabelSelector(matchLabels={"app": "x"}),
        template=PodTemplateSpec(
            metadata=ObjectMeta(labels={"app": "x"}), spec=PodSpec(containers=[Container(name="c", image="i")])
        ),
    )
    light.create(Deployment(metadata=ObjectMeta(name="d", namespace="light"), spec=spec))
    light.replace(Deployment.Scale(metadata=ObjectMeta(name="d", namespace="light"), spec=ScaleSpec(replicas=2)))
    assert light.get(Deployment, "d", namespace="light").spec.replicas == 2
    light.patch(Deployment, "d", {"metadata": {"labels": {"a": "b"}}}, namespace="light")
    assert [each.metadata.name for each in light.list(Deployment, namespace="light", labels={"a": "b"})] == ["d"]
    for number in range(5):
        light.apply(ConfigMap(metadata=ObjectMeta(name=f"c{number}", namespace="light"), data={"n": str(number)}))
    listed = light.list(ConfigMap, namespace="light", chunk_size=2)
    assert [each.data["n"] for each in listed] == [str(number) for number in range(5)]
    changed = ConfigMap(metadata=ObjectMeta(name="c0", namespace="light"), data={"n": "x"})
    with pytest.raises(ApiError, match="Apply failed with 1 conflict"):
        light.apply(changed, field_manager="another")
    light.delete(ConfigMap, "c0", namespace="light")
    seen = ((kind, each.metadata.name) for kind, each in light.watch(ConfigMap, namespace="light", server_timeout=60))
    assert sorted(next(seen) for _ in range(4)) == [("ADDED", f"c{number}") for number in range(1, 5)]
    with pytest.raises(ApiError) as refusal:
        light.get(ConfigMap, "c0", namespace="light")
    assert (refusal.value.status.code, refusal.value.status.reason) == (404, "NotFound")
    boxes: Any = create_namespaced_resource("example.com", "v1", "Box", "boxes")
    with pytest.raises(ApiError, match=r"spec.size"):
        light.create(boxes(metadata={"name": "b", "namespace": "light"}, spec={"size": 99}))


# --- kr8s ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Kubernetes version")  # It knows versions up to its own release's.
def test_kr8s(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    asyncio.run(_asynchronously(str(file)))


async def _asynchronously(kubeconfig: str) -> None:
    api: Any = await kr8s.asyncio.api(kubeconfig=kubeconfig, namespace="async")
    assert await api.whoami() == "kubernetes-admin"
    assert (await api.version())["minor"].isdigit()
    assert {"deployments", "endpointslices"} <= {each["name"] for each in await api.api_resources()}
    namespace = await AsyncNamespace({"metadata": {"name": "async"}}, api=api)
    await namespace.create()

    # Many at once, on one connection pool, while a watch looks on.
    def named(number: int) -> dict[str, Any]:
        return {"metadata": {"name": f"c{number}", "namespace": "async"}, "data": {"n": str(number)}}

    maps = [await AsyncConfigMap(named(number), api=api) for number in range(20)]
    watch = api.watch("configmaps", namespace="async")
    seen = asyncio.create_task(_first(watch, 20))
    await asyncio.gather(*(each.create() for each in maps))
    async with asyncio.timeout(60):
        assert sorted(await seen) == sorted(("ADDED", f"c{number}") for number in range(20))
    await asyncio.gather(*(each.patch({"data": {"m": "x"}}) for each in maps))
    selected: Any = api.get("configmaps", namespace="async", field_selector="metadata.name!=c0")
    listed = [(each.name, each.raw["data"]["m"]) async for each in selected]
    assert sorted(listed) == sorted((f"c{number}", "x") for number in range(1, 20))
    with pytest.raises(kr8s.ServerError) as refusal:
        await maps[0].create()
    assert refusal.value.response is not None
    assert refusal.value.response.status_code == 409
    await maps[0].delete()
    assert not await maps[0].exists()
    with pytest.raises(kr8s.NotFoundError):
        await AsyncConfigMap.get("c0", namespace="async", api=api)

    pod = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": pod}
    deployment = await AsyncDeployment({"metadata": {"name": "d", "namespace": "async"}, "spec": spec}, api=api)
    await deployment.create()
    await deployment.patch({"spec": {"replicas": 4}}, subresource="scale")
    await deployment.refresh()
    assert deployment.replicas == 4
    await deployment.label(tier="web")
    labelled: Any = AsyncDeployment.list(namespace="async", label_selector="tier=web", api=api)
    assert [each.name async for each in labelled] == ["d"]
    await deployment.delete(propagation_policy="Foreground")


async def _first(watch: Any, count: int) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    async for kind, obj in watch:
        seen.append((kind, obj.name))
        if len(seen) == count:
            break
    return seen
