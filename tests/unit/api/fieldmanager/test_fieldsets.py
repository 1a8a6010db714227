"""The algebra of sets of fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api.server.fieldmanager import fieldsets
from netlab.api.server.fieldmanager.fieldsets import FieldSet, Path

ELEMENTS = ("f:a", "f:b", 'k:{"name":"x"}', "v:1")

any_path = st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4).map(tuple)
any_paths = st.frozensets(any_path, max_size=12)


def members(fields: FieldSet) -> set[Path]:
    return set(fieldsets.paths(fields))


def made(paths: Any) -> FieldSet:
    return fieldsets.of(*sorted(paths))


@given(any_paths)
def test_a_set_has_what_it_was_made_of(paths: frozenset[Path]) -> None:
    fields = made(paths)
    assert members(fields) == paths
    assert len(list(fieldsets.paths(fields))) == len(paths)
    assert all(fieldsets.has(fields, path) for path in paths)
    assert fieldsets.read(fields) == fields == fieldsets.ordered(fields)


@given(any_paths, any_paths)
def test_the_operations_are_those_of_sets(one: frozenset[Path], other: frozenset[Path]) -> None:
    first, second = made(one), made(other)
    before = fieldsets.ordered(first), fieldsets.ordered(second)
    assert members(fieldsets.union(first, second)) == one | other
    assert members(fieldsets.intersection(first, second)) == one & other
    assert members(fieldsets.difference(first, second)) == one - other
    beyond = {path for path in one if not any(path[: len(each)] == each for each in other)}
    assert members(fieldsets.without(first, second)) == beyond
    assert (first, second) == before, "an argument was changed"


@given(any_paths, any_paths)
def test_each_set_has_one_form(one: frozenset[Path], other: frozenset[Path]) -> None:
    """So that equal sets are equal trees: a member without branches is empty, and no branch leads nowhere."""
    first, second = made(one), made(other)
    assert fieldsets.union(first, second) == made(one | other)
    assert fieldsets.intersection(first, second) == made(one & other)
    assert fieldsets.difference(first, second) == made(one - other)


@given(any_paths)
def test_what_takes_nothing_away_returns_the_set_itself(paths: frozenset[Path]) -> None:
    fields = made(paths)
    assert fieldsets.difference(fields, {"f:none": {}}) is fields


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:spec", "f:containers", 'k:{"name":"web"}', "f:image"), '.spec.containers[name="web"].image'),
        (("f:ports", 'k:{"containerPort":80,"protocol":"TCP"}'), '.ports[containerPort=80,protocol="TCP"]'),
        (("f:metadata", "f:finalizers", 'v:"a/b"'), '.metadata.finalizers[="a/b"]'),
        (("f:data", "i:3"), ".data[3]"),
    ],
)
def test_a_path_reads_as_upstream_writes_it(path: Path, text: str) -> None:
    assert fieldsets.text(path) == text


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({'k:{"protocol": "TCP", "port":80}': {}}, {'k:{"port":80,"protocol":"TCP"}': {}}),
        ({'v:"a\\u0026b"': {}}, {'v:"a&b"': {}}),
        ({"f:a": {".": {}, "f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}),
        ({"x:of the future": {}, "f:a": {}}, {"f:a": {}}),
        ({"i:03": {}}, {"i:3": {}}),
    ],
)
def test_what_clients_send_is_read_into_one_form(sent: FieldSet, read: FieldSet) -> None:
    assert fieldsets.read(sent) == read


@pytest.mark.parametrize("sent", [[], {"f": {}}, {"k:{": {}}, {"k:1": {}}, {"i:x": {}}, {"f:a": []}])
def test_what_is_no_set_is_refused(sent: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are for the log of nobody
        fieldsets.read(sent)
