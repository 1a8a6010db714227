"""Answering a call: what goes to standard output, the exit status, and an error object for every failure.

The codes are those of SPEC.md, section 5.
"""

from __future__ import annotations

import posix

from netlab.cni.plugins.request import Request, check_environment, read_config
from netlab.cni.spec import codec, errors
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import LATEST, SINCE, VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netlab.cni.plugins.request import Handler
    from netlab.cni.spec.codec import Object


def main(handlers: Mapping[str, Handler]) -> tuple[int, bytes]:
    """Answer one execution of this process on standard output; its exit status, and its standard input."""
    # os.environ without importing os, which costs a tenth of an ADD.
    environment = {_text_of(key): _text_of(value) for key, value in posix.environ.items()}
    return respond(handlers, environment, lambda: read_all(0), lambda _, output: write_all(1, output))


def _text_of(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def respond(
    handlers: Mapping[str, Handler],
    environment: Mapping[str, str],
    read: Callable[[], bytes],
    send: Callable[[int, str], object],
    stderr: int = 2,
    *,
    stays: bool = False,
) -> tuple[int, bytes]:
    """`answer`, and send it; the exit status, and what was read. An ADD whose caller is gone is undone."""
    given = b""

    def remember() -> bytes:
        nonlocal given
        given = read()
        return given

    status, output = answer(handlers, environment, remember, stderr, stays=stays)
    try:
        send(status, output)
    except OSError:
        if status == 0 and environment.get("CNI_COMMAND") == "ADD":
            answer(handlers, {**environment, "CNI_COMMAND": "DEL"}, lambda: given, stderr, stays=stays)
        return 1, given
    return status, given


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
    handlers: Mapping[str, Handler],
    environment: Mapping[str, str],
    read: Callable[[], bytes],
    stderr: int = 2,
    *,
    stays: bool = False,
) -> tuple[int, str]:
    """The exit status and the output of one execution. `handlers` has a function for each command but VERSION.

    `read` gives the standard input. The calling thread works in the network namespace that it is in; `stays` says that
    its process goes on after the answer.
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
        if version < SINCE.get(command, version):  # both from VERSIONS, whose order is that of the text
            raise CniError(
                errors.INCOMPATIBLE_VERSION, f"cniVersion: {version!r}: {command} came with {SINCE[command]}"
            )
        result = handlers[command](Request(command, environment, config, stderr, stays=stays))
        return 0, "" if result is None else _result(result, version)
    except CniError as error:
        return 1, _failure(version, error)
    except OSError as error:
        from netlab.net.netlink import NetlinkError

        code = errors.KERNEL_REFUSED if isinstance(error, NetlinkError) else errors.IO_FAILURE
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return 1, _failure(version, CniError(code, what))
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
