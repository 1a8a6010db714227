"""Secrets as the server takes them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from netlab.api.resources import SECRETS
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused, update


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _secret(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}} | fields


def test_texts_become_data_and_are_not_returned(registry: Registry) -> None:
    made = create(registry, SECRETS, _secret(data={"a": _b64("1"), "b": _b64("2")}, stringData={"b": "3"}))
    assert made["data"] == {"a": _b64("1"), "b": _b64("3")}
    assert "stringData" not in made
    assert (made["type"], "generation" in made["metadata"]) == ("Opaque", False)
    assert update(registry, SECRETS, made | {"stringData": {"c": ""}})["data"]["c"] == ""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"data": {"a b": ""}}, "a valid config key must consist of"),
        ({"data": {"": ""}}, "a valid config key must consist of"),
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, "data[tls.key]: Required value"),
        ({"type": "kubernetes.io/ssh-auth"}, "data[ssh-privatekey]: Required value"),
        ({"type": "kubernetes.io/basic-auth"}, "data[username]: Required value"),
        (
            {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}},
            "data[.dockerconfigjson]",
        ),
        ({"type": "kubernetes.io/service-account-token"}, "kubernetes.io/service-account.name"),
        ({"stringData": {"a": "x" * (1024 * 1024 + 1)}}, "data: Too long"),
    ],
)
def test_what_is_refused(registry: Registry, fields: dict[str, Any], text: str) -> None:
    with refused(422, text):
        create(registry, SECRETS, _secret(**fields))


def test_what_never_changes(registry: Registry) -> None:
    made = create(registry, SECRETS, _secret(stringData={"a": "1"}, immutable=True))
    for change, field in (({"type": "other"}, "type"), ({"immutable": False}, "immutable"), ({"data": {}}, "data")):
        with refused(422, field, "field is immutable"):
            update(registry, SECRETS, made | change)
