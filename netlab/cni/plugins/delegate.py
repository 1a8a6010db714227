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


def add(request: Request) -> Object:
    """The addresses for the interface, as a result of 1.1.0; empty without an IPAM plugin.

    Reserves nothing if it raises: `CniError`, `OSError`.
    """
    kind = _kind(request)
    if not kind or kind == _OURS:
        return _ask(kind, "ADD", request) or {}
    from netlab.cni.spec import results

    try:
        what = f"result of the IPAM plugin {kind}"
        result = results.read(_execute(kind, "ADD", request), request.version, what, errors.DECODING_FAILURE)
    except BaseException:
        release(request)
        raise
    # Addresses only; the IPAM plugin does not decide which interface they are for.
    result.pop("interfaces", None)
    for ip in result.get("ips", []):
        ip.pop("interface", None)
    return result


def delete(request: Request) -> None:
    """Free the addresses of the interface. Raises `CniError`, `OSError`.

    Call it after everything else is freed: a missing plugin is an error, since what it reserved stays reserved, but
    must not prevent the rest from being freed (containerd#12130).
    """
    _ask(_kind(request), "DEL", request)


def check(request: Request) -> None:
    """Check that the interface's addresses are still reserved. Raises `CniError`, `OSError`."""
    _ask(_kind(request), "CHECK", request)


def collect_garbage(request: Request) -> None:
    """Free the addresses of all but the valid attachments. Raises `CniError`, `OSError`."""
    _ask_if_known(_kind(request), "GC", request)


def status(request: Request) -> None:
    """Check that an ADD would succeed. Raises `CniError`, `OSError`."""
    kind = _kind(request)
    if kind and kind != _OURS and not _find(kind, request):
        raise CniError(errors.NOT_AVAILABLE, _missing(kind, request).msg)
    _ask_if_known(kind, "STATUS", request)


def release(request: Request) -> None:
    """Free the addresses after a failure; that failure is reported, not one that happens here."""
    try:
        delete(request)
    except (CniError, OSError):
        return


def _kind(request: Request) -> str:
    kind: str = option(option(request.config, "ipam", dict, {}), "type", str, "", "ipam.")
    if "/" in kind or kind in {".", ".."}:
        raise CniError(errors.INVALID_CONFIG, f"ipam.type: {kind!r} must be the name of an executable")
    return kind


def _ask(kind: str, command: str, request: Request) -> Object | None:
    if not kind:
        return None
    if kind != _OURS:
        return _execute(kind, command, request)
    from netlab.cni.plugins import ipam

    return ipam.HANDLERS[command](request)


def _ask_if_known(kind: str, command: str, request: Request) -> None:
    """Run a command that came with 1.1.0; a plugin that takes 1.1.0 but not this command has nothing to do."""
    try:
        _ask(kind, command, request)
    except CniError as error:
        if error.code != errors.INVALID_ENVIRONMENT or "CNI_COMMAND" not in error.msg:
            raise


def _execute(kind: str, command: str, request: Request) -> Object:
    path = _find(kind, request)
    if not path:
        raise _missing(kind, request)
    # A file in memory, not a pipe: a plugin that never reads its input cannot block this one.
    stdin = posix.memfd_create("cni-config", posix.MFD_CLOEXEC)
    read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
    try:
        posix.write(stdin, codec.dumps(request.config).encode())
        posix.lseek(stdin, 0, 0)
        actions = [
            (posix.POSIX_SPAWN_DUP2, stdin, 0),
            (posix.POSIX_SPAWN_DUP2, write_end, 1),
            (posix.POSIX_SPAWN_DUP2, request.stderr, 2),
        ]
        child = posix.posix_spawn(path, [path], {**request.environment, "CNI_COMMAND": command}, file_actions=actions)
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
            raise _failed(kind, exit_status, {}) from error
        raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {kind}: answer is not JSON: {error}") from error
    if exit_status != 0:
        raise _failed(kind, exit_status, answer)
    if not isinstance(answer, dict):
        raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {kind}: answer is not an object")
    return answer


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


def _find(kind: str, request: Request) -> str:
    for folder in request.environment["CNI_PATH"].split(":"):
        path = f"{folder}/{kind}"
        if posix.access(path, posix.X_OK):
            return path
    return ""


def _missing(kind: str, request: Request) -> CniError:
    return CniError(
        errors.INVALID_CONFIG, f"ipam.type: no executable {kind!r} in CNI_PATH {request.environment['CNI_PATH']}"
    )
