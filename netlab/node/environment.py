"""A container's command, arguments and environment: $(VAR) references and the downward API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from netlab.api.core_types import Container, EnvVar, Pod, Service
from netlab.api.meta_types import Quantity
from netlab.errors import UsageError
from netlab.net.addresses import host_port
from netlab.node import resources
from netlab.node.configured import Configured, all_of, one_of

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME); `$$` is a dollar sign, and a name that is not in `env` stays as written.

    Kubernetes' own rules (third_party/forked/golang/expansion), which are not a shell's.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def of_services(services: Iterable[Service]) -> dict[str, str]:
    """The variables by which a client finds Services with a cluster IP (pkg/kubelet/envvars)."""
    env: dict[str, str] = {}
    for service in services:
        host = service.spec.clusterIP
        if host in ("", "None"):
            continue
        name, ports = _variable_name(service.metadata.name), service.spec.ports
        env[f"{name}_SERVICE_HOST"] = host
        for index, port in enumerate(ports):
            address = f"{port.protocol.lower()}://{host_port(host, port.port)}"
            if index == 0:
                env[f"{name}_SERVICE_PORT"] = str(port.port)
                env[f"{name}_PORT"] = address
            if port.name:
                env[f"{name}_SERVICE_PORT_{_variable_name(port.name)}"] = str(port.port)
            prefix = f"{name}_PORT_{port.port}_{port.protocol.upper()}"
            env[prefix] = address
            env[f"{prefix}_PROTO"] = port.protocol.lower()
            env[f"{prefix}_PORT"] = str(port.port)
            env[f"{prefix}_ADDR"] = host
    return env


def _variable_name(name: str) -> str:
    return name.upper().replace("-", "_")


def environment(
    pod: Pod,
    container: Container,
    pod_ips: list[str],
    host_ips: list[str],
    given: Mapping[str, str] | None = None,
    configured: Configured | None = None,
    allocatable: Mapping[str, Quantity] | None = None,
) -> dict[str, str]:
    """The container's variables, in order: each may refer to those before it, first of them those that are `given`.

    `configured` is what the ConfigMaps and Secrets hold that they are taken from; `allocatable`, what the node has for
    pods.

    Raises `UsageError` naming a variable whose value cannot be determined.
    """
    sources = configured or {}
    try:
        env = {**(given or {}), **all_of(container, sources)}
    except UsageError as error:
        raise UsageError(f"container {container.name}: envFrom: {error}") from None
    for index, variable in enumerate(container.env):
        if variable.valueFrom is None:
            env[variable.name] = expand(variable.value, env)
            continue
        try:
            selector = variable.valueFrom.resourceFieldRef
            if selector is not None:
                value: str | None = resources.field(pod, selector, container.name, allocatable or {})
            else:
                value = _from_source(variable, pod, pod_ips, host_ips, sources)
        except UsageError as error:
            raise UsageError(f"container {container.name}: env[{index}] {variable.name}: {error}") from None
        if value is not None:
            env[variable.name] = value
    return env


def _from_source(
    variable: EnvVar, pod: Pod, pod_ips: list[str], host_ips: list[str], configured: Configured
) -> str | None:
    source = variable.valueFrom
    if source is not None and source.configMapKeyRef is not None:
        return one_of("ConfigMap", source.configMapKeyRef, pod.metadata.namespace, configured)
    if source is not None and source.secretKeyRef is not None:
        return one_of("Secret", source.secretKeyRef, pod.metadata.namespace, configured)
    if source is None or source.fieldRef is None:
        raise UsageError("valueFrom names no source")
    return field(pod, source.fieldRef.fieldPath, pod_ips, host_ips)


def field(pod: Pod, path: str, pod_ips: list[str], host_ips: list[str]) -> str:
    """The value of a field that the downward API offers. Raises `UsageError` for one that it does not."""
    if match := _SUBSCRIPT.fullmatch(path):
        values = pod.metadata.labels if match[1] == "labels" else pod.metadata.annotations
        return values.get(match[2], "")
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.nodeName,
        "spec.serviceAccountName": pod.spec.serviceAccountName or "default",
        "status.hostIP": host_ips[0] if host_ips else "",
        "status.hostIPs": ",".join(host_ips),
        "status.podIP": pod_ips[0] if pod_ips else "",
        "status.podIPs": ",".join(pod_ips),
    }
    if path not in fields:
        raise UsageError(
            f"fieldPath {path!r} is not supported: use one of {', '.join(fields)}, or metadata.labels['…']"
        )
    return fields[path]
