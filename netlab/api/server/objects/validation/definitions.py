"""apiextensions.k8s.io/v1.CustomResourceDefinition (apiextensions-apiserver pkg/apis/apiextensions/validation)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from netlab.api.resources import STATUS
from netlab.api.server.objects import definitions
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.structural import paths
from netlab.api.server.objects.structural import rules as schema_rules
from netlab.api.server.objects.validation import rules

APPROVAL = "api-approved.kubernetes.io"

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("", "byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password")

MOST_SELECTABLE = 8
MOST_VERSIONS = 64
"""Nobody has a tenth of them."""


def check(new: JSONObject, old: JSONObject | None, problems: Problems) -> None:
    """A definition, and what may become of one."""
    spec, meta = new["spec"], new["metadata"]
    if meta["name"] != f"{spec['names']['plural']}.{spec['group']}":
        problems.invalid("metadata.name", meta["name"], 'must be spec.names.plural+"."+spec.group')
    _check_group(new, old, problems)
    problems.one_of("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
    _check_names(spec["names"], "spec.names", problems)
    _check_versions(spec["versions"], _schemas(old), problems)
    _check_conversion(spec["conversion"], sum(each["served"] for each in spec["versions"]), problems)
    if spec.get("preserveUnknownFields"):
        detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema"
        problems.invalid("spec.preserveUnknownFields", True, f"{detail} instead")
    _check_stored(new[STATUS]["storedVersions"], spec["versions"], problems)
    if old is not None:
        _check_change(spec, old, problems)


def _check_group(new: JSONObject, old: JSONObject | None, problems: Problems) -> None:
    group = new["spec"]["group"]
    if not group:
        problems.required("spec.group")
        return
    rules.dns_subdomain("spec.group", group, problems)
    if "." not in group:
        problems.invalid("spec.group", group, "should be a domain with at least one dot")
    if not re.search(r"(^|\.)(k8s|kubernetes)\.io$", group):
        return
    approval = _approval(new)
    if approval and (old is None or _approval(old) != approval):
        text = new["metadata"].get("annotations", {}).get(APPROVAL, "")
        path = f"metadata.annotations[{APPROVAL}]"
        if text:
            problems.invalid(path, text, approval)
        else:
            problems.required(path, approval)


def _approval(definition: JSONObject) -> str:
    """What is wrong with a definition's approval; empty: nothing (apihelpers.GetAPIApprovalState)."""
    text = definition["metadata"].get("annotations", {}).get(APPROVAL, "")
    see = ", see https://github.com/kubernetes/enhancements/pull/1111"
    needed = f'protected groups must have approval annotation "{APPROVAL}"'
    if not text:
        return needed + see
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if text.startswith("unapproved") or (parts.scheme and parts.netloc):
        return ""
    return f'{needed} with either a URL or a reason starting with "unapproved"{see}'


def _check_names(names: JSONObject, path: str, problems: Problems) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        text = names[field]
        if not text:
            problems.required(f"{path}.{field}")
        elif field in ("plural", "singular"):
            rules.dns_1035(f"{path}.{field}", text, problems)
        else:
            found = Problems()
            rules.dns_1035(f"{path}.{field}", text.lower(), found)
            if found:
                detail = f"may have mixed case, but should otherwise match: {found[0].message.partition(': ')[2]}"
                problems.invalid(f"{path}.{field}", text, detail)
    if names["kind"] and names["kind"] == names["listKind"]:
        problems.invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same")
    for field in ("shortNames", "categories"):
        for index, text in enumerate(names.get(field, ())):
            rules.dns_1035(f"{path}.{field}[{index}]", text, problems)


def _schemas(definition: JSONObject | None) -> JSONObject:
    """By the versions' names."""
    versions = definition["spec"]["versions"] if definition is not None else ()
    return {each["name"]: each.get("schema", {}).get("openAPIV3Schema") for each in versions}


def _check_versions(versions: list[JSONObject], before: JSONObject, problems: Problems) -> None:
    """`before`: the schemas that are stored."""
    names = [version["name"] for version in versions]
    if len(versions) > MOST_VERSIONS:
        problems.too_many("spec.versions", len(versions), MOST_VERSIONS)
        return
    if len(set(names)) < len(names):
        problems.invalid("spec.versions", names, "must contain unique version names")
    if sum(version["storage"] for version in versions) != 1:
        problems.invalid("spec.versions", names, "must have exactly one version marked as storage version")
    for index, version in enumerate(versions):
        _check_version(version, f"spec.versions[{index}]", before.get(version["name"]), problems)


def _check_version(version: JSONObject, path: str, before: JSONObject | None, problems: Problems) -> None:
    rules.dns_1035(f"{path}.name", version["name"], problems)
    _check_deprecation(version, f"{path}.deprecationWarning", problems)
    parts = version.get("subresources", {})
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema is None:
        problems.required(f"{path}.schema.openAPIV3Schema")
    else:
        place, is_unchanged = f"{path}.schema.openAPIV3Schema", schema == before
        schema_rules.check(schema, place, problems, has_status=STATUS in parts, is_unchanged=is_unchanged)
        _check_selectable(version.get("selectableFields", ()), schema, f"{path}.selectableFields", problems)
    if "scale" in parts:
        _check_scale(parts["scale"], f"{path}.subresources.scale", problems)
    for index, column in enumerate(version.get("additionalPrinterColumns", ())):
        _check_column(column, f"{path}.additionalPrinterColumns[{index}]", problems)


def _check_deprecation(version: JSONObject, path: str, problems: Problems) -> None:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        problems.invalid(path, text, "can only be set for deprecated versions")
    if not text:
        problems.invalid(path, text, "must not be an empty string")
    if len(text.encode()) > 256:
        problems.invalid(path, text, "must be <= 256 characters long")
    if not text.isprintable():
        problems.invalid(path, text, "must only contain printable UTF-8 characters")


def _check_column(column: JSONObject, path: str, problems: Problems) -> None:
    if not column["name"]:
        problems.required(f"{path}.name")
    if column["type"] not in _COLUMN_TYPES:
        problems.invalid(f"{path}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
    if column.get("format", "") not in _COLUMN_FORMATS:
        problems.invalid(f"{path}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS[1:])}")
    _check_path(column["jsonPath"], f"{path}.JSONPath", paths.check, problems)


def _check_scale(scale: JSONObject, path: str, problems: Problems) -> None:
    for field, root, is_required in (
        ("specReplicasPath", (".spec.",), True),
        ("statusReplicasPath", (".status.",), True),
        ("labelSelectorPath", (".spec.", ".status."), False),
    ):
        text = scale.get(field, "")
        if not text:
            if is_required:
                problems.required(f"{path}.{field}")
        elif not text.startswith(root):
            problems.invalid(f"{path}.{field}", text, f"should be a json path under {' or '.join(root)}".rstrip("."))
        else:
            _check_path(text, f"{path}.{field}", paths.fields, problems)


def _check_path(text: str, path: str, follow: Callable[[str], Any], problems: Problems) -> None:
    if not text:
        problems.required(path)
        return
    try:
        follow(text)
    except paths.PathError as error:
        problems.invalid(path, text, str(error))


def _check_selectable(fields: list[JSONObject], schema: JSONObject, path: str, problems: Problems) -> None:
    seen = set()
    for index, field in enumerate(fields):
        text, own = field["jsonPath"], f"{path}[{index}].jsonPath"
        if not text:
            problems.required(own)
            continue
        try:
            names = paths.fields(text)
        except paths.PathError as error:
            problems.invalid(own, text, f"is an invalid path: {error}")
            continue
        if names[0] == "metadata":
            problems.invalid(own, text, "must not point to fields in metadata")
        place: JSONObject = schema
        for name in names:
            place = place.get("properties", {}).get(name, {})
        if place.get("type") not in ("string", "boolean", "integer"):
            detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with "
            problems.invalid(own, text, f"{detail}formats are allowed.")
        if text in seen:
            problems.duplicate(own, text)
        seen.add(text)
    if len(seen) > MOST_SELECTABLE:
        problems.too_many(path, len(seen), MOST_SELECTABLE)


def _check_conversion(conversion: JSONObject, served: int, problems: Problems) -> None:
    path, strategy = "spec.conversion", conversion["strategy"]
    problems.one_of(f"{path}.strategy", strategy, ("None", "Webhook"))
    if strategy == "Webhook":
        if served > 1:
            problems.forbidden(f"{path}.strategy", "netlab calls no webhooks, and more than one version is served")
    elif "webhook" in conversion:
        problems.forbidden(f"{path}.webhook", "should not be set when strategy is not set to Webhook")


def _check_stored(stored: list[str], versions: list[JSONObject], problems: Problems) -> None:
    path = "status.storedVersions"
    if not stored:
        problems.invalid(path, stored, "must have at least one stored version")
    names = [version["name"] for version in versions]
    for index, name in enumerate(stored):
        if name not in names:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from {path}"
            )
            problems.invalid(f"{path}[{index}]", name, detail)


def _check_change(spec: JSONObject, old: JSONObject, problems: Problems) -> None:
    before = old["spec"]
    problems.unchanged("spec.group", spec["group"], before["group"])
    problems.unchanged("spec.names.plural", spec["names"]["plural"], before["names"]["plural"])
    if definitions.is_true(old, definitions.ESTABLISHED):
        problems.unchanged("spec.scope", spec["scope"], before["scope"])
        problems.unchanged("spec.names.kind", spec["names"]["kind"], before["names"]["kind"])
