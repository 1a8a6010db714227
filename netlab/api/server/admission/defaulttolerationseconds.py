"""Pods stay for a while on a node that fails, if they do not say otherwise (DefaultTolerationSeconds of upstream)."""

from __future__ import annotations

from netlab.api.server.admission.attributes import Attributes, Operation
from netlab.api.server.storage.store import Store

SECONDS = 300
"""How long they stay."""
_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def admit(attributes: Attributes, _: Store) -> None:
    """Give a pod the tolerations; a changed one, too, for its author has never seen them."""
    if attributes.subresource or attributes.operation is Operation.DELETE:
        return
    spec = attributes.obj["spec"]
    present = spec.get("tolerations") or []
    added = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
        for key in _KEYS
        if not any(
            (each.get("key") or key) == key and (each.get("effect") or "NoExecute") == "NoExecute" for each in present
        )
    ]
    if added:
        spec["tolerations"] = [*present, *added]
