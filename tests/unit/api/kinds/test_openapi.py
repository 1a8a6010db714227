"""The OpenAPI documents: whole, consistent, and the same in JSON and in gnostic's protobuf."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from netlab.api.kinds import definitions, openapi, openapi_wire, table
from netlab.api.resources import ALL, MEASURED
from netlab.api.server import discovery
from netlab.api.server.registry.catalog import Catalog

_SERVED = list(dict.fromkeys((resource.group, resource.version) for resource in [*ALL, *MEASURED]))
_LISTS = [discovery.listed(Catalog().resources(group, version)) for group, version in _SERVED]
_VERSION_2 = openapi.version_2(_LISTS, "v1.2.3")
_VERSION_3 = [openapi.version_3(each, "v1.2.3") for each in _LISTS]
_DOCUMENTS = [_VERSION_2, *_VERSION_3]


def _schemas(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = document.get("definitions") or document["components"]["schemas"]
    return found


def _within(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _within(each)
    elif isinstance(value, list):
        for each in value:
            yield from _within(each)


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_every_reference_is_to_a_definition_and_every_definition_is_used(document: Any) -> None:
    used = {each["$ref"].rpartition("/")[2] for each in _within(document) if isinstance(each.get("$ref"), str)}
    # Sent in a watch, whose answer a document describes as a list.
    assert used | {"io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"} == set(_schemas(document)) | {
        "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"
    }


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_operations_have_names_of_their_own(document: Any) -> None:
    names = [each["operationId"] for each in _within(document["paths"]) if "operationId" in each]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
def test_every_resource_has_its_paths(resource: Any) -> None:
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    for document in (_VERSION_2, _VERSION_3[_SERVED.index((resource.group, resource.version))]):
        one = document["paths"][f"{root}{scope}/{resource.plural}/{{name}}"]
        assert {"get", "put", "patch", "delete", "parameters"} == set(one)
        assert {each["name"] for each in one["parameters"]} == {"name", *(["namespace"] if scope else [])}
        assert one["patch"]["x-kubernetes-group-version-kind"] == kind
        # By these kubectl decides to leave the checking of fields to the server.
        query = {each["name"] for each in one["patch"]["parameters"] if each["in"] == "query"}
        assert {"dryRun", "fieldValidation", "force", "fieldManager"} <= query
        every = document["paths"][f"{root}{scope}/{resource.plural}"]
        assert {"get", "post", "delete"} <= set(every)
        assert every["get"]["x-kubernetes-action"] == "list"
        schema = _schemas(document)[definitions.name_of(table.message_of(resource.api_version, resource.kind).name)]  # type: ignore[union-attr]
        assert schema["x-kubernetes-group-version-kind"] == [kind]
        assert {"apiVersion", "kind", "metadata"} <= set(schema["properties"])


@pytest.mark.parametrize(
    ("name", "schema", "in_version_3"),
    [
        ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", {"type": "string", "format": "date-time"}, None),
        (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            {"type": "string", "format": "int-or-string"},
            {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        ),
        (
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            {"type": "string"},
            {"oneOf": [{"type": "string"}, {"type": "number"}]},
        ),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", {"type": "object"}, None),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", {"type": "object"}, None),
    ],
)
def test_what_is_not_an_object_of_fields(name: str, schema: Any, in_version_3: Any) -> None:
    for document, wanted in ((_VERSION_2, schema), (_VERSION_3[0], in_version_3 or schema)):
        found = _schemas(document)[name]
        assert {key: value for key, value in found.items() if key != "description"} == wanted


@pytest.mark.parametrize("document", _DOCUMENTS[:2])
def test_fields_say_how_they_are_merged(document: Any) -> None:
    schemas = _schemas(document)
    pod, container = schemas["io.k8s.api.core.v1.PodSpec"], schemas["io.k8s.api.core.v1.Container"]
    assert pod["required"] == ["containers"]
    assert pod["properties"]["containers"]["x-kubernetes-patch-strategy"] == "merge"
    assert pod["properties"]["containers"]["x-kubernetes-patch-merge-key"] == "name"
    ports = container["properties"]["ports"]
    assert ports["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    assert ports["x-kubernetes-list-type"] == "map"
    assert container["properties"]["args"]["x-kubernetes-list-type"] == "atomic"
    assert schemas["io.k8s.api.core.v1.ObjectReference"]["x-kubernetes-map-type"] == "atomic"
    # The fields of a message without a name stand in its place.
    assert "tcpSocket" in schemas["io.k8s.api.core.v1.Probe"]["properties"]


def test_options_of_deletes_are_a_kind_of_every_group() -> None:
    options = _schemas(_VERSION_2)["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]
    kinds = options["x-kubernetes-group-version-kind"]
    assert {(each["group"], each["version"]) for each in kinds} == set(_SERVED)


def test_descriptions_are_of_messages_and_fields_that_exist() -> None:
    for name, described in definitions.descriptions().items():
        fields = table.message(name).fields
        assert set(described) <= {"", *fields}
        assert all(text.endswith(".") and text.strip() == text for text in described.values())


@pytest.mark.parametrize("resource", [*ALL, *MEASURED], ids=lambda resource: resource.kind)
def test_every_kind_that_is_served_says_what_it_is(resource: Any) -> None:
    message = table.message_of(resource.api_version, resource.kind)
    assert message is not None
    assert definitions.descriptions()[message.name][""]


def test_a_reference_has_a_description_of_its_own() -> None:
    text = definitions.descriptions()["core.v1.Pod"]["spec"]
    in_version_2 = _schemas(_VERSION_2)["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    assert in_version_2 == {"description": text, "$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"}
    in_version_3 = _schemas(_VERSION_3[0])["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    reference = {"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}
    assert in_version_3 == {"description": text, "allOf": [reference]}


# --- gnostic -------------------------------------------------------------------------------------------------------

_GNOSTIC = {
    "Document": "swagger=1 info=2:Info paths=8:Paths definitions=9:Definitions",
    "Info": "title=1 version=2",
    "Paths": "path=2*:NamedPathItem",
    "NamedPathItem": "name=1 value=2:PathItem",
    "PathItem": "get=2:Operation put=3:Operation post=4:Operation delete=5:Operation patch=8:Operation "
    "parameters=9*:ParametersItem",
    "Operation": "operation_id=5 produces=6* consumes=7* parameters=8*:ParametersItem responses=9:Responses "
    "vendor_extension=13*:NamedAny",
    "ParametersItem": "parameter=1:Parameter",
    "Parameter": "body_parameter=1:BodyParameter non_body_parameter=2:NonBodyParameter",
    "BodyParameter": "description=1 name=2 in=3 required=4? schema=5:Schema",
    "NonBodyParameter": "query_parameter_sub_schema=3:Query path_parameter_sub_schema=4:Path",
    "Query": "required=1? in=2 description=3 name=4 type=6 unique_items=20?",
    "Path": "required=1? in=2 description=3 name=4 type=5 unique_items=19?",
    "Responses": "response_code=1*:NamedResponseValue",
    "NamedResponseValue": "name=1 value=2:ResponseValue",
    "ResponseValue": "response=1:Response",
    "Response": "description=1 schema=2:SchemaItem",
    "SchemaItem": "schema=1:Schema",
    "Definitions": "additional_properties=1*:NamedSchema",
    "NamedSchema": "name=1 value=2:Schema",
    "Schema": "_ref=1 format=2 description=4 required=19* additional_properties=21:AdditionalPropertiesItem "
    "type=22:TypeItem items=23:ItemsItem properties=25:Properties vendor_extension=31*:NamedAny",
    "AdditionalPropertiesItem": "schema=1:Schema",
    "TypeItem": "value=1*",
    "ItemsItem": "schema=1*:Schema",
    "Properties": "additional_properties=1*:NamedSchema",
    "NamedAny": "name=1 value=2:Any",
    "Any": "yaml=2",
}
"""The messages of OpenAPIv2.proto, as far as our documents go: texts, `?` flags, `*` lists, `:` messages."""


def _read(data: bytes) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="openapi.proto", package="openapi", syntax="proto3")
    for name, fields in _GNOSTIC.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            said, _, kind = text.partition(":")
            field, _, number = said.rstrip("*?").partition("=")
            described = message.field.add(name=field, number=int(number))
            described.label = described.LABEL_REPEATED if "*" in said else described.LABEL_OPTIONAL
            described.type = described.TYPE_BOOL if "?" in said else described.TYPE_STRING
            if kind:
                described.type = described.TYPE_MESSAGE
                described.type_name = f".openapi.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    document = message_factory.GetMessageClass(pool.FindMessageTypeByName("openapi.Document"))()
    document.MergeFromString(data)
    return document


def _extensions_of(message: Any) -> dict[str, Any]:
    return {each.name: json.loads(each.value.yaml) for each in message.vendor_extension}


def _schema_of(message: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if message._ref:
        schema["$ref"] = message._ref
    schema |= {name: getattr(message, name) for name in ("format", "description") if getattr(message, name)}
    if message.required:
        schema["required"] = list(message.required)
    if message.type.value:
        schema["type"] = message.type.value[0]
    if message.HasField("additional_properties"):
        schema["additionalProperties"] = _schema_of(message.additional_properties.schema)
    if message.items.schema:
        schema["items"] = _schema_of(message.items.schema[0])
    if message.properties.additional_properties:
        listed = message.properties.additional_properties
        schema["properties"] = {each.name: _schema_of(each.value) for each in listed}
    return schema | _extensions_of(message)


def _parameter_of(item: Any) -> dict[str, Any]:
    parameter = item.parameter
    if parameter.HasField("body_parameter"):
        message = parameter.body_parameter
        said: dict[str, Any] = {"schema": _schema_of(message.schema)}
    else:
        each = parameter.non_body_parameter
        message = getattr(each, each.ListFields()[0][0].name)
        said = {"type": message.type, "uniqueItems": message.unique_items, "description": message.description}
    required = {"required": True} if message.required else {}
    return {"in": getattr(message, "in"), "name": message.name} | said | required


def _operation_of(message: Any) -> dict[str, Any]:
    responses = {
        each.name: {
            "description": each.value.response.description,
            "schema": _schema_of(each.value.response.schema.schema),
        }
        for each in message.responses.response_code
    }
    return {
        "operationId": message.operation_id,
        "produces": list(message.produces),
        "consumes": list(message.consumes),
        "parameters": [_parameter_of(each) for each in message.parameters],
        "responses": responses,
    } | _extensions_of(message)


def test_gnostics_message_says_what_the_document_says() -> None:
    message = _read(openapi_wire.encode(_VERSION_2))
    paths: dict[str, Any] = {}
    for each in message.paths.path:
        paths[each.name] = at = {}
        for field, value in each.value.ListFields():
            is_operation = field.name != "parameters"
            at[field.name] = _operation_of(value) if is_operation else [_parameter_of(item) for item in value]
    assert {
        "swagger": message.swagger,
        "info": {"title": message.info.title, "version": message.info.version},
        "paths": paths,
        "definitions": {each.name: _schema_of(each.value) for each in message.definitions.additional_properties},
    } == _VERSION_2
