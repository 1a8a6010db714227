"""Role-based access control: pure functions over rules (plugin/pkg/auth/authorizer/rbac of upstream)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from netlab.api.rbac_types import PolicyRule

ALL = "*"

READING = ("get", "list", "watch")


@dataclasses.dataclass(frozen=True)
class Action:
    """What is to be done: with a resource, or, if `path` is set, with a path that names none."""

    verb: str
    namespace: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    """What the field selector of a list, a watch or a deletion demands to be equal."""

    @property
    def qualified_resource(self) -> str:
        """The resource as rules name it, with its subresource."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def allows(rule: PolicyRule, action: Action) -> bool:
    """Whether a rule allows an action."""
    if not _has(rule.verbs, action.verb):
        return False
    if action.path:
        return any(_covers_path(url, action.path) for url in rule.nonResourceURLs)
    return (
        _has(rule.apiGroups, action.group)
        and any(_covers_resource(each, action.resource, action.subresource) for each in rule.resources)
        and (not rule.resourceNames or action.name in rule.resourceNames)
    )


def _has(listed: Sequence[str], wanted: str) -> bool:
    return ALL in listed or wanted in listed


def _covers_path(url: str, path: str) -> bool:
    return url == path or (url.endswith(ALL) and path.startswith(url[:-1]))


def _covers_resource(listed: str, resource: str, subresource: str) -> bool:
    if listed == ALL:
        return True
    if not subresource:
        return listed == resource
    return listed in (f"{resource}/{subresource}", f"{ALL}/{subresource}")


def not_covered(held: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The parts of the wanted rules, one verb of one thing each, that no held rule gives."""
    owned = list(held)
    return [part for rule in wanted for part in _parts(rule) if not any(_gives(each, part) for each in owned)]


def _parts(rule: PolicyRule) -> Iterator[PolicyRule]:
    for verb, url in itertools.product(rule.verbs, rule.nonResourceURLs):
        yield PolicyRule(verbs=[verb], nonResourceURLs=[url])
    for verb, group, resource in itertools.product(rule.verbs, rule.apiGroups, rule.resources):
        for names in [[name] for name in rule.resourceNames] or [[]]:
            yield PolicyRule(verbs=[verb], apiGroups=[group], resources=[resource], resourceNames=names)


def _gives(rule: PolicyRule, part: PolicyRule) -> bool:
    if not _has(rule.verbs, part.verbs[0]):
        return False
    if part.nonResourceURLs:
        url = part.nonResourceURLs[0]
        return any(_covers_path(each, url) for each in rule.nonResourceURLs)
    resource, _, subresource = part.resources[0].partition("/")
    names = not rule.resourceNames or (bool(part.resourceNames) and part.resourceNames[0] in rule.resourceNames)
    return (
        _has(rule.apiGroups, part.apiGroups[0])
        and names
        and any(each == part.resources[0] or _covers_resource(each, resource, subresource) for each in rule.resources)
    )


def shown(rule: PolicyRule) -> str:
    """A rule as upstream shows one that is refused."""
    fields = [
        ("APIGroups", rule.apiGroups),
        ("Resources", rule.resources),
        ("ResourceNames", rule.resourceNames),
        ("NonResourceURLs", rule.nonResourceURLs),
        ("Verbs", rule.verbs),
    ]
    listed = ", ".join(f"{name}:[{' '.join(_quoted(values))}]" for name, values in fields if values)
    return f"{{{listed}}}"


def _quoted(values: Iterable[str]) -> Iterator[str]:
    return (f'"{value}"' for value in values)
