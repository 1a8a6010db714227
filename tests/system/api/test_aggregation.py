"""A version of an API group that another server has: passed on to it over TLS, and told of in discovery."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netlab.api.blocking import BlockingClient
from netlab.api.server.access.certificates import CertificateAuthority, Signed
from tests.sandbox import isolated
from tests.system.api.secured import SecureServer, serving_securely

_ADDRESS, _PORT = "10.9.9.9", 8443
_PATH = "/apis/wardle.example.com/v1alpha1"
_NAME = "v1alpha1.wardle.example.com"
_REGISTRY = "/apis/apiregistration.k8s.io/v1/apiservices"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_LIST = {
    "kind": "APIResourceList",
    "groupVersion": "wardle.example.com/v1alpha1",
    "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["list"]}
    ],
}
_ANSWERS: dict[str, Any] = {
    _PATH: _LIST,
    "/openapi/v3": {"paths": {_PATH[1:]: {"serverRelativeURL": f"/openapi/v3{_PATH}?hash=ABC"}}},
    f"/openapi/v3{_PATH}": {"openapi": "3.0.0", "info": {"title": "wardle"}},
    "/openapi/v2": {
        "swagger": "2.0",
        "paths": {f"{_PATH}/flunders": {}},
        "definitions": {"Flunder": {"type": "object"}},
    },
}


class _Handler(http.server.BaseHTTPRequestHandler):
    """As an extension API server: its documents, and otherwise what was sent to it."""

    protocol_version = "HTTP/1.1"
    is_ill = False

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if _Handler.is_ill:
            self._send(500, {})
        elif "watch=1" in query:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(2):
                line = json.dumps({"type": "ADDED", "object": {"n": number}}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._send(200, _ANSWERS.get(path) or self._echo(b""))

    def do_POST(self) -> None:
        self._send(201, self._echo(self.rfile.read(int(self.headers["Content-Length"]))))

    def _echo(self, body: bytes) -> dict[str, Any]:
        connection: Any = self.connection
        subject = [pair for part in connection.getpeercert()["subject"] for pair in part]
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        return {"path": self.path, "headers": headers, "client": dict(subject)["commonName"], "body": body.decode()}

    def _send(self, status: int, content: dict[str, Any]) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _serve(signed: Signed, clients: bytes) -> None:
    """Serve in a thread, for clients of an authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=clients.decode())
    with tempfile.NamedTemporaryFile() as file:
        file.write(signed.certificate + signed.key)
        file.flush()
        context.load_cert_chain(file.name)
    server = http.server.ThreadingHTTPServer((_ADDRESS, _PORT), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _registered(**spec: Any) -> dict[str, Any]:
    service = {"namespace": "default", "name": "wardle", "port": 7443}
    fields = {"group": "wardle.example.com", "version": "v1alpha1", "service": service}
    return {"metadata": {"name": _NAME}, "spec": fields | {"groupPriorityMinimum": 2000, "versionPriority": 200} | spec}


def _until(found: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + 60
    while (present := found()) != wanted:
        assert time.monotonic() < deadline, present
        time.sleep(0.02)


class _Aggregating:
    """A server of the test's own, and the server that it passes requests on to."""

    def __init__(self, server: SecureServer, directory: Path) -> None:
        self.server = server
        self.owner = BlockingClient(server.socket)
        self.authority = CertificateAuthority(directory / "wardle", "wardle")
        self.bundle = base64.b64encode(self.authority.certificate).decode()

    def told(self) -> tuple[str, str]:
        """The status and the reason of the condition Available."""
        obj = self.owner.request("GET", f"{_REGISTRY}/{_NAME}")
        conditions = obj.get("status", {}).get("conditions", [{}])
        return conditions[0].get("status", ""), conditions[0].get("reason", "")

    def change(self, change: dict[str, Any]) -> None:
        present = self.owner.request("GET", f"{_REGISTRY}/{_NAME}")
        present["spec"] = {key: value for key, value in (present["spec"] | change).items() if value is not None}
        self.owner.request("PUT", f"{_REGISTRY}/{_NAME}", present)

    def make_service(self) -> None:
        ports = {"ports": [{"port": 7443, "targetPort": _PORT, "name": "api"}]}
        self.owner.request(
            "POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "wardle"}, "spec": ports}
        )

    def make_endpoints(self) -> None:
        labels = {"kubernetes.io/service-name": "wardle"}
        slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        endpoints = {"endpoints": [{"addresses": [_ADDRESS]}], "ports": [{"name": "api", "port": _PORT}]}
        listed = {"metadata": {"name": "wardle", "labels": labels}, "addressType": "IPv4"} | endpoints
        self.owner.request("POST", slices, listed)


@isolated
def test_another_servers_api() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory() as directory, serving_securely() as server:
        _try(_Aggregating(server, Path(directory)))


def _try(it: _Aggregating) -> None:
    admin = it.server.authority.issue_client("ann", ["system:masters", "team"])
    config = it.owner.request("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")[
        "data"
    ]
    assert config["client-ca-file"].encode() == it.server.authority.certificate
    proxies = config["requestheader-client-ca-file"].encode()
    assert json.loads(config["requestheader-allowed-names"]) == ["front-proxy-client"]
    local = it.owner.request("GET", f"{_REGISTRY}/v1.apps")
    assert (local["spec"].get("service"), local["status"]["conditions"][0]["reason"]) == (None, "Local")

    # Why it is not available, one after the other.
    it.owner.request("POST", _REGISTRY, _registered(caBundle=it.bundle))
    _until(it.told, ("False", "ServiceNotFound"))
    assert it.server.ask(f"{_PATH}/flunders", signed=admin)[0] == 503
    it.make_service()
    _until(it.told, ("False", "EndpointsNotFound"))
    it.make_endpoints()
    _until(it.told, ("False", "FailedDiscoveryCheck"))  # nobody listens
    _serve(it.authority.issue_server(["wardle.default.svc"]), proxies)
    _until(it.told, ("True", "Passed"))
    it.change({"caBundle": base64.b64encode(proxies).decode()})  # another authority's
    _until(it.told, ("False", "FailedDiscoveryCheck"))
    it.change({"caBundle": "eA=="})
    _until(it.told, ("False", "FailedDiscoveryCheck"))
    it.change({"caBundle": None, "insecureSkipTLSVerify": True})
    _until(it.told, ("True", "Passed"))
    it.change({"caBundle": it.bundle, "insecureSkipTLSVerify": None})
    _until(it.told, ("True", "Passed"))

    _try_requests(it, admin)
    _try_documents(it, admin)

    _Handler.is_ill = True
    it.change({"versionPriority": 400})
    _until(it.told, ("False", "FailedDiscoveryCheck"))
    status, answer = it.server.ask(f"{_PATH}/flunders", signed=admin)
    assert (status, answer["reason"], answer["message"]) == (503, "ServiceUnavailable", "service unavailable")
    stale = it.server.ask("/apis", signed=admin, headers={"Accept": _AGGREGATED})[1]["items"]
    assert (
        next(each for each in stale if each["metadata"]["name"] == "wardle.example.com")["versions"][0]["freshness"]
        == "Stale"
    )
    it.owner.request("DELETE", f"{_REGISTRY}/{_NAME}")
    assert it.server.ask(f"{_PATH}/flunders", signed=admin)[0] == 404
    assert it.server.ask("/apis/wardle.example.com", signed=admin)[0] == 404


def _try_requests(it: _Aggregating, admin: Signed) -> None:
    sent = {"X-Remote-User": "root", "X-Remote-Group": "system:masters", "X-Own": "1"}
    path = f"{_PATH}/namespaces/default/flunders?a=%2Fb"
    status, answer = it.server.ask(path, "POST", signed=admin, body={"kind": "Flunder"}, headers=sent)
    assert (status, answer["path"], answer["client"], answer["body"]) == (
        201,
        path,
        "front-proxy-client",
        '{"kind":"Flunder"}',
    )
    headers = answer["headers"]
    assert [value for name, value in headers if name == "x-remote-user"] == ["ann"]
    groups = [value for name, value in headers if name == "x-remote-group"]
    assert groups == ["system:masters", "team", "system:authenticated"]
    assert ["x-own", "1"] in headers
    status, answer = it.server.ask(f"{_PATH}/flunders?watch=1", signed=admin)
    assert [json.loads(line)["object"]["n"] for line in answer.splitlines()] == [0, 1]
    # Whether it may be asked at all is this server's matter.
    nobody = it.server.authority.issue_client("bob", [])
    assert it.server.ask(f"{_PATH}/flunders", signed=nobody)[0] == 403
    assert it.server.ask(f"{_PATH}/flunders")[0] == 401


def _try_documents(it: _Aggregating, admin: Signed) -> None:
    def ask(path: str, accept: str = "application/json") -> Any:
        status, answer = it.server.ask(path, signed=admin, headers={"Accept": accept})
        assert status == 200, answer
        return answer

    listed = next(each for each in ask("/apis")["groups"] if each["name"] == "wardle.example.com")
    assert listed["preferredVersion"]["version"] == "v1alpha1"
    assert ask("/apis/wardle.example.com")["versions"][0]["groupVersion"] == "wardle.example.com/v1alpha1"
    assert ask(_PATH) == _LIST
    group = next(
        each for each in ask("/apis", _AGGREGATED)["items"] if each["metadata"]["name"] == "wardle.example.com"
    )
    (version,) = group["versions"]
    assert (version["freshness"], version["resources"][0]["resource"]) == ("Current", "flunders")
    url = ask("/openapi/v3")["paths"][_PATH[1:]]["serverRelativeURL"]
    assert url == f"/openapi/v3{_PATH}?hash=ABC"
    assert ask(url)["info"] == {"title": "wardle"}
    whole = ask("/openapi/v2")
    assert (f"{_PATH}/flunders" in whole["paths"], "Flunder" in whole["definitions"]) == (True, True)
    assert "/api/v1/pods" in whole["paths"]
