"""Who makes a request (authentication/user.Info)."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from typing import Any

MASTERS = "system:masters"
"""The group that may do everything."""
NODES = "system:nodes"
"""The group of kubelets."""
_NODE = "system:node:"
AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


@dataclasses.dataclass(frozen=True)
class User:
    """A user as authentication finds it: who it is, and which groups it is in."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def node(self) -> str | None:
        """The node whose kubelet this is; None if it is none, "" if it does not say which (nodeidentifier)."""
        if NODES not in self.groups:
            return None
        return self.name.removeprefix(_NODE) if self.name.startswith(_NODE) else ""


def kubelet(node: str) -> User:
    """The kubelet of a node."""
    return User(f"{_NODE}{node}", (NODES, AUTHENTICATED))


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))

OWNER = User("kubernetes-admin", (MASTERS, AUTHENTICATED))
"""Who may open the lab's own socket; also the identity in a lab's kubeconfig, with kubeadm's name."""


def of_certificate(connection: ssl.SSLObject) -> User | None:
    """The user whom a verified client certificate names: its CN, and as groups its O; None without a certificate."""
    certificate = connection.getpeercert()
    if not certificate:
        return None
    subject: Any = certificate["subject"]
    pairs = [pair for part in subject for pair in part]
    names = [value for kind, value in pairs if kind == "commonName"]
    if len(names) != 1:
        return None
    groups = [value for kind, value in pairs if kind == "organizationName"]
    return User(names[0], tuple(dict.fromkeys([*groups, AUTHENTICATED])))
