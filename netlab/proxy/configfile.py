"""Upstream's configuration file (kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration): to a ProxyConfig.

Fields with an effect here are checked as upstream checks them; the others are reported by name and ignored.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from netlab.errors import UsageError
from netlab.proxy.config import (
    HEALTHZ,
    METRICS,
    PRIMARY,
    DetectLocal,
    DetectLocalMode,
    Listen,
    Mode,
    ProxyConfig,
)

CONFIG_GROUP = "kubeproxy.config.k8s.io"
_API_VERSION = f"{CONFIG_GROUP}/v1alpha1"
_KIND = "KubeProxyConfiguration"
_LOCALHOST = ("127.0.0.0/8", "::1/128")
_ALL = ("0.0.0.0/0", "::/0")

_UNIT_SECONDS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)")


# Every field may be null: generators of these files write it for "the default".
class _Struct(msgspec.Struct, rename="camel", kw_only=True):
    pass


class _ClientConnection(_Struct):
    kubeconfig: str | None = None


class _Logging(_Struct):
    format: Literal["text", "json", ""] | None = None


class _DetectLocal(_Struct):
    bridge_interface: str | None = None
    interface_name_prefix: str | None = None


class _Rules(_Struct):
    """The sections iptables and nftables; the one of the mode counts."""

    masquerade_bit: int | None = None
    masquerade_all: bool | None = None
    sync_period: str | None = None
    min_sync_period: str | None = None


class _Conntrack(_Struct):
    tcp_be_liberal: bool | None = None


class _File(_Struct):
    api_version: str = ""
    kind: str = ""
    mode: str | None = None
    hostname_override: str | None = None
    bind_address: str | None = None
    healthz_bind_address: str | None = None
    metrics_bind_address: str | None = None
    bind_address_hard_fail: Literal[False] | None = None
    client_connection: _ClientConnection | None = None
    logging: _Logging | None = None
    detect_local_mode: str | None = None
    detect_local: _DetectLocal | None = None
    cluster_cidr: str | None = msgspec.field(name="clusterCIDR", default=None)
    node_port_addresses: list[str] | None = None
    iptables: _Rules | None = None
    nftables: _Rules | None = None
    conntrack: _Conntrack | None = None


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a file says."""

    config: ProxyConfig
    """Its node_name is empty where the file does not override the host's name."""
    kubeconfig: str = ""
    log_format: Literal["text", "json"] = "text"
    ignored: tuple[str, ...] = ()
    """The paths of fields that are set but have no effect here."""


def load(path: Path) -> Loaded:
    """Read a KubeProxyConfiguration. Raises UsageError, which names the file, the field's path and what is wrong."""
    from netlab.api.manifests import load_documents  # YAML is slow to import

    documents = load_documents([path])
    if len(documents) != 1:
        raise UsageError(f"{path}: expected one YAML document with a {_KIND}, found {len(documents)}")
    try:
        return parse(documents[0])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def parse(document: dict[str, Any]) -> Loaded:
    """The same for a document that was already read. Raises UsageError naming the field and the fault."""
    if (document.get("apiVersion"), document.get("kind")) != (_API_VERSION, _KIND):
        raise UsageError(f"expected a {_KIND} of {_API_VERSION}")
    try:
        file = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise UsageError(f"{where.rstrip('`') or _KIND}: {what}") from None
    mode = _mode(file.mode or "")
    section = file.nftables if mode == "nftables" else file.iptables
    rules = section or _Rules()
    bit = 14 if rules.masquerade_bit is None else rules.masquerade_bit
    if not 0 <= bit <= 31:
        raise UsageError(f"{mode}.masqueradeBit: {bit} is not in 0..31")
    minimum = _seconds(rules.min_sync_period, f"{mode}.minSyncPeriod", default=1.0)
    period = _seconds(rules.sync_period, f"{mode}.syncPeriod", default=30.0)
    if period <= 0 or period < minimum:
        raise UsageError(f"{mode}.syncPeriod: {rules.sync_period} must be more than 0 and not less than minSyncPeriod")
    bound = _address(file.bind_address or "0.0.0.0", "bindAddress")  # noqa: S104
    if bound.version == 6:
        healthz, metrics = Listen("::", HEALTHZ.port), Listen("::1", METRICS.port)
    else:
        healthz, metrics = HEALTHZ, METRICS
    config = ProxyConfig(
        node_name=(file.hostname_override or "").strip().lower(),
        mode=mode,
        detect_local=_detect_local(file),
        node_port_addresses=_node_port_addresses(file.node_port_addresses or [], mode),
        masquerade_bit=bit,
        masquerade_all=bool(rules.masquerade_all),
        conntrack_be_liberal=bool(file.conntrack and file.conntrack.tcp_be_liberal),
        healthz=_listen(file.healthz_bind_address, "healthzBindAddress", healthz),
        metrics=_listen(file.metrics_bind_address, "metricsBindAddress", metrics),
        min_sync_seconds=minimum,
        resync_seconds=period,
    )
    return Loaded(
        config,
        kubeconfig=(file.client_connection and file.client_connection.kubeconfig) or "",
        log_format=(file.logging and file.logging.format) or "text",
        ignored=tuple(_ignored(document, file, "")),
    )


def document(config: ProxyConfig) -> dict[str, Any]:
    """The KubeProxyConfiguration that says the same: for a configuration that one can say, `parse` gives it back."""
    detect = config.detect_local
    rules = {
        "masqueradeBit": config.masquerade_bit,
        "masqueradeAll": config.masquerade_all,
        "syncPeriod": f"{config.resync_seconds:g}s",
        "minSyncPeriod": f"{config.min_sync_seconds:g}s",
    }
    return {
        "apiVersion": _API_VERSION,
        "kind": _KIND,
        "mode": config.mode,
        "hostnameOverride": config.node_name,
        "healthzBindAddress": str(config.healthz or ""),
        "metricsBindAddress": str(config.metrics or ""),
        "detectLocalMode": "ClusterCIDR" if detect.mode == "none" else detect.mode,
        "detectLocal": {
            "bridgeInterface": detect.interface if detect.mode == "BridgeInterface" else "",
            "interfaceNamePrefix": detect.interface if detect.mode == "InterfaceNamePrefix" else "",
        },
        "clusterCIDR": ",".join(detect.cidrs),
        "nodePortAddresses": list(config.node_port_addresses or _ALL),
        config.mode: rules,
        "conntrack": {"tcpBeLiberal": config.conntrack_be_liberal},
    }


def _listen(text: str | None, path: str, default: Listen) -> Listen:
    """ADDRESS:PORT, [ADDRESS]:PORT or an address alone, with the default port."""
    if not text:
        return default
    try:
        return Listen(str(ipaddress.ip_address(text)), default.port)
    except ValueError:
        pass
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536 or host.startswith("[") != (":" in host):
        example = "write it like 127.0.0.1:10249 or [::1]:10249"
        raise UsageError(f"{path}: {text!r} is not an address and a port in 1..65535: {example}")
    return Listen(str(_address(host.strip("[]"), path)), int(port))


def _mode(text: str) -> Mode:
    # An empty one is the platform's default, which is not upstream's iptables here.
    if text not in ("", "nftables", "iptables"):
        raise UsageError(f"mode: {text!r} is neither nftables nor iptables")
    return cast(Mode, text or "nftables")


def _detect_local(file: _File) -> DetectLocal:
    mode = file.detect_local_mode or "ClusterCIDR"
    detect = file.detect_local or _DetectLocal()
    cidrs = tuple(_network(part, "clusterCIDR") for part in (file.cluster_cidr or "").split(",") if part)
    if len(cidrs) > 2 or len({":" in cidr for cidr in cidrs}) < len(cidrs):
        raise UsageError(f"clusterCIDR: {file.cluster_cidr!r}: at most one of each family")
    if mode == "ClusterCIDR":
        # Without one, pods cannot be recognised: upstream warns, and continues without a detector.
        return DetectLocal("ClusterCIDR", cidrs) if cidrs else DetectLocal()
    if mode == "NodeCIDR":
        return DetectLocal("NodeCIDR")
    names = {
        "BridgeInterface": ("bridgeInterface", detect.bridge_interface),
        "InterfaceNamePrefix": ("interfaceNamePrefix", detect.interface_name_prefix),
    }
    if mode not in names:
        known = "ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"
        raise UsageError(f"detectLocalMode: {mode!r} is not one of {known}")
    field, name = names[mode]
    if not name or len(name) > 15 or re.search(r"[\s/\"\\*]", name):
        raise UsageError(f"detectLocal.{field}: {name or ''!r} is not an interface name of 1 to 15 characters")
    return DetectLocal(cast(DetectLocalMode, mode), interface=name)


def _node_port_addresses(listed: list[str], mode: Mode) -> tuple[str, ...]:
    if not listed:
        return (PRIMARY,) if mode == "nftables" else ()
    found: list[str] = []
    for index, text in enumerate(listed):
        if text == "all":
            found += _ALL
        elif text == "localhost":
            found += _LOCALHOST
        elif text == PRIMARY:
            found.append(PRIMARY)
        else:
            found.append(_network(text, f"nodePortAddresses[{index}]"))
    return () if set(_ALL) <= set(found) else tuple(dict.fromkeys(found))


def _seconds(text: str | None, path: str, *, default: float) -> float:
    """A duration of Go's (1h2m3.5s). Unset means the default, and so does zero, which generators write for it."""
    if not text or text == "0":
        return default
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise UsageError(f"{path}: {text!r} is not a duration such as 1m30s")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in (_split(part) for part in parts))
    return seconds or default


def _split(part: str) -> tuple[str, str]:
    number = part.rstrip("nuµmsh")
    return number, part[len(number) :]


def _network(text: str, path: str) -> str:
    try:
        if "/" in text:
            return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        pass
    raise UsageError(f"{path}: {text!r} is not a network such as 10.244.0.0/16")


def _address(text: str, path: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{path}: {text!r} is not an IP address") from None


def _ignored(given: Mapping[str, Any], read: _Struct | None, path: str) -> Iterator[str]:
    """The paths of what is set (not to null, zero or false) and was not read."""
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(read)} if read is not None else {}
    for name, value in given.items():
        inner = getattr(read, fields[name]) if name in fields else None
        if isinstance(inner, _Struct) and isinstance(value, Mapping):
            yield from _ignored(value, inner, f"{path}{name}.")
        elif name in fields or value in (None, "", 0, False, "0s", [], {}):
            continue
        elif isinstance(value, Mapping):
            yield from _ignored(value, None, f"{path}{name}.")
        else:
            yield f"{path}{name}"
