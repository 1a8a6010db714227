"""Secrets."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from netlab.api.config_types import Secret
from netlab.api.server.objects.problems import Problems

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LARGEST = 1024 * 1024
"""Bytes of a Secret's values (v1.MaxSecretSize)."""

_REQUIRED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""The keys that a type of Secret has."""

_ACCOUNT = "kubernetes.io/service-account.name"


def secret(new: Secret, problems: Problems) -> None:
    """v1.Secret."""
    size, values = 0, {}
    for key, value in new.data.items():
        path = f"data[{key}]"
        if not _KEY.fullmatch(key) or key == "." or key.startswith(".."):
            problems.invalid(path, key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'")
        try:
            values[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            problems.invalid(path, "", "must be base64")
        else:
            size += len(values[key])
    if size > _LARGEST:
        problems.too_long("data", _LARGEST)
    for key in _REQUIRED.get(new.type, ()):
        if key not in new.data:
            problems.required(f"data[{key}]")
        elif key.startswith(".docker") and not _is_json(values.get(key, b"")):
            problems.invalid(f"data[{key}]", "<secret contents redacted>", "invalid character")
    if new.type == "kubernetes.io/basic-auth" and not {"username", "password"} & new.data.keys():
        problems.required("data[username]")
        problems.required("data[password]")
    if new.type == "kubernetes.io/service-account-token" and not new.metadata.annotations.get(_ACCOUNT):
        problems.required(f"metadata.annotations[{_ACCOUNT}]")


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError:
        return False
    return True


def secret_update(new: Secret, old: Secret, problems: Problems) -> None:
    """Its type never changes; one that is immutable stays as it is."""
    problems.unchanged("type", new.type, old.type)
    if not old.immutable:
        return
    if not new.immutable:
        problems.forbidden("immutable", "field is immutable when `immutable` is set")
    if new.data != old.data:
        problems.forbidden("data", "field is immutable when `immutable` is set")
