"""A node's sandboxes and containers on a Docker engine. All that is known of them is what the engine knows."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netlab import files
from netlab.machine import container, images, security_context
from netlab.machine.docker import builtin, engine
from netlab.machine.docker import images as engine_images
from netlab.machine.docker.builtin import BuiltIn
from netlab.machine.docker.engine import ID, IMAGE_ID, LAB, LOG, NODE, SANDBOX, name_of
from netlab.machine.images.chosen import Chosen
from netlab.machine.protocol import ContainerSpec, ContainerStatus, RunningContainer
from netlab.machine.server import Refusal

if TYPE_CHECKING:
    from docker import APIClient

_PAUSE = ["sleep", "infinity"]
_LOGS = {"max-size": "10m", "max-file": "2"}
"""Of the engine's own copy of a container's output, which goes on to the node's log at once."""
_IPV6 = {f"net.ipv6.conf.{each}.disable_ipv6": "0" for each in ("all", "default")}
"""The engine takes IPv6 from a network namespace that it connects to nothing."""
_OWN_NETWORK = "node"
"""The sandbox, of each node, for containers on the node's own network."""
_TO_ENTER = ["SYS_ADMIN", "SYS_PTRACE"]
_UNCONFINED = ["apparmor=unconfined"]
"""What it takes to enter the network namespace of another process of the host."""
_NEVER = "0001-01-01T00:00:00Z"
_CONFLICT = 409


@dataclass(frozen=True)
class Node:
    """A node of a lab: the lab's directory, the node's name, and the pid of its machine on this host."""

    lab: str
    name: str
    pid: int

    @property
    def files(self) -> Path:
        """Where the files are that containers get from the kubelet's texts."""
        return Path(self.lab, "nodes", self.name, "containers")

    @property
    def labels(self) -> dict[str, str]:
        """What says whose a container is."""
        return {LAB: self.lab, NODE: self.name}


class Containers:
    """What a kubelet may ask about a node's sandboxes and containers. Every call blocks, and raises `Refusal`."""

    def __init__(self, client: APIClient, node: Node, built_in: BuiltIn) -> None:
        self._client = client
        self._node = node
        self._built_in = built_in
        self._entering = threading.Lock()

    def run_sandbox(self, identity: str, hostname: str) -> int:
        """Start the container that holds a pod's namespaces; a descriptor of its network namespace."""
        with engine.refusals(f"sandbox {identity}"):
            labels = {ID: identity, SANDBOX: identity}
            self._pause(identity, _PAUSE, hostname=hostname, network_mode="none", labels=labels, sysctls=_IPV6)
            return os.open(f"/proc/{self.inspect(identity)['State']['Pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _pause(
        self, identity: str, argv: list[str], *, hostname: str, labels: Mapping[str, str], **options: Any
    ) -> None:
        client = self._client
        host = client.create_host_config(ipc_mode="shareable", mounts=self._mounts_of_host(), **options)
        config = client.create_container_config(
            self._built_in.image, argv, hostname=hostname, host_config=host, labels={**labels, **self._node.labels}
        )
        try:
            self._create(config, identity)
            client.start(name_of(identity))
        except BaseException:
            engine.remove(client, name_of(identity))
            raise

    def _own_network(self) -> str:
        """The sandbox of the node's own network: its process has gone there, so that others can join it."""
        identity = f"{_OWN_NETWORK}-{self._node.name}-{self._node.pid}"
        with self._entering:
            if not any(each["State"]["Running"] for each in self._inspected([identity])):
                self._enter_own_network(identity)
        return identity

    def _enter_own_network(self, identity: str) -> None:
        self.remove_sandbox(identity)  # it has ended: containers that are in it go on
        enter = ["nsenter", f"--net=/proc/{self._node.pid}/ns/net", "--", *_PAUSE]
        with engine.refusals(f"the network of {self._node.name}"):
            options = {"network_mode": "none", "pid_mode": "host", "cap_add": _TO_ENTER, "security_opt": _UNCONFINED}
            self._pause(identity, enter, hostname=self._node.name, labels={}, **options)
        self._await_network(identity)

    def _await_network(self, identity: str) -> None:
        there = os.readlink(f"/proc/{self._node.pid}/ns/net")  # noqa: PTH115
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{self.inspect(identity)['State']['Pid']}/ns/net") != there:  # noqa: PTH115
            if time.monotonic() > deadline:
                raise Refusal(errno.EIO, f"the network of {self._node.name} cannot be entered by the Docker engine")
            time.sleep(0.005)

    def remove_sandbox(self, identity: str) -> None:
        """Remove a sandbox, if it exists."""
        with engine.refusals(f"sandbox {identity}"):
            engine.remove(self._client, name_of(identity))

    def run(self, spec: ContainerSpec) -> RunningContainer:
        """Create a container and start it."""
        client = self._client
        with engine.refusals(f"container {spec.id}"):
            config = self._config(spec)
            self._create(config, spec.id)
            try:
                client.start(name_of(spec.id))
            except BaseException as error:
                self.remove(spec.id)
                raise self._explained(error, spec) from error
            begun = status(self.inspect(spec.id))
            return RunningContainer(pid=0, started_at=begun.started_at, image_id=begun.image_id)

    def _create(self, config: dict[str, Any], identity: str) -> None:
        from docker.errors import APIError

        try:
            self._client.create_container_from_config(config, name_of(identity))  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == _CONFLICT:
                raise Refusal(errno.EEXIST, f"{identity} already exists") from error
            raise

    def _explained(self, error: BaseException, spec: ContainerSpec) -> BaseException:
        from docker.errors import APIError

        # runc found no program, or one that is none: the engine says so by "bad request", and the reason in its text.
        if isinstance(error, APIError) and error.status_code in (400, 404):
            number = errno.EACCES if "permission denied" in engine.said(error) else errno.ENOENT
            return Refusal(number, f"container {spec.id}: {engine.said(error)}")
        return error

    def _config(self, spec: ContainerSpec) -> dict[str, Any]:
        from docker.types import LogConfig

        client = self._client
        sandbox = spec.sandbox or self._own_network()
        others = f"container:{name_of(sandbox)}"
        mounts = [*self._mounts(spec), *self._files(spec)]
        known = engine_images.inspect(client, spec.image)
        if known is not None:
            image, entrypoint, argv = spec.image, spec.command or None, spec.args or None
            env = {"HOSTNAME": spec.hostname or self._node.name} | spec.env
        else:
            try:
                found = images.built_in(spec.image, spec.command)
            except images.ImageNotPresentError:
                raise Refusal(
                    errno.ENOPKG, f"image {spec.image!r} is neither built in nor in the engine: `docker pull` brings it"
                ) from None
            chosen = Chosen(images.command_line(found.entrypoint, found.cmd, spec.command, spec.args))
            image, entrypoint, argv = self._built_in.image, None, builtin.executable(chosen.argv)
            env = container.environment(spec, chosen, self._node.name)
            mounts = [*self._mounts_of_host(), *mounts]
        host = client.create_host_config(
            network_mode=others,
            ipc_mode=others,
            pid_mode=_pid_mode(spec, sandbox),
            mounts=mounts,
            oom_score_adj=max(spec.oom_score_adj, 0),
            mem_limit=spec.memory_limit,
            nano_cpus=None if spec.cpu_limit is None else spec.cpu_limit * 1_000_000,
            log_config=LogConfig(type="json-file", config=_LOGS),
        )
        config: dict[str, Any] = client.create_container_config(
            image,
            argv,  # type: ignore[arg-type]  # None: the image's own
            entrypoint=entrypoint,
            environment=env,
            working_dir=spec.cwd,
            stdin_open=spec.stdin,
            tty=spec.terminal,
            host_config=host,
            labels=spec.labels
            | self._node.labels
            | {
                ID: spec.id,
                SANDBOX: spec.sandbox or "",
                LOG: spec.log,
                IMAGE_ID: "" if known is None else engine_images.identity(spec.image, known),
            },
        )
        config["StdinOnce"] = spec.stdin_once
        return config

    def _mounts_of_host(self) -> list[Any]:
        from docker.types import Mount

        made = [Mount(path, path, "bind", read_only=True) for path in self._built_in.bound]
        if self._built_in.masked is not None:
            made.append(Mount(self._built_in.masked, None, "tmpfs", tmpfs_size=1 << 20))
        return made

    def _mounts(self, spec: ContainerSpec) -> list[Any]:
        from docker.types import Mount

        made = []
        for each in spec.mounts:
            if not Path(os.path.realpath(each.source)).is_relative_to(Path(self._node.lab, "nodes", self._node.name)):
                raise Refusal(
                    errno.EOPNOTSUPP,
                    f"container {spec.id}: {each.source} is a path of the node, which the Docker engine does not see",
                )
            if each.inside:
                raise Refusal(
                    errno.EOPNOTSUPP,
                    f"container {spec.id}: subPath {each.inside} is not for the Docker engine, which follows links",
                )
            if each.propagation != security_context.PRIVATE:
                what = (
                    f"container {spec.id}: mountPropagation is not for the Docker engine, which sees no mounts of nodes"
                )
                raise Refusal(errno.EOPNOTSUPP, what)
            made.append(Mount(each.target, each.source, "bind", read_only=each.read_only))
        return made

    def _files(self, spec: ContainerSpec) -> list[Any]:
        """The container's own files of /etc, written."""
        from docker.types import Mount

        texts = {"hosts": spec.hosts, "resolv.conf": spec.resolv_conf}
        folder = self._node.files / spec.id
        folder.mkdir(parents=True, exist_ok=True)
        made = []
        for name, text in texts.items():
            if text is not None:
                files.replace(folder / name, text, 0o644)
                made.append(Mount(f"/etc/{name}", str(folder / name), "bind"))
        return made

    def kill(self, identity: str, number: int | None) -> None:
        """Send a signal, unless the container has already ended; None: what its image is stopped by."""
        from docker.errors import APIError

        inspected = self.inspect(identity)
        if not inspected["State"]["Running"]:
            return
        wanted = number or inspected["Config"].get("StopSignal") or "SIGTERM"
        with engine.refusals(f"container {identity}"):
            try:
                self._client.kill(name_of(identity), wanted)
            except APIError as error:
                if error.status_code != _CONFLICT:  # it has just ended
                    raise

    def remove(self, identity: str) -> None:
        """Forget a container that has ended, if it is known."""
        try:
            if self.inspect(identity)["State"]["Running"]:
                raise Refusal(errno.EBUSY, f"container {identity} is running")
            with engine.refusals(f"container {identity}"):
                engine.remove(self._client, name_of(identity))
        except Refusal as refusal:
            if refusal.errno != errno.ENOENT:
                raise
        shutil.rmtree(self._node.files / identity, ignore_errors=True)

    def sandboxes(self) -> list[str]:
        """The ids of sandboxes."""
        return [labels[ID] for labels in self._labels() if labels[ID] == labels[SANDBOX]]

    def statuses(self) -> list[ContainerStatus]:
        """The containers that were started."""
        found = self._inspected(labels[ID] for labels in self._labels() if labels[ID] != labels[SANDBOX])
        return [status(each) for each in found if each["State"]["StartedAt"] != _NEVER]

    def ended_sandboxes(self) -> list[ContainerStatus]:
        """The sandboxes whose own container has ended."""
        return [status(each) for each in self._inspected(self.sandboxes()) if not each["State"]["Running"]]

    def _inspected(self, identities: Iterable[str]) -> list[dict[str, Any]]:
        def inspect(identity: str) -> dict[str, Any] | None:
            with contextlib.suppress(Refusal):  # it has just been removed
                return self.inspect(identity)
            return None

        return [each for each in engine.of_each(inspect, identities) if each is not None]

    def _labels(self, state: str | None = None) -> list[dict[str, str]]:
        with engine.refusals(f"the containers of {self._node.name}"):
            found = engine.containers_of(self._client, self._node.lab, f"{NODE}={self._node.name}", state=state)
        own = [each["Labels"] for each in found]
        return [labels for labels in own if ID in labels]

    def running(self, identity: str) -> dict[str, Any]:
        """What the engine knows of a running container."""
        inspected = self.inspect(identity)
        if not inspected["State"]["Running"]:
            raise Refusal(errno.ESRCH, f"container {identity} is not running")
        return inspected

    def inspect(self, identity: str) -> dict[str, Any]:
        """What the engine knows of one of the node's containers or sandboxes."""
        with engine.refusals(f"container {identity}"):
            inspected: dict[str, Any] = self._client.inspect_container(name_of(identity))
        labels = inspected["Config"]["Labels"] or {}
        if labels.get(LAB) != self._node.lab or labels.get(NODE) != self._node.name:
            raise Refusal(errno.ENOENT, f"container {identity}: no such container")
        return inspected

    def environment(self, identity: str) -> dict[str, Any]:
        """What a container's commands start with."""
        config = self.inspect(identity)["Config"]
        pairs = (each.partition("=") for each in config["Env"] or ())
        env = {name: value for name, _, value in pairs}
        return {"env": env, "cwd": config["WorkingDir"] or "/", "user": config["User"] or None}

    def counters(self, identities: Collection[str]) -> dict[str, dict[str, str]]:
        """What the engine counts of those that run, in the words of the cgroups from which it has it."""
        own = {labels[ID] for labels in self._labels("running")}

        def count(identity: str) -> dict[str, str]:
            with contextlib.suppress(Refusal), engine.refusals(f"container {identity}"):
                return as_of_cgroups(self._client.stats(name_of(identity), stream=False, one_shot=True))
            return {}

        wanted = [each for each in identities if each in own]
        counted = zip(wanted, engine.of_each(count, wanted), strict=True)
        return {identity: texts for identity, texts in counted if texts}

    def open(self, identity: str) -> int:
        """A pidfd of a container's pid 1."""
        return os.pidfd_open(self.running(identity)["State"]["Pid"])


def _pid_mode(spec: ContainerSpec, sandbox: str) -> str | None:
    options = spec.security_context.namespace_options
    if options.pid == security_context.NODE:
        raise Refusal(errno.EOPNOTSUPP, f"container {spec.id}: hostPID: the Docker engine has no node's processes")
    if options.pid == security_context.TARGET and options.target_id is not None:
        return f"container:{name_of(options.target_id)}"
    return f"container:{name_of(sandbox)}" if options.pid == security_context.POD else None


def status(inspected: dict[str, Any]) -> ContainerStatus:
    """The status of a container or sandbox, by what the engine says. Its pid is none of the node's."""
    state, config = inspected["State"], inspected["Config"]
    labels = config["Labels"]
    ended = not state["Running"]
    code = state["ExitCode"]
    return ContainerStatus(
        id=labels[ID],
        pid=0,
        image=config["Image"],
        image_id=labels.get(IMAGE_ID, ""),
        sandbox=labels[SANDBOX] or None,
        started_at=_moment(state["StartedAt"]),
        finished_at=_moment(state["FinishedAt"]) if ended else None,
        exit_code=code if ended else None,
        signal=code - 128 if ended and 128 < code <= 128 + signal.SIGRTMAX else None,
        out_of_memory=state["OOMKilled"],
        labels=labels,
    )


def _moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def as_of_cgroups(stats: Mapping[str, Any]) -> dict[str, str]:
    """What the engine counts of a container, as the files of its cgroups have it, of either version.

    Nothing of one that has ended.
    """
    memory, cpu = stats["memory_stats"], stats["cpu_stats"]
    if "usage" not in memory:
        return {}
    details = memory.get("stats", {})
    texts = {"memory.stat": "".join(f"{name} {value}\n" for name, value in details.items())}
    total, throttling = cpu["cpu_usage"]["total_usage"], cpu["throttling_data"]
    periods = f"nr_periods {throttling['periods']}\nnr_throttled {throttling['throttled_periods']}\n"
    if "total_rss" in details:  # cgroup v1
        texts |= {"memory.usage_in_bytes": str(memory["usage"]), "cpuacct.usage": str(total)}
        texts["cpu.stat"] = f"{periods}throttled_time {throttling['throttled_time']}\n"
    else:
        texts["memory.current"] = str(memory["usage"])
        texts["cpu.stat"] = (
            f"usage_usec {total // 1000}\n{periods}throttled_usec {throttling['throttled_time'] // 1000}\n"
        )
    return texts
