"""Ingresses and IngressClasses: what an API server refuses."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.resources import INGRESSCLASSES, INGRESSES, STATUS, Resource
from netlab.api.server.registry.generic import Registry
from tests.unit.api.cluster import create, refused, update

_INGRESSES: Resource[Any] = INGRESSES
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}


def path(path: str = "/", kind: str | None = "Prefix", **backend: Any) -> dict[str, Any]:
    found = {"path": path, "backend": backend or BACKEND}
    return {"rules": [{"host": "a.test", "http": {"paths": [found | ({"pathType": kind} if kind else {})]}}]}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "either `defaultBackend` or `rules` must be specified"),
        ({"defaultBackend": {}}, "exactly one of `service` and `resource`"),
        ({"defaultBackend": {"service": {"name": "web"}}}, "exactly one of port name or number"),
        ({"defaultBackend": {"service": {"name": "w b", "port": {"number": 1}}}}, "service.name: Invalid value"),
        ({"defaultBackend": {"service": {"name": "w", "port": {"number": 70000}}}}, "between 1 and 65535"),
        ({"defaultBackend": {"service": {"name": "w", "port": {"name": "A b"}}}}, "port.name: Invalid value"),
        ({"rules": [{"http": {}}]}, "spec.rules[0].http.paths: Required value"),
        ({"rules": [{"http": {"paths": []}}]}, "spec.rules[0].http.paths: Required value"),
        ({"rules": [{"host": "192.0.2.1"}]}, "must be a DNS name, not an IP address"),
        ({"rules": [{"host": "a.*.test"}]}, "spec.rules[0].host: Invalid value"),
        ({"rules": [{"host": "a b\n"}]}, "spec.rules[0].host: Invalid value"),
        (path(kind=None), "pathType must be specified"),
        (path(kind="Regex"), "Unsupported value"),
        (path("a"), "must be an absolute path"),
        (path("/a//b"), "must not contain '//'"),
        (path("/a/.."), "cannot end with '/..'"),
        (path("/%2F"), "must not contain '%2F'"),
        ({"ingressClassName": "A b", "defaultBackend": BACKEND}, "spec.ingressClassName: Invalid value"),
        ({"defaultBackend": BACKEND, "tls": [{"hosts": ["*"]}]}, "spec.tls[0].hosts[0]: Invalid value"),
        ({"defaultBackend": BACKEND, "tls": [{"secretName": "A/b"}]}, "spec.tls[0].secretName: Invalid value"),
    ],
)
def test_what_is_no_ingress_is_refused(registry: Registry, spec: dict[str, Any], said: str) -> None:
    with refused(422, said):
        create(registry, INGRESSES, {"metadata": {"name": "i"}, "spec": spec})


def test_an_ingress_is_numbered_and_its_status_is_written_apart(registry: Registry) -> None:
    made = create(registry, INGRESSES, {"metadata": {"name": "i"}, "spec": path("", "ImplementationSpecific")})
    assert made["status"] == {"loadBalancer": {}}
    made = update(registry, INGRESSES, made | {"spec": path("/x")})
    assert made["metadata"]["generation"] == 2
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    assert update(registry, INGRESSES, made | {"status": status}, STATUS)["status"] == status


def test_a_backend_that_is_no_service_is_stored_with_a_warning(registry: Registry) -> None:
    resource = {"apiGroup": "k8s.example.com", "kind": "Bucket", "name": "b"}
    sent = {"metadata": {"name": "i"}, "spec": {"defaultBackend": {"resource": resource}}}
    (warning,) = registry.create(_INGRESSES, "default", sent).warnings
    assert warning == "spec.defaultBackend.resource: stored and returned, but nothing in netlab acts upon it"


def test_the_controller_of_a_class_is_a_path_and_stays(registry: Registry) -> None:
    for controller, said in (("", "Required value"), ("netlab", "domain-prefixed path"), ("A b/c", "Invalid value")):
        with refused(422, said):
            create(registry, INGRESSCLASSES, {"metadata": {"name": "c"}, "spec": {"controller": controller}})
    parameters = {"kind": "P", "name": "n"}
    sent = {"metadata": {"name": "c"}, "spec": {"controller": "a.test/b", "parameters": parameters}}
    made = create(registry, INGRESSCLASSES, sent)
    assert made["spec"]["parameters"]["scope"] == "Cluster"
    with refused(422, "field is immutable"):
        update(registry, INGRESSCLASSES, made | {"spec": {"controller": "a.test/c"}})
