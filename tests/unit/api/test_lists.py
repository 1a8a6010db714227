"""The options of lists and watches, and the pages of a list from one revision."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from netlab.api.resources import NODES, PODS, Resource
from netlab.api.server.registry.deletions import DeleteOptions
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest import lists, views
from netlab.api.server.storage import watch
from tests.unit.api.cluster import create, pod, refused

_PODS: Resource[Any] = PODS


def _page(registry: Registry, params: Mapping[str, str], namespace: str = "") -> tuple[list[str], views.ListMeta]:
    options = lists.read_options(_PODS, namespace, params, watch=False)
    found = lists.page(registry.store, _PODS, options)
    return [stored.name for stored in found.items], found.meta


def _fill(registry: Registry, count: int = 5) -> str:
    for number in range(count):
        create(registry, PODS, {"metadata": {"name": f"p{number}", "labels": {"odd": str(number % 2)}}} | _SPEC)
    return str(registry.store.revision)


_SPEC = {"spec": pod()["spec"]}


def test_pages_are_of_one_revision_whatever_happens_meanwhile(registry: Registry) -> None:
    revision = _fill(registry)
    names, meta = _page(registry, {"limit": "2"})
    assert (names, meta.resourceVersion, meta.remainingItemCount) == (["p0", "p1"], revision, 3)
    registry.delete(_PODS, "default", "p3", DeleteOptions())
    create(registry, PODS, pod("p21"))
    registry.update(_PODS, "default", "p4", pod("p4") | {"metadata": {"name": "p4", "labels": {"new": ""}}})
    names, meta = _page(registry, {"limit": "2", "continue": meta.more})
    assert (names, meta.resourceVersion, meta.remainingItemCount) == (["p2", "p3"], revision, 1)
    names, meta = _page(registry, {"limit": "2", "continue": meta.more})
    assert (names, meta.resourceVersion, meta.more, meta.remainingItemCount) == (["p4"], revision, "", None)
    exact = {"resourceVersion": revision, "resourceVersionMatch": "Exact"}
    assert _page(registry, exact)[0] == ["p0", "p1", "p2", "p3", "p4"]
    assert _page(registry, {})[0] == ["p0", "p1", "p2", "p21", "p4"]


@pytest.mark.parametrize(
    ("params", "names", "remaining"),
    [
        ({"limit": "5"}, ["p0", "p1", "p2", "p3", "p4"], None),
        ({"limit": "4"}, ["p0", "p1", "p2", "p3"], 1),
        ({"limit": "1", "labelSelector": "odd=1"}, ["p1"], None),
        ({"limit": "2", "labelSelector": "odd=1"}, ["p1", "p3"], None),
        ({"limit": "2", "resourceVersion": "0"}, ["p0", "p1", "p2", "p3", "p4"], None),
        ({"resourceVersion": "1"}, ["p0", "p1", "p2", "p3", "p4"], None),
        ({"resourceVersion": "1", "resourceVersionMatch": "NotOlderThan", "limit": "1"}, ["p0"], 4),
    ],
)
def test_limits(registry: Registry, params: dict[str, str], names: list[str], remaining: int | None) -> None:
    _fill(registry)
    found, meta = _page(registry, params)
    assert (found, meta.remainingItemCount) == (names, remaining)
    assert meta.resourceVersion == str(registry.store.revision)


def test_the_rest_of_a_namespace(registry: Registry) -> None:
    _fill(registry)
    create(registry, PODS, pod("z"), "kube-system")
    names, meta = _page(registry, {"limit": "3"}, "default")
    assert (len(names), meta.remainingItemCount) == (3, 2)
    assert _page(registry, {"continue": meta.more}, "default")[0] == ["p3", "p4"]


def test_a_limit_with_a_revision_is_of_exactly_that(registry: Registry) -> None:
    revision = _fill(registry, 2)
    create(registry, PODS, pod("p9"))
    assert _page(registry, {"limit": "9", "resourceVersion": revision})[0] == ["p0", "p1"]


def test_a_page_that_is_too_old_says_how_to_go_on(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HISTORY", 2)
    _fill(registry, 3)
    _, meta = _page(registry, {"limit": "1"})
    for number in range(9):
        create(registry, PODS, pod(f"q{number}"))
    with pytest.raises(Exception, match="too old to display a consistent list") as refusal:
        _page(registry, {"limit": "1", "continue": meta.more})
    status = refusal.value.status  # type: ignore[attr-defined]
    assert (status.code, status.reason) == (410, "Expired")
    names, meta = _page(registry, {"limit": "3", "continue": status.metadata.continue_})
    assert (names, meta.resourceVersion) == (["p1", "p2", "q0"], str(registry.store.revision))
    with refused(410, "too old resource version"):
        _page(registry, {"resourceVersion": "5", "resourceVersionMatch": "Exact"})


def test_pages_of_a_compacted_revision_go_on_with_what_is_there(registry: Registry) -> None:
    revision = _fill(registry)
    _, meta = _page(registry, {"limit": "1"})
    create(registry, NODES, {"metadata": {"name": "n"}})
    registry.store.compact(registry.store.revision)
    with pytest.raises(Exception, match="too old to display a consistent list") as refusal:
        _page(registry, {"limit": "2", "continue": meta.more})
    token = refusal.value.status.metadata.continue_  # type: ignore[attr-defined]
    found, last = [], ""
    while token:
        names, meta = _page(registry, {"limit": "2", "continue": token})
        found += names
        assert last in ("", meta.resourceVersion)
        assert meta.remainingItemCount == (5 - 1 - len(found) or None)
        token, last = meta.more, meta.resourceVersion
    assert (found, last != revision) == (["p1", "p2", "p3", "p4"], True)


def _token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("x", "continue key is not valid"),
        ("é", "continue key is not valid"),
        (_token("[]"), "continue key is not valid"),
        (_token('{"v":"meta.k8s.io/v9","rv":1,"start":"a"}'), "does not recognize this encoded version"),
        (_token('{"v":"meta.k8s.io/v1","rv":0,"start":"a"}'), "incorrect encoded start resourceVersion"),
        (_token('{"v":"meta.k8s.io/v1","rv":-2,"start":"a"}'), "continue key is not valid"),
        (_token('{"v":"meta.k8s.io/v1","rv":1,"start":""}'), "continue key is not valid"),
        (_token('{"v":"meta.k8s.io/v1","rv":1,"start":"a/b/c"}'), "continue key is not valid"),
    ],
)
def test_wrong_tokens(registry: Registry, token: str, message: str) -> None:
    with refused(400, message):
        _page(registry, {"continue": token})


def test_a_revision_that_was_not_reached(registry: Registry) -> None:
    with refused(504, "Too large resource version: 999999999, current:"):
        _page(registry, {"resourceVersion": "999999999"})


_EXACT = {"resourceVersionMatch": "Exact"}
_NOT_OLDER = {"resourceVersionMatch": "NotOlderThan"}
_INITIAL = {"sendInitialEvents": "true"}


@pytest.mark.parametrize(
    ("is_watch", "params", "message"),
    [
        (False, _EXACT, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (False, _EXACT | {"resourceVersion": "0"}, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
        (False, _EXACT | {"resourceVersion": "1", "continue": "x"}, "forbidden when continue is provided"),
        (False, {"resourceVersion": "1", "resourceVersionMatch": "x"}, 'Unsupported value: "x"'),
        (False, _INITIAL, "sendInitialEvents is forbidden for list"),
        (True, _INITIAL, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        (True, _INITIAL | _EXACT, 'Unsupported value: "Exact"'),
        (True, _NOT_OLDER, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        (True, _INITIAL | _NOT_OLDER | {"continue": "x"}, "forbidden when continue is provided"),
    ],
)
def test_options_that_make_no_sense_together(is_watch: bool, params: dict[str, str], message: str) -> None:
    with refused(422, 'ListOptions.meta.k8s.io "" is invalid: ', message):
        lists.read_options(_PODS, "", params, watch=is_watch)


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 19, "٣"])
def test_numbers(value: str) -> None:
    for name in ("limit", "timeoutSeconds", "resourceVersion"):
        with refused(400, f"{name}: Invalid value"):
            lists.read_options(NODES, "", {name: value}, watch=False)  # type: ignore[arg-type]
