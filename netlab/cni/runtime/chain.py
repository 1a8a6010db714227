"""Executing a network's chain of plugins, for kubelets and container engines as libcni does.

`Runtime` does so with the environment and standard input of SPEC.md, section 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from netlab.cni.runtime.attachments import Attachment, Cache
from netlab.cni.runtime.configurations import NetworkList, load_network, parse_network
from netlab.cni.spec import errors, results
from netlab.cni.spec.errors import CniError
from netlab.descriptors import readable

__all__ = ["Attachment", "NetworkList", "Runtime", "load_network", "parse_network", "plugin_config"]

Object = dict[str, Any]


def plugin_config(network: NetworkList, plugin: Object, attachment: Attachment, prev_result: Object | None) -> Object:
    """What one plugin of the chain gets on standard input ("Deriving execution configuration", SPEC.md, section 3)."""
    config = _base_config(network, plugin)
    wanted = plugin.get("capabilities") or {}
    given = {key: value for key, value in attachment.runtime_config.items() if wanted.get(key) is True}
    if given:
        config["runtimeConfig"] = given
    if prev_result is not None:
        config["prevResult"] = prev_result
    return config


def _base_config(network: NetworkList, plugin: Object) -> Object:
    config = {key: value for key, value in plugin.items() if key not in {"capabilities", "runtimeConfig"}}
    return config | {"name": network.name, "cniVersion": network.cni_version}


class Runtime:
    """Adds containers to networks and removes them. Its methods block, and may be called from many threads at once.

    `plugin_dirs` is searched for plugins in order; `cache_dir` keeps the results of adds until the delete; `timeout`
    is the time in seconds that one execution of one plugin may take before it is killed.
    """

    def __init__(self, plugin_dirs: Sequence[Path], cache_dir: Path, *, timeout: float = 60.0) -> None:
        self._plugin_dirs = [str(path) for path in plugin_dirs]
        self._cache = Cache(cache_dir / "results")
        self._timeout = timeout
        # The caller's, with this interpreter first on PATH: a checkout's plugins then run on one that is new enough.
        path = os.environ.get("PATH", os.defpath)
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join((os.path.dirname(sys.executable), path)),  # noqa: PTH120
            "CNI_PATH": os.pathsep.join(self._plugin_dirs),
        }

    def add(self, network: NetworkList, attachment: Attachment) -> Object:
        """Add the container to the network; the last plugin's result. Raises `CniError`.

        libcni leaves the cleaning after a failed add to its callers, all of which then call delete; here the failed
        add does it itself, so that nothing is left behind. A repeated add is refused and changes nothing;
        two adds of the same attachment at once are the caller's to avoid, as in libcni.
        """
        attachment.check()
        if self._cache.holds(network, attachment):
            raise CniError(
                errors.ALREADY_RESERVED,
                f"container {attachment.container_id} is already on network {network.name} as {attachment.ifname};"
                " delete that first",
            )
        result: Object | None = None
        try:
            for plugin in network.plugins:
                result = self._execute("ADD", network, plugin, attachment, result)
            assert result is not None, "a chain has at least one plugin"
            self._cache.remember(network, attachment, result)
        except BaseException:
            self._undo(network, attachment, result)
            raise
        return result

    def _undo(self, network: NetworkList, attachment: Attachment, result: Object | None) -> None:
        """Delete after a failed add, going past the errors: the plugin that could not add may be unable to delete."""
        for plugin in reversed(network.plugins):
            with contextlib.suppress(CniError):
                self._execute("DEL", network, plugin, attachment, result if network.since(0, 4, 0) else None)

    def delete(self, network: NetworkList, attachment: Attachment) -> None:
        """Remove the container from the network; succeeds even if it never was on it. Raises `CniError`."""
        attachment.check()
        result = None
        with contextlib.suppress(CniError):  # a result that cannot be read must not keep the container's addresses
            result = self._recall(network, attachment)
        for plugin in reversed(network.plugins):
            self._execute("DEL", network, plugin, attachment, result)
        self._cache.forget(network, attachment)

    def check(self, network: NetworkList, attachment: Attachment) -> None:
        """Let every plugin check that its work is intact. Raises `CniError` naming what is broken."""
        attachment.check()
        if network.disable_check:
            return
        if not network.since(0, 4, 0):
            raise CniError(
                errors.INCOMPATIBLE_VERSION,
                f"network {network.name}: CHECK came with cniVersion 0.4.0, this is {network.cni_version}",
            )
        result = self._recall(network, attachment)
        if result is None:
            raise CniError(
                errors.UNKNOWN_CONTAINER,
                f"container {attachment.container_id} is not on network {network.name} as {attachment.ifname}:"
                " no result of an add is stored",
            )
        for plugin in network.plugins:
            self._execute("CHECK", network, plugin, attachment, result)

    def collect_garbage(self, network: NetworkList, valid: Collection[tuple[str, str]]) -> list[Attachment]:
        """Remove every attachment to the network but the valid ones, given as (container id, interface name).

        What the cache knows is deleted; then, from cniVersion 1.1.0, each plugin gets the list of valid attachments
        and can remove unknown ones. Returns what was deleted. Raises `CniError`, with all that failed, after the rest.
        """
        if network.disable_gc:
            return []
        deleted: list[Attachment] = []
        failed: list[CniError] = []
        for attachment in self._cache.attachments(network):
            if (attachment.container_id, attachment.ifname) in valid:
                continue
            try:
                self.delete(network, attachment)
                deleted.append(attachment)
            except CniError as error:
                failed.append(error)
        listed = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in sorted(valid)]
        for plugin in network.plugins if network.since(1, 1, 0) else ():
            config = _base_config(network, plugin)
            # The specification's key, and the one that plugins built on the Go library's first version of GC read
            # (containernetworking/cni#1101).
            config |= {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
            try:
                self._run(plugin["type"], {"CNI_COMMAND": "GC"}, config)
            except CniError as error:
                failed.append(error)
        if len(failed) > 1:
            raise CniError(failed[0].code, f"network {network.name}: {'; '.join(map(str, failed))}")
        if failed:
            raise failed[0]
        return deleted

    def status(self, network: NetworkList) -> None:
        """Whether an add can be served: every plugin is there, knows the network's version, and does not say otherwise
        by STATUS, which came with 1.1.0. Raises `CniError` of the first that cannot.
        """
        for plugin in network.plugins:
            kind: str = plugin["type"]
            versions = self.version(kind).get("supportedVersions")
            if not isinstance(versions, list) or network.cni_version not in versions:
                raise CniError(
                    errors.INCOMPATIBLE_VERSION,
                    f"cniVersion: {network.cni_version!r} is not among its versions {versions}",
                    plugin=kind,
                )
            if network.since(1, 1, 0):
                self._run(kind, {"CNI_COMMAND": "STATUS"}, _base_config(network, plugin))

    def version(self, plugin: str) -> Object:
        """What a plugin answers to VERSION. Raises `CniError`."""
        return _parse_result(plugin, self._run(plugin, {"CNI_COMMAND": "VERSION"}, {"cniVersion": "1.0.0"}))

    def added(self, network: NetworkList, attachment: Attachment) -> Attachment | None:
        """The attachment as it was added, its capability arguments included; None if no result of that is kept."""
        return self._cache.added(network, attachment)

    def attachments(self, network: NetworkList) -> list[Attachment]:
        """What was added to the network and not deleted since. Raises `CniError`."""
        return self._cache.attachments(network)

    def _recall(self, network: NetworkList, attachment: Attachment) -> Object | None:
        """The result of the add in the network's version, as prevResult must be; from 0.4.0 a DEL gets it, too."""
        if not network.since(0, 4, 0):
            return None
        result = self._cache.recall(network, attachment)
        if result is None or result.get("cniVersion") == network.cni_version:
            return result
        # The configuration was changed since.
        version = network.cni_version
        return {"cniVersion": version, **results.write(results.read(result, version), version)}

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
        path = self._find(plugin)
        try:
            with contextlib.ExitStack() as stack:
                # Files in memory, not pipes: neither a plugin that leaves its input unread nor a daemon that it leaves
                # behind with its output open can block this process, and one wait is all that there is to do.
                stdin, stdout, stderr = (_memory_file(stack, name) for name in ("stdin", "stdout", "stderr"))
                os.write(stdin, json.dumps(config).encode())
                os.lseek(stdin, 0, os.SEEK_SET)
                status = self._execute_file(path, (stdin, stdout, stderr), {**self._environment, **environment})
                output, log = (os.pread(file, os.fstat(file).st_size, 0) for file in (stdout, stderr))
        except OSError as error:
            raise CniError(errors.IO_FAILURE, f"{path} cannot be run: {error.strerror}", plugin=plugin) from error
        if status is None:
            raise CniError(errors.TRY_AGAIN, f"no answer within {self._timeout:g} s; killed", plugin=plugin)
        if status != 0:
            raise _parse_error(plugin, status, output, log)
        return output

    def _execute_file(self, path: str, streams: tuple[int, int, int], environment: Mapping[str, str]) -> int | None:
        """The exit status of an execution; None if it took too long and was killed."""
        stdin, stdout, stderr = streams
        process = subprocess.Popen(
            [path],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,  # so that a hung plugin is killed with the delegates it started
        )
        try:
            descriptor = os.pidfd_open(process.pid)
            try:
                return process.wait() if readable(descriptor, timeout=self._timeout) else None
            finally:
                os.close(descriptor)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _find(self, plugin: str) -> str:
        for folder in self._plugin_dirs:
            path = os.path.join(folder, plugin)  # noqa: PTH118 - called for every pod
            if os.access(path, os.X_OK) and os.path.isfile(path):  # noqa: PTH113
                return path
        raise CniError(
            errors.INVALID_CONFIG,
            f"no executable of that name in {os.pathsep.join(self._plugin_dirs)}; correct `type` or the folders",
            plugin=plugin,
        )


def _memory_file(stack: contextlib.ExitStack, name: str) -> int:
    descriptor = os.memfd_create(f"cni-{name}", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


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
