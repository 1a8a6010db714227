"""Admission by webhooks, which a server asks over TLS."""

from __future__ import annotations

import base64
import contextlib
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

import pytest

from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError
from netlab.api.server.access.certificates import CertificateAuthority
from tests.sandbox import isolated
from tests.system.api.secured import serving_securely

_ADDRESS, _PORT = "10.9.9.9", 8444
_GROUP = "/apis/admissionregistration.k8s.io/v1"
_MAPS = "/api/v1/namespaces/default/configmaps"
_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
_MERGE = "application/merge-patch+json"


class _Admitting:
    def __init__(self, owner: BlockingClient, bundle: str) -> None:
        self.owner = owner
        self._bundle = bundle

    def configure(self, kind: str, name: str, *paths: str, **fields: Any) -> None:
        """Make a configuration, in the place of one of the same name, with a webhook for each path."""
        hooks = [
            {
                "name": f"{path.strip('/').replace('/', '-')}-{number}.example.com",
                "clientConfig": {
                    "service": {"namespace": "default", "name": "hook", "path": path, "port": 8443},
                    "caBundle": self._bundle,
                },
                "rules": [_RULE if kind == "validating" else _RULE | {"operations": ["CREATE"]}],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
            | fields
            for number, path in enumerate(paths)
        ]
        place = f"{_GROUP}/{kind}webhookconfigurations"
        with contextlib.suppress(ApiError):
            self.owner.request("DELETE", f"{place}/{name}")
        self.owner.request("POST", place, {"metadata": {"name": name}, "webhooks": hooks})

    def remove(self, kind: str, name: str) -> None:
        self.owner.request("DELETE", f"{_GROUP}/{kind}webhookconfigurations/{name}")

    def make(self, name: str, query: str = "", labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
        body = {
            "metadata": {"name": name, "labels": labels or {}},
            "data": data,
        }
        made: dict[str, Any] = self.owner.request("POST", f"{_MAPS}{query}", body)
        return made


class _Handler(http.server.BaseHTTPRequestHandler):
    """Webhooks, each at a path of its own."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        judge = _JUDGES.get(self.path.partition("?")[0])
        response = {"uid": review["request"]["uid"]} | (judge(review["request"]) if judge is not None else {})
        raw = json.dumps({key: review[key] for key in ("kind", "apiVersion")} | {"response": response}).encode()
        self.send_response(404 if judge is None else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked may have given up
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _denied(why: str) -> dict[str, Any]:
    return {"allowed": False, "status": {"message": why}}


def _judged_by_data(request: dict[str, Any]) -> dict[str, Any]:
    kept = request["operation"] == "DELETE" and request["oldObject"].get("data", {}).get("mark") == "kept"
    unwanted = (request["object"] or {}).get("data", {}).get("mark") == "unwanted"
    return _denied("it is kept" if kept else "it is unwanted") if kept or unwanted else {"allowed": True}


def _patched(*operations: tuple[str, Any]) -> dict[str, Any]:
    patch = json.dumps([{"op": "add", "path": path, "value": value} for path, value in operations])
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}


def _staged(request: dict[str, Any]) -> dict[str, Any]:
    number = len(request["object"]["data"])
    return _patched((f"/data/stage-{number}", "yes"), ("/metadata/uid", "another"))


def _late(request: dict[str, Any]) -> dict[str, Any]:
    time.sleep(2)
    return {"allowed": True}


_JUDGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/data": _judged_by_data,
    "/deny": lambda _: _denied("all are denied"),
    "/label": lambda _: _patched(("/metadata/labels", {"added": "yes"})),
    "/late": _late,
    "/stage": _staged,
}


def _serve(authority: CertificateAuthority, directory: Path) -> None:
    """Serve in a thread, as long as this process lives."""
    signed = authority.issue_server(["hook.default.svc"])
    (directory / "pem").write_bytes(signed.certificate + signed.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "pem")
    server = http.server.ThreadingHTTPServer((_ADDRESS, _PORT), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@isolated
def test_webhooks_admit() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory() as name, serving_securely() as server:
        directory, owner = Path(name), BlockingClient(server.socket)
        authority = CertificateAuthority(directory / "hooks", "hooks")
        owner.request(
            "POST",
            "/api/v1/namespaces/default/services",
            {"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 8443, "targetPort": _PORT}]}},
        )
        owner.request(
            "POST",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            {
                "metadata": {"name": "hook", "labels": {"kubernetes.io/service-name": "hook"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [_ADDRESS]}],
                "ports": [{"name": "", "port": _PORT}],
            },
        )
        _serve(authority, directory)
        it = _Admitting(owner, base64.b64encode(authority.certificate).decode())
        _try_refusals(it)
        _try_changes(it)
        _try_failures(it)
        _try_selection(it)


def _refused(code: int, match: str) -> Any:
    return pytest.raises(ApiError, match=match, check=lambda error: error.code == code)


def _try_refusals(it: _Admitting) -> None:
    it.configure("validating", "a", "/data")
    with _refused(400, r'^admission webhook "data-0\.example\.com" denied the request: it is unwanted$'):
        it.make("x", mark="unwanted")
    it.make("x", mark="kept")
    with _refused(400, "unwanted"):
        it.owner.request("PATCH", f"{_MAPS}/x", {"data": {"mark": "unwanted"}}, content_type=_MERGE)
    with _refused(400, "is kept"):
        it.owner.request("DELETE", f"{_MAPS}/x")
    with _refused(400, "is kept"):
        it.owner.request("DELETE", _MAPS)
    it.remove("validating", "a")
    it.owner.request("DELETE", f"{_MAPS}/x")


def _try_changes(it: _Admitting) -> None:
    it.configure("mutating", "a", "/stage", "/stage", "/label")
    made = it.make("y", begun="yes")
    assert made["data"] == {"begun": "yes", "stage-1": "yes", "stage-2": "yes"}
    assert made["metadata"]["labels"] == {"added": "yes"}
    assert made["metadata"]["uid"] != "another"
    # What a webhook adds belongs to nobody.
    (managed,) = made["metadata"]["managedFields"]
    assert "f:stage-1" not in managed["fieldsV1"]["f:data"]
    assert it.owner.request("GET", f"{_MAPS}/y") == made
    assert it.make("dry", "?dryRun=All", begun="yes")["data"] == made["data"]
    it.owner.request("DELETE", f"{_MAPS}/y")
    # Nobody judges configurations: else nobody could undo them.
    everything = [_RULE | {"resources": ["*/*"], "apiGroups": ["*"]}]
    it.configure("mutating", "a", "/label", rules=everything)
    it.configure("mutating", "b", "/deny", rules=everything)
    listed = it.owner.request("GET", f"{_GROUP}/mutatingwebhookconfigurations")["items"]
    assert [each["metadata"].get("labels") for each in listed] == [None, None]
    it.remove("mutating", "a")
    it.remove("mutating", "b")


def _try_failures(it: _Admitting) -> None:
    failing = r'^Internal error occurred: failed calling webhook "[a-z0-9-]+\.example\.com": '
    for why, paths, fields in (
        (
            r'failed to call webhook: Post "https://hook\.default\.svc:8443/late\?timeout=1s": '
            "context deadline exceeded$",
            ["/late"],
            {"timeoutSeconds": 1},
        ),
        (".*the server answered 404", ["/nothing"], {}),
        (
            ".*certificate",
            ["/deny"],
            {"clientConfig": {"service": {"namespace": "default", "name": "hook", "port": 8443}}},
        ),
        (".*not found", ["/x"], {"clientConfig": {"service": {"namespace": "default", "name": "gone"}}}),
        (".*Connection refused", ["/x"], {"clientConfig": {"url": f"https://{_ADDRESS}:1/x"}}),
    ):
        it.configure("validating", "f", *paths, **fields)
        with _refused(500, failing + why):
            it.make("z")
        it.configure("validating", "f", *paths, **fields, failurePolicy="Ignore")
        it.make("z")
        it.owner.request("DELETE", f"{_MAPS}/z")
    it.remove("validating", "f")
    it.configure("validating", "f", "/stage")
    with _refused(500, failing + "received invalid webhook response: validating webhook may not return response.patch"):
        it.make("z", begun="yes")
    it.remove("validating", "f")


def _try_selection(it: _Admitting) -> None:
    condition = {"name": "named", "expression": "request.operation != 'CREATE' || object.metadata.name != 'spared'"}
    it.configure("validating", "s", "/deny", matchConditions=[condition])
    it.make("spared")
    with _refused(400, "all are denied"):
        it.make("other")
    it.configure("validating", "s", "/deny", matchConditions=[{"name": "n", "expression": "object.none == 1"}])
    with _refused(403, "n: "):
        it.make("other")
    selector = {"matchLabels": {"asked": "yes"}}
    it.configure("validating", "s", "/deny", objectSelector=selector)
    it.make("other")
    with _refused(400, "all are denied"):
        it.make("third", labels={"asked": "yes"})
    it.configure("validating", "s", "/deny", namespaceSelector=selector)
    it.make("third")
    namespace = "/api/v1/namespaces/default"
    labels = {"metadata": {"labels": {"asked": "yes"}}}
    it.owner.request("PATCH", namespace, labels, content_type=_MERGE)
    with _refused(400, "all are denied"):
        it.make("fourth")
    it.configure("validating", "s", "/deny", rules=[_RULE | {"operations": ["CONNECT"], "resources": ["pods/*"]}])
    it.make("fourth")
    with _refused(400, "all are denied"):
        it.owner.request("GET", f"{namespace}/pods/none/exec?command=true")
    with _refused(422, "compilation failed"):
        it.configure("validating", "t", "/x", matchConditions=[{"name": "n", "expression": "... [}"}])
    with _refused(422, "between 1 and 30 seconds"):
        it.configure("validating", "t", "/x", timeoutSeconds=31)
