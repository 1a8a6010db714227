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
from netlab.errors import NotFoundError, TimedOutError
from netlab.lab.lab import Lab
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.lab.places import Place
from netlab.lab.spec import Family
from netlab.scenario.checks import Check, CheckFailed, CheckSkipped
from netlab.scenario.faults import Fault, Faults
from netlab.scenario.hosts import Host, Interface, Machine, Pod, Service, of_family
from netlab.scenario.interruption import uninterrupted
from netlab.scenario.recording import Recording, Taps, recording

T = TypeVar("T")

_READY_TIMEOUT = 30.0
_INTERFACE = "eth0"
_POLL = 0.02


class Context:
    """One run of a scenario in a lab, in one address family. Its checks get it as their only argument."""

    def __init__(self, lab: Lab, namespace: str, family: Family, pcap_dir: Path) -> None:
        self.family = family
        self.namespace = namespace
        self.pcaps: list[Path] = []
        """What has been captured."""
        self._lab = lab
        self._client = lab.client()
        self._spec = lab.spec()
        self._pcap_dir = pcap_dir
        self._hosts: dict[str, Host] = {}
        self._faults = Faults()
        self._taps: Taps | None = None
        self._begin("")

    def _begin(self, check: str) -> None:
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
        """A pod by name, once it is ready. Raises `TimedOutError` telling why it is not."""
        if name not in self._hosts:
            found = self._await(lambda: [self._get_pod(name)], 1, f"pod {name}")
            self._hosts[name] = Pod(self._lab, found[0], self.family)
        host = self._hosts[name]
        assert isinstance(host, Pod)
        return host

    def pods(self, selector: str, count: int) -> list[Pod]:
        """The pods with these labels (`app=web`), by name, once `count` of them are ready."""
        found = self._await(lambda: self._list_pods(selector), count, f"{count} pods with {selector}")
        return [self.pod(pod.metadata.name) for pod in sorted(found, key=lambda pod: pod.metadata.name)]

    def unready_pod(self, name: str) -> Pod:
        """A pod by name, once its containers run, ready or not."""
        found = self.eventually(
            lambda: self._get_pod(name), lambda pod: pod.status.phase == "Running", f"pod {name} does not run"
        )
        host = self._hosts[f"unready/{name}"] = Pod(self._lab, found, self.family)
        return host

    def service(self, name: str) -> Service:
        """A Service by name."""
        found = self._client.request("GET", SERVICES.object_path(self.namespace, name))
        return Service(msgspec.convert(found, ServiceObject), self.family)

    def node(self, name: str) -> Machine:
        """A node by name. Raises `NotFoundError`."""
        if name not in self._spec.node_names:
            raise NotFoundError(f"the lab has no node {name!r}: it has {', '.join(self._spec.node_names)}")
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
        """What wires nodes and outside together: bridges, with a port named like each machine."""
        return self._machine(FABRIC, [])

    def trouble(self, selector: str) -> str:
        """Why the pods with these labels are not ready, in the words of who knows; nothing if they are."""
        return "; ".join(_trouble(pod) for pod in self._list_pods(selector) if not _is_ready(pod))

    def cni_configuration(self, node: Machine) -> Path:
        """The file that says how a node's pods get their network: of those in the folder, the first by name counts."""
        return min(self._lab.paths.cni_conf_dir(node.name).glob("*.conflist"))

    def owner(self, address: str) -> str:
        """Whose address it is: the name of a pod of the scenario, of a node or of the outside."""
        for pod in self._list_pods(""):
            if address in [ip.ip for ip in pod.status.podIPs]:
                return pod.metadata.name
        for machine in [*self.nodes, self.outside]:
            if machine.owns(address):
                return machine.name
        return f"nobody ({address})"

    # --- what a check does -------------------------------------------------------------------------------------------

    def expect(self, expected: object, observed: object, what: str = "", *, holds: bool | None = None) -> None:
        """State what is expected and what was observed; the check fails here if they differ.

        `holds` decides instead where equality is not what is meant; `what` names the thing if a check has several.
        """
        prefix = f"{what}: " if what else ""
        self.expected.append(prefix + _shown(expected))
        self.observed.append(prefix + _shown(observed))
        if not (expected == observed if holds is None else holds):
            raise CheckFailed

    def scale(self, deployment: str, replicas: int) -> None:
        """Have a Deployment of so many pods. They come and go in their own time: `pods` waits for those that come."""
        path = DEPLOYMENTS.object_path(self.namespace, deployment)
        self._client.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE_PATCH)

    def skip(self, reason: str) -> NoReturn:
        """End the check without a verdict."""
        raise CheckSkipped(reason)

    def eventually(self, ask: Callable[[], T], until: Callable[[T], bool], otherwise: str = "") -> T:
        """Ask again and again until the answer is as wanted; the last answer.

        After half a minute it is what it is, or, with `otherwise`, raises `TimedOutError` with that text.
        """
        deadline = time.monotonic() + _READY_TIMEOUT
        while True:
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
        """Capture what passes these interfaces during the block, as far as the filter (pcap-filter(7)) takes it.

        A point is an interface of a host (`node.interface("cni0")`), or a host, whose eth0 is then meant. One recording
        for each point, in their order; all are in one pcapng file. The filter applies to what VXLAN carries, too.
        Raises `NotFoundError` for an interface that is not there, and as `Engine` and `Writer` do.
        """
        if self._taps is None:
            self._taps = Taps(self._lab)
        named = [point if isinstance(point, Interface) else point.interface(_INTERFACE) for point in points]
        sources = self._taps.sources([(each.host.owner, each.name) for each in named])
        path = self._pcap_path()
        with recording(path, sources, expression) as recordings:
            self.pcaps.append(path)
            yield tuple(recordings)

    # --- what a check breaks ------------------------------------------------------------------------------------------

    def fault(self, host: Host, argv: Sequence[str], *, undo: Sequence[str]) -> Fault:
        """Break something of a host by a command, which the command `undo` puts right (see `Host.as_root`).

        It lasts until its `undo()`, until the end of its `with` block, until `repair`, or else until the scenario ends,
        in whatever way. Write `undo` so that it succeeds where the fault is gone already (`ip route replace`, `nft add
        table X; delete table X`). Raises `NetlabError` when the fault cannot be made; nothing of it is left then.
        """
        what = f"{host}: `{shlex.join(argv)}`"
        return self._faults.make(what, lambda: host.as_root(argv), lambda: host.as_root(undo))

    def repair(self) -> None:
        """Undo every fault that is left, the last one first. Raises `NetlabError` naming what cannot be undone."""
        self._faults.undo_all()

    # --- for the runner ----------------------------------------------------------------------------------------------

    def begin(self, check: Check) -> None:
        """Begin a check: what it expects and observes is collected anew."""
        self._begin(check.name)

    def close(self) -> None:
        """Undo the faults that are left, and end the processes that the checks needed.

        An interruption waits until that is done. Raises `NetlabError` naming the faults that cannot be undone.
        """
        with uninterrupted():
            try:
                self.repair()
            finally:
                for host in self._hosts.values():
                    host.close()
                if self._taps is not None:
                    self._taps.close()

    # -----------------------------------------------------------------------------------------------------------------

    def _machine(self, name: str, addresses: list[str]) -> Machine:
        key = f"machine/{name}"
        if key not in self._hosts:
            address = of_family(addresses, self.family) or ""
            self._hosts[key] = Machine(self._lab, Place(name), name, address)
        host = self._hosts[key]
        assert isinstance(host, Machine)
        return host

    def _get_pod(self, name: str) -> PodObject:
        try:
            return msgspec.convert(self._client.request("GET", PODS.object_path(self.namespace, name)), PodObject)
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                known = ", ".join(pod.metadata.name for pod in self._list_pods("")) or "none"
                raise NotFoundError(f"the scenario has no pod {name!r}: it has {known}") from None
            raise

    def _list_pods(self, selector: str) -> list[PodObject]:
        params = {"labelSelector": selector} if selector else None
        listed: list[Any] = self._client.request("GET", PODS.path(self.namespace), params=params)["items"]
        return msgspec.convert(listed, list[PodObject])

    def _await(self, list_pods: Callable[[], list[PodObject]], count: int, what: str) -> list[PodObject]:
        found = self.eventually(list_pods, lambda pods: sum(map(_is_ready, pods)) >= count)
        ready = [pod for pod in found if _is_ready(pod)]
        if len(ready) < count:
            why = "; ".join(_trouble(pod) for pod in found if not _is_ready(pod)) or "there is none"
            raise TimedOutError(f"{what}: {len(ready)} ready after {_READY_TIMEOUT:g} s: {why}")
        return ready

    def _pcap_path(self) -> Path:
        taken = sum(path.stem == self._check or path.stem.startswith(f"{self._check}.") for path in self.pcaps)
        return self._pcap_dir / f"{self._check}{f'.{taken + 1}' if taken else ''}{SUFFIX}"


def _is_ready(pod: PodObject) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def _trouble(pod: PodObject) -> str:
    """Why a pod is not ready, in the words of who knows."""
    for status in pod.status.containerStatuses:
        waiting = status.state.waiting
        if waiting is not None and waiting.reason:
            why = waiting.message or _sandbox_trouble(pod)
            return f"{pod.metadata.name}: container {status.name}: {waiting.reason} {why}".strip()
    for condition in pod.status.conditions:
        if condition.status == "False" and condition.message:
            return f"{pod.metadata.name}: {condition.message}"
    return f"{pod.metadata.name}: {pod.status.phase or 'Pending'}"


def _sandbox_trouble(pod: PodObject) -> str:
    """Why a pod has no network yet."""
    return next((c.message for c in pod.status.conditions if c.type == "PodReadyToStartContainers"), "")


def _shown(value: object) -> str:
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(_shown, value))) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "nothing"
