"""A request as a plugin gets it: from the environment and standard input.

The checks are those of SPEC.md, section 2. Nothing here imports more than C modules need.
"""

from __future__ import annotations

from netlab.cni.plugins.fields import objects, option, strings
from netlab.cni.spec import codec, errors
from netlab.cni.spec.addresses import parse_address, parse_prefix
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.names import is_identifier, is_interface_name, owner, owner_prefix
from netlab.cni.spec.versions import VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from netlab.cni.spec.codec import Object

    Handler = Callable[["Request"], Object | None]

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
}
_NAMES = (("CNI_CONTAINERID", is_identifier, "identifier"), ("CNI_IFNAME", is_interface_name, "interface name"))
_SPELLINGS = {
    key.lower(): key
    for key in (
        *("hostPort", "containerPort", "protocol", "hostIP"),
        *("ingressRate", "ingressBurst", "egressRate", "egressBurst", "shapedSubnets", "unshapedSubnets"),
        *("subnet", "rangeStart", "rangeEnd", "gateway"),
        *("servers", "searches", "options"),
    )
}
"""Of the capabilities' own fields."""
_TYPES = {
    "type": str,
    "ipMasq": bool,
    "args": dict,
    "capabilities": dict,
    "runtimeConfig": dict,
    "prevResult": dict,
    "lingerSeconds": int,
}
"""Of the configuration's keys that SPEC.md, section 1, defines, beside cniVersion and name; and of our own."""
LONGEST_LINGER = 3600
"""The most seconds that an agent may wait for another call (netlab/cni/plugins/resident/stay.py)."""
_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""SPEC.md's key, and the one that libcni sends beside it (containernetworking/cni#1101)."""


class Request:
    """One execution of a plugin: what CNI_COMMAND asks for, for which interface, with which configuration.

    `config` is the whole configuration as given, `stderr` the descriptor of the caller's standard error; `stays` says
    that this process goes on after the answer.
    Raises `CniError` if CNI_ARGS or a key that SPEC.md defines cannot be understood; so do the properties for what they
    read.
    A DEL has to free what it can, and reads CNI_ARGS and the previous result as far as they make sense.
    """

    def __init__(
        self, command: str, environment: Mapping[str, str], config: Object, stderr: int = 2, *, stays: bool = False
    ) -> None:
        self.command = command
        self.environment = environment
        self.container_id = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.ifname = environment.get("CNI_IFNAME", "")
        self.config = config
        self.network: str = config["name"]
        self.version: str = config["cniVersion"]
        self.stderr = stderr
        self.stays = stays
        if command != "DEL":  # which has to free what it can
            _check_types(config)
        self.runtime_config: Object = option(config, "runtimeConfig", dict, {})
        self.cni_args = _parse_args(environment.get("CNI_ARGS", ""), strict=command in {"ADD", "CHECK"})

    @property
    def prev_result(self) -> Object | None:
        """The result of the plugin before this one, or of the ADD, as a result of 1.1.0; None if there is none."""
        if self.config.get("prevResult") is None:
            return None
        from netlab.cni.spec import results

        try:
            return results.read(self.config["prevResult"], self.version)
        except CniError:
            if self.command == "DEL":
                return None
            raise

    def needed_result(self, otherwise: str) -> Object:
        """`prev_result`, or a `CniError` that says what is wrong otherwise."""
        result = self.prev_result
        if result is None:
            raise errors.invalid_config(f"prevResult: {otherwise}")
        return result

    @property
    def requested_ips(self) -> list[str]:
        """The requested addresses, with or without a prefix length: args.cni.ips, runtimeConfig.ips, CNI_ARGS's IP."""
        asked = strings(self._args, "ips", "args.cni.") or strings(self.runtime_config, "ips", "runtimeConfig.")
        where, code = "args.cni.ips or runtimeConfig.ips", errors.INVALID_CONFIG
        if not asked and self.cni_args.get("IP"):
            where, code = "CNI_ARGS: IP", errors.INVALID_ENVIRONMENT
            asked = self.cni_args["IP"].split(",")  # several, as the Go plugin static has it
        for text in asked:
            try:
                _ = parse_prefix(text) if "/" in text else parse_address(text)
            except ValueError as error:
                raise CniError(code, f"{where}: {error}") from error
        return asked

    @property
    def requested_mac(self) -> bytes:
        """The requested hardware address: runtimeConfig.mac, args.cni.mac, CNI_ARGS's MAC; empty if there is none."""
        for where, text, code in (
            ("runtimeConfig.mac", option(self.runtime_config, "mac", str, "", "runtimeConfig."), errors.INVALID_CONFIG),
            ("args.cni.mac", option(self._args, "mac", str, "", "args.cni."), errors.INVALID_CONFIG),
            ("CNI_ARGS: MAC", self.cni_args.get("MAC", ""), errors.INVALID_ENVIRONMENT),
        ):
            if text:
                return _parse_mac(where, text, code)
        return b""

    @property
    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """GC: what to keep, as (container id, interface name)."""
        key = next((key for key in _ATTACHMENTS if key in self.config), None)
        if key is None:
            # Reading this as "nothing is valid" would remove every container's network.
            raise errors.invalid_config(f"{_ATTACHMENTS[0]}: GC needs the list of what to keep")
        found = set()
        for path, item in objects(self.config, key):  # none for null: libcni's for an empty list
            container_id = option(item, "containerID", str, "", f"{path}.")
            ifname = option(item, "ifname", str, "", f"{path}.")
            if not container_id or not ifname:
                raise errors.invalid_config(f"{path}: {item!r} must have containerID and ifname")
            found.add((container_id, ifname))
        return frozenset(found)

    @property
    def owner(self) -> str:
        """The label of this attachment on kernel objects that have no name of their own."""
        return owner(self.network, self.container_id, self.ifname)

    def is_garbage(self) -> Callable[[str], bool]:
        """GC: whether a label is of this network, and of no attachment to keep."""
        mine = owner_prefix(self.network)
        valid = {owner(self.network, *attachment) for attachment in self.valid_attachments}
        return lambda label: label.startswith(mine) and label not in valid

    @property
    def _args(self) -> Object:
        found: Object = option(option(self.config, "args", dict, {}), "cni", dict, {}, "args.")
        return found


def read_config(text: bytes) -> Object:
    """The configuration on standard input, with a valid `name` and a supported `cniVersion`. Raises `CniError`."""
    try:
        config = codec.loads(text)
    except ValueError as error:
        raise CniError(errors.DECODING_FAILURE, f"standard input is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CniError(errors.DECODING_FAILURE, "standard input is not a JSON object")
    version = config.setdefault("cniVersion", "0.1.0")
    if version not in VERSIONS:
        raise CniError(
            errors.INCOMPATIBLE_VERSION, f"cniVersion: {version!r} is not supported; take one of {', '.join(VERSIONS)}"
        )
    name = config.get("name")
    if not isinstance(name, str) or not is_identifier(name):
        raise errors.invalid_config(
            f"name: {name!r} must be letters, digits, '_', '.' and '-', with a letter or digit first",
        )
    if isinstance(config.get("runtimeConfig"), dict):
        config["runtimeConfig"] = {key: _respelled(value) for key, value in config["runtimeConfig"].items()}
    return config


def _respelled(capability: Any, depth: int = 2) -> Any:
    """What a capability asks for, with keys as CONVENTIONS.md spells them.

    containerd's are HostPort, IngressRate, Servers and so on: its structures (containerd/go-cni, types.go) do not name
    their fields for JSON, which Go reads in any case. Lists are two deep at most: ipRanges.
    """
    if isinstance(capability, dict):
        return {_SPELLINGS.get(key.lower(), key): value for key, value in capability.items()}
    if isinstance(capability, list) and depth:
        return [_respelled(item, depth - 1) for item in capability]
    return capability


def check_environment(command: str, environment: Mapping[str, str]) -> None:
    """Refuse an environment without what the command needs. Raises `CniError`."""
    required = _REQUIRED[command]
    missing = [name for name in required if not environment.get(name)]
    if missing:
        raise CniError(errors.INVALID_ENVIRONMENT, f"{', '.join(missing)}: {command} needs it, and it is not set")
    for name, is_valid, kind in _NAMES:
        if name in required and not is_valid(environment[name]):
            raise CniError(errors.INVALID_ENVIRONMENT, f"{name}: {environment[name]!r} is not a valid {kind}")


def _check_types(config: Object) -> None:
    """Refuse a value of another type than SPEC.md gives to its key. Raises `CniError`."""
    for key, kind in _TYPES.items():
        option(config, key, kind, None)
    seconds = option(config, "lingerSeconds", int, 0)
    if not 0 <= seconds <= LONGEST_LINGER:
        raise errors.invalid_config(f"lingerSeconds: {seconds} must be 0 (leave no process) to {LONGEST_LINGER}")
    plugin = option(config, "type", str, "")
    if "/" in plugin:
        raise errors.invalid_config(f"type: {plugin!r} must be the name of an executable, not a path")
    for name in option(config, "capabilities", dict, {}):
        option(config["capabilities"], name, bool, False, "capabilities.")
    ipam = option(config, "ipam", dict, {})
    option(ipam, "type", str, "", "ipam.")
    dns = option(config, "dns", dict, {})
    option(dns, "domain", str, "", "dns.")
    for key in ("nameservers", "search", "options"):
        strings(dns, key, "dns.")


def _parse_args(text: str, *, strict: bool) -> dict[str, str]:
    """The pairs of CNI_ARGS. An unknown key is refused unless IgnoreUnknown says otherwise, as CONVENTIONS.md has it.

    K8S_POD_* come from every kubelet's runtime.
    """
    args = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals and strict:
            raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_ARGS: {pair!r} must be KEY=VALUE")
        args[key] = value
    ignores = args.get("IgnoreUnknown", "0").lower()
    if strict and ignores not in {"1", "true"}:
        if ignores not in {"0", "false"}:
            raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_ARGS: IgnoreUnknown: {ignores!r} must be 1 or 0")
        for key in args:
            if key not in {"IP", "MAC", "IgnoreUnknown"} and not key.startswith("K8S_POD_"):
                raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_ARGS: {key!r} is unknown; add IgnoreUnknown=1")
    return args


def _parse_mac(where: str, text: str, code: int) -> bytes:
    digits = text.replace(":", "").replace("-", "")
    try:
        mac = bytes.fromhex(digits)
    except ValueError:
        mac = b""
    if len(text) != 17 or len(digits) != 12 or len(mac) != 6 or mac[0] & 1 or mac == bytes(6):
        raise CniError(code, f"{where}: {text!r} must be one interface's address, such as 0a:58:0a:f4:01:02")
    return mac
