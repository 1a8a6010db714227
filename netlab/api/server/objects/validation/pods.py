"""Pods, and the pod templates of workloads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from netlab.api.core_types import HostPathVolumeSource, Pod, PodSpec, Toleration, Volume, VolumeProjection
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.validation import (
    containers,
    ephemeral_containers,
    resources,
    rules,
    scheduling,
    security,
)

_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_LONGEST_SYSCTL = 253
_MOST_NAMESERVERS, _MOST_SEARCHES, _LONGEST_SEARCH_LINE = 3, 32, 2048
_HOST_PATHS = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
)  # fmt: skip


def pod(new: Pod, problems: Problems) -> None:
    """v1.Pod."""
    pod_spec(new.spec, "spec", problems)


def pod_update(new: Pod, old: Pod, problems: Problems) -> None:
    """Of a pod's spec little can change: images, a deadline, more tolerations, fewer scheduling gates."""
    scheduling.gates_update(new.spec, old.spec, problems)
    frozen_new, frozen_old = (_without_what_may_change(spec) for spec in (new.spec, old.spec))
    if old.spec.schedulingGates:
        frozen_new.nodeSelector, frozen_new.affinity = frozen_old.nodeSelector, frozen_old.affinity
    if frozen_new != frozen_old or not _only_added(new.spec.tolerations, old.spec.tolerations):
        detail = (
            "pod updates may not change fields other than `spec.containers[*].image`, "
            "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to "
            "existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)"
        )
        problems.forbidden("spec", detail)


def _without_what_may_change(spec: PodSpec) -> PodSpec:
    return msgspec.structs.replace(
        spec,
        containers=[msgspec.structs.replace(container, image="") for container in spec.containers],
        initContainers=[msgspec.structs.replace(container, image="") for container in spec.initContainers],
        activeDeadlineSeconds=None,
        tolerations=[],
        schedulingGates=[],
    )


def _only_added(new: Sequence[Toleration], old: Sequence[Toleration]) -> bool:
    """Whether all tolerations are still there, though perhaps for another time (validateOnlyAddedTolerations)."""
    kept = [msgspec.structs.replace(each, tolerationSeconds=None) for each in new]
    return all(msgspec.structs.replace(each, tolerationSeconds=None) in kept for each in old)


def pod_spec(
    spec: PodSpec, path: str, problems: Problems, policies: Sequence[str] = ("Always", "OnFailure", "Never")
) -> None:
    """v1.PodSpec, of a pod or, under its path, of a template."""
    if not spec.containers:
        problems.required(f"{path}.containers")
    names: set[str] = set()
    for field, listed in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for index, container in enumerate(listed):
            containers.container(container, f"{path}.{field}[{index}]", names, problems)
            if field == "initContainers":
                containers.init_container(container, f"{path}.{field}[{index}]", problems)
    ephemeral_containers.validate(spec, path, names, problems)
    security.pod(spec, path, problems)
    _host_ports(spec, path, problems)
    problems.one_of(f"{path}.restartPolicy", spec.restartPolicy, policies)
    problems.one_of(f"{path}.dnsPolicy", spec.dnsPolicy, ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"))
    _dns_config(spec, path, problems)
    for field in ("hostname", "subdomain"):
        if value := getattr(spec, field):
            rules.dns_label(f"{path}.{field}", value, problems)
    if spec.nodeName:
        rules.dns_subdomain(f"{path}.nodeName", spec.nodeName, problems)
    rules.labels(f"{path}.nodeSelector", spec.nodeSelector, problems)
    scheduling.placement(spec, path, problems)
    resources.pod_resources(spec, path, problems)
    problems.not_negative(f"{path}.terminationGracePeriodSeconds", spec.terminationGracePeriodSeconds)
    if spec.activeDeadlineSeconds is not None and spec.activeDeadlineSeconds < 1:
        problems.invalid(f"{path}.activeDeadlineSeconds", spec.activeDeadlineSeconds, "must be greater than 0")
    _host_aliases(spec, path, problems)
    _sysctls(spec, path, problems)
    if spec.hostPID and spec.shareProcessNamespace:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        problems.invalid(f"{path}.securityContext.shareProcessNamespace", True, detail)
    for index, volume in enumerate(spec.volumes):
        _volume_paths(volume, f"{path}.volumes[{index}]", problems)
    for index, toleration in enumerate(spec.tolerations):
        _toleration(toleration, f"{path}.tolerations[{index}]", problems)


def _sysctls(spec: PodSpec, path: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, each in enumerate(spec.securityContext.sysctls if spec.securityContext is not None else ()):
        name, where = each.name, f"{path}.securityContext.sysctls[{index}].name"
        if not name:
            problems.required(where)
        elif len(name) > _LONGEST_SYSCTL or not _SYSCTL.fullmatch(name):
            detail = f"must have at most {_LONGEST_SYSCTL} characters and match regex ^{_SYSCTL.pattern}$"
            problems.invalid(where, name, detail)
        elif name in seen:
            problems.duplicate(where, name)
        seen.add(name)


def _volume_paths(volume: Volume, path: str, problems: Problems) -> None:
    """Where a volume is; the names of its files stay inside of it (validateLocalNonReservedPath)."""
    if volume.hostPath is not None:
        _host_path(volume.hostPath, f"{path}.hostPath", problems)
    for place, name in _paths_of(volume):
        where = f"{path}.{place}"
        if not name:
            problems.required(where)
        elif rules.descending_path(where, name, problems) and name.startswith(".."):
            problems.invalid(where, name, "must not start with '..'")


def _host_path(source: HostPathVolumeSource, path: str, problems: Problems) -> None:
    if not source.path:
        problems.required(f"{path}.path")
    elif ".." in source.path.split("/"):
        problems.invalid(f"{path}.path", source.path, "must not contain '..'")
    problems.one_of(f"{path}.type", source.type, _HOST_PATHS)


def _paths_of(volume: Volume) -> Iterator[tuple[str, str]]:
    holders: list[tuple[str, Volume | VolumeProjection]] = [("", volume)]
    if volume.projected is not None:
        holders += [(f"projected.sources[{index}].", each) for index, each in enumerate(volume.projected.sources)]
    for prefix, holder in holders:
        for part in ("configMap", "secret", "downwardAPI"):
            source = getattr(holder, part)
            for index, item in enumerate(source.items if source is not None else ()):
                yield f"{prefix}{part}.items[{index}].path", item.path
        if isinstance(holder, VolumeProjection) and holder.serviceAccountToken is not None:
            yield f"{prefix}serviceAccountToken.path", holder.serviceAccountToken.path


def _dns_config(spec: PodSpec, path: str, problems: Problems) -> None:
    if spec.dnsPolicy == "None" and not (spec.dnsConfig and spec.dnsConfig.nameservers):
        problems.required(
            f"{path}.dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None"
        )
    if spec.dnsConfig is None:
        return
    path, config = f"{path}.dnsConfig", spec.dnsConfig
    if len(config.nameservers) > _MOST_NAMESERVERS:
        problems.invalid(
            f"{path}.nameservers", config.nameservers, f"must not have more than {_MOST_NAMESERVERS} nameservers"
        )
    for index, server in enumerate(config.nameservers):
        rules.ip(f"{path}.nameservers[{index}]", server, problems)
    if len(config.searches) > _MOST_SEARCHES:
        problems.invalid(f"{path}.searches", config.searches, f"must not have more than {_MOST_SEARCHES} search paths")
    if len(" ".join(config.searches)) > _LONGEST_SEARCH_LINE:
        detail = f"must not have more than {_LONGEST_SEARCH_LINE} characters (including spaces) in the search list"
        problems.invalid(f"{path}.searches", config.searches, detail)
    for index, search in enumerate(config.searches):
        rules.search_path(f"{path}.searches[{index}]", search, problems)
    for index, option in enumerate(config.options):
        if not option.name:
            problems.required(f"{path}.options[{index}]", "must not be empty")


def _host_aliases(spec: PodSpec, path: str, problems: Problems) -> None:
    for index, alias in enumerate(spec.hostAliases):
        rules.ip(f"{path}.hostAliases[{index}].ip", alias.ip, problems)
        for number, hostname in enumerate(alias.hostnames):
            rules.dns_subdomain(f"{path}.hostAliases[{index}].hostnames[{number}]", hostname, problems)


def _toleration(toleration: Toleration, path: str, problems: Problems) -> None:
    rules.taint(path, toleration.key, toleration.value, problems)
    problems.one_of(f"{path}.operator", toleration.operator or "Equal", ("Equal", "Exists"))
    if toleration.effect:
        problems.one_of(f"{path}.effect", toleration.effect, rules.TAINT_EFFECTS)
    if not toleration.key and toleration.operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        problems.invalid(f"{path}.operator", toleration.operator, detail)
    if toleration.operator == "Exists" and toleration.value:
        problems.invalid(f"{path}.operator", toleration.value, "value must be empty when `operator` is 'Exists'")
    if toleration.tolerationSeconds is not None and toleration.effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        problems.invalid(f"{path}.effect", toleration.effect, detail)


def _host_ports(spec: PodSpec, path: str, problems: Problems) -> None:
    seen = set()
    for index, container in enumerate(spec.containers):
        for number, port in enumerate(container.ports):
            place = f"{path}.containers[{index}].ports[{number}].hostPort"
            if spec.hostNetwork and port.hostPort != port.containerPort:
                problems.invalid(place, port.hostPort, "must match `containerPort` when `hostNetwork` is true")
            claim = (port.hostPort, port.protocol, port.hostIP)
            if port.hostPort and claim in seen:
                problems.duplicate(place, port.hostPort)
            seen.add(claim)
