"""Work in any network namespace of a lab that is up: done by one child process, which moves between them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from netlab.api.resources import PODS
from netlab.errors import NotFoundError
from netlab.lab.lab import Lab
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.machine.envoy import Envoy
from netlab.machine.join import join
from netlab.net import syscalls

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_FS = 0x200
_NS_GET_NSTYPE = 0xB703
"""linux/nsfs.h (Linux 4.11)"""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network namespace of a lab: a machine's own (`owner` is `machine`), or that of a pod on it.

    A pod's `owner` is its NAMESPACE/NAME; `sandbox` is what its machine calls the namespace.
    """

    machine: str
    owner: str
    sandbox: str = ""


class Networks:
    """The network namespaces of a lab, each entered by a function that runs in a child process.

    An ordinary user who enters the lab's user namespace cannot leave it again, so it is the child that goes there;
    this process moves nowhere. Make it while the process is single-threaded, and `close` it (or use it as a block).
    """

    def __init__(self, lab: Lab) -> None:
        """Raises `NotFoundError` or `UnavailableError` when the lab is not up."""
        lab.require_up()
        self._lab = lab
        self._nodes = lab.spec().node_names
        self._machines = [FABRIC, *self._nodes, OUTSIDE]
        self._envoy = Envoy(_There(), "looks into the lab's networks")
        try:
            for machine in self._machines:
                self._introduce(machine)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child; sockets that were made live on. Repeated, it does nothing."""
        self._envoy.close()

    def listed(self) -> list[Network]:
        """The namespaces that there are now: the machines' first, then those of pods; the fabric's is the first.

        Raises `UnavailableError` when the lab has ended.
        """
        from netlab.node.sandboxes import pod_uid, sandbox_attempt  # it takes 0.1 s

        found = self.machines()
        pods = {
            pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in self._lab.client().request("GET", PODS.path())["items"]
        }
        for node in self._nodes:
            with self._lab.machine(node) as machine:
                sandboxes = machine.state().sandboxes
            # Of two of one pod the older is being removed. One whose pod is no longer known is, too.
            latest = {pod_uid(each): each for each in sorted(sandboxes, key=sandbox_attempt)}
            found += [Network(node, pods[uid], sandbox) for uid, sandbox in sorted(latest.items()) if uid in pods]
        return found

    def machines(self) -> list[Network]:
        """Those of the machines, the fabric's first."""
        return [Network(name, name) for name in self._machines]

    def run(self, network: Network, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of some module returns when it is called there; whatever it raises is raised here.

        Arguments and result are pickled; a result that is a socket arrives as one. Raises `NotFoundError` when the
        namespace is gone.
        """
        result: T = self._envoy.call("run", network, function, args, kwargs)
        return result

    def numbers(self, network: Network, others: Sequence[Network]) -> dict[int, Network]:
        """Which namespaces stand behind the numbers that links of `network` give as those of their peers.

        The kernel numbers a namespace when another has something to do with it (netnsid, Linux 4.0); namespaces that
        have no number there, or are gone, are left out.
        """
        found: dict[int, Network] = self._envoy.call("numbers", network, list(others))
        return found

    def socket(self, network: Network, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to that namespace. Raises `OSError` as socket(2) does there."""
        return self.run(network, socket.socket, family, kind, protocol)

    def _introduce(self, machine: str) -> None:
        with self._lab.machine(machine) as connection:
            pidfd = connection.open()
        try:
            self._envoy.call("introduce", machine, descriptor=pidfd)
        finally:
            os.close(pidfd)


class _There:
    """What moves, in the child."""

    def __init__(self) -> None:
        self._machines: dict[str, int] = {}
        """pidfds."""
        self._namespaces: dict[str, int] = {}

    def introduce(self, machine: str, pidfd: int) -> None:
        if not self._machines:
            # The fabric's, which comes first, is the parent of all the lab's namespaces.
            join(pidfd, syscalls.CLONE_NEWNET)
            # The change of user namespace has cleared it.
            syscalls.set_parent_death_signal(signal.SIGKILL)
        self._machines[machine] = pidfd
        syscalls.setns(pidfd, syscalls.CLONE_NEWNET)
        self._namespaces[machine] = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, network: Network, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._enter(network)
        return function(*args, **kwargs)

    def _enter(self, network: Network) -> None:
        with self._open(network) as descriptor:
            syscalls.setns(descriptor, syscalls.CLONE_NEWNET)

    def numbers(self, network: Network, others: Iterable[Network]) -> dict[int, Network]:
        from netlab.net.rtnl import Rtnetlink

        self._enter(network)
        found = {}
        with Rtnetlink() as rtnetlink:
            for other in others:
                with contextlib.suppress(NotFoundError), self._open(other) as descriptor:
                    number = rtnetlink.namespace_number(descriptor)
                    if number is not None:
                        found[number] = other
        return found

    @contextlib.contextmanager
    def _open(self, network: Network) -> Iterator[int]:
        if not network.sandbox:
            yield self._namespaces[network.machine]
            return
        # Not kept: a descriptor would keep the namespace of a pod that is gone, interfaces and all.
        descriptor = _opened(self._machines[network.machine], f"/run/netns/cni-{network.sandbox}", network.owner)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _opened(machine: int, path: str, owner: str) -> int:
    """A descriptor of a namespace that is a file of a machine's mount namespace."""
    opened: list[int | OSError] = []

    def look() -> None:
        try:
            # Of a thread that shares no root and working directory with others, the mount namespace can be changed.
            syscalls.unshare(_CLONE_FS)
            syscalls.setns(machine, syscalls.CLONE_NEWNS)
            opened.append(_open_namespace(path))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if isinstance(opened[0], OSError):
        raise NotFoundError(f"{owner} is gone; cannot enter its network ({opened[0].strerror})") from opened[0]
    return opened[0]


def _open_namespace(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Before it is mounted, and when it no longer is, the file is an empty one for a moment.
        fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
