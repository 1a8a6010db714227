"""What every plugin shares: reading the request, answering on standard output, and turning failures into error objects.

The checks and the codes are those of SPEC.md, sections 2 and 5. Nothing here imports more than C modules need.
"""

from __future__ import annotations

import posix
from _blake2 import blake2s

from netlab.cni.spec import codec, errors
from netlab.cni.spec.addresses import parse_address, parse_prefix
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than the rest of an ADD
    from collections.abc import Callable, Mapping
    from typing import Any

    Object = dict[str, Any]
    Handler = Callable[["Request"], Object | None]

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
}
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
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
_IFNAMSIZ = 16
_LONGEST_OWNER = 127
"""Bytes of a comment in nftables' userdata, without its NUL."""
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

    `config` is the whole configuration as given, `stderr` the descriptor of the caller's standard error.
    Raises `CniError` if CNI_ARGS or a key that SPEC.md defines cannot be understood; so do the properties for what they
    read.
    A DEL has to free what it can, and reads CNI_ARGS and the previous result as far as they make sense.
    """

    __slots__ = (
        "cni_args",
        "command",
        "config",
        "container_id",
        "environment",
        "ifname",
        "netns",
        "network",
        "runtime_config",
        "stderr",
        "version",
    )

    def __init__(self, command: str, environment: Mapping[str, str], config: Object, stderr: int = 2) -> None:
        self.command = command
        self.environment = environment
        self.container_id = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.ifname = environment.get("CNI_IFNAME", "")
        self.config = config
        self.network: str = config["name"]
        self.version: str = config["cniVersion"]
        self.stderr = stderr
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
            raise CniError(errors.INVALID_CONFIG, f"{_ATTACHMENTS[0]}: GC needs the list of what to keep")
        found = set()
        for number, item in enumerate(option(self.config, key, list, [])):  # null: libcni's for an empty list
            path = f"{key}[{number}]"
            if not isinstance(item, dict):
                raise CniError(errors.INVALID_CONFIG, f"{path}: {item!r} must be an object")
            container_id = option(item, "containerID", str, "", f"{path}.")
            ifname = option(item, "ifname", str, "", f"{path}.")
            if not container_id or not ifname:
                raise CniError(errors.INVALID_CONFIG, f"{path}: {item!r} must have containerID and ifname")
            found.add((container_id, ifname))
        return frozenset(found)

    @property
    def owner(self) -> str:
        """The label of this attachment on kernel objects that have no name of their own."""
        return owner(self.network, self.container_id, self.ifname)

    @property
    def _args(self) -> Object:
        found: Object = option(option(self.config, "args", dict, {}), "cni", dict, {}, "args.")
        return found


def owner(network: str, container_id: str, ifname: str) -> str:
    """`NETWORK/CONTAINERID/IFNAME`, at most 127 bytes: what is longer is hashed behind the network's prefix."""
    prefix, rest = owner_prefix(network), f"{container_id}/{ifname}"
    return prefix + (rest if len(prefix) + len(rest.encode()) <= _LONGEST_OWNER else _hash(rest))


def owner_prefix(network: str) -> str:
    """What the labels of all attachments to a network begin with, and of no other's: a GC looks for it."""
    return (network if len(network) <= _LONGEST_OWNER // 2 else _hash(network)) + "/"


def _hash(text: str) -> str:
    return "#" + blake2s(text.encode(), digest_size=16).hexdigest()  # no identifier begins with it


def main(handlers: Mapping[str, Handler]) -> tuple[int, bytes]:
    """Answer one execution of this process on standard output; its exit status, and its standard input."""
    # os.environ without importing os, which costs a tenth of an ADD.
    environment = {_text_of(key): _text_of(value) for key, value in posix.environ.items()}
    given = b""

    def read() -> bytes:
        nonlocal given
        given = read_all(0)
        return given

    status = respond(handlers, environment, read, lambda _, output: write_all(1, output))
    return status, given


def _text_of(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def respond(
    handlers: Mapping[str, Handler],
    environment: Mapping[str, str],
    read: Callable[[], bytes],
    send: Callable[[int, str], object],
    stderr: int = 2,
) -> int:
    """`answer`, and send the answer; the exit status. An ADD whose caller is gone is undone: nothing knows about it."""
    given = b""

    def remember() -> bytes:
        nonlocal given
        given = read()
        return given

    status, output = answer(handlers, environment, remember, stderr)
    try:
        send(status, output)
    except OSError:
        if status == 0 and environment.get("CNI_COMMAND") == "ADD":
            answer(handlers, {**environment, "CNI_COMMAND": "DEL"}, lambda: given, stderr)
        return 1
    return status


def read_all(descriptor: int) -> bytes:
    """A caller's standard input up to its end; nothing from a terminal, where no configuration is typed."""
    if posix.isatty(descriptor):
        return b""
    chunks = []
    while chunk := posix.read(descriptor, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def write_all(descriptor: int, text: str) -> None:
    """Write to a caller's standard output. Raises `OSError`."""
    remaining = text.encode()
    while remaining:
        remaining = remaining[posix.write(descriptor, remaining) :]


def answer(
    handlers: Mapping[str, Handler], environment: Mapping[str, str], read: Callable[[], bytes], stderr: int = 2
) -> tuple[int, str]:
    """The exit status and the output of one execution. `handlers` has a function for each command but VERSION.

    `read` gives the standard input. The calling thread works in the network namespace that it is in.
    """
    version = LATEST
    try:
        command = environment.get("CNI_COMMAND", "")
        if command == "VERSION":
            return 0, _text({"cniVersion": _version_asked_for(read()), "supportedVersions": list(VERSIONS)})
        if command not in handlers:
            raise CniError(
                errors.INVALID_ENVIRONMENT, f"CNI_COMMAND: {command!r} must be {', '.join(handlers)} or VERSION"
            )
        config = read_config(read())
        version = config["cniVersion"]
        check_environment(command, environment)
        if version < _SINCE.get(command, version):  # both from VERSIONS, whose order is that of the text
            raise CniError(
                errors.INCOMPATIBLE_VERSION, f"cniVersion: {version!r}: {command} came with {_SINCE[command]}"
            )
        result = handlers[command](Request(command, environment, config, stderr))
        return 0, "" if result is None else _result(result, version)
    except CniError as error:
        return 1, _failure(version, error)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return 1, _failure(version, CniError(errors.IO_FAILURE, what))
    except RecursionError:
        return 1, _failure(version, CniError(errors.DECODING_FAILURE, "standard input is nested too deeply"))
    except Exception as error:
        return 1, _failure(version, CniError(errors.INTERNAL, "a bug in the plugin; please report it", repr(error)))


def _version_asked_for(text: bytes) -> str:
    """VERSION echoes `cniVersion`, and never fails because of its input: the Go plugins do not even read it."""
    try:
        asked = codec.loads(text)["cniVersion"]
    except (ValueError, KeyError, TypeError):
        return LATEST
    return asked if asked in VERSIONS else LATEST


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
        raise CniError(
            errors.INVALID_CONFIG,
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
    if "CNI_CONTAINERID" in required and not is_identifier(environment["CNI_CONTAINERID"]):
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_CONTAINERID: {environment['CNI_CONTAINERID']!r} is not a valid identifier"
        )
    if "CNI_IFNAME" in required and not is_interface_name(environment["CNI_IFNAME"]):
        raise CniError(
            errors.INVALID_ENVIRONMENT, f"CNI_IFNAME: {environment['CNI_IFNAME']!r} is not a valid interface name"
        )


def _check_types(config: Object) -> None:
    """Refuse a value of another type than SPEC.md gives to its key. Raises `CniError`."""
    for key, kind in _TYPES.items():
        option(config, key, kind, None)
    seconds = option(config, "lingerSeconds", int, 0)
    if not 0 <= seconds <= LONGEST_LINGER:
        raise CniError(
            errors.INVALID_CONFIG, f"lingerSeconds: {seconds} must be 0 (leave no process) to {LONGEST_LINGER}"
        )
    plugin = option(config, "type", str, "")
    if "/" in plugin:
        raise CniError(errors.INVALID_CONFIG, f"type: {plugin!r} must be the name of an executable, not a path")
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


def is_interface_name(text: str) -> bool:
    """Whether the kernel accepts it as a link's name: dev_valid_name() in net/core/dev.c."""
    return (
        text.isprintable()  # so that it can be encoded as well
        and 0 < len(text.encode()) < _IFNAMSIZ
        and text not in {".", ".."}
        and not any(mark in "/:" or mark.isspace() for mark in text)
    )


def is_identifier(text: str) -> bool:
    """Whether it may name a network or a container: SPEC.md's `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`."""
    body = text.replace("_", "").replace(".", "").replace("-", "")
    return text[:1].isalnum() and body.isascii() and body.isalnum()


def option(config: Object, key: str, kind: type, default: Any, path: str = "") -> Any:
    """A field of the configuration; `path` leads to its object, for the error. Raises `CniError`."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise CniError(errors.INVALID_CONFIG, f"{path}{key}: {value!r} must be {_KINDS[kind]}")
    if isinstance(value, str) and not value.isprintable():  # no system call takes a NUL or half a character
        raise CniError(errors.INVALID_CONFIG, f"{path}{key}: {value!r} must have printable characters only")
    return value


def strings(config: Object, key: str, path: str = "") -> list[str]:
    """A field of the configuration that is a list of strings; empty without it. Raises `CniError`."""
    values: list[str] = option(config, key, list, [], path)
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.isprintable():
            raise CniError(errors.INVALID_CONFIG, f"{path}{key}[{number}]: {value!r} must be a printable string")
    return values


_KINDS = {str: "a string", int: "a number", bool: "true or false", list: "a list", dict: "an object"}


def _result(result: Object, version: str) -> str:
    if version != LATEST:
        from netlab.cni.spec import results

        result = results.write(result, version)
    return _text({"cniVersion": version, **result})


def _text(value: Object) -> str:
    return codec.dumps(value) + "\n"


def _failure(version: str, error: CniError) -> str:
    # Always one line: messages end up in logs and terminals.
    msg = error.msg if error.msg.isprintable() else repr(error.msg)[1:-1]
    value: Object = {"cniVersion": version, "code": error.code, "msg": msg}
    if error.details:
        value["details"] = error.details
    return _text(value)
