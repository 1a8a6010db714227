"""The built-in images: programs that a machine runs in the process it forked, without execve(2).

An image's name is the last component of its reference, without tag and digest: registry.k8s.io/pause:3.9 is `pause`.
Programs are found under the paths that they have in the real images. A container of one has the host's file tree.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from netlab.machine.images import files
from netlab.net import syscalls

Program = Callable[[Sequence[str], Mapping[str, str]], int]
"""What runs in the container: it takes argv and the environment, and returns the exit status."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image's ENTRYPOINT and CMD, and the texts of the files that it has beside the host's."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


_NGINX, _HTTPD = "/usr/sbin/nginx", "/usr/local/bin/httpd-foreground"
_UPDATE_DEMO = "/update-demo"

IMAGES = {
    "agnhost": Image(("/agnhost",), ("pause",), files.OF_AGNHOST),
    "busybox": Image((), ("sh",)),
    "cluster-dns": Image(("/coredns",)),
    "glibc-dns-testing": Image((), ("sh",)),
    "httpd": Image((), (_HTTPD,), files.OF_HTTPD),
    "kitten": Image((_UPDATE_DEMO,), (), files.of_update_demo("kitten")),
    "nautilus": Image((_UPDATE_DEMO,), (), files.of_update_demo("nautilus")),
    "netlab-ingress": Image(("/ingress",)),
    "nginx": Image((_NGINX,), ("-g", "daemon off;"), files.OF_NGINX),
    "pause": Image(("/pause",)),
}
"""busybox and glibc-dns-testing have no program of netlab's: their shell and tools are the host's."""

_WITH_BUSYBOX = ("agnhost", "busybox")

_PROGRAMS = {
    "/agnhost": "netlab.machine.images.agnhost",
    "/agnhost-2": "netlab.machine.images.agnhost",  # a copy, for tests of `command`
    "/coredns": "netlab.dns.program",  # another room's, loaded by name as a runtime executes an image's file
    "/ingress": "netlab.ingress.program",
    "/pause": "netlab.machine.images.pause",
    _NGINX: "netlab.machine.images.webserver",
    _HTTPD: "netlab.machine.images.webserver",
    _UPDATE_DEMO: "netlab.machine.images.webserver",
}


class ImageNotPresentError(LookupError):
    """The image is neither in the store nor built in, nor is it the host's file tree."""


def name_of(reference: str) -> str:
    """The image's name: the last component of the repository."""
    repository = reference.partition("@")[0]
    return repository.rpartition("/")[2].partition(":")[0]


def has_busybox(reference: str) -> bool:
    """Whether the shell of the real image is busybox's, which knows more than POSIX asks for."""
    return name_of(reference) in _WITH_BUSYBOX


def built_in(reference: str, command: Sequence[str]) -> Image:
    """The built-in image of that name; with a command, a bare name that is nobody's is the host's file tree.

    Raises `ImageNotPresentError`.
    """
    image = IMAGES.get(name_of(reference))
    if image is not None:
        return image
    if command and not set(reference) & set("/:@"):
        return Image(())
    raise ImageNotPresentError(
        f"image {reference!r} is not present: bring it by `netlab image pull {reference}` or `netlab image load FILE`, "
        f"or use a built-in one ({', '.join(sorted(IMAGES))})"
    )


def command_line(
    entrypoint: Sequence[str], cmd: Sequence[str], command: Sequence[str], args: Sequence[str]
) -> list[str]:
    """What to run, by Kubernetes' rule: `command` replaces ENTRYPOINT and CMD, and `args` replaces CMD."""
    return [*command, *args] if command else [*entrypoint, *(args or cmd)]


def program(path: str) -> Program | None:
    """The built-in program at this path of the built-in images."""
    module = _PROGRAMS.get(path)
    if module is None:
        return None
    main: Program = importlib.import_module(module).main
    return main


def preload() -> None:
    """Load every built-in program, so that containers forked later share its memory."""
    # asyncio works without ssl, as in a Python built without it; every fork would pay for libcrypto's mappings.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # the documented way to forbid an import
    for path in _PROGRAMS:
        program(path)


def run(main: Program, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Run a built-in program in this process, and exit with its status."""
    status = 1
    try:
        syscalls.set_process_name(os.path.basename(argv[0]))  # noqa: PTH119 - pid 1 stays small
        status = main(argv, env)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
