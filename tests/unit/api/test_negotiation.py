"""What a client wants its answer to be, and how objects then look."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netlab.api.kinds import table
from netlab.api.media_types import JSON, PROTOBUF
from netlab.api.resources import PODS, Kind, Resource
from netlab.api.server import discovery
from netlab.api.server.rest.negotiation import (
    FORMATS,
    FORMS,
    OF_AN_ANSWER,
    Answer,
    format_of_body,
    media_type,
    negotiate,
)
from netlab.api.server.rest.views import ListMeta, view_of, writer
from netlab.api.server.storage.watch import Change
from tests.unit.api.cluster import pod, refused

_PODS: Resource[Any] = PODS
_KUBECTL = f"{JSON};as=Table;v=v1;g=meta.k8s.io,{JSON};as=Table;v=v1beta1;g=meta.k8s.io,{JSON}"


def _meta(kind: str, version: str = "v1") -> Kind:
    return Kind("meta.k8s.io", version, kind)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", None),
        (JSON, None),
        ("*/*", None),
        ("application/*", None),
        ("text/html, */*;q=0.1", None),
        (f"{JSON};stream=watch", None),
        (f"{JSON}; charset=utf-8", None),
        (_KUBECTL, _meta("Table")),
        (f'{JSON};as="Table";g=meta.k8s.io;v=v1beta1', _meta("Table", "v1beta1")),
        (f"{JSON};as=Table;g=meta.k8s.io;v=v2,{JSON}", None),
        (f"{JSON};q=0.5,{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1", _meta("PartialObjectMetadata")),
        (f"*/*,{JSON};as=Table;g=meta.k8s.io;v=v1", _meta("Table")),
        (f"{JSON};q=0,{JSON};as=Table;g=meta.k8s.io;v=v1", _meta("Table")),
        (f"{JSON};q=x", None),
    ],
)
def test_the_first_clause_that_can_be_given_is_given(accept: str, form: Kind | None) -> None:
    answer = negotiate(accept)
    assert (answer.format.media_type, answer.form) == (JSON, form)


@pytest.mark.parametrize(
    ("accept", "media_type", "form"),
    [
        (PROTOBUF, PROTOBUF, None),
        (f"{PROTOBUF},{JSON}", PROTOBUF, None),
        (f"{PROTOBUF};stream=watch", PROTOBUF, None),
        (f"{JSON},{PROTOBUF}", JSON, None),
        (f"{PROTOBUF};q=0.1,{JSON}", JSON, None),
        (
            f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}",
            PROTOBUF,
            _meta("PartialObjectMetadataList"),
        ),
        # What protobuf has no messages for.
        (f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,{_KUBECTL}", JSON, _meta("Table")),
        (f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1,{JSON}", JSON, None),
    ],
)
def test_protobuf_is_given_where_it_has_messages(accept: str, media_type: str, form: Kind | None) -> None:
    answer = negotiate(accept)
    assert (answer.format.media_type, answer.form) == (media_type, form)


def test_every_form_is_given_in_protobuf_or_lacking() -> None:
    for form in FORMS | discovery.AGGREGATED:
        has_message = table.message_of(f"{form.group}/{form.version}", form.kind) is not None
        assert has_message is (form not in FORMATS[PROTOBUF].lacks)


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/vnd.kubernetes.protobuf.x",
        f"{JSON};q=0",
        f"{JSON};as=Table;g=meta.k8s.io;v=v2",
        f"{JSON};as=Chart;g=meta.k8s.io;v=v1",
        f"{JSON};stream=tail",
        ",",
    ],
)
def test_what_cannot_be_given_is_refused(accept: str) -> None:
    with refused(406, "only the following media types are accepted: application/json"):
        negotiate(accept)


def test_the_answer_to_a_question_has_no_columns() -> None:
    asked = f"{JSON};g=meta.k8s.io;v=v1;as="
    assert negotiate(f"{asked}PartialObjectMetadata", OF_AN_ANSWER).form is not None
    with refused(406):
        negotiate(f"{asked}Table", OF_AN_ANSWER)


def test_groups_have_a_form_of_their_own() -> None:
    asked = f"{JSON};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = negotiate(asked, discovery.AGGREGATED)
    assert answer.form == Kind("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")
    with refused(406):
        negotiate(asked)


def test_bodies_of_another_type_are_refused() -> None:
    assert (
        format_of_body("").media_type
        == format_of_body(media_type("Application/JSON; charset=utf-8")).media_type
        == JSON
    )
    with refused(415, "text/plain", "application/json"):
        format_of_body("text/plain")


# --- views -----------------------------------------------------------------------------------------------------------

_POD = pod() | {"metadata": {"name": "p", "namespace": "default", "resourceVersion": "7"}, "status": {}}
_RAW = msgspec.json.encode(_POD)


def _answer(kind: str = "", version: str = "v1") -> Answer:
    return Answer(negotiate(JSON).format, _meta(kind, version) if kind else None)


def _shown(kind: str, *, version: str = "v1", include: str = "") -> Any:
    view = view_of(_answer(kind, version), _PODS, {"includeObject": include}, of_list=False)
    return msgspec.json.decode(view.object(_RAW))


def test_metadata_alone() -> None:
    assert _shown("PartialObjectMetadata", version="v1beta1") == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1beta1",
        "metadata": _POD["metadata"],
    }


@pytest.mark.parametrize(
    ("include", "shown"),
    [
        ("", {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": _POD["metadata"]}),
        ("Metadata", {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": _POD["metadata"]}),
        ("Object", _POD),
        ("None", None),
    ],
)
def test_a_row_includes_what_is_asked_for(include: str, shown: Any) -> None:
    table = _shown("Table", include=include)
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "7"},
    )
    assert [column["name"] for column in table["columnDefinitions"]][:3] == ["Name", "Ready", "Status"]
    assert [column["priority"] for column in table["columnDefinitions"]] == [0] * 5 + [1] * 4
    (row,) = table["rows"]
    assert row["cells"][:2] == ["p", "0/1"]
    assert row["object"] == shown


def test_lists() -> None:
    meta = ListMeta("9", "more", 3)
    said = {"resourceVersion": "9", "continue": "more", "remainingItemCount": 3}
    for kind, expected in (
        ("", ("PodList", "v1", _POD)),
        ("PartialObjectMetadataList", ("PartialObjectMetadataList", "meta.k8s.io/v1", None)),
    ):
        raw = view_of(_answer(kind), _PODS, {}, of_list=True).list([_RAW, _RAW], meta)
        found = msgspec.json.decode(raw)
        assert (found["kind"], found["apiVersion"], found["metadata"]) == (*expected[:2], said)
        assert [item["metadata"]["name"] for item in found["items"]] == ["p", "p"]
        assert expected[2] in (None, found["items"][0])
    table = msgspec.json.decode(view_of(_answer("Table"), _PODS, {}, of_list=True).list([_RAW, _RAW], meta))
    assert (table["metadata"], len(table["rows"])) == (said, 2)


@pytest.mark.parametrize(("kind", "of_list"), [("PartialObjectMetadata", True), ("PartialObjectMetadataList", False)])
def test_a_list_is_no_object(kind: str, of_list: bool) -> None:
    with refused(406, f"you requested {kind}, but the requested object is"):
        view_of(_answer(kind), _PODS, {}, of_list=of_list)


def test_what_a_row_may_not_include() -> None:
    with refused(400, 'unrecognized includeObject value: "All"'):
        view_of(_answer("Table"), _PODS, {"includeObject": "All"}, of_list=True)


def test_a_watch_of_tables() -> None:
    end = {"metadata": {"resourceVersion": "8", "annotations": {"k8s.io/initial-events-end": "true"}}}
    later = {"metadata": {"resourceVersion": "9"}}
    changes = [
        Change(b"ADDED", _RAW),
        Change(b"BOOKMARK", msgspec.json.encode(end)),
        Change(b"BOOKMARK", msgspec.json.encode(later)),
        Change(b"ERROR", b'{"kind":"Status"}'),
    ]
    write = writer(_answer("Table"), view_of(_answer("Table"), _PODS, {"includeObject": "None"}, of_list=False))
    added, bookmark, other, error = (msgspec.json.decode(write(change)) for change in changes)
    assert added["object"]["columnDefinitions"]
    assert bookmark["object"]["columnDefinitions"] is None, "only the first has them"
    # The mark is there even though no object was asked for.
    assert bookmark["object"]["rows"][0]["object"]["metadata"] == end["metadata"]
    assert bookmark["object"]["metadata"]["resourceVersion"] == "8"
    assert other["object"]["rows"][0]["object"] is None
    assert error == {"type": "ERROR", "object": {"kind": "Status"}}


def test_a_plain_watch_shares_its_lines() -> None:
    change = Change(b"ADDED", _RAW)
    assert writer(_answer(), view_of(_answer(), _PODS, {}, of_list=False))(change) is change.line
