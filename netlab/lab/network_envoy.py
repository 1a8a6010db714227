"""Runs functions in any network namespace of a running lab, in one child process that moves between them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from netlab.api.resources import PODS
from netlab.descriptors import Closing
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

    A pod's `owner` is its NAMESPACE/NAME; `sandbox` is the machine's name for the namespace.
    """

    machine: str
    owner: str
    sandbox: str = ""


class NetworkEnvoy(Closing):
    """The network namespaces of a lab. A child process enters them to run functions.

    An ordinary user's process cannot leave the lab's user namespace once it has entered, so the child goes there and
    this process stays where it is. Create it while the process is single-threaded, and `close` it (or use it as a
    context manager).
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

    def close(self) -> None:
        """End the child; sockets that it made stay open. May be called again."""
        self._envoy.close()

    def listed(self) -> list[Network]:
        """The current namespaces: the fabric's, those of the other machines, then those of pods.

        Raises `UnavailableError` when the lab has ended.
        """
        from netlab.node.sandboxes import pod_uid, sandbox_attempt  # takes 0.1 s

        found = self.machines()
        pods = {
            pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in self._lab.client().request("GET", PODS.path())["items"]
        }
        for node in self._nodes:
            with self._lab.machine(node) as machine:
                sandboxes = machine.state().sandboxes
            # If a pod has two, the older one is being removed. So is one whose pod is no longer known.
            latest = {pod_uid(each): each for each in sorted(sandboxes, key=sandbox_attempt)}
            found += [Network(node, pods[uid], sandbox) for uid, sandbox in sorted(latest.items()) if uid in pods]
        return found

    def machines(self) -> list[Network]:
        """The machines' namespaces, the fabric's first."""
        return [Network(name, name) for name in self._machines]

    def run(self, network: Network, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a module's function in the namespace; return what it returns, raise what it raises.

        Arguments and result are pickled, but a socket can be returned. Raises `NotFoundError` when the namespace is
        gone.
        """
        result: T = self._envoy.call("run", network, function, args, kwargs)
        return result

    def numbers(self, network: Network, others: Sequence[Network]) -> dict[int, Network]:
        """The namespaces by the ids that links of `network` give for those of their peers.

        The kernel gives a namespace an id within another that refers to it (netnsid, Linux 4.0). Namespaces that have
        no id there, or are gone, are left out.
        """
        found: dict[int, Network] = self._envoy.call("numbers", network, list(others))
        return found

    def socket(self, network: Network, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to that namespace. Raises `OSError` from socket(2) there."""
        return self.run(network, socket.socket, family, kind, protocol)

    def _introduce(self, machine: str) -> None:
        with self._lab.machine(machine) as connection:
            pidfd = connection.open()
        try:
            self._envoy.call("introduce", machine, descriptor=pidfd)
        finally:
            os.close(pidfd)


class _There:
    """The object in the child."""

    def __init__(self) -> None:
        self._machines: dict[str, int] = {}
        """pidfds."""
        self._namespaces: dict[str, int] = {}

    def introduce(self, machine: str, pidfd: int) -> None:
        if not self._machines:
            # The fabric's user namespace, which comes first, owns all the lab's namespaces.
            join(pidfd, syscalls.CLONE_NEWNET)
            # Again: the kernel clears it when the user namespace changes.
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
        from netlab.net.route.socket import Rtnetlink

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
        # Not kept open: a descriptor would keep the namespace of a deleted pod, with its interfaces.
        descriptor = _opened(self._machines[network.machine], f"/run/netns/cni-{network.sandbox}", network.owner)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _opened(machine: int, path: str, owner: str) -> int:
    """A descriptor of a namespace that is pinned to a file in a machine's mount namespace."""
    opened: list[int | OSError] = []

    def look() -> None:
        try:
            # Only a thread that does not share root and working directory may change its mount namespace.
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
        # For a moment before mounting and after unmounting, it is an empty file.
        fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
