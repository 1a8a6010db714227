"""apiregistration.k8s.io/v1.APIService (kube-aggregator pkg/apis/apiregistration/validation)."""

from __future__ import annotations

from netlab.api.registration_types import APIService, ServiceReference
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

_MOST_OF_GROUP, _MOST_OF_VERSION = 20_000, 1000


def api_service(new: APIService, problems: Problems) -> None:
    """Its name says what it is about."""
    spec, name = new.spec, f"{new.spec.version}.{new.spec.group}"
    if new.metadata.name != name:
        problems.invalid("metadata.name", new.metadata.name, f'must be `spec.version+"."+spec.group`: "{name}"')
    if not spec.group and spec.version != "v1":
        problems.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    if spec.group:
        rules.dns_subdomain("spec.group", spec.group, problems)
    rules.dns_1035("spec.version", spec.version, problems)
    if not 0 < spec.groupPriorityMinimum <= _MOST_OF_GROUP:
        problems.invalid(
            "spec.groupPriorityMinimum", spec.groupPriorityMinimum, f"must be positive and less than {_MOST_OF_GROUP}"
        )
    if not 0 < spec.versionPriority <= _MOST_OF_VERSION:
        problems.invalid(
            "spec.versionPriority", spec.versionPriority, f"must be positive and less than {_MOST_OF_VERSION}"
        )
    if spec.service is not None:
        _service(spec.service, problems)
        if spec.insecureSkipTLSVerify and spec.caBundle:
            problems.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")
        return
    if spec.caBundle:
        problems.invalid("spec.caBundle", "...", "local APIServices may not have a caBundle")
    if spec.insecureSkipTLSVerify:
        problems.invalid("spec.insecureSkipTLSVerify", True, "local APIServices may not have insecureSkipTLSVerify")


def _service(service: ServiceReference, problems: Problems) -> None:
    if not service.namespace:
        problems.required("spec.service.namespace")
    if not service.name:
        problems.required("spec.service.name")
    rules.port("spec.service.port", service.port or 0, problems)


def api_service_status(new: APIService, old: APIService, part: str, problems: Problems) -> None:
    """What may be told of it."""
    for index, condition in enumerate(new.status.conditions):
        problems.one_of(f"status.conditions[{index}].status", condition.status, ("True", "False", "Unknown"))
