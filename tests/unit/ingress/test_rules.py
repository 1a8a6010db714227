"""Ingresses to a routing table: what each says, what is wrong, and who of two has a host."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api.networking_types import Ingress
from netlab.ingress.model import Rule
from netlab.ingress.objects import Objects
from netlab.ingress.rules import plan
from tests.unit.ingress.objects import backend, ingress, ingress_class, objects, pair, rule, secret, service

WEB = rule("a.test", ("Prefix", "/", "web"))


def planned(*ingresses: Ingress, **more: Any) -> Objects:
    return objects(*ingresses, services=[service("web"), service("shop")], **more)


def words(rule: Rule) -> str:
    return f"{rule.host}{rule.path} > {rule.destination or 503}{' (fallback)' if rule.is_fallback else ''}"


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        ({"rules": [WEB]}, ["a.test/ > default/web:80"]),
        ({"rules": [rule("*.a.test", ("Exact", "/b/", "web"))]}, ["*.a.test=/b/ > default/web:80"]),
        ({"rules": [rule("", ("Prefix", "/b/", "web"))]}, ["*/b/ > default/web:80"]),
        ({"rules": [rule("", ("ImplementationSpecific", "", "web"))]}, ["*/ > default/web:80"]),
        (
            {"rules": [{"http": {"paths": [{"pathType": "Prefix", "path": "/", "backend": backend("web", "http")}]}}]},
            ["*/ > default/web:80"],
        ),
        ({"defaultBackend": backend("shop")}, ["*/ > default/shop:80 (fallback)"]),
        (
            {"defaultBackend": backend("shop"), "rules": [WEB]},
            [
                "a.test/ > default/web:80",
                "a.test/ > default/shop:80 (fallback)",
                "*/ > default/shop:80 (fallback)",
            ],
        ),
        (
            {"defaultBackend": backend("shop"), "rules": [{"host": "a.test"}]},
            ["a.test/ > default/shop:80 (fallback)", "*/ > default/shop:80 (fallback)"],
        ),
    ],
)
def test_what_an_ingress_says(spec: dict[str, Any], rules: list[str]) -> None:
    found = plan(planned(ingress("i", **spec)))
    assert list(map(words, found.table.rules)) == rules
    assert found.problems == {}


_MANIFESTS: list[tuple[dict[str, Any], str, str, int]] = [
    ({"rules": [rule("a.test", ("Prefix", "/", "nosuch"))]}, "BackendNotFound", "no Service default/nosuch", 1),
    ({"defaultBackend": backend("web", "https")}, "BackendNotFound", "has no TCP port https", 1),
    ({"defaultBackend": backend("web", 53)}, "BackendNotFound", "has no TCP port 53", 1),
    ({"defaultBackend": {}}, "BackendNotSupported", "only Services are served", 1),
    ({"defaultBackend": backend("elsewhere")}, "BackendNotSupported", "is an ExternalName", 1),
    ({"rules": [rule("a.test", ("Prefix", "/a b", "web"))]}, "InvalidPath", "is no path of requests", 0),
    ({"rules": [rule("a.test", ("Exact", "/a\nb x", "web"))]}, "InvalidPath", "is no path of requests", 0),
    ({"rules": [rule("a.test", ("Prefix", "/ä", "web"))]}, "InvalidPath", "'/\\xe4' is no path", 0),
    ({"rules": [rule("a.test", ("Prefix", '/"#{}', "web"))]}, "InvalidPath", "is no path of requests", 0),
    ({"rules": [rule("a.test", ("Prefix", "a", "web"))]}, "InvalidPath", "is no path of requests", 0),
    ({"rules": [rule("a.test g9\nx", ("Prefix", "/", "web"))]}, "InvalidHost", "is no host name", 0),
    ({"rules": [rule("a.*.test", ("Prefix", "/", "web"))]}, "InvalidHost", "is no host name", 0),
    ({"rules": [rule("A.test", ("Prefix", "/", "web"))]}, "InvalidHost", "is no host name", 0),
    ({"rules": [WEB, rule("a.test", ("Prefix", "/", "shop"))]}, "RuleConflict", "a.test/ is another rule", 1),
    ({"rules": [WEB], "tls": [{}]}, "CertificateNotUsed", "secretName: is empty", 1),
    ({"rules": [WEB], "tls": [{"secretName": "nosuch"}]}, "CertificateNotUsed", "no Secret default/nosuch", 1),
    ({"rules": [WEB], "tls": [{"secretName": "torn"}]}, "CertificateNotUsed", "tls.crt is not a chain", 1),
    ({"rules": [WEB], "tls": [{"secretName": "keyless"}]}, "CertificateNotUsed", "tls.key is empty", 1),
    ({"rules": [WEB], "tls": [{"secretName": "mixed"}]}, "CertificateNotUsed", "OpenSSL does not take", 1),
    ({"rules": [WEB], "tls": [{"secretName": "good", "hosts": ["a b"]}]}, "InvalidHost", "'a b' is no host", 1),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "reason", "said", "rules"), _MANIFESTS)
def test_what_is_wrong_is_said_and_the_rest_is_done(spec: dict[str, Any], reason: str, said: str, rules: int) -> None:
    chain, key = pair("a.test")
    secrets = [
        secret("good", chain, key),
        secret("torn", chain[:100], key),
        secret("keyless", chain, ""),
        secret("mixed", chain, pair("b.test")[1]),
    ]
    services = [service("web"), service("shop"), service("elsewhere", type="ExternalName")]
    found = plan(objects(ingress("i", **spec), services=services, secrets=secrets))
    assert [each.reason for each in found.problems["default/i"]] == [reason]
    assert said in found.problems["default/i"][0].message
    assert len(found.table.rules) == rules
    assert found.table.certificates == ()


def test_the_older_ingress_has_the_host_and_the_path() -> None:
    younger = ingress("a", created=2, rules=[rule("a.test", ("Prefix", "/", "shop"), ("Exact", "/x", "shop"))])
    found = plan(planned(younger, ingress("b", created=1, rules=[WEB])))
    assert list(map(words, found.table.rules)) == ["a.test/ > default/web:80", "a.test=/x > default/shop:80"]
    assert [each.reason for each in found.problems["default/a"]] == ["RuleConflict"]


def test_certificates_are_for_the_hosts_that_the_ingress_says_or_for_their_own() -> None:
    secrets = [secret("one", *pair("a.test", "*.b.test")), secret("two", *pair("a.test"))]
    found = plan(
        planned(
            ingress("i", created=1, rules=[WEB], tls=[{"secretName": "one"}]),
            ingress("j", created=2, rules=[WEB], tls=[{"secretName": "two", "hosts": ["a.test", "c.test"]}]),
            secrets=secrets,
        )
    )
    assert [each.hosts for each in found.table.certificates] == [("a.test", "*.b.test"), ("c.test",)]
    assert [each.reason for each in found.problems["default/j"]] == ["CertificateConflict"]
    assert all(each.pem.count("-----BEGIN") == 2 for each in found.table.certificates)


@pytest.mark.parametrize(
    ("named", "annotation", "default", "served"),
    [
        ("netlab", None, False, True),
        ("other", None, True, False),
        ("nosuch", None, True, False),
        (None, "netlab", False, True),
        (None, "nginx", True, False),
        (None, None, False, False),
        (None, None, True, True),
    ],
)
def test_whose_ingresses_are_served(named: str | None, annotation: str | None, default: bool, served: bool) -> None:
    one = ingress("i", rules=[WEB], ingressClassName=named)
    if annotation:
        one.metadata.annotations["kubernetes.io/ingress.class"] = annotation
    classes = [ingress_class(default=default), ingress_class("other", "example.com/other")]
    found = plan(planned(one, classes=classes))
    assert found.served == (frozenset({"default/i"}) if served else frozenset())
    assert bool(found.table.rules) is served
