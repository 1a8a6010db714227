"""What a namespace says about what is left in it."""

from __future__ import annotations

import pytest

from netlab.api.core_types import Pod
from netlab.api.meta_types import Condition
from netlab.controlplane.cluster import condition_of
from netlab.controlplane.namespace_conditions import Left, conditions
from tests.unit.controlplane.build import pod

FIRST, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def _held(name: str, *finalizers: str) -> Pod:
    made = pod(name)
    made.metadata.finalizers = list(finalizers)
    return made


CONTENT, FINALIZERS, FAILURE = (
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
    "NamespaceDeletionContentFailure",
)


@pytest.mark.parametrize(
    ("left", "failures", "kind", "reason", "message"),
    [
        ({}, [], CONTENT, "ContentRemoved", "All content successfully removed"),
        ({"pods.": []}, [], FINALIZERS, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        (
            {"pods.": [_held("a"), _held("b")], "jobs.batch": [_held("c")]},
            [],
            CONTENT,
            "SomeResourcesRemain",
            "Some resources are remaining: jobs.batch has 1 resource instances, pods. has 2 resource instances",
        ),
        (
            {"pods.": [_held("a", "x"), _held("b", "x", "y")]},
            [],
            FINALIZERS,
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: x in 2 resource instances, "
            "y in 1 resource instances",
        ),
        (
            {"pods.": [_held("a")]},
            ["two", "one"],
            FAILURE,
            "ContentDeletionFailed",
            "Failed to delete all resource types, 2 remaining: one, two",
        ),
    ],
)
def test_what_is_left(left: Left, failures: list[str], kind: str, reason: str, message: str) -> None:
    told = condition_of(conditions([], left, failures, FIRST), kind)
    assert told is not None
    assert (told.reason, told.message) == (reason, message)
    assert told.status == ("False" if reason.startswith("Content") and kind != FAILURE else "True")


def test_a_condition_turns_when_its_status_does() -> None:
    other = Condition(type="Mine", status="True")
    first = conditions([other], {"pods.": [_held("a"), _held("b")]}, [], FIRST)
    fewer = conditions(first, {"pods.": [_held("a")]}, [], LATER)
    none = conditions(fewer, {}, [], LATER)
    assert [other in each for each in (first, fewer, none)] == [True] * 3
    turned = [condition_of(each, CONTENT).lastTransitionTime for each in (first, fewer, none)]  # type: ignore[union-attr]
    assert turned == [FIRST, FIRST, LATER]
