"""The runtime's side of CNI: what libcni is to kubelets and container engines.

A `NetworkList` is one network's chain of plugins, read from disk; an `Attachment` is one interface of one container.
`Runtime` executes the chain with the environment and standard input of SPEC.md, section 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netlab import files
from netlab.cni import errors
from netlab.cni.errors import CniError
from netlab.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)  # of networks and containers: SPEC.md, sections 1 and 2
_CHECKED_SINCE = (0, 4, 0)  # CHECK, and prevResult in DEL, came with 0.4.0

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One network: its name, its version of CNI and its chain of plugin configurations, at least one."""

    name: str
    cni_version: str
    plugins: tuple[Object, ...]
    disable_check: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container.

    `netns` is the path of its network namespace; it may be empty for a delete after the namespace has gone.
    `args` become CNI_ARGS (such as K8S_POD_NAME); `runtime_config` goes to the plugins that have the capability.
    """

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: Mapping[str, str] = field(default_factory=dict)
    runtime_config: Mapping[str, Any] = field(default_factory=dict)


def load_network(conf_dir: Path) -> NetworkList:
    """The network of the first `*.conflist` or `*.conf` of a folder in lexical order. Raises `UsageError`."""
    try:
        files = sorted(path for path in conf_dir.iterdir() if path.suffix in {".conflist", ".conf"})
    except OSError as error:
        raise UsageError(f"{conf_dir}: {error.strerror}: no network is configured") from error
    if not files:
        raise UsageError(f"{conf_dir}: no network is configured: put a *.conflist there")
    return parse_network(files[0].read_bytes(), str(files[0]))


def parse_network(text: bytes, source: str) -> NetworkList:
    """Read a network's configuration: a list of plugins, or (a `.conf`) a single one. Raises `UsageError`."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{source}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{source}: must be an object")
    plugins = config.get("plugins", [config])
    name, version = config.get("name"), config.get("cniVersion", "0.1.0")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{source}: name: {name!r} must be letters, digits, '_', '.' and '-'")
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+\.\d+", version, re.ASCII):
        raise UsageError(f"{source}: cniVersion: {version!r} must be like '1.0.0'")
    if not isinstance(plugins, list) or not plugins:
        raise UsageError(f"{source}: plugins: must be a list of at least one plugin")
    for position, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind or kind in {".", ".."}:
            raise UsageError(f"{source}: plugins[{position}].type: {kind!r} must be the name of an executable")
    return NetworkList(name, version, tuple(plugins), config.get("disableCheck") is True)


def plugin_config(network: NetworkList, plugin: Object, attachment: Attachment, prev_result: Object | None) -> Object:
    """What one plugin of the chain gets on standard input ("Deriving execution configuration", SPEC.md, section 3)."""
    config = {key: value for key, value in plugin.items() if key not in {"capabilities", "runtimeConfig"}}
    config |= {"name": network.name, "cniVersion": network.cni_version}
    wanted = plugin.get("capabilities") or {}
    given = {key: value for key, value in attachment.runtime_config.items() if wanted.get(key) is True}
    if given:
        config["runtimeConfig"] = given
    if prev_result is not None:
        config["prevResult"] = prev_result
    return config


class Runtime:
    """Adds containers to networks and removes them. Its methods block, and may be called from many threads at once.

    `plugin_dirs` is searched for plugins in order; `cache_dir` keeps the results of adds until the delete; `timeout`
    is the time in seconds that one execution of one plugin may take before it is killed.
    """

    def __init__(self, plugin_dirs: Sequence[Path], cache_dir: Path, *, timeout: float = 60.0) -> None:
        self._plugin_dirs = [str(path) for path in plugin_dirs]
        self._cache = cache_dir / "results"
        self._timeout = timeout

    def add(self, network: NetworkList, attachment: Attachment) -> Object:
        """Add the container to the network; the last plugin's result. Raises `CniError`.

        libcni leaves the cleaning after a failed add to its callers, all of which then call delete; here the failed
        add does it itself, so that nothing is left behind. An attachment that was added before is refused untouched;
        two adds of the same attachment at once are the caller's to avoid, as in libcni.
        """
        cached = self._cached(network, attachment)
        if cached.exists():
            raise CniError(
                errors.INVALID_ENVIRONMENT,
                f"container {attachment.container_id} is on network {network.name} as {attachment.ifname} already;"
                " delete that first",
            )
        result: Object | None = None
        try:
            for plugin in network.plugins:
                result = self._execute("ADD", network, plugin, attachment, result)
            assert result is not None, "a chain has at least one plugin"
            self._remember(cached, network, attachment, result)
        except BaseException:
            with contextlib.suppress(CniError):
                self.delete(network, attachment)
            raise
        return result

    def delete(self, network: NetworkList, attachment: Attachment) -> None:
        """Remove the container from the network; true also if it never was on it. Raises `CniError`."""
        cached = self._cached(network, attachment)
        result = self._recall(cached) if _version(network) >= _CHECKED_SINCE else None
        for plugin in reversed(network.plugins):
            self._execute("DEL", network, plugin, attachment, result)
        cached.unlink(missing_ok=True)

    def check(self, network: NetworkList, attachment: Attachment) -> None:
        """Have every plugin see that its work still stands. Raises `CniError` naming what is broken."""
        if network.disable_check:
            return
        if _version(network) < _CHECKED_SINCE:
            raise CniError(
                errors.INCOMPATIBLE_VERSION,
                f"network {network.name}: CHECK came with cniVersion 0.4.0, this is {network.cni_version}",
            )
        result = self._recall(self._cached(network, attachment))
        for plugin in network.plugins:
            self._execute("CHECK", network, plugin, attachment, result)

    def version(self, plugin: str) -> Object:
        """What a plugin answers to VERSION. Raises `CniError`."""
        network = NetworkList("version", "1.0.0", ())
        answer = self._run(plugin, {"CNI_COMMAND": "VERSION"}, {"cniVersion": network.cni_version})
        return _parse_result(plugin, answer)

    def _execute(
        self, command: str, network: NetworkList, plugin: Object, attachment: Attachment, prev_result: Object | None
    ) -> Object | None:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.args.items()),
        }
        kind: str = plugin["type"]
        output = self._run(kind, environment, plugin_config(network, plugin, attachment, prev_result))
        return _parse_result(kind, output) if command == "ADD" else None

    def _run(self, plugin: str, environment: Mapping[str, str], config: Object) -> bytes:
        process = subprocess.Popen(
            [self._find(plugin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._environment(), **environment},
            start_new_session=True,  # so that a hung plugin is killed with the delegates it started
        )
        try:
            output, log = process.communicate(json.dumps(config).encode(), self._timeout)
        except subprocess.TimeoutExpired:
            raise CniError(errors.TRY_AGAIN, f"no answer within {self._timeout:g} s; killed", plugin=plugin) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0:
            raise _parse_error(plugin, process.returncode, output, log)
        return output

    def _environment(self) -> dict[str, str]:
        """The caller's, with this interpreter first on PATH: plugins in Python then run on one that is new enough."""
        path = os.environ.get("PATH", os.defpath)
        return {
            **os.environ,
            "PATH": os.pathsep.join((os.path.dirname(sys.executable), path)),  # noqa: PTH120
            "CNI_PATH": os.pathsep.join(self._plugin_dirs),
        }

    def _find(self, plugin: str) -> str:
        for folder in self._plugin_dirs:
            path = os.path.join(folder, plugin)  # noqa: PTH118 - called for every pod
            if os.access(path, os.X_OK):
                return path
        raise CniError(
            errors.INVALID_CONFIG,
            f"no executable of that name in {os.pathsep.join(self._plugin_dirs)}; correct `type` or the folders",
            plugin=plugin,
        )

    def _cached(self, network: NetworkList, attachment: Attachment) -> Path:
        if not _NAME.fullmatch(attachment.container_id):
            raise CniError(errors.INVALID_ENVIRONMENT, f"container {attachment.container_id!r}: not a valid identifier")
        if "/" in attachment.ifname:
            raise CniError(errors.INVALID_ENVIRONMENT, f"interface {attachment.ifname!r}: not a valid name")
        return self._cache / f"{network.name}-{attachment.container_id}-{attachment.ifname}"

    def _remember(self, cached: Path, network: NetworkList, attachment: Attachment, result: Object) -> None:
        entry = {
            "kind": "cniCacheV1",  # libcni's own format
            "containerId": attachment.container_id,
            "ifName": attachment.ifname,
            "networkName": network.name,
            "netns": attachment.netns,
            "cniArgs": list(attachment.args.items()),
            "capabilityArgs": dict(attachment.runtime_config),
            "result": result,
        }
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(cached, json.dumps(entry))
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"result not kept: {cached}: {error.strerror}") from error

    def _recall(self, cached: Path) -> Object | None:
        try:
            result = json.loads(cached.read_bytes()).get("result")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            raise CniError(errors.IO_FAILURE, f"{cached}: {error}; remove the file") from error
        return result if isinstance(result, dict) else None


def _version(network: NetworkList) -> tuple[int, ...]:
    return tuple(int(part) for part in network.cni_version.split("."))


def _parse_result(plugin: str, output: bytes) -> Object:
    try:
        result = json.loads(output)
    except ValueError as error:
        raise CniError(errors.DECODING_FAILURE, f"result is not JSON: {error}", plugin=plugin) from error
    if not isinstance(result, dict):
        raise CniError(errors.DECODING_FAILURE, "result is not an object", plugin=plugin)
    return result


def _parse_error(plugin: str, status: int, output: bytes, log: bytes) -> CniError:
    """The plugin's error object; what it said on stderr if it gave none."""
    try:
        error = json.loads(output)
        return CniError(int(error["code"]), str(error["msg"]), str(error.get("details", "")), plugin)
    except (ValueError, TypeError, KeyError, AttributeError):
        said = " ".join((log or output).decode(errors="replace").split())[-500:]
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return CniError(errors.INTERNAL, f"failed with {how} and no error object", said, plugin)
