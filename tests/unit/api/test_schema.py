from __future__ import annotations

from typing import Any

import pytest

from netlab.api.core_types import Pod, Service
from netlab.api.resources import ALL
from netlab.api.server.schema import fields_of, inspect


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (
            {"containers": [{"name": "a", "imag": "x"}]},
            'unknown field "spec.containers[0].imag" (did you mean "image"?)',
        ),
        ({"containers": [], "zzzzz": 1}, 'unknown field "spec.zzzzz"'),
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
    ],
)
def test_what_the_kind_does_not_have_is_told_with_its_path(spec: Any, complaint: str) -> None:
    findings = inspect({"metadata": {"name": "p"}, "spec": spec}, Pod)
    assert len(findings.unreadable) == 1
    assert complaint in findings.unreadable[0].message


def test_everything_wrong_is_told_at_once() -> None:
    findings = inspect({"x": 1, "metadata": {"y": 1, "labels": {"a": 2}}, "spec": {"containers": [{"z": 1}]}}, Pod)
    assert [cause.field for cause in findings.unreadable] == [
        "x",
        "metadata.y",
        "metadata.labels[a]",
        "spec.containers[0].z",
    ]
    assert [(cause.field, cause.message) for cause in findings.missing] == [
        ("spec.containers[0].name", "Required value")
    ]


def test_ignored_fields_are_reported_and_not_looked_into() -> None:
    pod = {"spec": {"volumes": [{"anything": {"goes": 1}}], "containers": [{"name": "a", "resources": {}}]}}
    findings = inspect(pod, Pod)
    assert (findings.unreadable, findings.missing) == ([], [])
    assert findings.ignored == ["spec.volumes", "spec.containers[0].resources"]


def test_null_means_absent() -> None:
    service: dict[str, Any] = {
        "metadata": {"labels": None, "annotations": {"a": None, "b": "c"}},
        "spec": {"ports": None, "clusterIP": "None", "selector": {"app": None}},
    }
    assert inspect(service, Service).unreadable == []
    assert service == {
        "metadata": {"annotations": {"a": "", "b": "c"}},
        "spec": {"clusterIP": "None", "selector": {"app": ""}},
    }


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
def test_every_type_has_a_shape_for_each_field(resource: Any) -> None:
    pending, seen = [resource.type], set()
    while pending:
        struct = pending.pop()
        if struct in seen:
            continue
        seen.add(struct)
        for shape in fields_of(struct).shapes.values():
            assert shape.ignored or shape.accepts
            for inner in (shape, shape.item):
                if inner is not None and inner.struct is not None:
                    pending.append(inner.struct)
