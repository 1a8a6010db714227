"""The ranges of ClusterIPs, read from an API server that has them as objects."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.api.core_types import Node
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import NODES
from netlab.proxy.config import ProxyConfig
from netlab.proxy.observe import differences
from netlab.proxy.run import run
from tests.sandbox import isolated
from tests.system.api import secure
from tests.system.api.serving import Json
from tests.unit.proxy.flows import NODE


def dropped() -> str:
    """The ranges whose ClusterIPs are dropped if no Service has them."""
    argv = ["nft", "list", "chain", "ip", "kube-proxy", "refuse"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    return next((line.strip() for line in listed if line.strip().endswith(" drop")), "")


async def until_dropped(rule: str) -> None:
    async with asyncio.timeout(60):
        while dropped() != rule:
            await asyncio.sleep(0.05)


class Server(secure.OldServer):
    """An API server that has ServiceCIDRs; everything else is for the embedded one."""

    GROUP = "/apis/networking.k8s.io"

    def __init__(self, version: str, others: ASGIApp) -> None:
        super().__init__(version)
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(self.GROUP):
            await super().__call__(scope, receive, send)
        else:
            await self._others(scope, receive, send)


def ranges(name: str, *cidrs: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


async def follow(folder: Path, version: str) -> None:
    config = ProxyConfig(NODE, min_sync_seconds=0.01, check_seconds=0.05)
    kubernetes = ranges("kubernetes", "10.96.0.0/16", "fd00:10:96::/112")
    with secure.embedded(folder) as app:
        server = Server(version, app)
        async with secure.listening(server) as port:
            endpoint = kubeconfig.load(secure.kubeconfig(folder / "config", {"server": f"http://127.0.0.1:{port}"}))
            async with Client(endpoint) as client:
                await client.create(NODES, Node(metadata=ObjectMeta(name=NODE)))
                await server.tell("ADDED", kubernetes)
                synced = asyncio.Event()
                proxy = asyncio.create_task(run(client, config, synced.set))
                async with asyncio.timeout(60):
                    await synced.wait()
                assert dropped() == "ip daddr 10.96.0.0/16 drop"
                # One within another, and one beside it.
                more = ranges("more", "10.96.128.0/24", "10.98.0.0/16")
                await server.tell("ADDED", more)
                await until_dropped("ip daddr { 10.96.0.0/16, 10.98.0.0/16 } drop")
                assert await differences(client, config) == []
                await server.tell("DELETED", kubernetes)
                await until_dropped("ip daddr { 10.96.128.0/24, 10.98.0.0/16 } drop")
                await server.tell("DELETED", more)
                await until_dropped("")
                proxy.cancel()
                await asyncio.wait([proxy])


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@isolated
def test_what_goes_to_a_cluster_ip_of_nobody_is_dropped_by_the_servers_ranges(tmp_path: Path, version: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    asyncio.run(follow(tmp_path, version))
