"""The places in a lab where commands can run: a pod's container, a node, the outside world, the fabric."""

from __future__ import annotations

import dataclasses
import os
from http import HTTPStatus
from typing import Any

import msgspec

from netlab.api.blocking import BlockingClient
from netlab.api.core_types import Pod
from netlab.api.errors import ApiError
from netlab.api.resources import PODS
from netlab.errors import NotFoundError, UnavailableError, UsageError
from netlab.lab.lab import Lab
from netlab.lab.paths import FABRIC, OUTSIDE
from netlab.machine.protocol import Surroundings
from netlab.similar import did_you_mean

CONTAINER_ID_SCHEME = "netlab://"


@dataclasses.dataclass(frozen=True)
class Place:
    """A machine of the lab, and a container on it (None: the machine itself)."""

    machine: str
    container_id: str | None = None

    def open(self, lab: Lab) -> int:
        """A pidfd of the place's pid 1, for entering its namespaces. The caller closes it."""
        with lab.machine(self.machine) if self.container_id is None else lab.runtime(self.machine) as runtime:
            return runtime.open(self.container_id)

    def surroundings(self, lab: Lab) -> Surroundings:
        """What a command there starts with."""
        if self.container_id is not None:
            with lab.runtime(self.machine) as runtime:
                return runtime.surroundings(self.container_id)
        own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root", "LANG": os.environ.get("LANG", "C.UTF-8")}
        return Surroundings(env=own)


def resolve(lab: Lab, place: str, namespace: str, container: str | None) -> Place:
    """The place for POD, pod/POD, node/NAME, outside or fabric.

    Raises `NotFoundError` naming similar names, `UsageError` for a container of a machine, `UnavailableError` for a
    container that is not running.
    """
    kind, _, name = place.rpartition("/")
    if place in (OUTSIDE, FABRIC) or kind == "node":
        if container is not None:
            raise UsageError(f"{place} is a machine and has no containers; leave out -c")
        lab.machine(name).close()
        return Place(name)
    if kind not in ("", "pod", "pods", "po"):
        raise UsageError(f"{place!r}: must be a POD, node/NAME, {OUTSIDE} or {FABRIC}")
    pod = find_pod(lab.client(), name, namespace)
    return _container(pod, container)


def find_pod(client: BlockingClient, name: str, namespace: str) -> Pod:
    """A pod by name. Raises `NotFoundError` naming similar names."""
    try:
        return msgspec.convert(client.request("GET", PODS.object_path(namespace, name)), Pod)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
    names = [obj["metadata"]["name"] for obj in client.request("GET", PODS.path(namespace))["items"]]
    hint = did_you_mean(name, names) or "; `netlab get pods -A` lists them"
    raise NotFoundError(f"there is no pod {name!r} in namespace {namespace}{hint}")


def choose_container(pod: Pod, container: str | None) -> str:
    """The container's name: the given one, or the pod's first. Raises `NotFoundError`."""
    if container is None:
        return pod.spec.containers[0].name
    names = [c.name for c in pod.spec.all_containers()]
    if container not in names:
        raise NotFoundError(f"pod {pod.metadata.name} has no container {container!r}; it has {', '.join(names)}")
    return container


def _container(pod: Pod, container: str | None) -> Place:
    chosen = choose_container(pod, container)
    statuses = (
        *pod.status.containerStatuses,
        *pod.status.initContainerStatuses,
        *pod.status.ephemeralContainerStatuses,
    )
    status = next((s for s in statuses if s.name == chosen), None)
    if status is None or status.state.running is None or not pod.spec.nodeName:
        raise UnavailableError(
            f"container {chosen} of pod {pod.metadata.name} is not running ({_why(pod, status)}); see `netlab get pods`"
        )
    return Place(pod.spec.nodeName, status.containerID.removeprefix(CONTAINER_ID_SCHEME))


def _why(pod: Pod, status: Any) -> str:
    if status is not None and status.state.waiting is not None:
        return status.state.waiting.reason or "waiting"
    if status is not None and status.state.terminated is not None:
        return f"{status.state.terminated.reason or 'ended'}, exit code {status.state.terminated.exitCode}"
    return pod.status.phase or "Pending"
