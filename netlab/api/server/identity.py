"""Who makes a request (authentication/user.Info)."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from typing import Any

MASTERS = "system:masters"
"""The group that may do everything."""
AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


@dataclasses.dataclass(frozen=True)
class User:
    """A user as authentication finds it: who it is, and which groups it is in."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


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
