"""Asking the IPAM plugin that the configuration names: SPEC.md, section 4.

Our own is called in this process, which saves the start of an interpreter; any other is executed.
"""

from __future__ import annotations

import os

from netlab.cni import codec, errors, ipam
from netlab.cni.errors import CniError
from netlab.cni.plugin import option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugin import Object, Request


def add(request: Request) -> Object:
    """The addresses for the interface; none without an IPAM plugin. Raises `CniError`, `OSError`."""
    kind = _kind(request)
    if not kind:
        return {}
    if kind == ipam.TYPE:
        return ipam.add(request)
    try:
        return _execute(kind, "ADD", request)
    except CniError:
        release(request)
        raise


def delete(request: Request) -> None:
    """Free the addresses of the interface. Raises `CniError`, `OSError`."""
    kind = _kind(request)
    if kind == ipam.TYPE:
        ipam.delete(request)
    elif kind:
        _execute(kind, "DEL", request)


def check(request: Request) -> None:
    """See that the addresses of the interface are still reserved. Raises `CniError`, `OSError`."""
    kind = _kind(request)
    if kind == ipam.TYPE:
        ipam.check(request)
    elif kind:
        _execute(kind, "CHECK", request)


def release(request: Request) -> None:
    """Free the addresses after a failure, which is what is reported and not what goes wrong here."""
    try:
        delete(request)
    except (CniError, OSError):
        return


def _kind(request: Request) -> str:
    kind: str = option(option(request.config, "ipam", dict, {}), "type", str, "", "ipam.")
    if "/" in kind:
        raise CniError(errors.INVALID_CONFIG, f"ipam.type: {kind!r} must be the name of an executable")
    return kind


def _execute(kind: str, command: str, request: Request) -> Object:
    path = _find(kind, request.environment["CNI_PATH"])
    # A file in memory, not a pipe: a plugin that does not read its input cannot block this one.
    stdin = os.memfd_create("cni-config", os.MFD_CLOEXEC)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(stdin, codec.dumps(request.config).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, write_end, 1)]
        environment = {**request.environment, "CNI_COMMAND": command}
        child = os.posix_spawn(path, [path], environment, file_actions=actions)
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(stdin)
        os.close(write_end)
    with open(read_end, "rb") as pipe:  # noqa: PTH123 - a descriptor
        output = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        answer = codec.loads(output) if output.strip() else {}
    except ValueError as error:
        raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {kind}: answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise CniError(errors.DECODING_FAILURE, f"IPAM plugin {kind}: answer is not an object")
    if status != 0:
        code, msg = answer.get("code"), answer.get("msg")
        raise CniError(
            code if isinstance(code, int) else errors.DELEGATE_FAILED,
            f"IPAM plugin {kind}: {msg if isinstance(msg, str) else f'exit status {status}'}",
            str(answer.get("details", "")),
        )
    return answer


def _find(kind: str, folders: str) -> str:
    for folder in folders.split(os.pathsep):
        path = os.path.join(folder, kind)  # noqa: PTH118
        if os.access(path, os.X_OK):
            return path
    raise CniError(errors.INVALID_CONFIG, f"ipam.type: no executable {kind!r} in CNI_PATH {folders}")
