"""A proxy outside any lab: a kubeconfig, an API server over TLS, a namespace, and a client that wants an answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.api.core_types import Node, NodeAddress, NodeStatus, Service, ServicePort, ServiceSpec
from netlab.api.discovery_types import Endpoint, EndpointPort, EndpointSlice
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import ENDPOINTSLICES, EVENTS, NODES, SERVICES
from netlab.proxy.config import Mode
from tests.sandbox import isolated
from tests.system.api import secure
from tests.system.api.secure import Authority, Guard, Tls, encoded, listening
from tests.system.proxy.hosts import run_ip

LIMIT = 90.0
CLUSTER_IP = "10.96.0.10"
BACKENDS = {"first": "192.0.2.11", "second": "192.0.2.12"}

# A kubeconfig and a node's name are all that it is given.
PROXY = """
import asyncio, signal, sys
from pathlib import Path
from netlab.api.client import Client
from netlab.api.kubeconfig import load
from netlab.proxy.config import ProxyConfig
from netlab.proxy.run import run

async def main(config, node, mode):
    async with Client(load(Path(config)), user_agent=f"kube-proxy/{node}") as client:
        task = asyncio.create_task(run(client, ProxyConfig(node_name=node, mode=mode)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.wait([task])

asyncio.run(main(*sys.argv[1:]))
"""


def command(config: Path, mode: Mode) -> list[str]:
    return [sys.executable, "-c", PROXY, str(config), "node-1", mode]


@contextlib.asynccontextmanager
async def backends() -> AsyncIterator[None]:
    """Servers that say which one they are, and the addresses they have."""
    addresses = "".join(f"addr add {address}/32 dev lo\n" for address in BACKENDS.values())
    run_ip(f"link set lo up\naddr add 192.0.2.1/24 dev lo\n{addresses}route add 10.96.0.0/24 dev lo src 192.0.2.1\n")
    async with contextlib.AsyncExitStack() as stack:
        for name, address in BACKENDS.items():

            async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
                writer.write(name.encode())
                writer.close()

            await stack.enter_async_context(await asyncio.start_server(greet, address, 8080))
        yield


async def until_answered(name: str) -> None:
    """Dial the Service until that backend answers."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(CLUSTER_IP, 80)
                said = await reader.read()
                writer.close()
            if said == name.encode():
                return
        await asyncio.sleep(0.02)


def slice_to(name: str) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name="web-1", namespace="default", labels={"kubernetes.io/service-name": "web"}),
        addressType="IPv4",
        endpoints=[Endpoint(addresses=[BACKENDS[name]], nodeName="node-1")],
        ports=[EndpointPort(name="", port=8080, protocol="TCP")],
    )


async def set_up(root: Client) -> None:
    address = NodeAddress(type="InternalIP", address="192.0.2.1")
    await root.create(NODES, Node(metadata=ObjectMeta(name="node-1"), status=NodeStatus(addresses=[address])))
    spec = ServiceSpec(clusterIP=CLUSTER_IP, ports=[ServicePort(port=80, targetPort=8080)])
    await root.create(SERVICES, Service(metadata=ObjectMeta(name="web", namespace="default"), spec=spec))
    await root.create(ENDPOINTSLICES, slice_to("first"))


async def serve_outside(folder: Path, mode: Mode) -> None:
    authority = Authority(folder)
    tls = Tls(*authority.issue("server", "DNS:kubernetes"))
    token = folder / "token"
    token.write_text("first-token")
    with secure.embedded(folder) as app:
        api = Guard(app, {"root", "first-token"})
        async with contextlib.AsyncExitStack() as serving:
            await serving.enter_async_context(backends())
            listener = contextlib.AsyncExitStack()
            port = await listener.enter_async_context(listening(api, tls))
            cluster = {
                "server": f"https://127.0.0.1:{port}",
                "certificate-authority-data": encoded(authority.certificate),
                "tls-server-name": "kubernetes",
            }
            root = Client(kubeconfig.load(secure.kubeconfig(folder / "root", cluster, {"token": "root"})))
            await serving.enter_async_context(root)
            await set_up(root)
            config = secure.kubeconfig(folder / "config", cluster, {"tokenFile": "token"})
            process = await asyncio.create_subprocess_exec(*command(config, mode), stderr=asyncio.subprocess.PIPE)
            try:
                await until_answered("first")
                ours = {
                    "services": "!service.kubernetes.io/service-proxy-name",
                    "endpointslices": "!service.kubernetes.io/headless",
                }
                for plural, labels in ours.items():
                    assert labels in {params.get("labelSelector") for params in api.queries(plural)}
                assert {"metadata.name=node-1"} == {params.get("fieldSelector") for params in api.queries("nodes")} - {
                    None
                }

                while not (started := (await root.pages(EVENTS)).items):
                    await asyncio.sleep(0.02)
                assert [(each.reason, each.type, each.involvedObject.name) for each in started] == [
                    ("Starting", "Normal", "node-1")
                ]

                # The API goes away; traffic does not. Meanwhile the proxy's token is replaced.
                await listener.aclose()
                await until_answered("first")
                api.tokens = {"root", "second-token"}
                token.write_text("second-token")
                async with listening(api, tls, port=port):
                    await root.update(ENDPOINTSLICES, slice_to("second"))
                    await until_answered("second")
                    process.send_signal(signal.SIGTERM)
                    _, said = await process.communicate()
                    assert process.returncode == 0, said.decode()
                    assert b"Traceback" not in said
                await until_answered("second")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
@isolated
def test_a_proxy_serves_outside_any_lab(tmp_path: Path, mode: Mode) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await serve_outside(tmp_path, mode)

    asyncio.run(limited())
