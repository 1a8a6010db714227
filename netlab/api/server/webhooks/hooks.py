"""Which webhooks a request concerns: pure (apiserver pkg/admission/plugin/webhook/generic and predicates)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from netlab.api import selectors
from netlab.api.admission_types import RuleWithOperations, Webhook, WebhookConfiguration
from netlab.api.resources import NAMESPACES, Resource
from netlab.api.selectors import Selector
from netlab.api.server.admission.attributes import Attributes
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.watch import Stored

_ANY = "*"


@dataclasses.dataclass(frozen=True)
class Hook:
    """A webhook of a configuration."""

    spec: Webhook
    mutates: bool
    namespaces: Selector
    objects: Selector

    @property
    def name(self) -> str:
        """As refusals call it."""
        return self.spec.name

    def is_about(self, resource: Resource[Any], subresource: str, operation: str = "") -> bool:
        """Whether a rule names a resource, a part of it, and what is done with it (empty: anything)."""
        return any(_names(rule, resource, subresource, operation) for rule in self.spec.rules)


def read(configurations: Iterable[Stored], *, mutate: bool) -> list[Hook]:
    """The webhooks of stored configurations, in upstream's order: by the names of configurations, as listed."""
    found = []
    for stored in sorted(configurations, key=lambda each: each.name):
        for spec in msgspec.json.decode(stored.raw, type=WebhookConfiguration).webhooks:
            both = (selectors.from_label_selector(each) for each in (spec.namespaceSelector, spec.objectSelector))
            found.append(Hook(spec, mutate, *both))
    return found


def _names(rule: RuleWithOperations, resource: Resource[Any], subresource: str, operation: str) -> bool:
    return (
        (not operation or _has(rule.operations, operation))
        and _has(rule.apiGroups, resource.group)
        and _has(rule.apiVersions, resource.version)
        and rule.scope in (_ANY, "Namespaced" if resource.namespaced else "Cluster")
        and any(_is_of(each, resource.plural, subresource) for each in rule.resources)
    )


def _has(listed: Sequence[str], wanted: str) -> bool:
    return _ANY in listed or wanted in listed


def _is_of(named: str, plural: str, subresource: str) -> bool:
    whole, _, part = named.partition("/")
    return whole in (_ANY, plural) and part in (_ANY, subresource)


def version_for(
    hook: Hook,
    attributes: Attributes,
    versions: Sequence[Resource[Any]],
    labels_of: Callable[[str], Mapping[str, str]],
) -> Resource[Any] | None:
    """In which of a resource's versions a webhook is to see a request; None: it is not asked.

    The first version is the request's own. `labels_of` gives the labels of a namespace.
    """
    place = attributes.subresource, attributes.operation.value
    if hook.spec.matchPolicy != "Equivalent":
        versions = versions[:1]
    found = next((each for each in versions if hook.is_about(each, *place)), None)
    if found is None:
        return None
    own = attributes.resource is NAMESPACES
    if attributes.namespace or own:
        changed = own and attributes.obj and not attributes.subresource
        labels = _labels(attributes.obj) if changed else labels_of(attributes.name if own else attributes.namespace)
        if not hook.namespaces.matches(labels):
            return None
    objects = [each for each in (attributes.obj, attributes.old) if each]
    if hook.objects.requirements and not any(hook.objects.matches(_labels(each)) for each in objects):
        return None
    return found


def _labels(obj: JSONObject) -> dict[str, str]:
    return obj.get("metadata", {}).get("labels") or {}
