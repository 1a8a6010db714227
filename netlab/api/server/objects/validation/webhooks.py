"""admissionregistration.k8s.io/v1: configurations of webhooks (pkg/apis/admissionregistration/validation)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from netlab.api.admission_types import (
    MatchCondition,
    RuleWithOperations,
    ServiceReference,
    Webhook,
    WebhookClientConfig,
    WebhookConfiguration,
)
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.structural import expressions
from netlab.api.server.objects.validation import rules

CONDITION_VARIABLES = ("object", "oldObject", "request")
"""What a match condition knows. Upstream's `authorizer` is not there."""

REVIEW_VERSIONS = ("v1", "v1beta1")
"""The versions of AdmissionReview that webhooks are asked with."""

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_LONGEST_TIMEOUT = 30
_MOST_CONDITIONS = 64
_LABELS_OF_NAME = 3


def configuration(new: WebhookConfiguration, problems: Problems) -> None:
    """Its webhooks, each of another name."""
    names: set[str] = set()
    for index, hook in enumerate(new.webhooks):
        path = f"webhooks[{index}]"
        _webhook(path, hook, problems)
        if hook.name in names:
            problems.duplicate(f"{path}.name", hook.name)
        names.add(hook.name)


def _webhook(path: str, hook: Webhook, problems: Problems) -> None:
    if not hook.name:
        problems.required(f"{path}.name")
    else:
        rules.dns_subdomain(f"{path}.name", hook.name, problems)
        if hook.name.count(".") + 1 < _LABELS_OF_NAME:
            why = "should be a domain with at least three segments separated by dots"
            problems.invalid(f"{path}.name", hook.name, why)
    for index, rule in enumerate(hook.rules):
        _rule(f"{path}.rules[{index}]", rule, problems)
    problems.one_of(f"{path}.failurePolicy", hook.failurePolicy, ("Fail", "Ignore"))
    problems.one_of(f"{path}.matchPolicy", hook.matchPolicy, ("Equivalent", "Exact"))
    problems.one_of(f"{path}.reinvocationPolicy", hook.reinvocationPolicy, ("IfNeeded", "Never"))
    if hook.sideEffects is None:
        problems.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    else:
        problems.one_of(f"{path}.sideEffects", hook.sideEffects, ("None", "NoneOnDryRun"))
    if not 0 < hook.timeoutSeconds <= _LONGEST_TIMEOUT:
        why = "the timeout value must be between 1 and 30 seconds"
        problems.invalid(f"{path}.timeoutSeconds", hook.timeoutSeconds, why)
    rules.label_selector(f"{path}.namespaceSelector", hook.namespaceSelector, problems)
    rules.label_selector(f"{path}.objectSelector", hook.objectSelector, problems)
    _client(f"{path}.clientConfig", hook.clientConfig, problems)
    _conditions(f"{path}.matchConditions", hook.matchConditions, problems)
    _versions(f"{path}.admissionReviewVersions", hook.admissionReviewVersions, problems)


def _rule(path: str, rule: RuleWithOperations, problems: Problems) -> None:
    _listed(f"{path}.operations", rule.operations, "operations", problems)
    for index, operation in enumerate(rule.operations):
        problems.one_of(f"{path}.operations[{index}]", operation, _OPERATIONS)
    _listed(f"{path}.apiGroups", rule.apiGroups, "API groups", problems)
    _listed(f"{path}.apiVersions", rule.apiVersions, "API versions", problems)
    for field, names in (("apiVersions", rule.apiVersions), ("resources", rule.resources)):
        for index, name in enumerate(names):
            if not name:
                problems.required(f"{path}.{field}[{index}]")
    if not rule.resources:
        problems.required(f"{path}.resources")
    _covered(f"{path}.resources", rule.resources, problems)
    problems.one_of(f"{path}.scope", rule.scope, ("*", "Cluster", "Namespaced"))


def _listed(path: str, values: Sequence[str], what: str, problems: Problems) -> None:
    if not values:
        problems.required(path)
    elif len(values) > 1 and "*" in values:
        problems.invalid(path, list(values), f"if '*' is present, must not specify other {what}")


def _covered(path: str, resources: Sequence[str], problems: Problems) -> None:
    """A resource that another entry covers."""
    if len(resources) > 1 and "*/*" in resources:
        problems.invalid(path, list(resources), "if '*/*' is present, must not specify other resources")
    for index, each in enumerate(resources):
        whole, slash, part = each.partition("/")
        if slash and part != "*" and f"{whole}/*" in resources:
            why = f"if '{whole}/*' is present, must not specify {each}"
            problems.invalid(f"{path}[{index}]", each, why)
        elif slash and whole != "*" and f"*/{part}" in resources:
            problems.invalid(f"{path}[{index}]", each, f"if '*/{part}' is present, must not specify {each}")
        elif not slash and whole != "*" and "*" in resources:
            why = "if '*' is present, must not specify other resources without subresources"
            problems.invalid(path, list(resources), why)


def _client(path: str, config: WebhookClientConfig, problems: Problems) -> None:
    if (config.url is None) == (config.service is None):
        problems.required(path, "exactly one of url or service is required")
    elif config.url is not None:
        _url(f"{path}.url", config.url, problems)
    elif config.service is not None:
        _service(f"{path}.service", config.service, problems)


def _url(path: str, url: str, problems: Problems) -> None:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        problems.required(path, f"url must be a valid URL: {error}{form}")
        return
    if not url.isascii() or not url.isprintable() or " " in url:
        problems.required(path, f"url must be a valid URL: it has characters that no URL has{form}")
    if parts.scheme != "https":
        problems.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}")
    if not parts.hostname:
        problems.invalid(path, parts.netloc, f"host must be specified{form}")
    if "@" in parts.netloc:
        problems.invalid(path, parts.netloc.rpartition("@")[0], "user information is not permitted in the URL")
    if parts.fragment:
        problems.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        problems.invalid(path, parts.query, "query parameters are not permitted in the URL")


def _service(path: str, service: ServiceReference, problems: Problems) -> None:
    if not service.name:
        problems.required(f"{path}.name")
    if not service.namespace:
        problems.required(f"{path}.namespace")
    rules.port(f"{path}.port", service.port, problems)
    if service.path in ("", "/"):
        return
    if not service.path.startswith("/"):
        problems.invalid(f"{path}.path", service.path, "must start with a '/'")
    for step in service.path.removeprefix("/").removesuffix("/").split("/"):
        rules.dns_subdomain(f"{path}.path", step, problems)


def _conditions(path: str, conditions: Sequence[MatchCondition], problems: Problems) -> None:
    if len(conditions) > _MOST_CONDITIONS:
        problems.too_many(path, len(conditions), _MOST_CONDITIONS)
        return
    names: set[str] = set()
    for index, each in enumerate(conditions):
        if not each.name:
            problems.required(f"{path}[{index}].name")
        elif each.name in names:
            problems.duplicate(f"{path}[{index}].name", each.name)
        names.add(each.name)
        if not each.expression.strip():
            problems.required(f"{path}[{index}].expression")
            continue
        try:
            expressions.program(each.expression, CONDITION_VARIABLES)
        except (expressions.MalformedError, expressions.UnknownError) as error:
            problems.invalid(f"{path}[{index}].expression", each.expression, f"compilation failed: {error}")


def _versions(path: str, versions: Sequence[str], problems: Problems) -> None:
    if not versions:
        problems.required(path, f"must specify one of {', '.join(REVIEW_VERSIONS)}")
        return
    seen: set[str] = set()
    for index, each in enumerate(versions):
        if each in seen:
            problems.duplicate(f"{path}[{index}]", each)
        seen.add(each)
        rules.dns_1035(f"{path}[{index}]", each, problems)
    if not seen.intersection(REVIEW_VERSIONS):
        why = f"must include at least one of {', '.join(REVIEW_VERSIONS)}"
        problems.invalid(path, list(versions), why)
