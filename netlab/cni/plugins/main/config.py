"""The configuration of the plugin `netlab`: the keys of the Go plugin `bridge`, `mode` and `vxlan`."""

from __future__ import annotations

from netlab.cni.plugins.delegate import Delegate
from netlab.cni.plugins.fields import absolute_path, option, prefix, strings
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_interface_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.main.tunnel import Tunnel
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object

MODES = ("bridge", "routed", "vxlan")
_BRIDGE = "cni0"
_MASQUERADE_BACKENDS = ("iptables", "nftables")
# Keys of the Go plugin that would change what packets do: better to refuse them than to ignore them silently.
_UNSUPPORTED = ("vlan", "vlanTrunk")
# What only a bridge can do. `bridge`, `forceAddress` and `hairpinMode` are accepted in mode routed: nothing is lost
# without them, and a container reaches itself through a router anyway.
_OF_A_BRIDGE = ("promiscMode", "macspoofchk", "portIsolation")
# A runtime passes them to the plugin that declares the capability, and this plugin does not have these two.
_CHAINED = {"portMappings": "netlab-portmap", "bandwidth": "netlab-bandwidth"}


class Config:
    """All keys, checked. `ipam` is the IPAM plugin that it names, `tunnel` that of mode vxlan, None in any other."""

    def __init__(self, request: Request) -> None:
        """Raises `CniError` naming the key and its value."""
        config = request.config
        self.mode: str = option(config, "mode", str, "") or MODES[0]
        if self.mode not in MODES:
            raise errors.invalid_config(f"mode: {self.mode!r} must be one of {', '.join(MODES)}")
        self.bridge: str = option(config, "bridge", str, _BRIDGE)
        # Without one a container reaches nothing at all in mode routed, and nothing beyond its own node in mode vxlan.
        self.is_default_gateway: bool = option(config, "isDefaultGateway", bool, self.mode != "bridge")
        is_gateway: bool = option(config, "isGateway", bool, False)
        self.is_gateway = is_gateway or self.is_default_gateway or self.mode == "vxlan"
        self.force_address: bool = option(config, "forceAddress", bool, False)
        self.hairpin: bool = option(config, "hairpinMode", bool, False)
        self.promiscuous: bool = option(config, "promiscMode", bool, False)
        self.isolated: bool = option(config, "portIsolation", bool, False)
        self.spoof_check: bool = option(config, "macspoofchk", bool, False)
        self.masquerade: bool = option(config, "ipMasq", bool, False)
        self.not_masqueraded = [prefix(text, "nonMasqueradeCIDRs") for text in strings(config, "nonMasqueradeCIDRs")]
        self.detect_duplicates: bool = option(config, "enabledad", bool, False)
        self.container_interface: bool = not option(config, "disableContainerInterface", bool, False)
        self.mtu: int = option(config, "mtu", int, 0)
        self.policy_socket: str = absolute_path(config, "policySocket", "")
        self.ipam = Delegate(request)
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
            raise errors.invalid_config(f"ipMasqBackend: {backend!r} must be iptables or nftables")
        if not is_interface_name(self.bridge):
            raise errors.invalid_config(f"bridge: {self.bridge!r} is not a valid interface name")
        if not 0 <= self.mtu <= 65535:
            raise errors.invalid_config(f"mtu: {self.mtu} must be between 0 (the default) and 65535")
        if self.hairpin and self.promiscuous:
            raise errors.invalid_config("hairpinMode: true excludes promiscMode: true; choose one")
        if self.ipam.kind and not self.container_interface:
            raise errors.invalid_config(
                f"disableContainerInterface: true excludes ipam.type: {self.ipam.kind!r}; choose one",
            )
        self.tunnel: Tunnel | None = None
        if self.mode != "bridge":
            self._read_mode(config)

    def _read_mode(self, config: Object) -> None:
        if self.mode == "vxlan":
            from netlab.cni.plugins.main.tunnel import Tunnel

            self.tunnel = Tunnel(config, self.mtu)
        for key in _OF_A_BRIDGE if self.mode == "routed" else ():
            if config.get(key):
                raise CniError(
                    errors.UNSUPPORTED_FIELD, f"{key}: {config[key]!r} is for a bridge, but mode is 'routed'"
                )
        if not self.ipam.kind:
            raise errors.invalid_config(f"ipam.type: mode {self.mode!r} needs addresses; name an IPAM plugin")


def _dns(config: Object) -> Object:
    """The DNS settings of the runtime (CONVENTIONS.md, `dns`), or else the configuration's own."""
    given = option(option(config, "runtimeConfig", dict, {}), "dns", dict, {}, "runtimeConfig.")
    if given:
        path = "runtimeConfig.dns."
        named = {"nameservers": strings(given, "servers", path), "search": strings(given, "searches", path)}
        return {key: value for key, value in named.items() if value}
    found: Object = option(config, "dns", dict, {})
    return found
