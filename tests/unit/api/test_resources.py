from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.api.client import Client
from netlab.api.core_types import Pod, PodSpec
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import DEPLOYMENTS, NODES, PODS
from netlab.errors import UsageError


def test_paths() -> None:
    assert NODES.path() == NODES.path("passed-over") == "/api/v1/nodes"
    assert NODES.object_path(None, "node-1") == "/api/v1/nodes/node-1"
    assert PODS.path() == "/api/v1/pods"
    assert DEPLOYMENTS.path("default") == "/apis/apps/v1/namespaces/default/deployments"
    assert PODS.object_path("default", "web.1", "status") == "/api/v1/namespaces/default/pods/web.1/status"


NO_NAMES = [
    "",
    " ",
    "a b",
    "a\n",
    "\x1b[2J",
    "é",
    "?x=",
    "a?watch=1",
    "a/status",
    "..",
    ".",
    "%2e",
    "#",
    "\udcff",
    "a" * 254,
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_makes_no_path(name: str) -> None:
    paths: list[Callable[[], str]] = [
        lambda: PODS.object_path("default", name),
        lambda: PODS.object_path(name, "web"),
        lambda: PODS.object_path("default", "web", name),
        lambda: PODS.path(name),
        lambda: NODES.object_path(None, name),
    ]
    for path in paths:
        with pytest.raises(UsageError) as refused:
            path()
        assert str(refused.value).isascii()
        assert str(refused.value).isprintable()


def test_an_object_of_a_namespace_needs_one() -> None:
    with pytest.raises(UsageError, match="namespace: it is empty"):
        PODS.object_path(None, "web")


def test_the_client_sends_nothing_about_an_object_without_a_name() -> None:
    nameless = Pod(metadata=ObjectMeta(namespace="default"), spec=PodSpec(containers=[]))
    homeless = Pod(metadata=ObjectMeta(name="web"), spec=PodSpec(containers=[]))

    async def refused() -> None:
        async with Client(Path("/nowhere/api.sock")) as client:
            for call in (
                client.delete(PODS, "", "default"),
                client.delete(PODS, "web", ""),
                client.delete(NODES, ""),
                client.get(PODS, "", "default"),
                client.patch(PODS, "", "default", {}),
                client.update(PODS, nameless),
                client.create(PODS, homeless),
                client.bind("", "default", "node-1"),
            ):
                with pytest.raises(UsageError, match="it is empty"):
                    await call

    asyncio.run(refused())
