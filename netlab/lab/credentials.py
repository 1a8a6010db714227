"""The identity of each component for the API: a token in a file of its own, new at every start of the lab.

The API server knows the tokens' digests alone. A machine of the lab sees the files of its own components.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from netlab import files
from netlab.lab.paths import FABRIC, LabPaths
from netlab.lab.spec import Join, LabSpec

if TYPE_CHECKING:
    from netlab.api.endpoint import Endpoint

CONTROLLER_MANAGER, SCHEDULER, KUBE_PROXY, KUBELET, NETWORK, SPEAKER = (
    *("controller-manager", "scheduler", "kube-proxy", "kubelet", "network", "speaker"),
)
"""The names of the files."""

GATEWAY = ("127.0.0.1", 6443)
"""Where the components of a node that has joined another cluster reach its API server."""
SERVER_CA, CLIENT_CA, SERVING = "server-ca.crt", "client-ca.crt", "serving"
"""Of such a node: who signs that API server's certificate, who those of the kubelet's clients; its own as a server."""


class _Holder(NamedTuple):
    machine: str
    component: str
    user: str
    groups: tuple[str, ...] = ()


def _holders(spec: LabSpec) -> Iterator[_Holder]:
    yield _Holder(FABRIC, CONTROLLER_MANAGER, "system:kube-controller-manager")
    yield _Holder(FABRIC, SCHEDULER, "system:kube-scheduler")
    for node in spec.node_names:
        yield _Holder(node, KUBELET, f"system:node:{node}", ("system:nodes",))
        yield _Holder(node, KUBE_PROXY, "system:kube-proxy")
        yield _Holder(node, NETWORK, "system:netlab-network")
        yield _Holder(node, SPEAKER, "system:netlab-speaker")


def make(paths: LabPaths, spec: LabSpec) -> dict[str, dict[str, object]]:
    """Write the tokens, in the place of earlier ones; who each one's holder is, by its digest. Raises `OSError`."""
    shutil.rmtree(paths.credentials, ignore_errors=True)
    users: dict[str, dict[str, object]] = {}
    for holder in _holders(spec):
        token = secrets.token_urlsafe(32)
        path = of(paths, holder.machine, holder.component)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(path, token)
        digest = hashlib.sha256(token.encode()).hexdigest()
        users[digest] = {"name": holder.user, "groups": list(holder.groups)}
    return users


def of(paths: LabPaths, machine: str, component: str) -> Path:
    """The file of a component's token."""
    return paths.credentials_of(machine) / component


def certificate_of(paths: LabPaths, joins: Join, holder: str) -> tuple[Path, Path]:
    """The files of a certificate, and of its key, of a node that has joined another cluster."""
    directory = paths.credentials_of(joins.node)
    return directory / f"{holder}.crt", directory / f"{holder}.key"


def joined_client_ca(paths: LabPaths, joins: Join) -> str:
    """Who signs the certificates of the kubelet's clients. Raises `OSError`."""
    return (paths.credentials_of(joins.node) / CLIENT_CA).read_text(encoding="ascii")


def joined_endpoint(paths: LabPaths, joins: Join, component: str) -> Endpoint:
    """How a component of such a node reaches its API server: by its gateway, and TLS from end to end."""
    from netlab.api.credentials import File, Stored
    from netlab.api.endpoint import Endpoint, Trust
    from netlab.net.addresses import host_port

    holder = KUBELET if component == KUBELET else KUBE_PROXY
    certificate, key = certificate_of(paths, joins, holder)
    authority = paths.credentials_of(joins.node) / SERVER_CA
    trust = Trust(File(authority, "certificate-authority") if authority.exists() else None, True, joins.serverName)
    url = f"https://{host_port(*GATEWAY)}{urlsplit(joins.url).path}"
    stored = Stored(certificate=File(certificate, "client-certificate"), key=File(key, "client-key"))
    return Endpoint(url, trust=trust, credentials=stored)
