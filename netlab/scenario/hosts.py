"""What a check works with: pods, nodes and the outside world, which send requests, and Services, which receive them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shlex
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from netlab.api import load_balancers
from netlab.api.core_types import Pod as PodObject
from netlab.api.core_types import Service as ServiceObject
from netlab.errors import NetlabError, TimedOutError, UsageError
from netlab.lab.lab import Lab
from netlab.lab.network_envoy import Network, NetworkEnvoy
from netlab.lab.places import Place, resolve
from netlab.machine.join import ALL_BUT_USER
from netlab.net import syscalls
from netlab.net.addresses import Family, host_port, of_family
from netlab.scenario import commands, dialing
from netlab.scenario.commands import Namespaces
from netlab.scenario.dialing import Answer

_RUN_TIMEOUT = 30.0
"""Seconds that a command in a container or on a machine may take."""

# linux/in.h, linux/in6.h: Python 3.11 has no names for them.
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_IPV6_MTU_DISCOVER, _IPV6_DONTFRAG = 23, 62

_FAMILIES: dict[Family, socket.AddressFamily] = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


def first_of_family(addresses: Iterable[str], family: Family) -> str | None:
    """The first address of the family, or None."""
    return next(iter(of_family(addresses, family)), None)


class Interface(NamedTuple):
    """A network interface of a host, where packets can be captured."""

    host: Host
    name: str


class Run(Protocol):
    """The scenario run that a host belongs to."""

    lab: Lab

    @property
    def networks(self) -> NetworkEnvoy:
        """Enters the lab's networks."""

    def changed(self) -> None:
        """Say that something may have changed that the nodes must act on."""

    def settle(self) -> None:
        """Wait until the nodes have put everything in force."""


class Host:
    """A place in the lab with its own network, from which requests are sent.

    `name` is its name for people, `address` its address in the family of the run. A request is sent when all nodes have
    put everything so far in force. A missing answer is not an error: the `Answer` says why. `source_port` chooses the
    client's port (0: any), so that a connection can be found in a capture; `timeout` is in seconds.
    """

    def __init__(self, run: Run, place: Place, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._lab = run.lab
        self._run = run
        self._place = place
        self._network = Network(place.machine, self.owner)

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """Its name in captures: a machine's name."""
        return self.name

    def interface(self, name: str) -> Interface:
        """One of its interfaces."""
        return Interface(self, name)

    def endpoint(self, port: int) -> str:
        """ADDRESS:PORT, as captures and netexec's /clientip write it."""
        return host_port(self.address, port)

    def url(self, port: int, path: str = "/") -> str:
        """The URL of an HTTP server on the host."""
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
        """Send a line over TCP; the answer is a line."""
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
        """Send a datagram; the answer is a datagram. Without `fragment` it may not be fragmented on its way."""
        client = self.socket(socket.SOCK_DGRAM, source_port, timeout, address)
        if not fragment and client.family == socket.AF_INET6:
            client.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IP_PMTUDISC_DO)
            client.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        elif not fragment:
            client.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        return dialing.udp(client, address, port, text)

    def socket(self, kind: socket.SocketKind, source_port: int, timeout: float, towards: str) -> socket.socket:
        """A socket in the host's network, of the family of the address `towards`, not connected yet.

        Raises `OSError` if the port is taken or the host has no such family.
        """
        self._run.settle()
        family = _FAMILIES[f"IPv{ipaddress.ip_address(towards).version}"]  # type: ignore[index]
        made = self._run.networks.socket(self._network, family, kind)
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
        """Whether one of the host's interfaces has the address, so that a server could listen there."""
        family = _FAMILIES[f"IPv{ipaddress.ip_address(address).version}"]  # type: ignore[index]
        with self._run.networks.socket(self._network, family, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind((address, 0))
            except OSError:  # EADDRNOTAVAIL
                return False
        return True

    def as_root(self, argv: Sequence[str], *, timeout: float = _RUN_TIMEOUT) -> str:
        """Run a command with all rights on the host's network and on its node's files. Returns what it prints.

        On a machine it runs like `netlab exec node/NAME`. For a pod it runs on the pod's node, but in the pod's network
        namespace, so that the pod's image and its powers do not matter. It runs when all nodes have put everything so
        far in force. Raises `NetlabError` with the command's output if its status is not 0, `TimedOutError` when it has
        not ended after `timeout` seconds.
        """
        self._run.settle()
        return self.command(argv, timeout=timeout)

    def command(self, argv: Sequence[str], *, timeout: float = _RUN_TIMEOUT) -> str:
        """The same, without waiting: to undo a fault, it must not wait for nodes that the fault may delay."""
        with contextlib.ExitStack() as stack:
            namespaces = []
            for place, kinds in self._ways():
                pidfd = place.open(self._lab)
                stack.callback(os.close, pidfd)
                namespaces.append(Namespaces(pidfd, kinds))
            env = Place(self._place.machine).surroundings(self._lab).env
            ended = commands.run(namespaces, argv, env, timeout)
        command = f"{self.name}: `{shlex.join(argv)}`"
        if ended.status is None:
            raise TimedOutError(f"{command} did not end within {timeout:g} s")
        if ended.status != 0:
            raise NetlabError(f"{command}: {ended.text or 'no message'} (exit status {ended.status})")
        return ended.text

    def _ways(self) -> list[tuple[Place, int]]:
        """The places whose namespaces a command enters, and which kinds."""
        return [(self._place, ALL_BUT_USER)]


class Pod(Host):
    """A pod of the scenario, as it was when the check asked for it."""

    def __init__(self, run: Run, pod: PodObject, family: Family) -> None:
        name, self.namespace = pod.metadata.name, pod.metadata.namespace
        address = first_of_family((ip.ip for ip in pod.status.podIPs), family)
        if address is None:
            raise NetlabError(f"pod {name} has no {family} address")
        super().__init__(run, resolve(run.lab, name, self.namespace, None), name, address)
        with run.lab.runtime(self._place.machine) as runtime:
            sandboxes = {each.id: each.sandbox for each in runtime.state().containers}
        # Without one it is on its node's own network.
        self._network = Network(self._place.machine, self.owner, sandboxes.get(self._place.container_id or "") or "")
        self.node, self.uid = pod.spec.nodeName, pod.metadata.uid

    @property
    def owner(self) -> str:
        """Its name in captures: NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    def _ways(self) -> list[tuple[Place, int]]:
        # Its container may have restarted since the check asked for the pod.
        place = resolve(self._lab, self.name, self.namespace, None)
        return [(Place(self.node), ALL_BUT_USER), (place, syscalls.CLONE_NEWNET)]

    def run(self, argv: Sequence[str], container: str | None = None) -> str:
        """What a command prints in a container (None: the first), and its exit status if that is not 0.

        If the command makes the pod ready or unready, that takes effect only after the kubelet's next probe: wait for
        it with `Context.pod` or `Context.until_unready` before you send requests.
        """
        self._run.settle()
        self._run.changed()
        place = resolve(self._lab, self.name, self.namespace, container)
        assert place.container_id is not None
        with self._lab.runtime(place.machine) as runtime:
            result = runtime.exec(place.container_id, argv, _RUN_TIMEOUT)
        text = result.output.decode(errors="replace").strip()
        if result.timed_out:
            return f"{text} (not done after {_RUN_TIMEOUT:g} s)".strip()
        return text if result.exit_code == 0 else f"{text} (exit status {result.exit_code})".strip()


class Machine(Host):
    """A node, the outside world, or the fabric between them, which has no address."""


class Service:
    """A Service of the scenario: its addresses in the family of the run, and its first port.

    Without one, `node_port` and `health_check_node_port` are 0, and `external_address` is empty.
    """

    def __init__(self, service: ServiceObject, family: Family) -> None:
        spec = service.spec
        self.name = service.metadata.name
        address = first_of_family(spec.clusterIPs, family)
        if address is None:
            raise NetlabError(f"Service {self.name} has no {family} address; set ipFamilyPolicy: PreferDualStack")
        self.address = address
        balanced = load_balancers.addresses(service)
        self.external_address = first_of_family([*spec.externalIPs, *balanced], family) or ""
        self.port = spec.ports[0].port
        self.node_port = spec.ports[0].nodePort
        self.health_check_node_port = spec.healthCheckNodePort

    def __str__(self) -> str:
        return self.name

    @property
    def endpoint(self) -> str:
        """The virtual address and port, as captures write them."""
        return host_port(self.address, self.port)

    @property
    def external_endpoint(self) -> str:
        """The external address and port."""
        return host_port(self.external_address, self.port)

    def url(self, path: str = "/") -> str:
        """What a client within the cluster dials."""
        return f"http://{self.endpoint}{path}"

    def external_url(self, path: str = "/") -> str:
        """What a client outside dials."""
        return f"http://{self.external_endpoint}{path}"
