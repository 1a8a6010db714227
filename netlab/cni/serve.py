"""A resident process that answers CNI calls: what an executable would do, without loading anything first.

The executables in cni_plugins/ look for its socket first. They hand over their standard streams, their network
namespace and their environment; a thread of this process then runs the very code that the executable would have run,
in the caller's network namespace.
"""

from __future__ import annotations

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from netlab.cni import bridge, ipam, plugin
from netlab.cni.netns import setns

SOCKET = Path("/run/netlab/cni.sock")
"""Where the executables look. /run is a node's own in a lab, and the host's otherwise."""

_HANDLERS = {
    "netlab": {"ADD": bridge.add, "CHECK": bridge.check, "DEL": bridge.delete},
    "netlab-ipam": {"ADD": ipam.add, "CHECK": ipam.check, "DEL": ipam.delete},
}
_DESCRIPTORS = 4
"""Standard input, output and error, and the caller's network namespace."""
_LARGEST_REQUEST = 1 << 20
_BACKLOG = 128
_THREADS = 16
"""Calls at once: deleting a link waits some 20 ms in the kernel, during which others go on."""


def main(path: Path = SOCKET) -> NoReturn:
    """Serve until ended. The socket is replaced if it is there, and only its owner may use it (0600)."""
    listener = _listen(path)
    threads = ThreadPoolExecutor(_THREADS)
    while True:
        connection, _ = listener.accept()
        threads.submit(_serve, connection)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(str(fresh))
    os.umask(mask)
    listener.listen(_BACKLOG)
    # Only now: who finds the socket can connect to it.
    fresh.rename(path)
    return listener


def _serve(connection: socket.socket) -> None:
    """Answer one call. A caller that breaks off is nobody's error here, and one that says nothing sensible too."""
    with connection:
        received: list[int] = []
        try:
            text, received, _, _ = socket.recv_fds(connection, _LARGEST_REQUEST, _DESCRIPTORS)
            while not text.endswith(b"\0\0"):
                more = connection.recv(_LARGEST_REQUEST)
                if not more:
                    return
                text += more
            name, *variables = os.fsdecode(text[:-2]).split("\0")
            environment = dict(variable.split("=", 1) for variable in variables)
            _call(connection, name, environment, received)
        except (OSError, ValueError, KeyError) as error:
            print(f"a call was not answered: {error!r}", file=sys.stderr, flush=True)
        finally:
            for descriptor in received:
                os.close(descriptor)


def _call(connection: socket.socket, name: str, environment: dict[str, str], received: list[int]) -> None:
    stdin, stdout, _, namespace = received
    # The thread stays there until its next call, which says anew where it is to work.
    setns(namespace)
    config = b"" if environment.get("CNI_COMMAND") == "VERSION" else _read_all(stdin)
    status, output = plugin.answer(_HANDLERS[name], environment, lambda: config)
    remaining = output.encode()
    try:
        while remaining:
            remaining = remaining[os.write(stdout, remaining) :]
        connection.sendall(bytes([status]))
    except OSError:
        # The caller was killed meanwhile: what it asked for has nobody who knows of it.
        if status == 0 and environment.get("CNI_COMMAND") == "ADD":
            plugin.answer(_HANDLERS[name], {**environment, "CNI_COMMAND": "DEL"}, lambda: config)


def _read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, _LARGEST_REQUEST):
        chunks.append(chunk)
    return b"".join(chunks)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
