"""Calling the IPAM plugin that the configuration names: SPEC.md, section 4.

Our own is called in this process, which saves starting an interpreter; any other is executed with this plugin's
environment and whole configuration. Without `ipam.type` there are no addresses: layer 2 only.
"""

from __future__ import annotations

import posix

from netlab.cni.plugins.fields import option
from netlab.cni.spec import codec, errors
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request
    from netlab.cni.spec.codec import Object

_OURS = "netlab-ipam"


class Delegate:
    """The IPAM plugin of a request; `kind` is its name, empty without one. Its methods raise `CniError`, `OSError`."""

    __slots__ = ("_request", "kind")

    def __init__(self, request: Request) -> None:
        """Raises `CniError`."""
        self._request = request
        self.kind: str = option(option(request.config, "ipam", dict, {}), "type", str, "", "ipam.")
        if "/" in self.kind or self.kind in {".", ".."}:
            raise errors.invalid_config(f"ipam.type: {self.kind!r} must be the name of an executable")

    def add(self) -> Object:
        """The addresses for the interface, as a result of 1.1.0; empty without an IPAM plugin.

        Reserves nothing if it raises.
        """
        if not self.kind or self.kind == _OURS:
            return self._ask("ADD") or {}
        from netlab.cni.spec import results

        try:
            what = f"result of the IPAM plugin {self.kind}"
            result = results.read(self._execute("ADD"), self._request.version, what, errors.DECODING_FAILURE)
        except BaseException:
            self.release()
            raise
        # Addresses only; the IPAM plugin does not decide which interface they are for.
        result.pop("interfaces", None)
        for ip in result.get("ips", []):
            ip.pop("interface", None)
        return result

    def delete(self) -> None:
        """Free the addresses of the interface.

        Call it after everything else is freed: a missing plugin is an error, since what it reserved stays reserved, but
        must not prevent the rest from being freed (containerd#12130).
        """
        self._ask("DEL")

    def release(self) -> None:
        """Free the addresses after a failure; that failure is reported, not one that happens here."""
        try:
            self.delete()
        except (CniError, OSError):
            return

    def check(self) -> None:
        """Check that the interface's addresses are still reserved."""
        self._ask("CHECK")

    def collect_garbage(self) -> None:
        """Free the addresses of all but the valid attachments."""
        self._ask_if_known("GC")

    def status(self) -> None:
        """Check that an ADD would succeed."""
        if self.kind and self.kind != _OURS and not self._find():
            raise CniError(errors.NOT_AVAILABLE, self._missing().msg)
        self._ask_if_known("STATUS")

    def _ask(self, command: str) -> Object | None:
        if not self.kind:
            return None
        if self.kind != _OURS:
            return self._execute(command)
        from netlab.cni.plugins.ipam.commands import HANDLERS

        return HANDLERS[command](self._request)

    def _ask_if_known(self, command: str) -> None:
        """Run a command that came with 1.1.0; a plugin that takes 1.1.0 but not this command has nothing to do."""
        try:
            self._ask(command)
        except CniError as error:
            if error.code != errors.INVALID_ENVIRONMENT or "CNI_COMMAND" not in error.msg:
                raise

    def _execute(self, command: str) -> Object:
        path = self._find()
        if not path:
            raise self._missing()
        # A file in memory, not a pipe: a plugin that never reads its input cannot block this one.
        stdin = posix.memfd_create("cni-config", posix.MFD_CLOEXEC)
        read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
        try:
            posix.write(stdin, codec.dumps(self._request.config).encode())
            posix.lseek(stdin, 0, 0)
            actions = [
                (posix.POSIX_SPAWN_DUP2, stdin, 0),
                (posix.POSIX_SPAWN_DUP2, write_end, 1),
                (posix.POSIX_SPAWN_DUP2, self._request.stderr, 2),
            ]
            child = posix.posix_spawn(
                path, [path], {**self._request.environment, "CNI_COMMAND": command}, file_actions=actions
            )
        except BaseException:
            posix.close(read_end)
            raise
        finally:
            posix.close(stdin)
            posix.close(write_end)
        with open(read_end, "rb") as pipe:  # noqa: PTH123 - a descriptor
            output = pipe.read()
        exit_status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
        try:
            answer = codec.loads(output) if output.strip() else {}
        except ValueError as error:
            if exit_status != 0:
                raise _failed(self.kind, exit_status, {}) from error
            raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {self.kind}: answer is not JSON: {error}") from error
        if exit_status != 0:
            raise _failed(self.kind, exit_status, answer)
        if not isinstance(answer, dict):
            raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {self.kind}: answer is not an object")
        return answer

    def _find(self) -> str:
        for folder in self._request.environment["CNI_PATH"].split(":"):
            path = f"{folder}/{self.kind}"
            if posix.access(path, posix.X_OK):
                return path
        return ""

    def _missing(self) -> CniError:
        return errors.invalid_config(
            f"ipam.type: no executable {self.kind!r} in CNI_PATH {self._request.environment['CNI_PATH']}",
        )


def _failed(kind: str, exit_status: int, answer: object) -> CniError:
    """The plugin's own error object, if it gave one."""
    said: Object = answer if isinstance(answer, dict) else {}
    code, msg, details = said.get("code"), said.get("msg"), said.get("details")
    how = f"killed by signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
    return CniError(
        code if isinstance(code, int) and code > 0 else errors.DELEGATE_FAILED,
        f"IPAM plugin {kind}: {msg if isinstance(msg, str) and msg else how}",
        details if isinstance(details, str) else "",
    )
