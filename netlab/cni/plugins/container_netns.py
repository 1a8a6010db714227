"""CNI_NETNS: opening and entering a container's network namespace, with C modules alone unlike net/namespaces.py."""

from __future__ import annotations

import posix
from fcntl import ioctl

from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netlab.cni.plugins.request import Request

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703


def open_netns(request: Request) -> int:
    """A descriptor of the namespace in CNI_NETNS. Raises `CniError` if it does not exist or is the plugin's own.

    CNI_NETNS_OVERRIDE (1 or TRUE) allows the latter, as in the Go plugins. Their code for it, 8, is not in the
    specification: here it is an invalid variable like any other (4).
    """
    path = request.netns
    try:
        netns = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_NETNS: {path}: {reason}") from error
    own, other = posix.stat("/proc/thread-self/ns/net"), posix.fstat(netns)
    same = (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
    if same and request.environment.get("CNI_NETNS_OVERRIDE", "").upper() not in {"1", "TRUE"}:
        posix.close(netns)
        raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_NETNS: {path} is the plugin's own, not a container's")
    # All kinds of namespaces are files of one file system (ioctl_ns(2)).
    if own.st_dev != other.st_dev or ioctl(netns, _NS_GET_NSTYPE) != _CLONE_NEWNET:
        posix.close(netns)
        raise CniError(errors.INVALID_ENVIRONMENT, f"CNI_NETNS: {path} is not a network namespace")
    return netns


class Entered:
    """Run a block inside the namespace, with a netlink socket opened there. Raises `OSError`."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._home = -1

    def __enter__(self) -> Rtnetlink:
        self._home = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        setns(self._netns)
        self._kernel = Rtnetlink()
        return self._kernel

    def __exit__(self, *_: object) -> None:
        self._kernel.close()
        setns(self._home)
        posix.close(self._home)


def setns(netns: int) -> None:
    """Move this thread into a network namespace. Raises `OSError`."""
    if hasattr(posix, "setns"):  # Python 3.12
        posix.setns(netns, _CLONE_NEWNET)
        return
    # What ctypes is built on: importing ctypes itself takes 4 ms, a fifth of an ADD.
    import _ctypes

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO

    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "setns")  # type: ignore[arg-type]  # NULL: this program
    if Function(address)(netns, _CLONE_NEWNET) != 0:
        number = _ctypes.get_errno()
        raise OSError(number, posix.strerror(number), "setns")
