"""What an executable of cni_plugins/ does: hand the call to a resident process, or run it here.

Everything that a plugin does is paid for by every pod's start: only C modules are imported before it is known that
nobody serves.
"""

from __future__ import annotations

import posix
import sys
from _socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket  # noqa: N812 - the C class; the socket package is slow to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SERVER = "/run/netlab/cni.sock"  # netlab.cni.serve.SOCKET, without importing all of it
_SCM_RIGHTS = 1
_LOST = '{"cniVersion":"1.0.0","code":11,"msg":"the resident CNI process ended during the call; try again"}\n'


def call(name: str) -> NoReturn:
    """Answer the call of the plugin `name`, and exit."""
    connection = Socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(_SERVER)
    except OSError:
        posix._exit(_run_here(name))
    namespace = posix.open("/proc/self/ns/net", posix.O_RDONLY)
    descriptors = b"".join([number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, namespace)])
    environment = [key + b"=" + value for key, value in posix.environ.items() if key.startswith(b"CNI_")]
    environment += [b"PATH=" + posix.environ.get(b"PATH", b"")]
    request = b"\0".join([name.encode(), *environment]) + b"\0\0"
    try:
        sent = connection.sendmsg([request], [(SOL_SOCKET, _SCM_RIGHTS, descriptors)])
        if sent < len(request):
            connection.sendall(request[sent:])
        status = connection.recv(1)
    except OSError:
        status = b""
    if not status:
        posix.write(1, _LOST.encode())
        posix._exit(1)
    posix._exit(status[0])


def _run_here(name: str) -> int:
    from netlab.cni import plugin

    if name == "netlab":
        from netlab.cni import bridge

        return plugin.main({"ADD": bridge.add, "CHECK": bridge.check, "DEL": bridge.delete})
    from netlab.cni import ipam

    return plugin.main({"ADD": ipam.add, "CHECK": ipam.check, "DEL": ipam.delete})
