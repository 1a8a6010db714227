"""The identity of each component for the API: a token in a file of its own, new at every start of the lab.

The API server knows the tokens' digests alone. A machine of the lab sees the files of its own components.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netlab import files
from netlab.lab.paths import FABRIC, LabPaths
from netlab.lab.spec import LabSpec

CONTROLLER_MANAGER, SCHEDULER, KUBE_PROXY, KUBELET, NETWORK = (
    *("controller-manager", "scheduler", "kube-proxy", "kubelet", "network"),
)
"""The names of the files."""


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
