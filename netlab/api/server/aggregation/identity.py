"""How this server shows itself, and whom it asks for, to servers of other API groups.

As upstream's authenticating proxy (apiserver pkg/authentication/request/headerrequest): a certificate of an authority
for that purpose alone, and headers. Such servers read in a ConfigMap which authority and which headers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from netlab.api.errors import ApiError
from netlab.api.resources import CONFIGMAPS, Resource
from netlab.api.server import refusals
from netlab.api.server.access.authority import Authority
from netlab.api.server.access.policy import AUTHENTICATION_CONFIG, SYSTEM_NAMESPACE
from netlab.api.server.connect.forwarding import Header
from netlab.api.server.identity import User
from netlab.api.server.registry.generic import Registry

CLIENT = "front-proxy-client"
"""The name in the server's certificate."""

_USER, _UID, _GROUP, _EXTRA = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group", "X-Remote-Extra-"

_CONFIGMAPS: Resource[Any] = CONFIGMAPS

log = logging.getLogger(__name__)


def publish(registry: Registry, authority: Authority) -> None:
    """Keep the ConfigMap as it is to be (clusterauthenticationtrust)."""
    data = {
        "client-ca-file": authority.certificate.decode("ascii"),
        "requestheader-client-ca-file": authority.front_proxy.certificate.decode("ascii"),
        "requestheader-allowed-names": _listed(CLIENT),
        "requestheader-username-headers": _listed(_USER),
        "requestheader-uid-headers": _listed(_UID),
        "requestheader-group-headers": _listed(_GROUP),
        "requestheader-extra-headers-prefix": _listed(_EXTRA),
    }
    wanted = {"metadata": {"name": AUTHENTICATION_CONFIG}, "data": data}
    stored = registry.store.get(_CONFIGMAPS, SYSTEM_NAMESPACE, AUTHENTICATION_CONFIG)
    try:
        if stored is None:
            registry.create(_CONFIGMAPS, SYSTEM_NAMESPACE, wanted)
        elif (present := stored.decode()).get("data") != data:
            registry.update(_CONFIGMAPS, SYSTEM_NAMESPACE, AUTHENTICATION_CONFIG, present | {"data": data})
    except ApiError as error:
        log.warning("ConfigMap %s/%s: %s", SYSTEM_NAMESPACE, AUTHENTICATION_CONFIG, error)


def _listed(name: str) -> str:
    return msgspec.json.encode([name]).decode()


def headers(user: User) -> list[Header]:
    """The headers that say who a user is. Raises `ApiError` (400) for one whose name does not fit into a header."""
    found = [(name.encode(), value.encode()) for name, value in _pairs(user)]
    if any(byte < 0x20 or byte == 0x7F for _, value in found for byte in value):
        raise refusals.bad_request("who asks has a name, a group or an extra with characters that no header has")
    return found


def _pairs(user: User) -> Iterator[tuple[str, str]]:
    yield _USER, user.name
    if user.uid:
        yield _UID, user.uid
    for group in user.groups:
        yield _GROUP, group
    for key, values in user.extra.items():
        for value in values:
            yield _EXTRA + quote(key, safe=""), value
