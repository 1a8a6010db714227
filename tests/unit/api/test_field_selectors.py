from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import ALL, NODES, PODS, Resource
from netlab.api.server.objects.field_selectors import parse, read
from netlab.errors import UsageError

_PODS: Resource[Any] = PODS

_POD = {"metadata": {"name": "a,b", "namespace": "default"}, "spec": {"nodeName": "node-1"}, "status": {}}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("spec.nodeName=node-1", True),
        ("spec.nodeName==node-2", False),
        ("spec.nodeName!=node-2,metadata.namespace=default", True),
        ("status.phase=", True),
        ("status.phase!=", False),
        ("spec.nodeName=", False),
        ("spec.hostNetwork=false", True),
        (r"metadata.name=a\,b", True),
        (r"metadata.name=a\,b,spec.nodeName=x", False),
    ],
)
def test_pods_by_field(text: str, selected: bool) -> None:
    assert parse(text, _PODS).matches(read(_POD, PODS.collection, b"")) is selected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("spec.nodeName", "can't understand"),
        ("spec.image=x", "field label not supported: spec.image"),
        ("=x", "can't understand"),
    ],
)
def test_a_selector_that_cannot_be_served(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, _PODS)
    assert complaint in str(refused.value)


def test_truth_values_are_text() -> None:
    node = {"metadata": {"name": "n"}, "spec": {"unschedulable": True}}
    assert read(node, NODES.collection, b"")["spec.unschedulable"] == "true"


@pytest.mark.parametrize("resource", ALL, ids=lambda each: each.plural)
def test_every_kind_is_selected_by_its_name(resource: Resource[Any]) -> None:
    assert parse("metadata.name=x", resource).terms
