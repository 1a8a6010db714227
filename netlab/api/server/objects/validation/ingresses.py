"""Ingresses and IngressClasses (upstream: pkg/apis/networking/validation)."""

from __future__ import annotations

import re

from netlab.api.networking_types import HTTPIngressPath, Ingress, IngressBackend, IngressClass
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_INVALID_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_INVALID_ENDS = ("/..", "/.")
_IP = re.compile(r"[0-9.]+|.*:.*")


def ingress(new: Ingress, problems: Problems) -> None:
    """networking.k8s.io/v1.Ingress."""
    spec = new.spec
    if not spec.rules and spec.defaultBackend is None:
        problems.invalid("spec", [], "either `defaultBackend` or `rules` must be specified")
    if spec.defaultBackend is not None:
        _backend("spec.defaultBackend", spec.defaultBackend, problems)
    if spec.ingressClassName is not None:
        rules.dns_subdomain("spec.ingressClassName", spec.ingressClassName, problems)
    for index, rule in enumerate(spec.rules):
        where = f"spec.rules[{index}]"
        if rule.host:
            _host(f"{where}.host", rule.host, problems)
        if rule.http is None:
            continue
        if not rule.http.paths:
            problems.required(f"{where}.http.paths")
        for number, path in enumerate(rule.http.paths):
            _path(f"{where}.http.paths[{number}]", path, problems)
    for index, tls in enumerate(spec.tls):
        for number, host in enumerate(tls.hosts):
            _host(f"spec.tls[{index}].hosts[{number}]", host, problems)
        if tls.secretName:
            rules.dns_subdomain(f"spec.tls[{index}].secretName", tls.secretName, problems)


def ingress_class(new: IngressClass, problems: Problems) -> None:
    """networking.k8s.io/v1.IngressClass."""
    domain, slash, path = new.spec.controller.partition("/")
    if not new.spec.controller:
        problems.required("spec.controller")
    elif not slash or not path:
        problems.invalid("spec.controller", new.spec.controller, "must be a domain-prefixed path (such as acme.io/foo)")
    else:
        rules.dns_subdomain("spec.controller", domain, problems)


def ingress_class_update(new: IngressClass, old: IngressClass, problems: Problems) -> None:
    """Its controller never changes."""
    problems.unchanged("spec.controller", new.spec.controller, old.spec.controller)


def _host(path: str, host: str, problems: Problems) -> None:
    if _IP.fullmatch(host):
        problems.invalid(path, host, "must be a DNS name, not an IP address")
    elif "*" in host:
        rules.dns_subdomain(path, host.removeprefix("*."), problems)
    else:
        rules.dns_subdomain(path, host, problems)


def _path(where: str, path: HTTPIngressPath, problems: Problems) -> None:
    if path.pathType is None:
        problems.required(f"{where}.pathType", "pathType must be specified")
    else:
        problems.one_of(f"{where}.pathType", path.pathType, _PATH_TYPES)
    is_free = path.pathType == "ImplementationSpecific"
    if not path.path.startswith("/") and not (is_free and not path.path):
        problems.invalid(f"{where}.path", path.path, "must be an absolute path")
    elif not is_free:
        for each in _INVALID_SEQUENCES:
            if each in path.path:
                problems.invalid(f"{where}.path", path.path, f"must not contain '{each}'")
        for each in _INVALID_ENDS:
            if path.path.endswith(each):
                problems.invalid(f"{where}.path", path.path, f"cannot end with '{each}'")
    _backend(f"{where}.backend", path.backend, problems)


def _backend(where: str, backend: IngressBackend, problems: Problems) -> None:
    if (backend.service is None) == (backend.resource is None):
        problems.invalid(where, backend, "exactly one of `service` and `resource` must be specified")
    if backend.service is None:
        return
    rules.dns_1035(f"{where}.service.name", backend.service.name, problems)
    port = backend.service.port
    if bool(port.name) == bool(port.number):
        problems.invalid(f"{where}.service.port", port, "exactly one of port name or number must be given")
    elif port.name:
        rules.service_name(f"{where}.service.port.name", port.name, problems)
    else:
        rules.port(f"{where}.service.port.number", port.number, problems)
