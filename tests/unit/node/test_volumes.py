"""A pod's volumes: which files, with which content and mode, and when they are written again."""

from __future__ import annotations

import asyncio
import datetime
import os
import stat
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.config_types import ConfigMap, Secret
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError
from netlab.api.meta_types import ObjectMeta, Status
from netlab.api.resources import SECRETS
from netlab.api.review_types import TokenRequestStatus
from netlab.node import projections, volumes
from netlab.node.projections import Projections
from netlab.node.root_certificates import RootCertificates
from netlab.node.volumes import MountError, Volumes


class Cluster:
    """What a kubelet asks of the API here: one ConfigMap, and a new token each time."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.lifetime = lifetime
        self.value = "one"
        self.asked: list[tuple[str, str, list[str], int | None, tuple[str, str]]] = []

    async def get(self, resource: Any, name: str, namespace: str) -> ConfigMap | Secret:
        if name != "settings":
            raise ApiError(Status(code=404, reason="NotFound", message=f'{resource.plural} "{name}" not found'))
        meta = ObjectMeta(name=name, namespace=namespace)
        if resource is SECRETS:
            return Secret(metadata=meta, data={"key": "c2VjcmV0"})
        return ConfigMap(metadata=meta, data={"a": self.value, "b": "two"}, binaryData={"c": "AAE="})

    async def request_token(
        self, account: str, namespace: str, *, audiences: list[str], seconds: int | None, pod: tuple[str, str]
    ) -> TokenRequestStatus:
        self.asked.append((account, namespace, audiences, seconds, pod))
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.lifetime)
        return TokenRequestStatus(token=f"token-{len(self.asked)}", expirationTimestamp=expires.isoformat())


def pod(*sources: dict[str, Any], mode: int | None = None) -> Pod:
    return of_volume({"projected": {"sources": list(sources), "defaultMode": mode}})


_LIMIT = {"containerName": "c", "resource": "limits.cpu"}


def of_volume(source: dict[str, Any]) -> Pod:
    volume = {"name": "v"} | source
    mount = {"name": "v", "mountPath": "/data"}
    spec = {"containers": [{"name": "c", "volumeMounts": [mount]}], "volumes": [volume], "serviceAccountName": "web"}
    return msgspec.convert({"metadata": {"name": "p", "namespace": "shop", "uid": "u-1"}, "spec": spec}, Pod)


def made(given: Pod, root: Path, cluster: Cluster | None = None) -> tuple[Volumes, Path]:
    found = Volumes(cluster or Cluster(), given, root, allocatable={"cpu": "4"})  # type: ignore[arg-type]
    asyncio.run(found.set_up())
    (mount,) = found.mounts(given.spec.containers[0], {})
    assert (mount.target, mount.read_only) == ("/data", True)
    return found, Path(mount.source)


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    """What a container sees of a volume, and what of that are links into one version."""
    paths = [Path(folder, name) for folder, _, names in os.walk(directory, followlinks=True) for name in names]
    assert all(path.resolve().is_relative_to((directory / "..data").resolve()) for path in paths)
    return {
        str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in paths
        if not path.relative_to(directory).parts[0].startswith("..")
    }


_FIELD = {"path": "deep/name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"configMap": {"name": "settings"}}, {"a": (b"one", 0o644), "b": (b"two", 0o644), "c": (b"\0\1", 0o644)}),
        (
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "x/y", "mode": 0o600}]}},
            {"x/y": (b"one", 0o600)},
        ),
        ({"configMap": {"name": "none", "optional": True}}, {}),
        ({"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}], "optional": True}}, {}),
        ({"downwardAPI": {"items": [_FIELD]}}, {"deep/name": (b"p", 0o400)}),
        ({"serviceAccountToken": {"path": "token"}}, {"token": (b"token-1", 0o644)}),
    ],
)
def test_files_of_a_source(tmp_path: Path, source: dict[str, Any], expected: dict[str, tuple[bytes, int]]) -> None:
    _, directory = made(pod(source), tmp_path)
    assert files(directory) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "x"}]}}, {"x": (b"one", 0o644)}),
        ({"secret": {"secretName": "settings", "defaultMode": 0o400}}, {"key": (b"secret", 0o400)}),
        ({"secret": {"secretName": "none", "optional": True}}, {}),
        ({"downwardAPI": {"items": [_FIELD | {"path": "n"}]}}, {"n": (b"p", 0o400)}),
        (
            {"downwardAPI": {"items": [{"path": "n", "resourceFieldRef": _LIMIT}]}},
            {"n": (b"4", 0o644)},
        ),
    ],
)
def test_a_volume_of_one_source(tmp_path: Path, source: dict[str, Any], expected: dict[str, Any]) -> None:
    _, directory = made(of_volume(source), tmp_path)
    assert files(directory) == expected


def test_a_volume_follows_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "_REFRESHED_AFTER", 0.0)
    label = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    given, cluster = pod({"configMap": {"name": "settings"}}, {"downwardAPI": {"items": [label]}}), Cluster()

    async def watched() -> dict[str, tuple[bytes, int]]:
        found = Volumes(cluster, given, tmp_path)  # type: ignore[arg-type]
        await found.set_up()
        (mount,) = found.mounts(given.spec.containers[0], {})
        (Path(mount.source) / "stale").write_text("no key any more")
        keeping = asyncio.create_task(found.keep())
        cluster.value = "changed"
        found.update(msgspec.structs.replace(given, metadata=ObjectMeta(name="p", uid="u-1", labels={"x": "y"})))
        async with asyncio.timeout(60):
            while (Path(mount.source) / "stale").exists():
                await asyncio.sleep(0.01)
        keeping.cancel()
        return files(Path(mount.source))

    found = asyncio.run(watched())
    assert found.keys() == {"a", "b", "c", "labels"}
    assert (found["a"][0], found["labels"][0]) == (b"changed", b'x="y"')


def test_sources_share_a_directory_and_its_mode(tmp_path: Path) -> None:
    given = pod({"configMap": {"name": "settings"}}, {"serviceAccountToken": {"path": "token"}}, mode=0o440)
    _, directory = made(given, tmp_path)
    assert {name: mode for name, (_, mode) in files(directory).items()} == dict.fromkeys(
        ("a", "b", "c", "token"), 0o440
    )


def test_a_token_is_asked_for_as_the_volume_says_and_bound_to_the_pod(tmp_path: Path) -> None:
    cluster = Cluster()
    made(pod({"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 700}}), tmp_path, cluster)
    assert cluster.asked == [("web", "shop", ["vault"], 700, ("p", "u-1"))]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"name": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "x/../../y"}]}}, "is not inside of it"),
        (
            {"configMap": {"name": "settings", "items": [{"key": "z", "path": ""}]}},
            "configmap references non-existent config key",
        ),
        ({"secret": {"name": "settings", "items": [{"key": "z", "path": "z"}]}}, "non-existent secret key: z"),
        ({"downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": "spec.x"}}]}}, "fieldPath 'spec.x'"),
    ],
)
def test_what_is_not_there_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(volumes, "_PATIENCE", 0.0)
    with pytest.raises(MountError, match=f'^MountVolume.SetUp failed for volume "v" : .*{said}'):
        made(pod(source), tmp_path)


def test_a_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    given, cluster = pod({"serviceAccountToken": {"path": "token"}}), Cluster(lifetime=1.0)

    async def watched() -> bytes:
        found = Volumes(cluster, given, tmp_path)  # type: ignore[arg-type]
        await found.set_up()
        (mount,) = found.mounts(given.spec.containers[0], {})
        keeping = asyncio.create_task(found.keep())
        token = Path(mount.source) / "token"
        deadline = time.monotonic() + 60
        while token.read_bytes() == b"token-1" and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        keeping.cancel()
        return token.read_bytes()

    assert asyncio.run(watched()) != b"token-1"


def test_volumes_go_with_their_pod(tmp_path: Path) -> None:
    found, directory = made(pod({"configMap": {"name": "settings"}}), tmp_path)
    volumes.remove_others(frozenset({"u-1"}), tmp_path)
    assert directory.exists()
    found.remove()
    assert list(tmp_path.iterdir()) == []
    made(pod({"configMap": {"name": "settings"}}), tmp_path)
    volumes.remove_others(frozenset(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_root_certificate_is_read_once_for_pods_that_start_together(tmp_path: Path) -> None:
    source = {"configMap": {"name": "kube-root-ca.crt"}}

    class Counting(Cluster):
        reads = 0

        async def get(self, resource: Any, name: str, namespace: str) -> Any:
            self.reads += 1
            await asyncio.sleep(0)
            if self.reads == 1:
                raise ApiError(Status(code=404, reason="NotFound", message="not yet"))
            return ConfigMap(data={"ca.crt": f"{namespace} {self.reads}"})

    async def read(cluster: Counting) -> list[str]:
        certificates = RootCertificates(cluster)  # type: ignore[arg-type]
        with pytest.raises(ApiError):
            await certificates.of("shop")

        async def mounted(number: int) -> str:
            given = pod(source)
            found = Volumes(cluster, given, tmp_path / str(number), certificates)  # type: ignore[arg-type]
            await found.set_up()
            (mount,) = found.mounts(given.spec.containers[0], {})
            return (Path(mount.source) / "ca.crt").read_text()

        return await asyncio.gather(*(mounted(number) for number in range(5)))

    assert set(asyncio.run(read(Counting()))) == {"shop 2"}


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (None, None),
        ("1Mi", None),
        ("1Ki", 'Usage of EmptyDir volume "v" exceeds the limit "1Ki". '),
    ],
)
def test_a_volume_that_holds_more_than_it_may(tmp_path: Path, limit: str | None, said: str | None) -> None:
    given = of_volume({"emptyDir": {"sizeLimit": limit}})
    found = Volumes(Cluster(), given, tmp_path)  # type: ignore[arg-type]
    assert found.over_limit() is None
    asyncio.run(found.set_up())
    (mount,) = found.mounts(given.spec.containers[0], {})
    (Path(mount.source) / "file").write_bytes(b"x" * 8192)
    assert found.over_limit() == said


@pytest.mark.parametrize(
    ("context", "users", "expected"),
    [
        ({}, [None], (0o644, None)),
        ({"runAsUser": 0}, [None], (0o600, 0)),
        ({"runAsUser": 5}, [0, 0], (0o600, 0)),
        ({"runAsUser": 5}, [None, 6], (0o644, None)),
        ({"fsGroup": 7}, [None, 6], (0o600, None)),
    ],
)
def test_a_token_is_for_the_one_user_of_the_containers(
    context: dict[str, int], users: list[int | None], expected: tuple[int, int | None]
) -> None:
    containers = [{"name": f"c{i}", "securityContext": {"runAsUser": user}} for i, user in enumerate(users)]
    given = msgspec.convert({"spec": {"containers": containers, "securityContext": context}}, Pod)
    source = projections.sources(pod({"serviceAccountToken": {"path": "t"}}))
    contents, _ = asyncio.run(Projections(Cluster()).contents(given, next(source)[1]))  # type: ignore[arg-type]
    assert (contents["t"].mode, contents["t"].owner) == expected
