"""How the cluster's own rules are written down."""

from __future__ import annotations

from netlab.api.server.objects.schema import JSONObject

Rule = JSONObject


def rule(verbs: tuple[str, ...] | str, group: str, *resources: str, names: tuple[str, ...] = ()) -> Rule:
    """What may be done with resources of a group; with `names`, with these objects alone."""
    listed = [verbs] if isinstance(verbs, str) else list(verbs)
    made: Rule = {"verbs": listed, "apiGroups": [group], "resources": list(resources)}
    return made | ({"resourceNames": list(names)} if names else {})


def paths(*urls: str) -> Rule:
    """What may be read that is no resource."""
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


EVENTS = (
    rule(("create", "patch", "update"), "", "events"),
    rule(("create", "patch", "update"), "events.k8s.io", "events"),
)
"""Every component tells what it does."""
