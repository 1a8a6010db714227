"""What the level Baseline forbids: known ways from a pod to its node (pod-security-admission policy/check_*.go).

Each check takes a pod's annotations and spec, and returns why it is forbidden, or None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from netlab.api.server.admission.pod_references import containers

Spec = Mapping[str, Any]


class Violation(NamedTuple):
    """What is forbidden, and where it is."""

    reason: str
    detail: str = ""


Check = Callable[[Mapping[str, str], Spec], Violation | None]

_ADDED = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
"""The capabilities that a container may ask for."""
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t")
_SELINUX_TYPES_1_31 = (*_SELINUX_TYPES, "container_engine_t")
_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
    *("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"),
)
_SYSCTLS_1_27 = (*_SYSCTLS, "net.ipv4.ip_local_reserved_ports")
_SYSCTLS_1_29 = (
    *_SYSCTLS_1_27,
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    "net.ipv4.tcp_keepalive_probes",
)
_SYSCTLS_1_32 = (*_SYSCTLS_1_29, "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = "seccomp.security.alpha.kubernetes.io/"
_PROFILES = ("RuntimeDefault", "Localhost")


# --- words -----------------------------------------------------------------------------------------------------------


def quoted(names: Iterable[str]) -> str:
    """Names, one after the other, in quotes."""
    return ", ".join(f'"{name}"' for name in names)


def named(word: str, names: Iterable[str]) -> str:
    """A word, in the plural if need be, and names in quotes."""
    listed = list(names)
    return f"{word if len(listed) == 1 else word + 's'} {quoted(listed)}"


def of_pod(spec: Spec) -> Mapping[str, Any]:
    """The pod's security context."""
    context: Mapping[str, Any] = spec.get("securityContext") or {}
    return context


def setters(spec: Spec, is_bad: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """Whose security context is bad, in words: the pod's, the containers'."""
    found = ["pod"] if is_bad(of_pod(spec)) else []
    bad = [container["name"] for container in containers(spec) if is_bad(of_pod(container))]
    return [*found, named("container", bad)] if bad else found


# --- checks ----------------------------------------------------------------------------------------------------------


def _with_other_profiles(spec: Spec, field: str) -> tuple[list[str], set[str]]:
    """Who sets a profile of a type that is not one of _PROFILES, and those types."""
    values: set[str] = set()

    def is_bad(context: Mapping[str, Any]) -> bool:
        profile = context.get(field)
        if not profile or profile.get("type", "") in _PROFILES:
            return False
        values.add(profile.get("type", ""))
        return True

    return setters(spec, is_bad), values


def app_armor(annotations: Mapping[str, str], spec: Spec) -> Violation | None:
    """A profile is the runtime's own, or one of the node's."""
    found, values = _with_other_profiles(spec, "appArmorProfile")
    bad = sorted(
        f"{key}={json.dumps(value)}"
        for key, value in annotations.items()
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    if bad:
        found.append("annotation" if len(bad) == 1 else "annotations")
    if not found:
        return None
    listed = [*sorted(values), *bad]
    reason = "forbidden AppArmor profile" if len(listed) == 1 else "forbidden AppArmor profiles"
    return Violation(reason, f"{' and '.join(found)} must not set AppArmor profile type to {quoted(listed)}")


def capabilities(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No container asks for more than the default capabilities, and NET_RAW is not among them."""
    bad: dict[str, list[str]] = {}
    for container in containers(spec):
        added = (of_pod(container).get("capabilities") or {}).get("add") or ()
        if more := [each for each in added if each not in _ADDED]:
            bad[container["name"]] = more
    if not bad:
        return None
    beyond = sorted({each for more in bad.values() for each in more})
    detail = f"{named('container', bad)} must not include {quoted(beyond)} in securityContext.capabilities.add"
    return Violation("non-default capabilities", detail)


def host_namespaces(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No namespace is the node's."""
    shared = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return Violation("host namespaces", ", ".join(shared)) if shared else None


def host_paths(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No volume is a path of the node's."""
    bad = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", named("volume", bad)) if bad else None


def host_ports(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No port is the node's."""
    bad: dict[str, list[str]] = {}
    for container in containers(spec):
        if used := [str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")]:
            bad[container["name"]] = used
    if not bad:
        return None
    ports = sorted({each for used in bad.values() for each in used})
    uses, word = "uses" if len(bad) == 1 else "use", "hostPort" if len(ports) == 1 else "hostPorts"
    return Violation("hostPort", f"{named('container', bad)} {uses} {word} {', '.join(ports)}")


def probe_hosts(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No probe or hook makes the kubelet call another host than the pod (since 1.34)."""
    bad: dict[str, list[str]] = {}
    for container in containers(spec):
        hooks = container.get("lifecycle") or {}
        asking = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        handlers = [each or {} for each in (*asking, hooks.get("postStart"), hooks.get("preStop"))]
        named_hosts = [(each.get(way) or {}).get("host") for each in handlers for way in ("httpGet", "tcpSocket")]
        if hosts := [host for host in named_hosts if host]:
            bad[container["name"]] = hosts
    if not bad:
        return None
    hosts = sorted({each for listed in bad.values() for each in listed})
    uses, word = "uses" if len(bad) == 1 else "use", "probe or lifecycle host"
    return Violation(word, f"{named('container', sorted(bad))} {uses} {named(word, hosts)}")


def privileged(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No container is privileged."""
    bad = [each["name"] for each in containers(spec) if of_pod(each).get("privileged")]
    if not bad:
        return None
    return Violation("privileged", f"{named('container', bad)} must not set securityContext.privileged=true")


def proc_mount(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """/proc is masked as ever."""
    kinds = {each["name"]: of_pod(each).get("procMount") for each in containers(spec)}
    bad = {name: str(kind) for name, kind in kinds.items() if kind not in (None, "Default")}
    if not bad:
        return None
    listed = quoted(sorted(set(bad.values())))
    return Violation("procMount", f"{named('container', bad)} must not set securityContext.procMount to {listed}")


def se_linux(types: Iterable[str]) -> Check:
    """SELinux's type is one of those for containers; user and role are not set."""

    def check(_: Mapping[str, str], spec: Spec) -> Violation | None:
        bad_types: set[str] = set()
        said: set[str] = set()

        def is_bad(context: Mapping[str, Any]) -> bool:
            options = context.get("seLinuxOptions") or {}
            kind = options.get("type") or ""
            bad_type = [kind] if kind not in types else []
            bad_types.update(bad_type)
            bad_parts = [part for part in ("user", "role") if options.get(part)]
            said.update(bad_parts)
            return bool(bad_type or bad_parts)

        found = setters(spec, is_bad)
        if not found:
            return None
        wrong = [named("type", sorted(bad_types))] if bad_types else []
        wrong += [f"{part} may not be set" for part in ("user", "role") if part in said]
        detail = f"{' and '.join(found)} set forbidden securityContext.seLinuxOptions: {'; '.join(wrong)}"
        return Violation("seLinuxOptions", detail)

    return check


def seccomp_annotations(annotations: Mapping[str, str], spec: Spec) -> Violation | None:
    """Before 1.19: no annotation switches system calls' filter off."""
    keys = [f"{_SECCOMP}pod", *(f"container.{_SECCOMP}{container['name']}" for container in containers(spec))]
    bad = sorted(
        f"{key}={json.dumps(annotations[key])}"
        for key in keys
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    if not bad:
        return None
    return Violation("seccompProfile", f"forbidden {'annotation' if len(bad) == 1 else 'annotations'} {', '.join(bad)}")


def seccomp(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """Nobody switches system calls' filter off."""
    found, values = _with_other_profiles(spec, "seccompProfile")
    if not found:
        return None
    listed = quoted(sorted(values))
    detail = f"{' and '.join(found)} must not set securityContext.seccompProfile.type to {listed}"
    return Violation("seccompProfile", detail)


def sysctls(allowed: Iterable[str]) -> Check:
    """Only settings of the pod's own namespaces."""

    def check(_: Mapping[str, str], spec: Spec) -> Violation | None:
        bad = [each["name"] for each in of_pod(spec).get("sysctls") or () if each["name"] not in allowed]
        return Violation("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(_: Mapping[str, str], spec: Spec) -> Violation | None:
    """No process of a Windows node's own."""
    found = setters(spec, lambda context: bool((context.get("windowsOptions") or {}).get("hostProcess")))
    if not found:
        return None
    detail = f"{' and '.join(found)} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail)


def unless_in_user_namespace(check: Check) -> Check:
    """The same, but not of a pod that has a user namespace of its own (KEP-127)."""
    return lambda annotations, spec: None if spec.get("hostUsers") is False else check(annotations, spec)


def unless_on_windows(check: Check) -> Check:
    """The same, but not of a pod for Windows, which could not meet it."""
    return lambda annotations, spec: (
        None if (spec.get("os") or {}).get("name") == "windows" else check(annotations, spec)
    )


CHECKS: dict[str, tuple[tuple[int, Check], ...]] = {
    "appArmorProfile": ((0, app_armor),),
    "capabilities_baseline": ((0, capabilities),),
    "hostNamespaces": ((0, host_namespaces),),
    "hostPathVolumes": ((0, host_paths),),
    "hostPorts": ((0, host_ports),),
    "hostProbesAndHostLifecycle": ((34, probe_hosts),),
    "privileged": ((0, privileged),),
    "procMount": ((0, proc_mount), (35, unless_in_user_namespace(proc_mount))),
    "seLinuxOptions": ((0, se_linux(_SELINUX_TYPES)), (31, se_linux(_SELINUX_TYPES_1_31))),
    "seccompProfile_baseline": ((0, seccomp_annotations), (19, seccomp)),
    "sysctls": (
        (0, sysctls(_SYSCTLS)),
        (27, sysctls(_SYSCTLS_1_27)),
        (29, sysctls(_SYSCTLS_1_29)),
        (32, sysctls(_SYSCTLS_1_32)),
    ),
    "windowsHostProcess": ((0, windows_host_process),),
}
"""By name, in the order in which they are reported: from which version on each is as it is."""
