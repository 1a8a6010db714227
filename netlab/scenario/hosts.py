"""What a check speaks of: pods, nodes and the outside world, which send requests, and Services, which get them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from netlab.api.core_types import Pod as PodObject
from netlab.api.core_types import Service as ServiceObject
from netlab.errors import NetlabError, TimedOutError, UsageError
from netlab.lab.lab import Lab
from netlab.lab.places import Place, resolve
from netlab.lab.spec import Family
from netlab.machine.join import ALL_BUT_USER
from netlab.net import syscalls
from netlab.scenario import commands, dialing
from netlab.scenario.commands import Namespaces
from netlab.scenario.dialing import Answer
from netlab.scenario.sockets import SocketFactory

_RUN_TIMEOUT = 30.0
"""Seconds for a command in a container or on a machine."""

# linux/in.h, linux/in6.h: Python 3.11 has no names for them.
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_IPV6_MTU_DISCOVER, _IPV6_DONTFRAG = 23, 62

_FAMILIES: dict[Family, socket.AddressFamily] = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


def of_family(addresses: Iterable[str], family: Family) -> str | None:
    """The first of the addresses that is of the family, or None."""
    return next((a for a in addresses if f"IPv{ipaddress.ip_address(a).version}" == family), None)


def make_endpoint(address: str, port: int) -> str:
    """ADDRESS:PORT, an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Interface(NamedTuple):
    """A network interface of a host, where packets can be captured."""

    host: Host
    name: str


class Run(Protocol):
    """The run of a scenario that a host belongs to."""

    lab: Lab

    def changed(self) -> None:
        """Something may have changed that the nodes have to put in force."""

    def settle(self) -> None:
        """Wait until the nodes have put everything in force."""


class Host:
    """A place of the lab with a network of its own: requests are sent from there.

    `name` is what a person calls it, `address` its address in the family of the run. A request is sent when all nodes
    have put in force what has been done until then. A missing answer is not an error: the `Answer` says why.
    `source_port` chooses the client's port (0: any), by which a connection can be found in a capture; `timeout` is in
    seconds.
    """

    def __init__(self, run: Run, place: Place, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._lab = run.lab
        self._run = run
        self._place = place
        self._factory: SocketFactory | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """What captures call it: a machine by its name."""
        return self.name

    def interface(self, name: str) -> Interface:
        """One of its interfaces."""
        return Interface(self, name)

    def endpoint(self, port: int) -> str:
        """ADDRESS:PORT, as captures and netexec's /clientip write it."""
        return make_endpoint(self.address, port)

    def url(self, port: int, path: str = "/") -> str:
        """Where HTTP is served on the host."""
        return f"http://{self.endpoint(port)}{path}"

    def get(self, url: str, *, source_port: int = 0, timeout: float = dialing.TIMEOUT) -> Answer:
        """The answer to an HTTP request."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{url!r} is not http://ADDRESS:PORT/PATH")
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        client = self.socket(socket.SOCK_STREAM, source_port, timeout, parts.hostname)
        return dialing.http_get(client, parts.hostname, parts.port or 80, path)

    def tcp(
        self, address: str, port: int, line: str, *, source_port: int = 0, timeout: float = dialing.TIMEOUT
    ) -> Answer:
        """The line that answers a line over TCP."""
        client = self.socket(socket.SOCK_STREAM, source_port, timeout, address)
        return dialing.tcp_line(client, address, port, line)

    def udp(
        self,
        address: str,
        port: int,
        text: str,
        *,
        source_port: int = 0,
        timeout: float = dialing.TIMEOUT,
        fragment: bool = True,
    ) -> Answer:
        """The datagram that answers a datagram; with `fragment` false it may not be taken apart on the way."""
        client = self.socket(socket.SOCK_DGRAM, source_port, timeout, address)
        if not fragment and client.family == socket.AF_INET6:
            client.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IP_PMTUDISC_DO)
            client.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        elif not fragment:
            client.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        return dialing.udp(client, address, port, text)

    def socket(self, kind: socket.SocketKind, source_port: int, timeout: float, towards: str) -> socket.socket:
        """A socket in the host's network, of the family of the address `towards`, not connected yet.

        Raises `OSError` when the port is taken or the family is not there.
        """
        self._run.settle()
        family = _FAMILIES[f"IPv{ipaddress.ip_address(towards).version}"]  # type: ignore[index]
        made = self._sockets().make(family, kind)
        try:
            made.settimeout(timeout)
            if source_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", source_port))
        except OSError:
            made.close()
            raise
        return made

    def owns(self, address: str) -> bool:
        """Whether the address is on one of the host's own interfaces: whether a server could listen there."""
        family = _FAMILIES[f"IPv{ipaddress.ip_address(address).version}"]  # type: ignore[index]
        with self._sockets().make(family, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind((address, 0))
            except OSError:  # EADDRNOTAVAIL
                return False
        return True

    def as_root(self, argv: Sequence[str], *, timeout: float = _RUN_TIMEOUT) -> str:
        """What a command prints that is run with all rights on the host's network, and on its node's files.

        On a machine that is as `netlab exec node/NAME` does; for a pod it runs on the pod's node, but in the pod's
        network namespace, so that it is of no matter what its image has and may do. It runs when all nodes have put in
        force what has been done until then. Raises `NetlabError` with what it printed when it ends with another status
        than 0, `TimedOutError` when it has not ended after `timeout` seconds.
        """
        self._run.settle()
        return self.command(argv, timeout=timeout)

    def command(self, argv: Sequence[str], *, timeout: float = _RUN_TIMEOUT) -> str:
        """The same, at once: what undoes a fault does not wait for nodes that the fault may hold up."""
        with contextlib.ExitStack() as stack:
            namespaces = []
            for place, kinds in self._ways():
                pidfd = place.open(self._lab)
                stack.callback(os.close, pidfd)
                namespaces.append(Namespaces(pidfd, kinds))
            env, _ = Place(self._place.machine).environment(self._lab)
            ended = commands.run(namespaces, argv, env, timeout)
        command = f"{self.name}: `{shlex.join(argv)}`"
        if ended.status is None:
            raise TimedOutError(f"{command} did not end within {timeout:g} s")
        if ended.status != 0:
            raise NetlabError(f"{command}: {ended.text or 'no message'} (exit status {ended.status})")
        return ended.text

    def _ways(self) -> list[tuple[Place, int]]:
        """Whose namespaces, and which, a command enters."""
        return [(self._place, ALL_BUT_USER)]

    def opened(self) -> int:
        """A pidfd of the host, through which its namespaces are entered. The caller closes it."""
        return self._place.open(self._lab)

    def close(self) -> None:
        """End what was started to send requests from here."""
        if self._factory is not None:
            self._factory.close()
            self._factory = None

    def _sockets(self) -> SocketFactory:
        if self._factory is None:
            pidfd = self.opened()
            try:
                self._factory = SocketFactory(pidfd)
            finally:
                os.close(pidfd)
        return self._factory


class Pod(Host):
    """A pod of the scenario, as it was when the check asked for it."""

    def __init__(self, run: Run, pod: PodObject, family: Family) -> None:
        name, self.namespace = pod.metadata.name, pod.metadata.namespace
        address = of_family((ip.ip for ip in pod.status.podIPs), family)
        if address is None:
            raise NetlabError(f"pod {name} has no {family} address")
        super().__init__(run, resolve(run.lab, name, self.namespace, None), name, address)
        self.node, self.uid = pod.spec.nodeName, pod.metadata.uid

    @property
    def owner(self) -> str:
        """What captures call it: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    def _ways(self) -> list[tuple[Place, int]]:
        # Its container may have restarted since the check asked for the pod.
        place = resolve(self._lab, self.name, self.namespace, None)
        return [(Place(self.node), ALL_BUT_USER), (place, syscalls.CLONE_NEWNET)]

    def run(self, argv: Sequence[str], container: str | None = None) -> str:
        """What a command prints in a container (None: the first), and how it ended if not with status 0.

        What changes whether the pod is ready does so only when its kubelet has probed it: wait for that with
        `Context.pod` or `Context.unready` before you ask anything of the network.
        """
        self._run.settle()
        self._run.changed()
        place = resolve(self._lab, self.name, self.namespace, container)
        assert place.container_id is not None
        with self._lab.machine(place.machine) as machine:
            result = machine.exec(place.container_id, argv, _RUN_TIMEOUT)
        text = result.output.decode(errors="replace").strip()
        if result.timed_out:
            return f"{text} (not done after {_RUN_TIMEOUT:g} s)".strip()
        return text if result.exit_code == 0 else f"{text} (exit status {result.exit_code})".strip()


class Machine(Host):
    """A node, the outside world, or the fabric between them, which has no address."""


class Service:
    """A Service of the scenario: its addresses in the family of the run, and its first port.

    `node_port` and `health_check_node_port` are 0 where it has none, `external_address` empty.
    """

    def __init__(self, service: ServiceObject, family: Family) -> None:
        spec = service.spec
        self.name = service.metadata.name
        address = of_family(spec.clusterIPs, family)
        if address is None:
            raise NetlabError(f"Service {self.name} has no {family} address; set ipFamilyPolicy: PreferDualStack")
        self.address = address
        self.external_address = of_family(spec.externalIPs, family) or ""
        self.port = spec.ports[0].port
        self.node_port = spec.ports[0].nodePort
        self.health_check_node_port = spec.healthCheckNodePort

    def __str__(self) -> str:
        return self.name

    @property
    def endpoint(self) -> str:
        """The virtual address and port, as captures write them."""
        return make_endpoint(self.address, self.port)

    @property
    def external_endpoint(self) -> str:
        """The external address and port."""
        return make_endpoint(self.external_address, self.port)

    def url(self, path: str = "/") -> str:
        """What a client within the cluster dials."""
        return f"http://{self.endpoint}{path}"

    def external_url(self, path: str = "/") -> str:
        """What a client outside dials."""
        return f"http://{self.external_endpoint}{path}"
