from __future__ import annotations

import json
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.api.admission_types import Webhook
from netlab.api.kinds import table
from netlab.api.kinds.forms import FORMS
from netlab.api.meta_types import Condition
from netlab.api.resources import ALL, PODS, SERVICES
from netlab.api.server.objects import bodies
from netlab.api.server.objects.reading import fields_of_kind
from netlab.api.server.objects.schema import Fields, fields_of, inspect
from tests.unit.api.kinds.values import objects

_POD: Fields = fields_of_kind(PODS)  # type: ignore[arg-type]
_SERVICE: Fields = fields_of_kind(SERVICES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"containers": {}}, '"spec.containers": expected a list, got an object'),
        ({"containers": [1]}, '"spec.containers[0]": expected an object, got an integer'),
        ({"containers": [None]}, '"spec.containers[0]": expected an object, got null'),
        ({"containers": [], "hostNetwork": 1}, '"spec.hostNetwork": expected true or false, got an integer'),
        ({"containers": [], "activeDeadlineSeconds": True}, "expected an integer, got true or false"),
        ({"containers": [], "activeDeadlineSeconds": 1.0}, "expected an integer, got a number"),
        ({"containers": [], "nodeSelector": {"a": 1}}, '"spec.nodeSelector[a]": expected a string, got an integer'),
        (
            {"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": []}}}]},
            '"spec.containers[0].readinessProbe.tcpSocket.port": expected a string or an integer, got a list',
        ),
        # In what nothing acts upon.
        ({"containers": [], "volumes": {}}, '"spec.volumes": expected a list, got an object'),
        ({"containers": [], "volumes": [{"emptyDir": 1}]}, '"spec.volumes[0].emptyDir": expected an object'),
        # In numbers and texts.
        ({"containers": [], "priority": 1 << 31}, '"spec.priority": the number does not fit into 32 bits'),
        ({"containers": [], "activeDeadlineSeconds": 1 << 63}, "does not fit into 64 bits"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_path(spec: Any, complaint: str) -> None:
    findings = inspect({"metadata": {"name": "p"}, "spec": spec}, _POD)
    assert len(findings.unreadable) == 1
    assert complaint in findings.unreadable[0].message


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"creationTimestamp": "2024-05-01T10:00:00Z"}, None),
        ({"creationTimestamp": "2024-05-01T10:00:00.123456789+05:30"}, None),
        ({"creationTimestamp": None}, None),
        ({"creationTimestamp": "yesterday"}, "metadata.creationTimestamp"),
        ({"creationTimestamp": "2024-02-30T10:00:00Z"}, "metadata.creationTimestamp"),
        ({"managedFields": [{"time": "now"}]}, "metadata.managedFields[0].time"),
        ({"managedFields": [{"fieldsV1": []}]}, "metadata.managedFields[0].fieldsV1"),
    ],
)
def test_times_are_times(metadata: Any, complaint: str | None) -> None:
    findings = inspect({"metadata": metadata}, _SERVICE)
    assert [cause.field for cause in findings.unreadable] == ([complaint] if complaint else [])


def test_unknown_fields_are_told_with_their_paths_and_taken_out() -> None:
    pod: dict[str, Any] = {
        "x": 1,
        "metadata": {"y": 1, "labels": {"a": 2}},
        "spec": {"volumes": [{"name": "v", "emptyDirs": {}}], "containers": [{"imag": 1}]},
    }
    findings = inspect(pod, _POD)
    assert [cause.message for cause in findings.unknown] == [
        'unknown field "x"',
        'unknown field "metadata.y"',
        'unknown field "spec.volumes[0].emptyDirs"',
        'unknown field "spec.containers[0].imag"',
    ]
    assert findings.suggestions == ['"emptyDir"', '"image"']
    assert [cause.field for cause in findings.unreadable] == ["metadata.labels[a]"]
    assert [(cause.field, cause.message) for cause in findings.missing] == [
        ("spec.containers[0].name", "Required value")
    ]
    assert pod == {"metadata": {"labels": {"a": 2}}, "spec": {"volumes": [{"name": "v"}], "containers": [{}]}}


def test_all_unknown_fields_are_taken_out_and_some_are_told() -> None:
    pod: dict[str, Any] = {"spec": {f"x{number}": 1 for number in range(1000)}}
    findings = inspect(pod, _POD)
    assert pod == {"spec": {}}
    assert len(findings.unknown) == 20


def test_fields_that_nothing_acts_upon_are_reported_once() -> None:
    pod = {
        "spec": {
            "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}],
            "containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5}}, "resizePolicy": []}],
            "initContainers": [{"name": "b", "resources": {}}],
        }
    }
    findings = inspect(pod, _POD)
    assert (findings.unreadable, findings.unknown, findings.missing) == ([], [], [])
    assert findings.ignored == [
        "spec.volumes[0].nfs",
        "spec.containers[0].resizePolicy",
    ]


def test_null_means_absent() -> None:
    service: dict[str, Any] = {
        "metadata": {"labels": None, "annotations": {"a": None, "b": "c"}},
        "spec": {"ports": None, "clusterIP": "None", "selector": {"app": None}},
    }
    assert inspect(service, _SERVICE).unreadable == []
    assert service == {
        "metadata": {"annotations": {"a": "", "b": "c"}},
        "spec": {"clusterIP": "None", "selector": {"app": ""}},
    }


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_types_can_hold_whatever_the_kind_can(resource: Any, data: st.DataObject) -> None:
    message = table.message_of(resource.api_version, resource.kind)
    assert message is not None
    obj = {"apiVersion": resource.api_version, "kind": resource.kind} | data.draw(objects(message.name))
    findings = inspect(obj, fields_of_kind(resource))
    assert (findings.unreadable, findings.unknown) == ([], [])
    if not findings.missing:
        msgspec.convert(obj, resource.type)


def test_every_form_of_its_own_has_a_shape() -> None:
    fields = [field for name in table.names() for field in table.message(name).own if field.type in FORMS]
    assert {field.type for field in fields} == set(FORMS)
    for field in fields:
        message = next(name for name in table.names() if field in table.message(name).own)
        shape = fields_of(message, None).shapes.get(field.name)
        assert shape is not None
        # A schema may stand where something else may.
        assert (shape.item or shape).make_fields is None or "JSONSchemaPropsOr" in field.type


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
def test_types_have_no_fields_of_their_own(resource: Any) -> None:
    # Conditions and webhooks are one type for several kinds, each of which has some of its fields.
    pending, seen = [(resource.type, fields_of_kind(resource))], {Condition, Webhook}
    while pending:
        struct, fields = pending.pop()
        if struct in seen:
            continue
        seen.add(struct)
        for field in msgspec.structs.fields(struct):
            shape = fields.shapes[field.encode_name]
            inner = shape.item if shape.item is not None else shape
            for each in _structs_in(field.type):
                assert inner.fields is not None
                pending.append((each, inner.fields))


def _structs_in(hint: Any) -> list[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for each in typing.get_args(hint) for struct in _structs_in(each)]


# --- fields that stand twice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"a":1,"b":{"a":1}}', []),
        (b'{ "a" : 1 , "b" : ":" }', []),
        (b'{"a":"\\u003a:","b":1}', []),
        (b'{"a":1,"a":1}', ["a"]),
        (b'{"a":1,"a":{"b":1},"a":2}', ["a"]),
        (b'{"a":"\\u003a","b":1,"b":2}', ["b"]),
        (b'{"a":1,"\\u0061":2}', ["a"]),
        (b'{"spec":{"ports":[{"port":1},{"port":1,"name":"x","port":2}]}}', ["spec.ports[1].port"]),
        (b'{"a":{"b":1},"a":{"c":1,"c":2}}', ["a", "a.c"]),
        (b"[]", []),
        (b"3", []),
    ],
)
def test_fields_that_stand_twice_are_found(body: bytes, paths: list[str]) -> None:
    assert sorted(bodies.duplicates(body, bodies.decode(body))) == paths


_KEYS = st.sampled_from(["a", "b", ":", '"', "a:b"])
_OBJECTS = st.recursive(
    st.none() | st.integers(0, 3) | st.text(':"\\a', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_KEYS, inner), max_size=4).map(tuple),
    max_leaves=12,
)
"""With tuples of pairs in the place of objects, so that a key can stand twice."""


def _written(value: Any) -> tuple[str, bool]:
    """As JSON, and whether a key stands twice in it."""
    if isinstance(value, tuple):
        pairs = [(json.dumps(key), *_written(item)) for key, item in value]
        twice = len({key for key, _ in value}) < len(value)
        return "{" + ",".join(f"{key}: {text}" for key, text, _ in pairs) + "}", twice or any(p[2] for p in pairs)
    if isinstance(value, list):
        items = [_written(item) for item in value]
        return "[" + ",".join(text for text, _ in items) + "]", any(twice for _, twice in items)
    return json.dumps(value), False


@given(_OBJECTS)
def test_a_field_that_stands_twice_is_found_wherever_it_is(value: Any) -> None:
    text, twice = _written(value)
    body = text.encode()
    assert bool(bodies.duplicates(body, bodies.decode(body))) is twice
