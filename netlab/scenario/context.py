"""The lab as a check sees it."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from netlab.api.core_types import Pod as PodObject
from netlab.api.core_types import Service as ServiceObject
from netlab.api.errors import ApiError
from netlab.api.media_types import MERGE_PATCH
from netlab.api.resources import DEPLOYMENTS, PODS, SERVICES
from netlab.capture.pcapng import SUFFIX
from netlab.counted import counted
from netlab.errors import NotFoundError, TimedOutError
from netlab.lab import barrier, revisions
from netlab.lab.lab import Lab
from netlab.lab.network_envoy import NetworkEnvoy
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.lab.places import Place
from netlab.lab.trouble import is_ready, trouble
from netlab.net.addresses import Family
from netlab.scenario.faults import Fault, Faults
from netlab.scenario.hosts import Host, Interface, Machine, Pod, Service, first_of_family
from netlab.scenario.interruption import uninterrupted
from netlab.scenario.outcomes import CheckFailed, CheckSkipped
from netlab.scenario.recording import Recording, recording, sources

T = TypeVar("T")

_READY_TIMEOUT = 60.0
_INTERFACE = "eth0"
_POLL = 0.02


class Context:
    """One run of a scenario in a lab, in one address family. Its checks get it as their only argument."""

    def __init__(self, lab: Lab, namespace: str, family: Family, pcap_dir: Path) -> None:
        self.family = family
        self.namespace = namespace
        self.pcaps: list[Path] = []
        """The captures so far."""
        self.lab = lab
        self._client = lab.client()
        self._spec = lab.spec()
        self._pcap_dir = pcap_dir
        self._hosts: dict[str, Host] = {}
        self._faults = Faults()
        self._networks: NetworkEnvoy | None = None
        self._hanging: dict[str, Fault] = {}
        """Components that hang on purpose, with their faults."""
        self._settled: frozenset[str] | None = None
        """The components excused when all nodes were last up to date; None if something may have changed since."""
        self.begin("")

    def begin(self, check: str) -> None:
        """Begin a check, by name: its expectations and observations start empty."""
        self._check = check
        self.expected: list[str] = []
        self.observed: list[str] = []

    @property
    def network(self) -> str:
        """The pod network: vxlan, routed or bridge."""
        return self._spec.network

    @property
    def proxy(self) -> str:
        """kube-proxy's mode: nftables or iptables."""
        return self._spec.proxy

    @property
    def mtu(self) -> int:
        """The largest IP packet that pods send, in bytes."""
        return self._spec.pod_mtu

    # --- what the lab has --------------------------------------------------------------------------------------------

    def pod(self, name: str) -> Pod:
        """A pod by name, once it is ready. Raises `TimedOutError` saying why it is not."""
        return self._host_of(self._await(lambda: [self._get_pod(name)], 1, f"pod {name}")[0])

    def pods(self, selector: str, count: int) -> list[Pod]:
        """The pods with these labels (`app=web`), by name, once `count` of them are ready."""
        found = self._await(lambda: self._list_pods(selector), count, f"{counted(count, 'pod')} with {selector}")
        return [self._host_of(pod) for pod in sorted(found, key=lambda pod: pod.metadata.name)]

    def unready_pod(self, name: str) -> Pod:
        """A pod by name, once its containers run, ready or not."""
        found = self.eventually(
            lambda: self._get_pod(name), lambda pod: pod.status.phase == "Running", f"pod {name} does not run"
        )
        return self._host_of(found)

    def until_unready(self, name: str) -> Pod:
        """A pod by name, once it is not ready, or no longer ready: its kubelet has probed it and reported that."""
        found = self.eventually(
            lambda: self._get_pod(name), lambda pod: not is_ready(pod), f"pod {name} is still ready"
        )
        return self._host_of(found)

    def until_gone(self, pod: Pod) -> None:
        """Wait until a pod is gone: its containers have ended, and its address is free."""
        self.eventually(
            lambda: [each.metadata.uid for each in self._list_pods("")],
            lambda present: pod.uid not in present,
            f"pod {pod} is still there",
        )

    def service(self, name: str) -> Service:
        """A Service by name."""
        self.changed()
        found = self._client.request("GET", SERVICES.object_path(self.namespace, name))
        return Service(msgspec.convert(found, ServiceObject), self.family)

    def node(self, name: str) -> Machine:
        """A node by name. Raises `NotFoundError`."""
        if name not in self._spec.node_names:
            raise NotFoundError(f"the lab has no node {name!r}; it has {', '.join(self._spec.node_names)}")
        addresses = self._spec.node_addresses(self._spec.node_names.index(name) + 1)
        return self._machine(name, addresses)

    @property
    def nodes(self) -> list[Machine]:
        """All nodes."""
        return [self.node(name) for name in self._spec.node_names]

    @property
    def outside(self) -> Machine:
        """The world outside the cluster."""
        return self._machine(OUTSIDE, self._spec.outside_addresses)

    @property
    def fabric(self) -> Machine:
        """What connects the nodes and the outside: bridges, with a port named after each machine."""
        return self._machine(FABRIC, [])

    def trouble(self, selector: str) -> str:
        """Why the pods with these labels are not ready, as reported; empty if they are."""
        return "; ".join(trouble(pod) for pod in self._list_pods(selector) if not is_ready(pod))

    def cni_configuration(self, node: Machine) -> Path:
        """A node's CNI configuration in force: the first file by name in the folder."""
        return min(self.lab.paths.cni_conf_dir(node.name).glob("*.conflist"))

    def owner(self, address: str) -> str:
        """The owner of an address: the name of a pod of the scenario, of a node or of the outside."""
        for pod in self._list_pods(""):
            if address in [ip.ip for ip in pod.status.podIPs]:
                return pod.metadata.name
        for machine in [*self.nodes, self.outside]:
            if machine.owns(address):
                return machine.name
        return f"unknown ({address})"

    # --- what a check does -------------------------------------------------------------------------------------------

    def expect(self, expected: object, observed: object, what: str = "", *, holds: bool | None = None) -> None:
        """State what is expected and what was observed; the check fails here if they differ.

        If the condition is not equality, `holds` decides instead. `what` names the thing if a check has several.
        """
        prefix = f"{what}: " if what else ""
        self.expected.append(prefix + _shown(expected))
        self.observed.append(prefix + _shown(observed))
        if not (expected == observed if holds is None else holds):
            raise CheckFailed

    def scale(self, deployment: str, replicas: int) -> None:
        """Set the number of a Deployment's pods. This does not wait for them: `pods` waits for new ones."""
        path = DEPLOYMENTS.object_path(self.namespace, deployment)
        self._client.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE_PATCH)
        self.changed()

    def skip(self, reason: str) -> NoReturn:
        """End the check without a verdict."""
        raise CheckSkipped(reason)

    def eventually(self, ask: Callable[[], T], until: Callable[[T], bool], otherwise: str = "") -> T:
        """Ask repeatedly until the answer is as wanted. Returns the last answer.

        After a minute it returns the answer as it is, or, with `otherwise`, raises `TimedOutError` with that text. You
        do not need this to wait for the nodes: every request waits until they are up to date.
        """
        deadline = time.monotonic() + _READY_TIMEOUT
        while True:
            self.changed()
            answer = ask()
            if until(answer):
                return answer
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        if otherwise:
            raise TimedOutError(f"{otherwise} after {_READY_TIMEOUT:g} s")
        return answer

    @contextlib.contextmanager
    def capture(self, *points: Host | Interface, expression: str = "") -> Iterator[tuple[Recording, ...]]:
        """Capture the packets at these interfaces that match the filter (pcap-filter(7)), during the block.

        A point is an interface of a host (`node.interface("cni0")`), or a host, which means its eth0. There is one
        recording for each point, in the same order; all are in one pcapng file. The filter also applies to what VXLAN
        carries. Raises `NotFoundError` for an unknown interface, and what `Engine` and `Writer` raise.
        """
        self.settle()
        named = [point if isinstance(point, Interface) else point.interface(_INTERFACE) for point in points]
        taken = sources(self.networks, [(each.host.owner, each.name) for each in named])
        path = self._pcap_path()
        with recording(path, taken, expression) as recordings:
            self.pcaps.append(path)
            yield tuple(recordings)

    # --- what a check breaks ------------------------------------------------------------------------------------------

    def fault(self, host: Host, argv: Sequence[str], *, undo: Sequence[str]) -> Fault:
        """Break something on a host with a command; the command `undo` repairs it (see `Host.as_root`).

        The fault lasts until its `undo()`, the end of its `with` block, `repair`, or the end of the scenario, however
        it ends. Write `undo` so that it succeeds even if the fault is gone already (`ip route replace`, `nft add table
        X; delete table X`). Raises `NetlabError` when the fault cannot be made, and leaves nothing of it.
        """
        what = f"{host}: `{shlex.join(argv)}`"
        self.settle()
        return self._faults.make(what, lambda: host.command(argv), lambda: host.command(undo))

    def hang_proxy(self, node: Machine) -> Fault:
        """Make a node's kube-proxy hang, as a fault: its rules stay as they are, and nothing waits for it."""
        fault = self.fault(node, ["pkill", "-STOP", "kube-proxy"], undo=["pkill", "-CONT", "kube-proxy"])
        self._hanging[revisions.kube_proxy(node.name)] = fault
        return fault

    def repair(self) -> None:
        """Undo all remaining faults, the last one first. Raises `NetlabError` naming those that cannot be undone."""
        self._faults.undo_all()

    # --- waiting for the nodes ---------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Say that something may have changed that the nodes must act on: the next request waits until they have.

        The methods of this context that change or look up something call this themselves.
        """
        self._settled = None

    def settle(self) -> None:
        """Wait until all nodes have put everything so far in force, unless it is known that they have.

        Every request, capture and fault does this. Raises `TimedOutError` naming the nodes and components that lag.
        """
        excused = frozenset(name for name, fault in self._hanging.items() if not fault.undone)
        if self._settled != excused:
            barrier.wait(self.lab, excused=excused)
            self._settled = excused

    @property
    def networks(self) -> NetworkEnvoy:
        """What enters the lab's networks for requests and captures."""
        if self._networks is None:
            self._networks = NetworkEnvoy(self.lab)
        return self._networks

    # --- for the runner ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Undo the remaining faults, and end the processes that the checks needed.

        An interruption waits until that is done. Raises `NetlabError` naming the faults that cannot be undone.
        """
        with uninterrupted():
            try:
                self.repair()
            finally:
                if self._networks is not None:
                    self._networks.close()

    # -----------------------------------------------------------------------------------------------------------------

    def _machine(self, name: str, addresses: list[str]) -> Machine:
        key = f"machine/{name}"
        if key not in self._hosts:
            address = first_of_family(addresses, self.family) or ""
            self._hosts[key] = Machine(self, Place(name), name, address)
        host = self._hosts[key]
        assert isinstance(host, Machine)
        return host

    def _host_of(self, found: PodObject) -> Pod:
        """The host for a pod's object."""
        key = f"pod/{found.metadata.uid}"
        if key not in self._hosts:
            self._hosts[key] = Pod(self, found, self.family)
        host = self._hosts[key]
        assert isinstance(host, Pod)
        return host

    def _get_pod(self, name: str) -> PodObject:
        self.changed()
        try:
            return msgspec.convert(self._client.request("GET", PODS.object_path(self.namespace, name)), PodObject)
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                known = ", ".join(pod.metadata.name for pod in self._list_pods("")) or "none"
                raise NotFoundError(f"the scenario has no pod {name!r}; it has {known}") from None
            raise

    def _list_pods(self, selector: str) -> list[PodObject]:
        params = {"labelSelector": selector} if selector else None
        self.changed()
        listed: list[Any] = self._client.request("GET", PODS.path(self.namespace), params=params)["items"]
        return msgspec.convert(listed, list[PodObject])

    def _await(self, list_pods: Callable[[], list[PodObject]], count: int, what: str) -> list[PodObject]:
        found = self.eventually(list_pods, lambda pods: sum(map(is_ready, pods)) >= count)
        ready = [pod for pod in found if is_ready(pod)]
        if len(ready) < count:
            why = "; ".join(trouble(pod) for pod in found if not is_ready(pod)) or "there is none"
            raise TimedOutError(f"{what}: {len(ready)} ready after {_READY_TIMEOUT:g} s: {why}")
        return ready

    def _pcap_path(self) -> Path:
        taken = sum(path.stem == self._check or path.stem.startswith(f"{self._check}.") for path in self.pcaps)
        return self._pcap_dir / f"{self._check}{f'.{taken + 1}' if taken else ''}{SUFFIX}"


def _shown(value: object) -> str:
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(_shown, value))) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "nothing"
