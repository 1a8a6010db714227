"""The containers of pods, and of the pod templates of workloads."""

from __future__ import annotations

import re

from netlab.api.core_types import Container, ContainerPort, LifecycleHandler, Probe, VolumeMount
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import rules

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def container(container: Container, path: str, names: set[str], problems: Problems) -> None:
    """v1.Container, under its path; `names` are those of the pod's containers before it, to which its own is added."""
    if container.name in names:
        problems.duplicate(f"{path}.name", container.name)
    names.add(container.name)
    if not container.name:
        problems.required(f"{path}.name")
    else:
        rules.dns_label(f"{path}.name", container.name, problems)
    if not container.image:
        problems.required(f"{path}.image")
    elif container.image != container.image.strip():
        problems.invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace")
    problems.one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, ("Always", "IfNotPresent", "Never"))
    _ports_and_environment(container, path, problems)
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe: Probe | None = getattr(container, field)
        if probe is not None:
            _probe(probe, f"{path}.{field}", problems, is_readiness=field == "readinessProbe")
    if container.lifecycle is not None:
        for field in ("postStart", "preStop"):
            handler: LifecycleHandler | None = getattr(container.lifecycle, field)
            if handler is not None:
                _handler(handler, f"{path}.lifecycle.{field}", problems)
                if handler.sleep is not None:
                    problems.not_negative(f"{path}.lifecycle.{field}.sleep.seconds", handler.sleep.seconds)
    _restarts(container, path, problems)
    for index, mount in enumerate(container.volumeMounts):
        _part_of_volume(mount, f"{path}.volumeMounts[{index}]", problems)


def _part_of_volume(mount: VolumeMount, path: str, problems: Problems) -> None:
    if mount.subPath and mount.subPathExpr:
        problems.invalid(f"{path}.subPathExpr", mount.subPathExpr, "subPathExpr and subPath are mutually exclusive")
    for field in ("subPath", "subPathExpr"):
        rules.descending_path(f"{path}.{field}", getattr(mount, field), problems)


def init_container(container: Container, path: str, problems: Problems) -> None:
    """What only a sidecar may have: one that ends is asked for nothing while it runs."""
    if container.restartPolicy != "Always":
        for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if getattr(container, field) is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                problems.forbidden(f"{path}.{field}", detail)


def _restarts(container: Container, path: str, problems: Problems) -> None:
    """The rules that are a container's own (KEP-5307)."""
    if container.restartPolicy is not None:
        problems.one_of(f"{path}.restartPolicy", container.restartPolicy, ("Always", "Never", "OnFailure"))
    elif container.restartPolicyRules:
        problems.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    for index, rule in enumerate(container.restartPolicyRules):
        place = f"{path}.restartPolicyRules[{index}]"
        problems.one_of(f"{place}.action", rule.action, ("Restart",))
        if rule.exitCodes is None:
            problems.required(f"{place}.exitCodes", "must be specified")
        else:
            problems.one_of(f"{place}.exitCodes.operator", rule.exitCodes.operator, ("In", "NotIn"))


def _ports_and_environment(container: Container, path: str, problems: Problems) -> None:
    port_names: set[str] = set()
    for index, port in enumerate(container.ports):
        _container_port(port, f"{path}.ports[{index}]", port_names, problems)
    for index, variable in enumerate(container.env):
        place = f"{path}.env[{index}]"
        if not _ENV_NAME.fullmatch(variable.name):
            problems.invalid(f"{place}.name", variable.name, "must be letters, digits, '_', '-' or '.', no digit first")
        if variable.value and variable.valueFrom is not None:
            problems.invalid(f"{place}.valueFrom", "", "may not be specified when `value` is not empty")


def _container_port(port: ContainerPort, path: str, names: set[str], problems: Problems) -> None:
    rules.port(f"{path}.containerPort", port.containerPort, problems)
    problems.one_of(f"{path}.protocol", port.protocol, rules.PROTOCOLS)
    if port.name:
        rules.service_name(f"{path}.name", port.name, problems)
        if port.name in names:
            problems.duplicate(f"{path}.name", port.name)
        names.add(port.name)
    if port.hostPort:
        rules.port(f"{path}.hostPort", port.hostPort, problems)
    if port.hostIP:
        rules.ip(f"{path}.hostIP", port.hostIP, problems)


def _probe(probe: Probe, path: str, problems: Problems, *, is_readiness: bool) -> None:
    _handler(probe, path, problems)
    if probe.grpc is not None:
        rules.port(f"{path}.grpc.port", probe.grpc.port, problems)
    grace, where = probe.terminationGracePeriodSeconds, f"{path}.terminationGracePeriodSeconds"
    if grace is not None and is_readiness:
        problems.invalid(where, grace, "must not be set for readinessProbes")
    elif grace is not None and grace < 1:
        problems.invalid(where, grace, "must be greater than 0")
    problems.not_negative(f"{path}.initialDelaySeconds", probe.initialDelaySeconds)
    for field in ("timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        problems.not_negative(f"{path}.{field}", getattr(probe, field))
    if not is_readiness and probe.successThreshold != 1:
        problems.invalid(f"{path}.successThreshold", probe.successThreshold, "must be 1")


def _handler(handler: Probe | LifecycleHandler, path: str, problems: Problems) -> None:
    """Exactly one way."""
    ways = sum(getattr(handler, way, None) is not None for way in ("httpGet", "tcpSocket", "exec", "grpc", "sleep"))
    if ways == 0:
        problems.required(path, "must specify a handler type")
    elif ways > 1:
        problems.forbidden(path, "may not specify more than 1 handler type")
    if handler.httpGet is not None:
        rules.port_or_name(f"{path}.httpGet.port", handler.httpGet.port, problems)
        problems.one_of(f"{path}.httpGet.scheme", handler.httpGet.scheme, ("HTTP", "HTTPS"))
    if handler.tcpSocket is not None:
        rules.port_or_name(f"{path}.tcpSocket.port", handler.tcpSocket.port, problems)
    if handler.exec is not None and not handler.exec.command:
        problems.required(f"{path}.exec.command")
