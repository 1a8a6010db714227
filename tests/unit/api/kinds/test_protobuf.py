"""Objects to bytes and back."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.api.kinds import forms, protobuf, table
from netlab.api.kinds.protobuf import MalformedError, UnencodableError
from tests.unit.api.kinds.values import objects


@pytest.mark.parametrize("kind", table.kinds(), ids=lambda kind: f"{kind.api_version}-{kind.kind}")
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_kind_goes_there_and_back(kind: table.Kind, data: st.DataObject) -> None:
    obj = {"apiVersion": kind.api_version, "kind": kind.kind} | data.draw(objects(kind.message))
    assert protobuf.decode(protobuf.encode(obj)) == obj


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (245_000_000_000, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (8 * 60 * 1_000_000_000 + 1, "8m0.000000001s"),
        (-(1 << 63), "-2562047h47m16.854775808s"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    assert forms.format_duration(nanoseconds) == text
    assert forms.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1s ", "1.2.3s", "--1s", "1s1"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        forms.parse_duration(text)


_META = {"name": "a", "creationTimestamp": "2024-05-01T10:00:00Z"}


def _pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _META, "spec": spec}


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        # What Go leaves out of JSON is left out: zeros, unless the field can tell them from nothing.
        (_pod(hostNetwork=False, nodeName=""), _pod()),
        (_pod(terminationGracePeriodSeconds=0, shareProcessNamespace=False), None),
        (_pod(containers=[{"name": ""}]), None),
        (_pod(volumes=[{"name": "v", "emptyDir": {}}]), None),
        (_pod(containers=[{"name": "c", "resources": {}}]), _pod(containers=[{"name": "c"}])),
        (_pod(nodeSelector={}, containers=[]), _pod()),
        (_pod(nodeSelector={"a": ""}), None),
        (_pod(activeDeadlineSeconds=None), _pod()),
        (_pod(containers=[{"name": "c", "ports": [{"containerPort": 0}]}]), None),
        # Fields of a message that JSON does not have.
        (_pod(containers=[{"name": "c", "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3}}]), None),
        (_pod(ephemeralContainers=[{"name": "c", "env": [{"name": "A"}], "targetContainerName": "d"}]), None),
        # Numbers as quantities, and times with an offset or a fraction.
        (
            _pod(containers=[{"name": "c", "resources": {"limits": {"cpu": 1}}}]),
            _pod(containers=[{"name": "c", "resources": {"limits": {"cpu": "1"}}}]),
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2024-05-01T12:00:00.987+02:00"}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2024-05-01T10:00:00Z"}},
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": None}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {}},
        ),
        (
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "2024-05-01T10:00:00.5Z"}},
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "spec": {"renewTime": "2024-05-01T10:00:00.500000Z"},
            },
        ),
        # Raw JSON, bytes, and either one or the other.
        ({"apiVersion": "v1", "kind": "Secret", "data": {"a": "AAH/"}, "type": "Opaque"}, None),
        ({"apiVersion": "v1", "kind": "ConfigMap", "binaryData": {"a": ""}}, None),
        (
            {"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {"spec": [1, None]}, "revision": 1},
            None,
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}, "time": "2024-05-01T10:00:00Z"}]},
            },
            None,
        ),
        (
            {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [_pod(nodeName="n")]},
            None,
        ),
    ],
)
def test_how_values_return(sent: dict[str, Any], returned: dict[str, Any] | None) -> None:
    # `metadata` is a value of its own, and may be left out where it is empty.
    found = protobuf.decode(protobuf.encode(sent))
    wanted = sent if returned is None else returned
    assert {k: v for k, v in found.items() if v != {}} == {k: v for k, v in wanted.items() if v != {}}


def test_a_crd_keeps_its_schema() -> None:
    schema = {
        "$ref": "#/x",
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": False,
        "default": {"a": [1, "b"]},
        "enum": [1, "a", False],
        "maximum": 0.0,
        "items": {"type": "string"},
        "additionalProperties": False,
        "dependencies": {"a": ["b"], "c": {"type": "integer"}},
        "properties": {"p": {"items": [{"type": "string"}], "additionalProperties": {"type": "number"}}},
    }
    version = {"name": "v1", "served": True, "storage": False, "schema": {"openAPIV3Schema": schema}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {"group": "g", "names": {"plural": "ps", "kind": "P"}, "scope": "Namespaced", "versions": [version]},
    }
    assert protobuf.decode(protobuf.encode(crd)) == crd


@pytest.mark.parametrize(
    ("sent", "metadata", "spec"),
    [
        # kubectl 1.37: create namespace demo
        (
            "6b3873000a0f0a02763112094e616d657370616365121c0a140a0464656d6f12001a0022002a0032003800420012001a020a001a0022"
            "00",
            {"name": "demo"},
            None,
        ),
        # create deployment web --image=agnhost --port=80 --replicas=2
        (
            "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412bc010a1f0a0377656212001a0022002a003200380042005a0a0a"
            "036170701203776562128a010802120c0a0a0a0361707012037765621a700a1c0a0012001a0022002a003200380042005a0a0a036170"
            "701203776562125012320a0761676e686f7374120761676e686f73742a00320a0a001000185022002a0042006a007200800100880100"
            "900100a201001a00320042004a0052005800600068008201008a01009a0100c2010022020a00280038001a0c08001000180020002800"
            "38001a002200",
            {"name": "web", "labels": {"app": "web"}},
            {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [{"name": "agnhost", "image": "agnhost", "ports": [{"containerPort": 80}]}],
                    },
                },
            },
        ),
        # create service clusterip web --tcp=80:8080
        (
            "6b3873000a0d0a02763112075365727669636512690a1f0a0377656212001a0022002a003200380042005a0a0a036170701203776562"
            "12420a1b0a0738302d38303830120354435018502207080010903f1a002800120a0a0361707012037765621a002209436c7573746572"
            "49503a00420052005a00600068001a020a001a002200",
            {"name": "web", "labels": {"app": "web"}},
            {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "web"},
                "type": "ClusterIP",
            },
        ),
    ],
    ids=["namespace", "deployment", "service"],
)
def test_what_kubectl_sends_is_read(sent: str, metadata: dict[str, Any], spec: dict[str, Any] | None) -> None:
    obj = protobuf.decode(bytes.fromhex(sent))
    assert (obj["metadata"], obj.get("spec"), obj.get("status")) == (metadata, spec, None)


def test_an_event_of_a_watch_has_its_length_before_it() -> None:
    frame = protobuf.encode_event({"type": "ADDED", "object": _pod(nodeName="n")})
    length, event = int.from_bytes(frame[:4], "big"), frame[4:]
    assert length == len(event)
    # type = 1, object = 2 { raw = 1 }
    assert event.startswith(b"\x0a\x05ADDED\x12")
    assert protobuf.decode(event[event.index(b"k8s\0") :]) == _pod(nodeName="n")


def _wrapped(api_version: bytes, kind: bytes, raw: bytes, more: bytes = b"") -> bytes:
    def field(number: int, data: bytes) -> bytes:
        assert len(data) < 128
        return bytes([number << 3 | 2, len(data)]) + data

    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw) + more


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "does not begin"),
        (b"{}", "does not begin"),
        (b"k8s\0", 'no kind ""'),
        (b"k8s\0\xff", "corrupt"),
        (_wrapped(b"v1", b"Pod", b"")[:-3], "corrupt"),
        (_wrapped(b"v1", b"Nothing", b""), 'no kind "Nothing"'),
        (_wrapped(b"v2", b"Pod", b""), 'in version "v2"'),
        (_wrapped(b"v1", b"Pod", b"", b"\x1a\x04gzip"), "encoded"),
        (_wrapped(b"v1", b"Pod", b"\x0a\x03\x0a\x01\xff"), "UTF-8"),
        (_wrapped(b"v1", b"Pod", b"\x0a\x05\x0a\x01"), "corrupt"),
        # creationTimestamp { seconds = max }, and { nanos = -1 }
        (_wrapped(b"v1", b"Pod", b"\x0a\x0c\x42\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "not a time"),
        # ControllerRevision.data { raw = "{" }
        (_wrapped(b"apps/v1", b"ControllerRevision", b"\x12\x03\x0a\x01{"), "truncated"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        protobuf.decode(body)


def _crd(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {"versions": [version]},
    }


def test_messages_nested_without_end_are_refused() -> None:
    assert protobuf.decode(protobuf.encode(_crd(20)))["spec"]["versions"] == _crd(20)["spec"]["versions"]
    with pytest.raises(MalformedError, match="MaxDepth"):
        protobuf.decode(protobuf.encode(_crd(60)))


def test_json_nested_without_end_is_refused() -> None:
    raw = b"[" * 5000
    data = b"\x0a\x88\x27" + raw  # raw = 1, 5000 bytes
    revision = b"\x12\x8b\x27" + data  # data = 2, 5003 bytes
    unknown = b"\x0a\x1d\x0a\x07apps/v1\x12\x12ControllerRevision\x12\x8e\x27" + revision
    with pytest.raises(MalformedError, match="recursion"):
        protobuf.decode(b"k8s\0" + unknown)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_are_refused_or_are_another_object(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(table.kinds()))
    body = bytearray(
        protobuf.encode({"apiVersion": kind.api_version, "kind": kind.kind} | data.draw(objects(kind.message)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                body[at] = data.draw(st.integers(0, 255))
            case "cut":
                del body[at + 1 :]
            case _:
                body[at:at] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(MalformedError):
        msgspec.json.encode(protobuf.decode(bytes(body)))


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_an_object(tail: bytes) -> None:
    with contextlib.suppress(MalformedError):
        msgspec.json.encode(protobuf.decode(b"k8s\0" + tail))


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        ({"apiVersion": "meta.k8s.io/v1", "kind": "Table"}, "no form"),
        ({"kind": "Pod"}, "no form"),
        ({"apiVersion": "v1", "kind": "Pod", "spec": 3}, "not of its type"),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"priority": "high"}}, "not of its type"),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"priority": 1 << 40}}, "not of its type"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "today"}}, "not a time"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": "2024-13-01T00:00:00Z"}}, "month"),
        ({"apiVersion": "v1", "kind": "Secret", "data": {"a": "?"}}, "not of its type"),
    ],
)
def test_what_cannot_be_written(obj: dict[str, Any], why: str) -> None:
    with pytest.raises(UnencodableError, match=why):
        protobuf.encode(obj)
