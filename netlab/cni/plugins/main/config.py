"""The configuration of the plugin `netlab`: the keys of the Go plugin `bridge`, and `mode`."""

from __future__ import annotations

from netlab.cni.plugins.fields import option, strings
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_interface_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.spec.codec import Object

_BRIDGE = "cni0"
_MASQUERADE_BACKENDS = ("iptables", "nftables")
# Keys of the Go plugin that would change what packets do: better to refuse them than to ignore them silently.
_UNSUPPORTED = ("vlan", "vlanTrunk")
# A runtime passes them to the plugin that declares the capability, and this plugin does not have these two.
_CHAINED = {"portMappings": "netlab-portmap", "bandwidth": "netlab-bandwidth"}


class Config:
    """The plugin's configuration, checked. Modes read further keys of their own."""

    __slots__ = (
        "bridge",
        "container_interface",
        "detect_duplicates",
        "dns",
        "force_address",
        "hairpin",
        "has_ipam",
        "is_default_gateway",
        "is_gateway",
        "isolated",
        "masquerade",
        "mtu",
        "promiscuous",
        "spoof_check",
    )

    def __init__(self, config: Object) -> None:
        """Raises `CniError` naming the key and its value."""
        self.bridge: str = option(config, "bridge", str, _BRIDGE)
        self.is_default_gateway: bool = option(config, "isDefaultGateway", bool, False)
        self.is_gateway: bool = option(config, "isGateway", bool, False) or self.is_default_gateway
        self.force_address: bool = option(config, "forceAddress", bool, False)
        self.hairpin: bool = option(config, "hairpinMode", bool, False)
        self.promiscuous: bool = option(config, "promiscMode", bool, False)
        self.isolated: bool = option(config, "portIsolation", bool, False)
        self.spoof_check: bool = option(config, "macspoofchk", bool, False)
        self.masquerade: bool = option(config, "ipMasq", bool, False)
        self.detect_duplicates: bool = option(config, "enabledad", bool, False)
        self.container_interface: bool = not option(config, "disableContainerInterface", bool, False)
        self.mtu: int = option(config, "mtu", int, 0)
        self.has_ipam: bool = bool(option(option(config, "ipam", dict, {}), "type", str, "", "ipam."))
        self.dns = _dns(config)
        for key in _UNSUPPORTED:
            if config.get(key):
                raise CniError(errors.UNSUPPORTED_FIELD, f"{key}: {config[key]!r} is not supported; leave it out")
        for key in option(config, "runtimeConfig", dict, {}):
            if key in _CHAINED and config["runtimeConfig"][key]:
                raise CniError(
                    errors.UNSUPPORTED_FIELD,
                    f"runtimeConfig.{key}: {config['runtimeConfig'][key]!r} is the work of {_CHAINED[key]};"
                    " declare the capability there",
                )
        backend = option(config, "ipMasqBackend", str, "") or _MASQUERADE_BACKENDS[0]
        if backend not in _MASQUERADE_BACKENDS:
            raise CniError(errors.INVALID_CONFIG, f"ipMasqBackend: {backend!r} must be iptables or nftables")
        if not is_interface_name(self.bridge):
            raise CniError(errors.INVALID_CONFIG, f"bridge: {self.bridge!r} is not a valid interface name")
        if not 0 <= self.mtu <= 65535:
            raise CniError(errors.INVALID_CONFIG, f"mtu: {self.mtu} must be between 0 (the default) and 65535")
        if self.hairpin and self.promiscuous:
            raise CniError(errors.INVALID_CONFIG, "hairpinMode: true excludes promiscMode: true; choose one")
        if self.has_ipam and not self.container_interface:
            raise CniError(
                errors.INVALID_CONFIG,
                f"disableContainerInterface: true excludes ipam.type: {config['ipam']['type']!r}; choose one",
            )


def _dns(config: Object) -> Object:
    """The DNS settings of the runtime (CONVENTIONS.md, `dns`), or else the configuration's own."""
    given = option(option(config, "runtimeConfig", dict, {}), "dns", dict, {}, "runtimeConfig.")
    if given:
        path = "runtimeConfig.dns."
        named = {"nameservers": strings(given, "servers", path), "search": strings(given, "searches", path)}
        return {key: value for key, value in named.items() if value}
    found: Object = option(config, "dns", dict, {})
    for key in ("nameservers", "search", "options"):
        strings(found, key, "dns.")
    option(found, "domain", str, "", "dns.")
    return found
