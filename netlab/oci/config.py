"""An image's configuration: what its containers run, as whom and where, from untrusted JSON."""

from __future__ import annotations

import platform
import re
import signal
from typing import Annotated, Any

import msgspec

from netlab.errors import UsageError

_MOST_LAYERS = 127
"""Docker's limit."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}
_DIFF_ID = re.compile(r"sha256:([0-9a-f]{64})")

Text = Annotated[str, msgspec.Meta(max_length=1 << 17, pattern=r"^[^\x00]*$")]


class _Process(msgspec.Struct):
    Entrypoint: list[Text] | None = None
    Cmd: list[Text] | None = None
    Env: list[Text] | None = None
    User: Text = ""
    WorkingDir: Text = ""
    StopSignal: Text = ""


class _RootFS(msgspec.Struct):
    diff_ids: list[str]


class _Configuration(msgspec.Struct):
    rootfs: _RootFS
    architecture: str = ""
    os: str = ""
    config: _Process | None = None


def architecture() -> str:
    """This machine's, in Go's words, as images have it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def parse(text: bytes) -> tuple[list[str], dict[str, Any]]:
    """The diff ids of the layers, the lowest first, and the fields of a `records.Record` that say how it runs.

    Raises `UsageError` for what is no configuration, and for another machine's.
    """
    try:
        found = msgspec.json.decode(text, type=_Configuration)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the image's configuration is not valid: {error}") from None
    if (found.os or "linux", found.architecture or architecture()) != ("linux", architecture()):
        raise UsageError(
            f"the image is for {found.os}/{found.architecture}, and this machine is linux/{architecture()}: "
            "take the variant for it"
        )
    layers = [match[1] for each in found.rootfs.diff_ids if (match := _DIFF_ID.fullmatch(each))]
    if not 0 < len(layers) == len(found.rootfs.diff_ids) <= _MOST_LAYERS:
        raise UsageError(f"the image must have from 1 to {_MOST_LAYERS} layers, each with a SHA-256 digest")
    process = found.config or _Process()
    variables = [each.partition("=") for each in process.Env or ()]
    return layers, {
        "entrypoint": process.Entrypoint or [],
        "cmd": process.Cmd or [],
        "env": {name: value for name, equals, value in variables if name and equals},
        "user": process.User,
        "cwd": process.WorkingDir if process.WorkingDir.startswith("/") else f"/{process.WorkingDir}",
        "stop_signal": _signal(process.StopSignal),
    }


def _signal(text: str) -> int:
    """The number of a signal: SIGTERM, TERM, 15 or SIGRTMIN+3 (image-spec, config.md)."""
    name, plus, offset = text.upper().partition("+")
    if name.isdecimal():
        number = int(name)
    else:
        known = {each.name: int(each) for each in signal.Signals}
        number = known.get(f"SIG{name.removeprefix('SIG')}", 0 if name else signal.SIGTERM)
    number += int(offset) if offset.isdecimal() else 0
    if number not in signal.valid_signals() or (plus and not offset.isdecimal()):
        raise UsageError(f"the image's StopSignal {text[:80]!r} is no signal")
    return number
