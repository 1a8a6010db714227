"""The API over TLS: who is let in, as whom, and who is not."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError
from netlab.api.resources import CREDENTIALS
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.certificates import Signed
from tests.system.api.secured import SecureServer, serving_securely
from tests.system.api.serving import START_TIMEOUT, Server, mode


@pytest.fixture(scope="module")
def secure() -> Iterator[SecureServer]:
    with serving_securely() as running:
        yield running


UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "details": {},
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


def test_an_administrators_certificate_is_let_in(secure: SecureServer) -> None:
    issued = BlockingClient(secure.socket).request("POST", CREDENTIALS)
    assert issued["certificateAuthority"].encode() == secure.authority.certificate
    signed = Signed(issued["certificate"].encode(), issued["key"].encode())
    status, answer = secure.ask("/api/v1/namespaces", signed=signed)
    assert (status, answer["kind"]) == (200, "NamespaceList")


@pytest.mark.parametrize(
    "name",
    ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc.cluster.local", "10.96.0.1", "fd00:10:96::1"],
)
def test_it_is_known_under_its_names(secure: SecureServer, name: str) -> None:
    assert secure.ask("/livez", name=name) == (200, b"ok")


def test_another_name_is_not_its(secure: SecureServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        secure.ask("/livez", name="example.org")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_health_and_version_need_no_credentials(secure: SecureServer, path: str) -> None:
    assert secure.ask(path)[0] == 200


@pytest.mark.parametrize(
    "path", ["/api", "/apis", "/api/v1/pods", "/healthz/", "/none", "/netlab/snapshot", CREDENTIALS]
)
@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer x", "Bearer a.b.c", "Basic YTpi", "Bearer \xff"])
def test_without_credentials_nothing_else_is_answered(secure: SecureServer, path: str, token: str) -> None:
    assert secure.ask(path, token=token) == (401, UNAUTHORIZED)


def test_a_wrong_token_is_refused_even_where_none_is_needed(secure: SecureServer) -> None:
    assert secure.ask("/version", token="Bearer x") == (401, UNAUTHORIZED)


def test_the_socket_of_the_owner_refuses_a_wrong_token_too(secure: SecureServer) -> None:
    with secure.connection() as connection:
        connection.sendall(b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\nauthorization: bearer x\r\n\r\n")
        assert connection.recv(16).startswith(b"HTTP/1.1 401")


def test_a_certificate_of_another_authority_is_refused(secure: SecureServer, tmp_path: Path) -> None:
    signed = Authority(tmp_path / "pki").issue_client("kubernetes-admin", ["system:masters"])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure.ask("/api/v1/pods", signed=signed)


def test_a_servers_certificate_is_no_clients(secure: SecureServer) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure.ask("/api/v1/pods", signed=secure.authority.issue_server(["localhost"]))


def test_plain_http_is_not_answered(secure: SecureServer) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(START_TIMEOUT)
        client.connect(str(secure.tls))
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"HTTP" not in client.recv(64)
    assert secure.answers()


def test_only_an_administrator_gets_an_administrators_certificate(secure: SecureServer) -> None:
    signed = secure.authority.issue_client("someone", [])
    status, answer = secure.ask(CREDENTIALS, "POST", signed=signed)
    assert status == 403
    assert answer["message"] == f'forbidden: User "someone" cannot post path "{CREDENTIALS}"'


def test_keys_are_the_owners_alone_and_stay(secure: SecureServer) -> None:
    folder = secure.directory / "pki"
    assert {mode(path) for path in folder.rglob("*") if path.is_file()} == {"0o600"}
    assert mode(folder) == "0o700"
    assert mode(secure.tls) == "0o600"


def test_an_authority_outlives_its_server(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        server = SecureServer(Path(directory))
        server.start()
        signed = server.authority.issue_client("u", ["system:masters"])
        assert server.end()[0] == 0
        server.start()
        assert server.ask("/api/v1/namespaces", signed=signed)[0] == 200
        server.end()


@pytest.mark.parametrize("file", ["ca.crt", "ca.key"])
def test_a_damaged_authority_is_named(file: str) -> None:
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        server = SecureServer(Path(directory))
        assert server.authority
        (server.directory / "pki" / file).write_text("x")
        status, said = server.refusal()
        assert status == 1
        assert said.startswith("netlab-apiserver: the cluster's certificate authority in ")
        assert file in said
        assert said.count("\n") == 1


def test_a_server_without_an_authority_has_no_credentials_to_give(server: Server) -> None:
    with pytest.raises(ApiError) as refused:
        BlockingClient(server.socket).request("POST", CREDENTIALS)
    assert refused.value.code == 404
