"""The planner: Ingresses, and what they refer to, become a routing table. Whatever is wrong is said, and left out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from netlab.api.networking_types import HTTPIngressPath, Ingress, IngressBackend, IngressTLS
from netlab.errors import UsageError
from netlab.ingress import certificates
from netlab.ingress.endpoints import port_of
from netlab.ingress.model import EVERY_PATH, Certificate, Host, HostKind, Path, PathKind, Rule, ServicePort, Table
from netlab.ingress.objects import Objects

CONTROLLER = "netlab.dev/ingress"
"""The `controller` of the IngressClasses that are served."""
CLASS = "netlab"
"""The IngressClass that a lab has."""

_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?P<wildcard>\*\.)?(?P<name>{_LABEL}(\.{_LABEL})*)")
_LONGEST_HOST = 253
_NAME = re.compile(_LABEL)
# What a path can hold on the wire (RFC 3986, section 3.3): the rest is percent-encoded there.
_PATH = re.compile(r"/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*")
_LONGEST_PATH = 1024


class Problem(NamedTuple):
    """Something that an Ingress says and that is not done."""

    reason: str
    """For an Event, as BackendNotFound."""
    message: str


class Plan(NamedTuple):
    """The table, the Ingresses (by key) that it is made of, and what is wrong with each."""

    table: Table
    served: frozenset[str]
    problems: Mapping[str, tuple[Problem, ...]]


def plan(objects: Objects) -> Plan:
    """The routing table of all Ingresses whose class is ours.

    Where two want the same host and path, or a certificate for the same host, the older one has it.
    """
    served = sorted(
        (each for each in objects.ingresses.values() if is_ours(each, objects)),
        key=lambda each: (each.metadata.creationTimestamp or "", each.key),
    )
    planner = _Planner(objects)
    for ingress in served:
        planner.add_rules(ingress)
    # An Ingress without rules is all about what no rule takes; one with rules is about its own hosts first.
    for ingress in sorted(served, key=lambda each: bool(each.spec.rules)):
        planner.add_fallback(ingress)
    for ingress in served:
        planner.add_certificates(ingress)
    return planner.plan(served)


def is_ours(ingress: Ingress, objects: Objects) -> bool:
    """Whether the Ingress's class is one of ours; without a class, whether the default one is."""
    ours = {name for name, each in objects.classes.items() if each.spec.controller == CONTROLLER}
    named = ingress.spec.ingressClassName or ingress.metadata.annotations.get(_CLASS_ANNOTATION)
    if named is not None:
        return named in ours
    return any(objects.classes[name].metadata.annotations.get(_DEFAULT_CLASS) == "true" for name in ours)


class _Planner:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._rules: dict[tuple[Host, Path, bool], tuple[str, Rule]] = {}
        """By what may exist once; with the key of the Ingress that has it."""
        self._hosts: dict[str, str] = {}
        """The key of the Ingress whose certificate a host has."""
        self._certificates: list[Certificate] = []
        self._problems: defaultdict[str, list[Problem]] = defaultdict(list)

    def plan(self, served: list[Ingress]) -> Plan:
        table = Table(tuple(rule for _, rule in self._rules.values()), tuple(self._certificates))
        problems = {key: tuple(dict.fromkeys(found)) for key, found in self._problems.items()}
        return Plan(table, frozenset(each.key for each in served), problems)

    def _complain(self, ingress: Ingress, reason: str, message: str) -> None:
        self._problems[ingress.key].append(Problem(reason, message))

    def add_rules(self, ingress: Ingress) -> None:
        for index, rule in enumerate(ingress.spec.rules):
            where = f"spec.rules[{index}]"
            host = _host(rule.host)
            if host is None:
                self._complain(ingress, "InvalidHost", f"{where}.host: {rule.host!a} is no host name: it is left out")
                continue
            for number, path in enumerate(rule.http.paths if rule.http is not None else ()):
                self._add_path(ingress, f"{where}.http.paths[{number}]", host, path)
            if ingress.spec.defaultBackend is not None:
                destination = self._destination(ingress, "spec.defaultBackend", ingress.spec.defaultBackend)
                self._add(ingress, where, Rule(host, EVERY_PATH, destination, is_fallback=True))

    def _add_path(self, ingress: Ingress, where: str, host: Host, path: HTTPIngressPath) -> None:
        wanted = _path(path)
        if wanted is None:
            said = f"{where}.path: {path.path!a} is no path of requests: it is left out"
            self._complain(ingress, "InvalidPath", said)
        else:
            destination = self._destination(ingress, f"{where}.backend", path.backend)
            self._add(ingress, where, Rule(host, wanted, destination))

    def add_fallback(self, ingress: Ingress) -> None:
        if ingress.spec.defaultBackend is not None:
            destination = self._destination(ingress, "spec.defaultBackend", ingress.spec.defaultBackend)
            rule = Rule(Host(), EVERY_PATH, destination, is_fallback=True)
            if not ingress.spec.rules:
                self._add(ingress, "spec.defaultBackend", rule)
            else:
                self._rules.setdefault((rule.host, rule.path, True), (ingress.key, rule))

    def _add(self, ingress: Ingress, where: str, rule: Rule) -> None:
        holder, present = self._rules.setdefault((rule.host, rule.path, rule.is_fallback), (ingress.key, rule))
        if present != rule:
            owner = "another rule of this one" if holder == ingress.key else f"Ingress {holder}"
            said = f"{where}: {rule.host}{rule.path} is {owner}'s, which is older: it is left out"
            self._complain(ingress, "RuleConflict", said)

    def _destination(self, ingress: Ingress, where: str, backend: IngressBackend) -> ServicePort | None:
        """The Service's port; None, and a complaint, if there is none."""
        if backend.service is None:
            self._complain(ingress, "BackendNotSupported", f"{where}: only Services are served: requests get 503")
            return None
        name, wanted = backend.service.name, backend.service.port
        key = f"{ingress.metadata.namespace}/{name}"
        service = self._objects.services.get(key)
        if service is None or not _NAME.fullmatch(name) or not _NAME.fullmatch(ingress.metadata.namespace):
            self._complain(ingress, "BackendNotFound", f"{where}: there is no Service {key}: requests get 503")
            return None
        if service.spec.type == "ExternalName":
            said = f"{where}: Service {key} is an ExternalName, which is not served: requests get 503"
            self._complain(ingress, "BackendNotSupported", said)
            return None
        port = port_of(service, name=wanted.name, number=wanted.number)
        if port is None:
            said = f"{where}: Service {key} has no TCP port {wanted.name or wanted.number}: requests get 503"
            self._complain(ingress, "BackendNotFound", said)
            return None
        return ServicePort(ingress.metadata.namespace, name, port.port)

    def add_certificates(self, ingress: Ingress) -> None:
        for index, tls in enumerate(ingress.spec.tls):
            where = f"spec.tls[{index}]"
            try:
                shown = certificates.of_secret(self._objects.secrets, ingress.metadata.namespace, tls.secretName)
            except UsageError as error:
                self._complain(ingress, "CertificateNotUsed", f"{where}: {error}: it is left out")
                continue
            hosts = tuple(self._free_hosts(ingress, where, tls, shown.names))
            if hosts:
                self._certificates.append(Certificate(shown.pem, hosts))

    def _free_hosts(self, ingress: Ingress, where: str, tls: IngressTLS, names: tuple[str, ...]) -> Iterator[str]:
        for text in tls.hosts or names:
            host = _host(text)
            if host is None or host.kind is HostKind.ANY:
                self._complain(ingress, "InvalidHost", f"{where}: {text!a} is no host name: it is left out")
                continue
            holder = self._hosts.setdefault(str(host), ingress.key)
            if holder != ingress.key:
                said = f"{where}: {host} has the certificate of Ingress {holder}, which is older"
                self._complain(ingress, "CertificateConflict", said)
            elif not any(str(host) in each.hosts for each in self._certificates):
                yield str(host)


def _host(text: str) -> Host | None:
    """A rule's host; None if it is none."""
    if not text:
        return Host()
    found = _HOST.fullmatch(text)
    if found is None or len(text) > _LONGEST_HOST:
        return None
    return Host(HostKind.ONE_LABEL if found["wildcard"] else HostKind.EXACT, found["name"])


def _path(path: HTTPIngressPath) -> Path | None:
    """A rule's path; None if no request can have it. ImplementationSpecific is Prefix."""
    text = path.path or "/"
    if not _PATH.fullmatch(text) or len(text) > _LONGEST_PATH:
        return None
    if path.pathType == "Exact":
        return Path(PathKind.EXACT, text)
    return Path(PathKind.PREFIX, text.rstrip("/"))
