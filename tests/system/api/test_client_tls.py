"""The client over TCP and TLS: whom it trusts, who it is, and what it says when either is wrong."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.api.core_types import Namespace
from netlab.api.credentials import PLUGIN_TIMEOUT
from netlab.api.errors import ApiError, ApiUnavailableError
from netlab.api.informer import Informer
from netlab.api.meta_types import ObjectMeta
from netlab.api.resources import NAMESPACES
from tests.system.api import secure
from tests.system.api.secure import Authority, Guard, Tls, encoded, listening

SYSTEM = ["default", "kube-node-lease", "kube-system"]
LIMIT = 60.0

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate, a client's; and those of somebody else's authority."""
    folder = tmp_path_factory.mktemp("pki")
    for name in ("ca", "other-ca"):
        authority = Authority(folder, name)
        authority.issue(f"{name}-server", "IP:127.0.0.1", "DNS:kubernetes.default")
        authority.issue(f"{name}-client")
    return folder


@pytest.fixture
def tls(pki: Path) -> Tls:
    return Tls(pki / "ca-server.crt", pki / "ca-server.key")


@pytest.fixture
def mutual(pki: Path) -> Tls:
    return Tls(pki / "ca-server.crt", pki / "ca-server.key", clients=pki / "ca.crt")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Guard]:
    with secure.embedded(tmp_path) as app:
        yield Guard(app)


def live(body: Callable[[], Awaitable[None]], runner: Any = asyncio.run) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await body()

    runner(limited())


async def namespaces(config: Path) -> list[str]:
    async with Client(kubeconfig.load(config)) as client:
        return [found.key for found in (await client.list(NAMESPACES))[0]]


TRUST: dict[str, tuple[str, dict[str, Any]]] = {
    "a file": ("https://127.0.0.1", {"certificate-authority": "ca.crt"}),
    "data": ("https://127.0.0.1", {"certificate-authority-data": "ca.crt"}),
    "data over a file": ("https://127.0.0.1", {"certificate-authority": "no", "certificate-authority-data": "ca.crt"}),
    "another name": (
        "https://localhost",
        {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes.default"},
    ),
    "nobody is asked": ("https://localhost", {"insecure-skip-tls-verify": True}),
}

DISTRUST: dict[str, tuple[str, dict[str, str], str]] = {
    "the system's authorities": ("https://127.0.0.1", {}, "certificate is not accepted"),
    "another authority": (
        "https://127.0.0.1",
        {"certificate-authority": "other-ca.crt"},
        "certificate is not accepted",
    ),
    "a name it does not have": (
        "https://localhost",
        {"certificate-authority": "ca.crt"},
        "certificate is not accepted: Hostname mismatch, certificate is not valid for 'localhost'",
    ),
    "a name that is asked for in vain": (
        "https://127.0.0.1",
        {"certificate-authority": "ca.crt", "tls-server-name": "elsewhere"},
        "not valid for 'elsewhere'",
    ),
}


def cluster_of(pki: Path, server: str, port: int, trust: dict[str, Any]) -> dict[str, Any]:
    given = {field: encoded(pki / value) if field.endswith("-data") else value for field, value in trust.items()}
    return {"server": f"{server}:{port}"} | given


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("name", TRUST)
def test_a_server_is_trusted(pki: Path, api: Guard, mutual: Tls, name: str, runner: Any) -> None:
    server, trust = TRUST[name]
    user = {"client-certificate": "ca-client.crt", "client-key-data": encoded(pki / "ca-client.key")}

    async def body() -> None:
        async with listening(api, mutual) as port:
            config = secure.kubeconfig(pki / f"config-{port}", cluster_of(pki, server, port, trust), user)
            assert await namespaces(config) == SYSTEM

    live(body, runner)


@pytest.mark.parametrize("name", DISTRUST)
def test_a_server_is_not_trusted(pki: Path, api: Guard, tls: Tls, name: str) -> None:
    server, trust, message = DISTRUST[name]

    async def body() -> None:
        async with listening(api, tls) as port:
            cluster = cluster_of(pki, server, port, trust)
            config = secure.kubeconfig(pki / f"config-{port}", cluster, {"token": "t"})
            with pytest.raises(ApiUnavailableError) as refused:
                await namespaces(config)
            assert message in str(refused.value)
            assert str(refused.value).startswith(f"the API server at {server}:{port} does not answer: its certificate")
            assert not api.asked, "nothing was told to a server that is not trusted"

    live(body)


@pytest.mark.parametrize("name", ["nobody", "other-ca-client"])
def test_a_client_that_the_server_does_not_know(pki: Path, api: Guard, mutual: Tls, name: str) -> None:
    user = {"client-certificate": f"{name}.crt", "client-key": f"{name}.key"} if name != "nobody" else {}

    async def body() -> None:
        async with listening(api, mutual) as port:
            cluster = cluster_of(pki, "https://127.0.0.1", port, {"certificate-authority": "ca.crt"})
            with pytest.raises(ApiUnavailableError, match="does not answer"):
                await namespaces(secure.kubeconfig(pki / f"config-{port}", cluster, user))
            assert not api.asked

    live(body)


def test_a_client_certificate_that_is_replaced_is_shown(pki: Path, tmp_path: Path, api: Guard, mutual: Tls) -> None:
    """As a kubelet's is, a year on; certificate and key are replaced one after the other."""
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    shutil.copy(pki / "other-ca-client.crt", certificate)
    shutil.copy(pki / "other-ca-client.key", key)

    async def body() -> None:
        async with listening(api, mutual) as port:
            cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": encoded(pki / "ca.crt")}
            user = {"client-certificate": str(certificate), "client-key": str(key)}
            async with Client(kubeconfig.load(secure.kubeconfig(tmp_path / "config", cluster, user))) as client:
                for name in ("certificate", "key"):
                    with pytest.raises(ApiUnavailableError):
                        await client.list(NAMESPACES)
                    replaced = certificate if name == "certificate" else key
                    shutil.copy(pki / f"ca-client{replaced.suffix}", replaced)
                await client.list(NAMESPACES)

    live(body)


def test_a_path_is_part_of_the_server(pki: Path, tmp_path: Path, api: Guard, tls: Tls) -> None:
    async def below(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/k8s/c-1/api"), scope["path"]
        paths = {
            "path": scope["path"].removeprefix("/k8s/c-1"),
            "raw_path": scope["raw_path"].removeprefix(b"/k8s/c-1"),
        }
        await api(scope | paths, receive, send)

    async def body() -> None:
        async with listening(below, tls) as port:
            cluster = cluster_of(pki, "https://127.0.0.1", port, {"certificate-authority-data": "ca.crt"})
            cluster["server"] += "/k8s/c-1/"
            assert await namespaces(secure.kubeconfig(tmp_path / "config", cluster)) == SYSTEM

    live(body)


def test_no_credentials_cross_the_network_in_the_clear(tmp_path: Path, api: Guard) -> None:
    async def body() -> None:
        async with listening(api) as port:
            config = secure.kubeconfig(tmp_path / "config", {"server": f"http://127.0.0.1:{port}"}, {"token": "t"})
            assert await namespaces(config) == SYSTEM
        assert "authorization" not in api.asked[0][2]

    live(body)


def test_no_redirect_is_followed(pki: Path, tmp_path: Path, tls: Tls) -> None:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        await secure.answer(send, b"", 302, location="https://192.0.2.1/")

    async def body() -> None:
        async with listening(elsewhere, tls) as port:
            cluster = cluster_of(pki, "https://127.0.0.1", port, {"certificate-authority-data": "ca.crt"})
            with pytest.raises(ApiError, match="answered 302"):
                await namespaces(secure.kubeconfig(tmp_path / "config", cluster, {"token": "t"}))

    live(body)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nobody_listens(tmp_path: Path, scheme: str) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = f"{scheme}://127.0.0.1:{port}"
        with pytest.raises(ApiUnavailableError) as refused:
            await namespaces(secure.kubeconfig(tmp_path / "config", {"server": server}))
        assert str(refused.value) == f"the API server at {server} does not answer: Connection refused"

    live(body)


# --- tokens ----------------------------------------------------------------------------------------------------------


class Cluster:
    """A server that knows tokens, and clients of it."""

    def __init__(self, pki: Path, folder: Path, api: Guard, port: int) -> None:
        self.folder = folder
        self.api = api
        self._cluster = cluster_of(pki, "https://127.0.0.1", port, {"certificate-authority-data": "ca.crt"})

    def client(self, user: dict[str, Any], **changes: Any) -> Client:
        config = secure.kubeconfig(self.folder / "config", self._cluster | changes, user)
        return Client(kubeconfig.load(config))

    def calls(self) -> int:
        """How often the plugin was called."""
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def plugin(self, script: str, **changes: Any) -> dict[str, Any]:
        """A user whose credentials a shell script prints, which notes that it was called and what it was told."""
        path = self.folder / "plugin"
        text = f'#!/bin/sh\ncd {self.folder}\necho "$*" >> calls\nprintenv KUBERNETES_EXEC_INFO > info\n{script}\n'
        path.write_text(text)
        path.chmod(0o700)
        return {"exec": {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never"} | changes}

    def credential(self, **status: Any) -> None:
        """What `cat credential` prints from now on."""
        value = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
        (self.folder / "credential").write_bytes(msgspec.json.encode(value))


def with_cluster(
    pki: Path, folder: Path, api: Guard, tls: Tls, body: Callable[[Cluster], Awaitable[None]], runner: Any = asyncio.run
) -> None:
    async def inner() -> None:
        async with listening(api, tls) as port:
            await body(Cluster(pki, folder, api, port))

    live(inner, runner)


def test_a_token(pki: Path, tmp_path: Path, api: Guard, tls: Tls) -> None:
    async def body(cluster: Cluster) -> None:
        cluster.api.tokens = {"good"}
        async with cluster.client({"token": "good"}) as client:
            await client.list(NAMESPACES)
        async with cluster.client({"token": "bad-token"}) as client:
            with pytest.raises(ApiError) as refused:
                await client.list(NAMESPACES)
        assert (refused.value.code, str(refused.value)) == (401, "Unauthorized")

    with_cluster(pki, tmp_path, api, tls, body)


def test_a_token_file_is_read_again(pki: Path, tmp_path: Path, api: Guard, tls: Tls) -> None:
    """As of a service account: a symbolic link to a folder that is replaced each hour."""

    async def body(cluster: Cluster) -> None:
        for number in (1, 2, 3):
            (tmp_path / f"v{number}").mkdir()
            (tmp_path / f"v{number}/token").write_text(f"token-{number}\n")
        data = tmp_path / "data"
        data.symlink_to("v1")
        cluster.api.tokens = {"token-1"}
        async with cluster.client({"token": "not this one", "tokenFile": "data/token"}) as client:
            await client.list(NAMESPACES)
            for number in (2, 3):
                cluster.api.tokens = {f"token-{number}"}
                with pytest.raises(ApiError, match="Unauthorized"):
                    await client.list(NAMESPACES)
                data.unlink()
                with pytest.raises(ApiError, match="Unauthorized"):
                    await client.list(NAMESPACES)
                data.symlink_to(f"v{number}")
                await client.list(NAMESPACES)

    with_cluster(pki, tmp_path, api, tls, body)


def test_an_informer_outlives_its_token(pki: Path, tmp_path: Path, api: Guard, tls: Tls) -> None:
    async def body(cluster: Cluster) -> None:
        token = tmp_path / "token"
        token.write_text("old")
        cluster.api.tokens = {"old", "root"}
        async with (
            cluster.client({"tokenFile": "token"}) as client,
            cluster.client({"token": "root"}) as root,
        ):
            informer = Informer(client, NAMESPACES)
            running = asyncio.create_task(informer.run())
            await informer.synced.wait()
            cluster.api.tokens = {"root", "new"}
            token.write_text("new")
            await root.create(NAMESPACES, Namespace(metadata=ObjectMeta(name="shop")))
            while "shop" not in informer.items:
                await asyncio.sleep(0.01)
            running.cancel()

    with_cluster(pki, tmp_path, api, tls, body)


def test_in_a_pod(pki: Path, tmp_path: Path, api: Guard, tls: Tls) -> None:
    async def body() -> None:
        api.tokens = {"pod"}
        shutil.copy(pki / "ca.crt", tmp_path / "ca.crt")
        (tmp_path / "token").write_text("pod")
        async with listening(api, tls) as port:
            environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
            async with Client(kubeconfig.in_cluster(environment, tmp_path)) as client:
                assert [found.key for found in (await client.list(NAMESPACES))[0]] == SYSTEM

    live(body)


# --- plugins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_plugin_is_called_once_until_its_credential_expires(
    pki: Path, tmp_path: Path, api: Guard, tls: Tls, runner: Any
) -> None:
    async def body(cluster: Cluster) -> None:
        cluster.api.tokens = {"first"}
        cluster.credential(token="first", expirationTimestamp="2999-01-01T00:00:00Z")
        config = {"args": ["a b", "c"], "env": [{"name": "WHAT", "value": "credential"}], "provideClusterInfo": True}
        extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}]
        user = cluster.plugin('cat "$WHAT"', **config)
        async with cluster.client(user, extensions=extensions) as client:
            await asyncio.gather(*(client.list(NAMESPACES) for _ in range(5)))
            assert cluster.calls() == 1
            assert (tmp_path / "calls").read_text() == "a b c\n"
            info = msgspec.json.decode((tmp_path / "info").read_bytes())
            assert (info["apiVersion"], info["kind"], info["spec"]["interactive"]) == (V1, "ExecCredential", False)
            told = info["spec"]["cluster"]
            assert told["config"] == {"audience": "x"}
            assert told["certificate-authority-data"] == encoded(pki / "ca.crt")

            # The server no longer takes it although it has not expired: the plugin is asked, the request sent again.
            cluster.api.tokens = {"second"}
            cluster.credential(token="second", expirationTimestamp="2001-01-01T00:00:00Z")
            await client.list(NAMESPACES)
            assert cluster.calls() == 2
            await client.list(NAMESPACES)
            assert cluster.calls() == 3, "it has expired"

    with_cluster(pki, tmp_path, api, tls, body, runner)


def test_a_plugin_prints_a_certificate(pki: Path, tmp_path: Path, api: Guard, mutual: Tls) -> None:
    async def body(cluster: Cluster) -> None:
        files = {
            field: (pki / f"ca-client.{end}").read_text() for field, end in (("Certificate", "crt"), ("Key", "key"))
        }
        cluster.credential(**{f"client{field}Data": text for field, text in files.items()})
        async with cluster.client(cluster.plugin("cat credential")) as client:
            await client.list(NAMESPACES)

    with_cluster(pki, tmp_path, api, mutual, body)


def printed(**changes: Any) -> str:
    credential = {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "secret"}} | changes
    return f"echo '{msgspec.json.encode(credential).decode()}'"


FAULTS = {
    "it fails": ("echo starting >&2; echo 'log in first' >&2; exit 3", "ended with status 3: log in first"),
    "it fails silently": ("exit 1", "ended with status 1"),
    "it prints something else": ("echo secret", "printed no ExecCredential: JSON is malformed"),
    "another version": (printed(apiVersion=f"{V1}beta1"), "did not print an ExecCredential of version"),
    "no status": (printed(status=None), "printed neither a token nor a client certificate"),
    "half a certificate": (printed(status={"clientKeyData": "secret"}), "printed only one of"),
    "a certificate that is none": (
        printed(status={"clientCertificateData": "secret", "clientKeyData": "secret"}),
        "cannot use the client-certificate and client-key",
    ),
    "no time zone": (
        printed(status={"token": "secret", "expirationTimestamp": "2026-01-01T00:00:00"}),
        "printed an expirationTimestamp without a time zone",
    ),
    "no time": (printed(status={"token": "secret", "expirationTimestamp": "soon"}), "printed no ExecCredential"),
    "it takes too long": ("sleep 60", "did not answer within"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_plugin_that_fails_is_asked_again(
    pki: Path, tmp_path: Path, api: Guard, tls: Tls, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, message = FAULTS[name]
    limit = 0.5 if name == "it takes too long" else PLUGIN_TIMEOUT
    monkeypatch.setattr("netlab.api.credentials.PLUGIN_TIMEOUT", limit)

    async def body(cluster: Cluster) -> None:
        async with cluster.client(cluster.plugin(script)) as client:
            with pytest.raises(ApiUnavailableError) as failed:
                await client.list(NAMESPACES)
            said = str(failed.value)
            assert said.startswith((f"user 'u': the plugin {tmp_path / 'plugin'} ", "https://127.0.0.1:"))
            assert message in said
            assert "secret" not in said
            assert "\n" not in said
            cluster.credential(token="t")
            cluster.plugin("cat credential")
            await client.list(NAMESPACES)

    with_cluster(pki, tmp_path, api, tls, body)
