"""What an executable of cni_plugins/ does: hand the call to a resident process, or run it here.

The resident process is `netlab cni serve`, or the agent that an earlier call of an installed plugin has left behind
(netlab/cni/plugins/resident/stay.py).

Every pod's start pays for everything that a plugin does: until it is known that no resident process answers, this
imports C modules only (not even __future__, which is a file).
"""

import gc
import posix
import sys
from _socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket  # noqa: N812 - the C class; the socket package is slow to import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from netlab.cni.plugins.request import Handler

SOCKET = "/run/netlab/cni.sock"
"""Where a resident process serves. /run is the node's own in a lab, the host's otherwise."""
PLUGINS = {
    "netlab": "netlab.cni.plugins.main.commands",
    "netlab-ipam": "netlab.cni.plugins.ipam.commands",
    "netlab-portmap": "netlab.cni.plugins.portmap.commands",
    "netlab-bandwidth": "netlab.cni.plugins.bandwidth.commands",
}
"""The module of each plugin, which has HANDLERS."""
PROTOCOL = b"netlab-cni-1"
"""What a request begins with: change it with anything that a resident process of another version would not understand.

    request = PROTOCOL NUL mount-namespace NUL plugin NUL (KEY=VALUE NUL)* NUL
    with descriptors: standard input, output, error, the caller's network namespace
    answer = exit status, or DECLINED
"""
DECLINED = b"\xff"
"""The resident process cannot take the call and has changed nothing."""
_SCM_RIGHTS = 1
_SO_PEERCRED = 17
_ERROR = '{"cniVersion":"1.1.0","code":%d,"msg":%s}\n'


def call(name: str, folder: str = "", stay: "Callable[[bytes], object] | None" = None) -> "NoReturn":
    """Answer the call of the plugin `name`, and exit.

    An installed plugin has a `folder`, whose agent may serve; after its own answer, `stay` leaves one behind.
    """
    if name not in PLUGINS:  # of the link or the copy that was executed
        posix._exit(_fail(7, "type: the executable of a plugin must be named one of " + ", ".join(PLUGINS)))
    status = _ask_resident(name, folder)
    posix._exit(_run_here(name, stay) if status is None else status)


def agent_socket(folder: str) -> str:
    """Where the agent of the plugins in a folder serves. Raises `OSError`."""
    found = posix.stat(folder)
    return f"/run/netlab/cni-{found.st_dev:x}-{found.st_ino:x}.sock"


def _connect(path: str) -> Socket | None:
    """A connection to a process of this user, or root's."""
    connection = Socket(AF_UNIX, SOCK_STREAM)
    if connection.fileno() <= 2:  # the socket took the number of a closed standard stream
        return None
    try:
        connection.connect(path)
        credentials = connection.getsockopt(SOL_SOCKET, _SO_PEERCRED, 12)  # struct ucred: pid, uid, gid
    except OSError:
        return None
    return connection if int.from_bytes(credentials[4:8], sys.byteorder) in {0, posix.geteuid()} else None


def _ask_resident(name: str, folder: str) -> int | None:
    """The exit status of the call, or None if this process must do it."""
    if posix.environ.get(b"CNI_NETNS", b"").startswith((b"/proc/self", b"/proc/thread-self")):
        return None  # another process's there
    connection = _connect(SOCKET)
    if connection is None and folder:
        connection = _connect(agent_socket(folder))
    if connection is None:
        return None
    namespace = posix.open("/proc/self/ns/net", posix.O_RDONLY)
    descriptors = b"".join([number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, namespace)])
    environment = [key + b"=" + value for key, value in posix.environ.items() if key.startswith(b"CNI_")]
    environment += [b"PATH=" + posix.environ.get(b"PATH", b"")]
    # Paths, CNI_NETNS above all, are only valid in the same mount namespace.
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


def _run_here(name: str, stay: "Callable[[bytes], object] | None") -> int:
    # Nothing that a call allocates becomes garbage before it ends, a few milliseconds later.
    gc.disable()
    try:
        from netlab.cni.plugins import answer

        found = handlers(name)
    except Exception as error:
        return _fail(100, f"the plugin cannot be loaded: {error}; install netlab again")
    status, config = answer.main(found)
    if stay is not None and status == 0 and posix.environ[b"CNI_COMMAND"] != b"VERSION":
        stay(config)
    return status


def _fail(code: int, msg: str) -> int:
    """Print an error object; returns the exit status."""
    from _json import encode_basestring_ascii

    posix.write(1, (_ERROR % (code, encode_basestring_ascii(msg))).encode())
    return 1


def handlers(name: str) -> "dict[str, Handler]":
    """A plugin's handlers by command. Raises `KeyError` for an unknown plugin."""
    module = PLUGINS[name]
    __import__(module)  # importlib costs a file more
    found: dict[str, Handler] = sys.modules[module].HANDLERS
    return found
