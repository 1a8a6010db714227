"""What an executable of cni_plugins/ does: hand the call to a resident process, or run it here.

Everything that a plugin does is paid for by every pod's start: only C modules are imported before it is known that
nobody serves (not even __future__, which is a file).
"""

import gc
import posix
import sys
from _socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket  # noqa: N812 - the C class; the socket package is slow to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from netlab.cni.plugin import Handler

SOCKET = "/run/netlab/cni.sock"
"""Where a resident process serves. /run is a node's own in a lab, and the host's otherwise."""
PLUGINS = {
    "netlab": "netlab.cni.network",
    "netlab-ipam": "netlab.cni.ipam",
    "netlab-portmap": "netlab.cni.portmap",
    "netlab-bandwidth": "netlab.cni.bandwidth",
}
"""The module of each plugin, which has HANDLERS."""
PROTOCOL = b"netlab-cni-1"
"""What a request begins with: to be changed with anything that a resident process of another version would not know.

    request = PROTOCOL NUL mount-namespace NUL plugin NUL (KEY=VALUE NUL)* NUL
    with descriptors: standard input, output, error, the caller's network namespace
    answer = exit status, or DECLINED
"""
DECLINED = b"\xff"
"""The resident process cannot take the call, and has touched nothing."""
_SCM_RIGHTS = 1
_ERROR = '{"cniVersion":"1.1.0","code":%d,"msg":%s}\n'


def call(name: str) -> "NoReturn":
    """Answer the call of the plugin `name`, and exit."""
    if name not in PLUGINS:  # of the link or the copy that was executed
        posix._exit(_fail(7, "type: the executable of a plugin must be named one of " + ", ".join(PLUGINS)))
    status = _ask_resident(name)
    posix._exit(_run_here(name) if status is None else status)


def _ask_resident(name: str) -> int | None:
    """The exit status of the call; None if it is to be done here."""
    connection = Socket(AF_UNIX, SOCK_STREAM)
    netns = posix.environ.get(b"CNI_NETNS", b"")
    # The socket in the place of a standard stream that is closed; or a path that is another process's there.
    if connection.fileno() <= 2 or netns.startswith((b"/proc/self", b"/proc/thread-self")):
        return None
    try:
        connection.connect(SOCKET)
    except OSError:
        return None
    namespace = posix.open("/proc/self/ns/net", posix.O_RDONLY)
    descriptors = b"".join([number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, namespace)])
    environment = [key + b"=" + value for key, value in posix.environ.items() if key.startswith(b"CNI_")]
    environment += [b"PATH=" + posix.environ.get(b"PATH", b"")]
    # Paths, CNI_NETNS above all, mean the same only in the same mount namespace.
    mounts = posix.readlink(b"/proc/self/ns/mnt")
    request = b"\0".join([PROTOCOL, mounts, name.encode(), *environment]) + b"\0\0"
    try:
        sent = connection.sendmsg([request], [(SOL_SOCKET, _SCM_RIGHTS, descriptors)])
        if sent < len(request):
            connection.sendall(request[sent:])
    except OSError:
        return None  # half a request has no effect
    try:
        status = connection.recv(1)
    except OSError:
        status = b""
    if status == DECLINED:
        return None
    if not status:
        return _fail(11, "the resident CNI process ended during the call; try again")
    return status[0]


def _run_here(name: str) -> int:
    # Of what a call makes nothing is garbage before it ends, some milliseconds later.
    gc.disable()
    try:
        from netlab.cni import plugin

        found = handlers(name)
    except Exception as error:
        return _fail(100, f"the plugin cannot be loaded: {error}; install netlab again")
    return plugin.main(found)


def _fail(code: int, msg: str) -> int:
    """Answer with an error object; the exit status."""
    from _json import encode_basestring_ascii

    posix.write(1, (_ERROR % (code, encode_basestring_ascii(msg))).encode())
    return 1


def handlers(name: str) -> "dict[str, Handler]":
    """What a plugin does, by command. Raises `KeyError` for one that is none."""
    module = PLUGINS[name]
    __import__(module)  # importlib costs a file more
    found: dict[str, Handler] = sys.modules[module].HANDLERS
    return found
