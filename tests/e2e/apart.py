"""A cluster without nodes, in processes of its own: etcd, an API server over TLS, scheduler and controllers.

python -m tests.e2e.apart SOCKET PKI      its scheduler and controllers
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from netlab.api.blocking import BlockingClient
from netlab.api.endpoint import Endpoint
from netlab.api.resources import CREDENTIALS
from netlab.controlplane.manager import ControlPlaneConfig, Endpoints, run
from netlab.errors import NetlabError
from tests import etcd

ADDRESS, PORT = "203.0.113.1", 6443


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Path]:
    """Such a cluster, whose API server listens at ADDRESS and PORT; the administrator's kubeconfig."""
    socket, config, kubeconfig = directory / "api.sock", directory / "api.json", directory / "config"
    places = {"directory": str(directory / "pki"), "socket": str(directory / "tls.sock")}
    secure = places | {"names": [], "advertise": [ADDRESS], "port": PORT}
    config.write_text(json.dumps({"serviceCIDRs": ["10.96.0.0/16"], "secure": secure}))
    with etcd.running() as store, (directory / "log").open("ab") as log, contextlib.ExitStack() as stack:
        argv = ["netlab.api.server", "--socket", str(socket), "--database", str(directory / "db")]
        argv += ["--etcd", store.url, "--config", str(config)]
        for module in (argv, ["tests.e2e.apart", str(socket), str(directory / "pki")]):
            process = subprocess.Popen([sys.executable, "-m", *module], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            _until_answered(socket, process)
        issued = BlockingClient(socket).request("POST", CREDENTIALS)
        kubeconfig.write_text(yaml.safe_dump(config_of(issued)))
        yield kubeconfig


def config_of(issued: dict[str, str]) -> dict[str, object]:
    """A kubeconfig for who holds these."""
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in issued.items()}
    cluster = {"server": f"https://{ADDRESS}:{PORT}", "certificate-authority-data": encoded["certificateAuthority"]}
    user = {"client-certificate-data": encoded["certificate"], "client-key-data": encoded["key"]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "apart", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "admin", "context": {"cluster": "apart", "user": "admin"}}],
        "current-context": "admin",
    }


def _until_answered(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(NetlabError):
            BlockingClient(socket).request("GET", "/api/v1/namespaces/default")
            return
        time.sleep(0.05)
    raise AssertionError(f"it does not answer: {(socket.parent / 'log').read_text()}")


if __name__ == "__main__":
    api = Endpoint.of_socket(Path(sys.argv[1]))
    control_plane = ControlPlaneConfig(cluster_cidrs=["10.244.0.0/16"], authority=Path(sys.argv[2]))
    asyncio.run(run(Endpoints(api, api), control_plane))
