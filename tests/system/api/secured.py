"""A server that serves TLS too, and ways to ask it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.server.access.authority import Authority
from netlab.api.server.access.certificates import Signed
from tests.system.api.serving import CONFIG, START_TIMEOUT, Server


class SecureServer(Server):
    """A server that serves TLS too."""

    def __init__(self, directory: Path, etcd_url: str | None = None) -> None:
        super().__init__(directory, etcd_url)
        self.tls = directory / "tls.sock"
        secure = {"directory": str(directory / "pki"), "socket": str(self.tls), "names": ["localhost", "127.0.0.1"]}
        self.config.write_bytes(msgspec.json.encode(CONFIG | {"secure": secure}))

    @property
    def authority(self) -> Authority:
        return Authority(self.directory / "pki")

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        signed: Signed | None = None,
        token: str = "",
        name: str = "localhost",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """The status and the answer, if the connection comes about."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if signed is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(signed.certificate + signed.key)
                file.flush()
                context.load_cert_chain(file.name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
            plain.settimeout(START_TIMEOUT)
            plain.connect(str(self.tls))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = context.wrap_socket(plain, server_hostname=name)
            with contextlib.closing(connection):
                sent = dict(headers or {}) | ({"Authorization": token} if token else {})
                if body is not None:
                    sent.setdefault("Content-Type", "application/json")
                connection.request(method, path, headers=sent, body=None if body is None else msgspec.json.encode(body))
                response = connection.getresponse()
                answer = response.read()
                is_json = "json" in response.headers.get("content-type", "")
                return response.status, msgspec.json.decode(answer) if is_json else answer


@contextlib.contextmanager
def serving_securely(etcd_url: str | None = None) -> Iterator[SecureServer]:
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        server = SecureServer(Path(directory), etcd_url)
        server.start()
        try:
            yield server
        finally:
            server.end()
