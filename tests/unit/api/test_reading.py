"""What is done about fields that a kind does not have, and about those that stand twice (fieldValidation)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.resources import DEPLOYMENTS, PODS, Resource
from netlab.api.server.objects.schema import FieldValidation, Mode
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, deployment, refused

_DEPLOYMENTS: Resource[Any] = DEPLOYMENTS
_PODS: Resource[Any] = PODS

_HEAD = '"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}'
_CONTAINERS = '"containers":[{"name":"c","image":"pause"}]'
_UNKNOWN = f'{{{_HEAD},"foo":1,"spec":{{{_CONTAINERS},"bar":2}}}}'
_TWICE = f'{{{_HEAD},"spec":{{{_CONTAINERS},"nodeName":"a","nodeName":"b"}}}}'
_BOTH = f'{{{_HEAD},"spec":{{{_CONTAINERS},"bar":2,"nodeName":"a","nodeName":"b"}}}}'

_STRICT = 'Pod in version "v1" cannot be handled as a Pod: strict decoding error: '


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (_UNKNOWN, ('unknown field "foo"', 'unknown field "spec.bar"')),
        (_TWICE, ('duplicate field "spec.nodeName"',)),
        (_BOTH, ('unknown field "spec.bar"', 'duplicate field "spec.nodeName"')),
    ],
)
def test_each_mode_of_field_validation(registry: Registry, body: str, lines: tuple[str, ...]) -> None:
    def make(mode: Mode) -> tuple[Any, tuple[str, ...]]:
        validation = FieldValidation(mode, body.encode())
        draft = registry.draft_of_new(_PODS, "default", msgspec.json.decode(body), validation)
        return draft.obj, draft.warnings

    with refused(400, _STRICT + ", ".join(lines)):
        make(Mode.STRICT)
    warned, warnings = make(Mode.WARN)
    assert warnings == lines
    ignored, warnings = make(Mode.IGNORE)
    assert warnings == ()
    for obj in (warned, ignored):
        assert "foo" not in obj
        assert "bar" not in obj["spec"]
        assert obj["spec"].get("nodeName") == ("b" if "nodeName" in body else None)


@pytest.mark.parametrize("mode", Mode)
def test_values_of_the_wrong_type_are_refused_in_every_mode(registry: Registry, mode: Mode) -> None:
    sent = {"metadata": {"name": "p"}, "spec": {"containers": "none", "bar": 1}}
    with refused(400, '"spec.containers": expected a list, got a string'):
        registry.draft_of_new(_PODS, "default", sent, FieldValidation(mode))


def test_suggestions_follow_what_was_found(registry: Registry) -> None:
    sent = {"metadata": {"name": "p"}, "spec": {"containres": [], "nodName": "a", "nothing": 1}}
    found = 'unknown field "spec.containres", unknown field "spec.nodName", unknown field "spec.nothing"'
    with refused(400, f'{_STRICT}{found} (did you mean "containers", "nodeName"?)'):
        registry.draft_of_new(_PODS, "default", sent)


def test_a_status_is_read_in_the_same_way(registry: Registry) -> None:
    made = create(registry, DEPLOYMENTS, deployment())
    stored = registry.get(_DEPLOYMENTS, "default", "d")
    sent = made | {"metadata": {"name": "d", "x": 1}, "status": {"replicas": 1, "replcias": 2}, "odd": 1}

    def change(mode: Mode) -> tuple[Any, tuple[str, ...]]:
        copied = msgspec.json.decode(msgspec.json.encode(sent))
        draft = registry.draft_of_changed(_DEPLOYMENTS, stored, copied, "status", FieldValidation(mode))
        return draft.obj, draft.warnings

    with refused(400, 'unknown field "metadata.x", unknown field "status.replcias" (did you mean "replicas"?)'):
        change(Mode.STRICT)
    obj, warnings = change(Mode.WARN)
    assert warnings == ('unknown field "metadata.x"', 'unknown field "status.replcias"')
    assert obj["status"] == {"replicas": 1}
