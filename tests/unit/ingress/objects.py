"""Objects to plan from, in a few words; and an evaluator: which Service a request is for, by the words of the API."""

from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netlab.api.config_types import Secret
from netlab.api.core_types import Service
from netlab.api.discovery_types import EndpointSlice
from netlab.api.networking_types import Ingress, IngressClass
from netlab.ingress.objects import Objects, by_service
from netlab.ingress.rules import CONTROLLER


def ingress(name: str, *, created: int = 0, namespace: str = "default", **spec: Any) -> Ingress:
    """An Ingress of the class netlab, created at that second."""
    metadata = {
        "name": name, "namespace": namespace, "uid": name, "creationTimestamp": f"2026-01-01T00:00:{created:02}Z"
    }  # fmt: skip
    return msgspec.convert({"metadata": metadata, "spec": {"ingressClassName": "netlab"} | spec}, Ingress)


def backend(service: str, port: int | str = 80) -> dict[str, Any]:
    """A backend of an Ingress."""
    wanted = {"name": port} if isinstance(port, str) else {"number": port}
    return {"service": {"name": service, "port": wanted}}


def rule(host: str, *paths: tuple[str, str, str]) -> dict[str, Any]:
    """A rule: for each path its type, the path, and the Service, whose port 80 it is."""
    listed = [{"pathType": kind, "path": path, "backend": backend(service)} for kind, path, service in paths]
    return {"host": host, "http": {"paths": listed}}


def service(name: str, *, namespace: str = "default", **spec: Any) -> Service:
    """A Service with the ports 80 (`http`) and 53 (UDP)."""
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    metadata = {"name": name, "namespace": namespace}
    return msgspec.convert({"metadata": metadata, "spec": {"ports": ports, "ipFamilies": ["IPv4"]} | spec}, Service)


def endpoint_slice(name: str, *endpoints: dict[str, Any], family: str = "IPv4", port: int = 8080) -> EndpointSlice:
    """An EndpointSlice of the Service `name`."""
    document = {
        "metadata": {
            "name": f"{name}-{family}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
    return msgspec.convert(document, EndpointSlice)


@functools.cache
def pair(*names: str) -> tuple[str, str]:
    """A certificate for these names, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "none")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=2046))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return chain, private.decode()


def secret(name: str, chain: str, key: str) -> Secret:
    """A Secret with a certificate."""
    data = {"tls.crt": base64.b64encode(chain.encode()).decode(), "tls.key": base64.b64encode(key.encode()).decode()}
    metadata = {"name": name, "namespace": "default"}
    return msgspec.convert({"metadata": metadata, "type": "kubernetes.io/tls", "data": data}, Secret)


def ingress_class(name: str = "netlab", controller: str = CONTROLLER, *, default: bool = False) -> IngressClass:
    """An IngressClass."""
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    document = {"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}}
    return msgspec.convert(document, IngressClass)


def objects(
    *ingresses: Ingress,
    services: Iterable[Service] = (),
    slices: Iterable[EndpointSlice] = (),
    secrets: Iterable[Secret] = (),
    classes: Iterable[IngressClass] | None = None,
) -> Objects:
    """What an API server has."""
    return Objects(
        {each.key: each for each in ingresses},
        {each.metadata.name: each for each in (classes if classes is not None else [ingress_class()])},
        {each.key: each for each in services},
        by_service(slices),
        {each.key: each for each in secrets},
    )


def answer_of(ingresses: Sequence[Ingress], host: str, path: str) -> str:
    """The Service that a request is for, its name alone; empty for none. Slow, and in the API's own words.

    networking/v1/types.go: of hosts a precise one comes before a wildcard's and that before none; of paths the longest,
    and at the same length an exact one before a prefix; what no rule takes is the default backend's, first that of an
    Ingress with a rule for the host. Of equal rules the older Ingress's counts. ImplementationSpecific is Prefix.
    """
    by_age = sorted(ingresses, key=lambda each: (each.metadata.creationTimestamp or "", each.key))
    for is_for in (_is_the_host, _is_under_the_wildcard, lambda wanted, _: not wanted):
        found: list[tuple[bool, int, str]] = []
        for each in by_age:
            for wanted in each.spec.rules:
                if is_for(wanted.host, host):
                    for one in wanted.http.paths if wanted.http else ():
                        if _matches(one.pathType, one.path, path):
                            assert one.backend.service is not None
                            is_prefix = one.pathType != "Exact"
                            elements = len([name for name in one.path.split("/") if name])
                            found.append((is_prefix, -elements, one.backend.service.name))
        if found:
            return min(found, key=lambda one: one[:2])[2]
        for each in by_age:
            if each.spec.defaultBackend and any(is_for(wanted.host, host) for wanted in each.spec.rules):
                return _default(each)
    for each in sorted(by_age, key=lambda each: bool(each.spec.rules)):
        if each.spec.defaultBackend:
            return _default(each)
    return ""


def _default(ingress: Ingress) -> str:
    assert ingress.spec.defaultBackend is not None
    assert ingress.spec.defaultBackend.service is not None
    return ingress.spec.defaultBackend.service.name


def _is_the_host(wanted: str, host: str) -> bool:
    return bool(wanted) and wanted == host


def _is_under_the_wildcard(wanted: str, host: str) -> bool:
    label, dot, rest = host.partition(".")
    return wanted.startswith("*.") and bool(label and dot) and rest == wanted[2:]


def _matches(kind: str | None, wanted: str, path: str) -> bool:
    if kind == "Exact":
        return path == wanted
    elements = [each for each in wanted.split("/") if each]
    return path.split("/")[1 : len(elements) + 1] == elements
