"""Who owns what after updates and applies. Objects are pods: they have a list, map and set of each sort."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netlab.api.server.fieldmanager import comparing, fieldsets, last_applied, managers, merging
from netlab.api.server.fieldmanager.managers import (
    APPLY,
    UPDATE,
    ConflictsError,
    Manager,
    Managers,
    Owned,
    Request,
    Version,
)
from netlab.api.server.fieldmanager.structure import of_message

JSON = dict[str, Any]

POD = of_message("core.v1.Pod")
_VERSION = Version(POD, lambda obj: obj, lambda obj: obj)
REQUEST = Request("v1", {"v1": _VERSION}, fieldsets.of(("f:status",)))


def pod(spec: JSON | None = None, **metadata: Any) -> JSON:
    made: JSON = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"} | metadata}
    return made | ({"spec": spec} if spec is not None else {})


def owned(known: Managers, name: str, operation: str = APPLY, subresource: str = "") -> set[str]:
    """What a manager has, as people read it."""
    found = [each for each in known if (each.name, each.operation, each.subresource) == (name, operation, subresource)]
    return {fieldsets.text(path) for each in found for path in fieldsets.paths(known[each].fields)}


class Object:
    """An object, as it is applied and updated by one after the other."""

    def __init__(self) -> None:
        self.obj: JSON = {}
        self.known: Managers = {}

    def apply(self, config: JSON, name: str = "a", *, force: bool = False) -> Object:
        self.obj, self.known = managers.apply(self.obj, config, self.known, REQUEST, name, force=force)
        return self

    def update(self, new: JSON, name: str = "u") -> Object:
        if not self.obj:
            self.known = managers.read(managers.created(new, REQUEST, name))
        else:
            self.known = managers.updated(self.obj, new, self.known, REQUEST, name)
        self.obj = new
        return self


def containers(**images: str) -> JSON:
    return {"containers": [{"name": name, "image": image} for name, image in images.items()]}


# --- whose is what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("applied", "fields"),
    [
        (pod(labels={"a": "1"}), {".metadata.labels.a"}),
        (pod(labels={}), {".metadata.labels"}),
        (pod(finalizers=["x/y"]), {'.metadata.finalizers[="x/y"]'}),
        (pod(finalizers=[]), set()),
        (pod({"nodeSelector": {"a": "1"}}), {".spec.nodeSelector"}),
        (pod({"hostname": None}), {".spec.hostname"}),
        (pod({"securityContext": {}}), {".spec.securityContext"}),
        (pod({"securityContext": {"runAsUser": 0}}), {".spec.securityContext.runAsUser"}),
        (
            pod(containers(web="i")),
            {f'.spec.containers[name="web"]{field}' for field in ("", ".name", ".image")},
        ),
        (
            pod({"containers": [{"name": "c", "args": ["x"], "ports": [{"containerPort": 80}]}]}),
            {
                *(f'.spec.containers[name="c"]{field}' for field in ("", ".name", ".args")),
                *(
                    f'.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]{field}'
                    for field in ("", ".containerPort")
                ),
            },
        ),
        (pod(uid="u", resourceVersion="1", namespace="n"), set()),
        ({**pod(), "status": {"phase": "Running"}}, set()),
    ],
)
def test_who_applies_owns_what_it_says(applied: JSON, fields: set[str]) -> None:
    assert owned(Object().apply(applied).known, "a") == fields


def test_who_creates_owns_all_besides_what_every_object_has() -> None:
    made = pod(containers(web="i") | {"securityContext": {}, "hostname": "", "dnsPolicy": "Default"}, labels={"a": "1"})
    known = Object().update(made | {"status": {"phase": "Pending"}}).known
    assert owned(known, "u", UPDATE) == {
        ".metadata.labels",
        ".metadata.labels.a",
        ".spec.securityContext",
        ".spec.hostname",
        ".spec.dnsPolicy",
        '.spec.containers[name="web"]',
        '.spec.containers[name="web"].name',
        '.spec.containers[name="web"].image',
    }


def test_an_update_takes_what_it_changes_and_frees_what_it_removes() -> None:
    seen = Object().apply(pod(containers(a="1", b="1"), labels={"x": "1", "y": "1"}))
    seen.update(pod(containers(a="2"), labels={"x": "1", "z": "1"}))
    assert owned(seen.known, "a") == {
        ".metadata.labels.x",
        '.spec.containers[name="a"]',
        '.spec.containers[name="a"].name',
    }
    assert owned(seen.known, "u", UPDATE) == {".metadata.labels.z", '.spec.containers[name="a"].image'}


def test_an_update_that_changes_nothing_owns_nothing() -> None:
    seen = Object().apply(pod(containers(a="1")))
    before = dict(seen.known)
    assert seen.update(pod(containers(a="1"))).known == before


def test_of_an_object_without_managers_nothing_is_noted_until_it_is_applied() -> None:
    seen = Object()
    seen.obj = pod(containers(a="1"), labels={"x": "1"})
    assert managers.updated(seen.obj, pod(containers(a="2")), {}, REQUEST, "u") == {}
    with pytest.raises(ConflictsError, match="before-first-apply"):
        seen.apply(pod(containers(a="2")))
    seen.apply(pod(containers(a="2")), force=True)
    assert ".metadata.labels.x" in owned(seen.known, "before-first-apply", UPDATE)


# --- conflicts -----------------------------------------------------------------------------------------------------

IMAGE = '.spec.containers[name="c"].image'


def test_a_field_of_another_is_a_conflict_unless_it_is_forced() -> None:
    seen = Object().apply(pod(containers(c="1"), labels={"l": "1"}), "first")
    wanted = pod(containers(c="2"), labels={"l": "2"})
    with pytest.raises(ConflictsError) as refused:
        seen.apply(wanted, "second")
    assert (
        str(refused.value) == f'Apply failed with 2 conflicts: conflicts with "first":\n- .metadata.labels.l\n- {IMAGE}'
    )
    seen.apply(wanted, "second", force=True)
    assert seen.obj == wanted
    assert IMAGE not in owned(seen.known, "first")
    assert IMAGE in owned(seen.known, "second")


def test_a_conflict_names_the_version_and_the_part_of_an_update() -> None:
    seen = Object().apply(pod(containers(c="1")), "first")
    through_status = dataclasses.replace(REQUEST, subresource="status", ignored={})
    seen.known = managers.updated(seen.obj, new := pod(containers(c="2")), seen.known, through_status, "u")
    seen.obj = new
    with pytest.raises(ConflictsError) as refused:
        seen.apply(pod(containers(c="3")), "first")
    conflict = f'conflict with "u" with subresource "status" using v1: {IMAGE}'
    assert str(refused.value) == f"Apply failed with 1 conflict: {conflict}"


@pytest.mark.parametrize(
    ("first", "second", "conflicts"),
    [
        (pod({"nodeSelector": {"a": "1"}}), pod({"nodeSelector": {"b": "1"}}), [".spec.nodeSelector"]),
        (pod(labels={"a": "1"}), pod(labels={"b": "1"}), []),
        (pod(finalizers=["a/a"]), pod(finalizers=["b/b"]), []),
        (pod(containers(a="1")), pod(containers(b="1")), []),
        (pod(containers(a="1")), pod(containers(a="1")), []),
        (pod({"hostname": "a"}), pod({"hostname": None}), [".spec.hostname"]),
    ],
)
def test_conflicts_are_about_single_values_and_what_is_atomic(first: JSON, second: JSON, conflicts: list[str]) -> None:
    seen = Object().apply(first, "first")
    try:
        seen.apply(second, "second")
        found = []
    except ConflictsError as error:
        found = [fieldsets.text(each.path) for each in error.conflicts]
    assert found == conflicts


# --- what is not applied any more ----------------------------------------------------------------------------------


def test_what_its_only_owner_leaves_out_goes() -> None:
    seen = Object().apply(pod(containers(a="1", b="1"), labels={"x": "1"}, finalizers=["a/a", "b/b"]))
    seen.apply(pod(containers(b="1"), finalizers=["b/b"]))
    assert seen.obj == pod(containers(b="1"), finalizers=["b/b"])


@pytest.mark.parametrize("other", ["applies", "updates"])
def test_what_another_owns_stays(other: str) -> None:
    seen = Object().apply(pod(labels={"x": "1", "y": "1"}))
    if other == "applies":
        seen.apply(pod(labels={"x": "1"}), "other")
    else:
        seen.update(pod(labels={"x": "2", "y": "1"}), "other")
    value = seen.obj["metadata"]["labels"]["x"]
    assert seen.apply(pod()).obj == pod(labels={"x": value})
    assert owned(seen.known, "a") == set()


def test_what_was_never_applied_stays_unless_it_is_in_what_goes() -> None:
    seen = Object().apply(pod(containers(a="1", b="1")))
    defaulted = pod(
        {"containers": [{"name": n, "image": "1", "imagePullPolicy": "Always"} for n in "ab"], "hostname": "h"}
    )
    seen.obj = defaulted  # The server's own: nobody's.
    seen.apply(pod(containers(a="1")))
    assert seen.obj == pod({"containers": defaulted["spec"]["containers"][:1], "hostname": "h"})


def test_what_is_in_an_object_that_was_applied_as_empty_is_the_servers() -> None:
    seen = Object().apply(pod({"securityContext": {}}, labels={"x": "1"}))
    seen.obj = pod({"securityContext": {"runAsUser": 1}}, labels={"x": "1"})
    assert seen.apply(pod({"securityContext": {}})).obj["spec"] == {"securityContext": {"runAsUser": 1}}


def test_a_port_is_found_by_its_protocol_even_if_that_is_left_out() -> None:
    def with_ports(*ports: JSON) -> JSON:
        return pod({"containers": [{"name": "c", "ports": list(ports)}]})

    seen = Object().apply(with_ports({"containerPort": 80, "name": "web"}))
    seen.obj = with_ports({"containerPort": 80, "name": "web", "protocol": "TCP"})
    seen.apply(
        with_ports({"containerPort": 80, "name": "web", "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"})
    )
    assert [port["protocol"] for port in seen.obj["spec"]["containers"][0]["ports"]] == ["TCP", "UDP"]
    seen.apply(with_ports())
    assert "ports" not in seen.obj["spec"]["containers"][0]


def test_applying_the_same_again_changes_nothing_not_even_a_time() -> None:
    seen = Object().apply(pod(containers(a="1"), labels={"x": "1"}))
    old = {each: what._replace(time="2020-01-01T00:00:00Z") for each, what in seen.known.items()}
    seen.known = dict(old)
    obj = seen.obj
    seen.apply(pod(containers(a="1"), labels={"x": "1"}))
    assert (seen.obj, seen.known) == (obj, old)


# --- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "applied", "merged"),
    [
        ("abc", "", "abc"),
        ("", "ab", "ab"),
        ("abc", "ca", "bca"),
        ("abc", "bd", "abcd"),
        ("axbyc", "ba", "xbyca"),
        ("ab", "cab", "cab"),
        ("abcd", "dcba", "dcba"),
    ],
)
def test_applied_items_come_in_their_order_and_the_others_keep_their_place(
    present: str, applied: str, merged: str
) -> None:
    live, config = pod(containers(**dict.fromkeys(present, "1"))), pod(containers(**dict.fromkeys(applied, "1")))
    found = merging.merge(live, config, POD)
    assert "".join(each["name"] for each in found["spec"]["containers"]) == merged


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (pod({"containers": [{"name": "a"}, {"name": "a"}]}), '.spec.containers: duplicate entries for key [name="a"]'),
        (pod(finalizers=["a/a", "a/a"]), '.metadata.finalizers: duplicate entries for key [="a/a"]'),
        (
            pod({"containers": [{"image": "a"}]}),
            '.spec.containers: element 0: associative list with keys has an element that omits all key fields ["name"] '
            "(and doesn't have default values for any key fields)",
        ),
        (pod({"unknown": 1}), ".spec.unknown: field not declared in schema"),
        (pod({"containers": [{"name": "a", "x": 1}]}), '.spec.containers[name="a"].x: field not declared in schema'),
        (pod({"tolerations": [{"x": 1}]}), ".spec.tolerations[0].x: field not declared in schema"),
        (pod({"nodeSelector": {"any": "1"}, "containers": [{"name": "a", "args": ["x", "x"]}]}), None),
    ],
)
def test_what_cannot_be_applied_is_told(config: JSON, problem: str | None) -> None:
    assert merging.problems(config, POD) == ([problem] if problem else [])


def test_items_that_stand_twice_in_the_object_are_replaced_by_the_one_applied() -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "value": "3"}]
    seen = Object().update(pod({"containers": [{"name": "c", "env": twice}]}))
    seen.apply(pod({"containers": [{"name": "c", "env": [{"name": "A", "value": "4"}]}]}), force=True)
    assert seen.obj["spec"]["containers"][0]["env"] == [{"name": "A", "value": "4"}, {"name": "B", "value": "3"}]


# --- managedFields -------------------------------------------------------------------------------------------------


def test_managed_fields_are_written_in_upstreams_order() -> None:
    seen = Object().update(pod(containers(a="1"))).apply(pod(labels={"x": "1"}), "b").apply(pod(labels={"y": "1"}), "a")
    entries = managers.entries(seen.known)
    assert [(each["manager"], each["operation"]) for each in entries] == [("a", APPLY), ("b", APPLY), ("u", UPDATE)]
    assert list(entries[2]) == ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1"]
    assert managers.read(entries) == seen.known


def test_of_many_updaters_the_oldest_become_one() -> None:
    seen = Object().update(pod(containers(a="1")), "creator")
    for number in range(20):
        labels = dict(seen.obj["metadata"].get("labels", {})) | {f"l{number:02}": "1"}
        seen.update(pod(containers(a="1"), labels=labels), f"u{number:02}")
        times = {each: f"2024-01-01T00:00:{number:02}Z" for each in seen.known if each.name == f"u{number:02}"}
        seen.known |= {each: seen.known[each]._replace(time=time) for each, time in times.items()}
    assert len(seen.known) == managers.MOST_UPDATERS
    assert {".metadata.labels.l00", ".metadata.labels.l09"} <= owned(seen.known, "ancient-changes", UPDATE)
    assert owned(seen.known, "u19", UPDATE) == {".metadata.labels.l19"}


@pytest.mark.parametrize(
    "entry",
    [
        {"operation": "Delete", "apiVersion": "v1", "fieldsType": "FieldsV1"},
        {"operation": "Apply", "fieldsType": "FieldsV1"},
        {"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV2"},
        {"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"nothing": {}}},
    ],
)
def test_entries_that_make_no_sense_are_refused(entry: JSON) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which of them it is does not matter
        managers.read([entry])


# --- versions ------------------------------------------------------------------------------------------------------


def _renamed(obj: JSON, old: str, new: str) -> JSON:
    return {new if name == old else name: value for name, value in obj.items()}


def test_what_was_applied_in_another_version_is_followed_there() -> None:
    other = Version(
        of_message("events.v1.Event"),
        lambda o: _renamed(o, "message", "note"),
        lambda o: _renamed(o, "note", "message"),
    )
    served = {"v1": Version(of_message("core.v1.Event"), lambda o: o, lambda o: o), "events.k8s.io/v1": other}
    core, events = Request("v1", served, {}), Request("events.k8s.io/v1", served, {})
    first = managers.apply({}, {"message": "m", "reason": "r"}, {}, core, "a", force=False)
    assert owned(first.managers, "a") == {".message", ".reason"}
    with pytest.raises(ConflictsError, match=r"\.message"):
        managers.apply(first.obj, {"note": "n"}, first.managers, events, "b", force=False)
    second = managers.apply(first.obj, {"note": "n"}, first.managers, events, "a", force=False)
    assert second.obj == {"message": "n"}
    assert owned(second.managers, "a") == {".note"}
    of_no_version = {Manager("x", APPLY, ""): Owned("v0", None, {"f:reason": {}})}
    assert managers.updated(first.obj, second.obj, first.managers | of_no_version, core, "u").keys() == {
        Manager("u", UPDATE, "v1")
    }


# --- from client-side apply ----------------------------------------------------------------------------------------


def _applied_by_client(value: str = "1") -> Object:
    config = pod(containers(c="1"))
    text = msgspec.json.encode(config).decode()
    return Object().update(
        pod(containers(c=value), annotations={last_applied.ANNOTATION: text}), "kubectl-client-side-apply"
    )


def test_kubectl_takes_over_what_its_client_side_applied() -> None:
    seen, wanted = _applied_by_client(), pod(containers(c="2"))
    with pytest.raises(ConflictsError):
        last_applied.apply(seen.obj, wanted, seen.known, REQUEST, "other", force=False)
    applied = last_applied.apply(seen.obj, wanted, seen.known, REQUEST, "kubectl", force=False)
    annotation = applied.obj["metadata"]["annotations"][last_applied.ANNOTATION]
    assert msgspec.json.decode(annotation) == wanted, "the way back stays open"


def test_what_somebody_has_changed_since_is_a_conflict_for_kubectl_too() -> None:
    seen = _applied_by_client("changed")
    with pytest.raises(ConflictsError, match="1 conflict"):
        last_applied.apply(seen.obj, pod(containers(c="2")), seen.known, REQUEST, "kubectl", force=False)


# --- laws ----------------------------------------------------------------------------------------------------------

Strategy = st.SearchStrategy[Any]

_texts = st.sampled_from(["1", "2"])
_maps = st.dictionaries(st.sampled_from(["x", "y"]), _texts, min_size=1)


def _named(names: str, fields: dict[str, Strategy]) -> Strategy:
    """Lists of objects with names."""
    item: Strategy = st.fixed_dictionaries({"name": st.sampled_from(names)}, optional=fields)
    return st.lists(item, min_size=1, max_size=2, unique_by=lambda each: str(each["name"]))


_containers = _named(
    "ab",
    {
        "image": _texts,
        "args": st.lists(_texts, min_size=1, max_size=2),
        "env": _named("EF", {"value": _texts}),
        "securityContext": st.fixed_dictionaries({"runAsUser": st.integers(0, 1)}),
    },
)
_spec: Strategy = st.fixed_dictionaries(
    {"containers": _containers}, optional={"nodeSelector": _maps, "hostname": _texts}
)
_metadata: Strategy = st.fixed_dictionaries(
    {}, optional={"labels": _maps, "finalizers": st.lists(st.sampled_from(["a/a", "b/b"]), min_size=1, unique=True)}
)
any_pod = st.builds(lambda spec, metadata: pod(spec, **metadata), _spec, _metadata)


@given(any_pod)
def test_an_object_applied_to_nothing_is_itself(config: JSON) -> None:
    assert Object().apply(config).obj == config


@given(any_pod, any_pod)
def test_one_manager_has_what_it_applied_last(first: JSON, second: JSON) -> None:
    seen = Object().apply(first).apply(second)
    assert seen.obj == second
    assert len(seen.known) == 1


@given(any_pod, any_pod, any_pod)
def test_to_apply_twice_is_to_apply_once(first: JSON, second: JSON, third: JSON) -> None:
    seen = Object().update(first).apply(second, force=True).apply(third, "b", force=True)
    obj, known = seen.obj, dict(seen.known)
    seen.apply(third, "b")
    assert (seen.obj, seen.known) == (obj, known)


@given(any_pod, any_pod)
def test_a_forced_apply_is_in_the_object_and_all_conflicts_are_gone(first: JSON, second: JSON) -> None:
    seen = Object().update(first).apply(second, force=True)
    change = comparing.compare(merging.merge(seen.obj, second, POD), seen.obj, POD)
    assert change == comparing.NOTHING
    assert fieldsets.difference(comparing.applied(second, POD), comparing.applied(seen.obj, POD)) == {}


def _ordered(obj: JSON) -> JSON:
    """A pod with its sets, and its lists of objects with names, in order: their order means nothing."""
    ordered = copy.deepcopy(obj)
    for container in ordered["spec"]["containers"]:
        container.get("env", []).sort(key=str)
    ordered["spec"]["containers"].sort(key=lambda each: each["name"])
    ordered["metadata"].get("finalizers", []).sort()
    return ordered


@given(any_pod, any_pod)
@example(
    pod({"containers": [{"name": "a"}, {"name": "b"}]}, finalizers=["a/a", "b/b"]),
    pod({"containers": [{"name": "b"}, {"name": "a"}]}, finalizers=["b/b", "a/a"]),
)
def test_a_comparison_tells_what_is_new_and_what_is_gone(old: JSON, new: JSON) -> None:
    change = comparing.compare(old, new, POD)
    assert (change == comparing.NOTHING) == (_ordered(old) == _ordered(new))
    before = set(fieldsets.paths(comparing.created(old, POD)))
    after = set(fieldsets.paths(comparing.created(new, POD)))
    assert set(fieldsets.paths(change.removed)) == before - after
    assert after - before <= set(fieldsets.paths(change.written)) <= after


@given(any_pod, any_pod)
def test_after_an_update_every_field_that_it_changed_has_one_owner(first: JSON, second: JSON) -> None:
    seen = Object().apply(first).apply(first, "b").update(second)
    written = comparing.compare(first, second, POD).written
    for manager, what in seen.known.items():
        shared = fieldsets.intersection(what.fields, written)
        assert bool(shared) == bool(manager.name == "u" and written)
