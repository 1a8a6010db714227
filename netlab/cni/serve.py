"""A resident process that answers CNI calls: what an executable would do, without loading anything first.

The executables in cni_plugins/ look for its socket first. They hand over their standard streams, their network
namespace and their environment; a fork of this process then runs the very code that the executable would have run. It
is small, so that a fork is cheap, and forks for every call, so that calls run side by side and nothing of one is left
for the next.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
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


def main(path: Path = SOCKET) -> NoReturn:
    """Serve until ended. The socket is replaced if it is there, and only its owner may use it (0600)."""
    listener = _listen(path)
    # Loaded here once and not in every fork, and left alone by its garbage collector: pages stay shared.
    setns(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    gc.freeze()
    # The kernel reaps the children: nothing here waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                _answer(connection)


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


def _answer(connection: socket.socket) -> NoReturn:
    """Run one call in this fork, and report its exit status on the connection."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a plugin that we execute is waited for
        name = _take_over(connection)
        status = plugin.main(_HANDLERS[name])
        try:
            connection.send(bytes([status]))
        except OSError:
            # The caller was killed meanwhile: what it asked for has nobody who knows of it.
            if status == 0 and os.environ.get("CNI_COMMAND") == "ADD":
                os.environ["CNI_COMMAND"] = "DEL"
                plugin.main(_HANDLERS[name])
    finally:
        os._exit(status)


def _take_over(connection: socket.socket) -> str:
    """Become the caller: its streams, its network namespace, its environment. The plugin's name."""
    text, received, _, _ = socket.recv_fds(connection, _LARGEST_REQUEST, _DESCRIPTORS)
    while not text.endswith(b"\0\0"):
        more = connection.recv(_LARGEST_REQUEST)
        if not more:
            raise OSError("the caller went away")
        text += more
    name, *variables = text[:-2].split(b"\0")
    *streams, namespace = received
    for target, source in enumerate(streams):
        os.dup2(source, target)
    setns(namespace)
    os.environ.clear()
    for variable in variables:
        key, _, value = variable.partition(b"=")
        os.environb[key] = value
    return name.decode()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
