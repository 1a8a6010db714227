"""pid 1 of a machine: one thread, one loop. It reaps, forks containers, supervises services, and answers its socket.

It never ends on its own: when it ends, the kernel ends everything below it. A request that fails gets an error as its
answer. Slow work (a container's mounts, a command's run) happens in forked children that report over a pipe, so that
no request waits for another.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NoReturn

from netlab.descriptors import allow_many, close_all_but
from netlab.machine import container, host, images, protocol, rootfs, roots, security_context, userns
from netlab.machine.cgroups.containers import ContainerCgroup
from netlab.machine.cgroups.limits import Limits
from netlab.machine.children import NEW_PID_NAMESPACE, READY, Children, Failure, decode_status
from netlab.machine.execs import Execs
from netlab.machine.images import chosen
from netlab.machine.images.chosen import Chosen
from netlab.machine.loop import Loop
from netlab.machine.members import Members
from netlab.machine.output import Output
from netlab.machine.protocol import ContainerSpec, ContainerStatus, InvalidRequestError, Request
from netlab.machine.server import Connection, Refusal, Reply, Server
from netlab.machine.services import Services
from netlab.machine.stdio import ContainerStreams
from netlab.net import syscalls
from netlab.net.peers import why_refused

_NETNS_DIR = "/run/netns"


def main(config: host.MachineConfig, report: int, enter_root: Callable[[], None] | None = None) -> NoReturn:
    """Be pid 1 of a machine; the caller has forked into a new pid namespace. Writes READY or an error to `report`.

    `enter_root` makes the lab's file tree, in the lab's first machine.
    """
    try:
        # Under nohup(1) and the like, some signals start out ignored.
        host.forget_signals(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
        template, base = host.make_host(config, enter_root)
        close_all_but(report, template, *(each.directory for each in config.cgroups))
        os.setsid()
        # Ctrl-C must not end this process: that would end the whole machine.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        syscalls.set_process_name(f"machine {config.name}")
        allow_many()
        machine = Init(config, template, base)
        if config.visible is not None:
            # The socket is there by now.
            rootfs.show_of_lab(config.lab_dir, (*config.visible, config.socket, config.guard))
        os.write(report, READY)
        os.close(report)
    except BaseException as error:
        container.tell_failure(report, error)
        os._exit(1)
    try:
        # After the report, so that the caller does not wait for it. Child machines find it loaded.
        images.preload()
        gc.collect()
        gc.freeze()  # a collection in a container would write to, and so copy, every page with an object
        machine.serve()
    except BaseException:
        traceback.print_exc()
    os._exit(1)


@dataclass(slots=True)
class _Sandbox:
    path: str
    ipc: int
    pause: int | None = None
    """A pidfd of the process that holds the pid namespace of its containers, if they share one."""


@dataclass(slots=True)
class _Container:
    spec: ContainerSpec
    image: Chosen
    env: dict[str, str]
    cgroup: ContainerCgroup
    pid: int
    pidfd: int
    started_at: float
    started: bool = False
    finished_at: float | None = None
    wait_status: int | None = None
    out_of_memory: bool = False
    output: Output = field(init=False)
    stdin: int | None = None
    """Where its standard input is written, if it has an open one; of a terminal, the terminal."""

    def exit(self) -> dict[str, Any]:
        assert self.wait_status is not None
        code, number = decode_status(self.wait_status)
        return {
            "id": self.spec.id,
            "exit_code": code,
            "signal": number,
            "finished_at": self.finished_at,
            "out_of_memory": self.out_of_memory,
        }

    def status(self) -> ContainerStatus:
        code, number = (None, None) if self.wait_status is None else decode_status(self.wait_status)
        return ContainerStatus(
            id=self.spec.id,
            pid=self.pid if self.wait_status is None else 0,
            image=self.spec.image,
            image_id=self.image.id,
            sandbox=self.spec.sandbox,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=code,
            signal=number,
            out_of_memory=self.out_of_memory,
            labels=self.spec.labels,
        )


class Init:
    """The state of a machine and the loop that serves it."""

    def __init__(self, config: host.MachineConfig, template: int, base: roots.Base) -> None:
        self._config = config
        self._template = template
        self._base = base
        self._in_user_namespace = userns.is_inside()
        self._own_net_namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._own_ipc_namespace = os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self._machines: dict[str, int] = {}
        self._left_cgroups: list[ContainerCgroup] = []
        """Of containers that have ended, not yet empty."""
        self._watchers: list[Connection] = []
        self._loop = Loop()
        self._children = Children(self._loop)
        self._services = Services(self._loop, self._children)
        self._execs = Execs(self._loop, self._children, self._running_container)
        self._handlers: dict[str, Callable[[Request, Reply], None]] = {
            protocol.MACHINE_SPAWN: self._spawn_machine,
            protocol.SERVICE_RUN: self._services.run,
            protocol.SANDBOX_CREATE: self._create_sandbox,
            protocol.SANDBOX_REMOVE: self._remove_sandbox,
            protocol.CONTAINER_RUN: self._run_container,
            protocol.CONTAINER_KILL: self._kill_container,
            protocol.CONTAINER_REMOVE: self._remove_container,
            protocol.CONTAINER_EXEC: self._execs.run,
            protocol.CONTAINER_STREAM: self._execs.stream,
            protocol.CONTAINER_ATTACH: self._attach,
            protocol.CONTAINER_ENVIRONMENT: self._environment,
            protocol.CONTAINER_COUNTERS: self._counters,
            protocol.STATE: self._state,
            protocol.OPEN: self._open,
            protocol.EVENTS: self._events,
        }
        # Containers and child machines are below the machine: only processes of the machine itself may control it.
        admitted = functools.partial(why_refused, deepest=0, guard=config.guard)
        self._server = Server(self._loop, config.socket, admitted, self._handle)

    def serve(self) -> NoReturn:
        """Serve forever."""
        self._loop.run()

    def _handle(self, request: Request, reply: Reply) -> None:
        op = request.text("op")
        handler = self._handlers.get(op)
        if handler is None:
            raise InvalidRequestError(f"op: {protocol.shown(op)} is unknown")
        handler(request, reply)

    # Child machines

    def _spawn_machine(self, request: Request, reply: Reply) -> None:
        name = request.name("name")
        config = replace(
            self._config,
            name=name,
            socket=request.path("socket"),
            hostname=request.text("hostname"),
            visible=request.optional_texts("visible"),
        )
        if name in self._machines:
            raise Refusal(errno.EEXIST, f"machine {name} already exists")

        def failed(failure: Failure) -> None:
            del self._machines[name]
            reply.fail(failure["errno"], f"machine {name}: {failure['error']}")

        def ended(status: int) -> None:
            del self._machines[name]

        pid = self._children.fork(
            lambda report: main(config, report),
            on_start=lambda: reply.ok({"pid": pid}),
            on_failure=failed,
            on_exit=ended,
            pid_namespace=NEW_PID_NAMESPACE,
        )
        self._machines[name] = pid

    # Sandboxes

    def _create_sandbox(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        if name in self._sandboxes:
            raise Refusal(errno.EEXIST, f"sandbox {name} already exists")
        path = f"{_NETNS_DIR}/cni-{name}"
        os.makedirs(_NETNS_DIR, exist_ok=True)  # noqa: PTH103
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444))
        try:
            try:
                if request.descriptors:
                    syscalls.setns(request.descriptors[0], syscalls.CLONE_NEWNET)
                    syscalls.unshare(syscalls.CLONE_NEWIPC)
                else:
                    syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC)
                host.bring_up_loopback()
                syscalls.mount("/proc/self/ns/net", path, None, syscalls.MS_BIND)
                ipc = os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                syscalls.setns(self._own_net_namespace, syscalls.CLONE_NEWNET)
                syscalls.setns(self._own_ipc_namespace, syscalls.CLONE_NEWIPC)
        except OSError:
            _unpin(path)
            raise
        sandbox = self._sandboxes[name] = _Sandbox(path, ipc)
        if request.flag("shared_pids"):
            self._start_pause(name, sandbox, reply)
        else:
            reply.ok({"path": path})

    def _start_pause(self, name: str, sandbox: _Sandbox, reply: Reply | None = None) -> None:
        """Make the pid namespace of a sandbox's containers, which a process holds that also reaps what they leave."""
        spec = ContainerSpec(id=name, image="pause", log=os.devnull, sandbox=name)
        image = Chosen(["/pause"])
        streams = ContainerStreams(spec)

        def started() -> None:
            streams.started()
            streams.close()
            if reply is not None:
                reply.ok({"path": sandbox.path})

        def failed(failure: Failure) -> None:
            streams.close()
            self._forget_sandbox(name)
            if reply is not None:
                reply.fail(failure["errno"], f"sandbox {name}: {failure['error']}")

        def ended(status: int) -> None:
            if self._sandboxes.get(name) is sandbox and sandbox.pause is not None:
                # One of the pod's processes has ended it, and with it all others. They will be started again.
                os.close(sandbox.pause)
                sandbox.pause = None
                self._start_pause(name, sandbox)

        pid = self._children.fork(
            lambda report: container.run_container(
                spec,
                image,
                container.environment(spec, image, self._config.hostname),
                namespaces=container.Namespaces(
                    self._template, self._base, sandbox.path, sandbox.ipc, NEW_PID_NAMESPACE
                ),
                cgroup=ContainerCgroup(name, ()),
                streams=streams,
                members=None,
                report=report,
            ),
            on_start=started,
            on_failure=failed,
            on_exit=ended,
            pid_namespace=NEW_PID_NAMESPACE,
        )
        sandbox.pause = self._children.open_pidfd(pid)

    def _remove_sandbox(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        sandbox = self._sandboxes.get(name)
        if sandbox is not None:
            for each in self._containers.values():
                if each.spec.sandbox == name and each.wait_status is None:
                    raise Refusal(errno.EBUSY, f"sandbox {name}: container {each.spec.id} runs in it")
            self._forget_sandbox(name)
        reply.ok()

    def _forget_sandbox(self, name: str) -> None:
        sandbox = self._sandboxes.pop(name)
        if sandbox.pause is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(sandbox.pause, signal.SIGKILL)
            os.close(sandbox.pause)
        os.close(sandbox.ipc)
        _unpin(sandbox.path)

    # Containers

    def _run_container(self, request: Request, reply: Reply) -> None:
        spec = self._new_container(request)
        namespaces = self._namespaces(spec)
        image = _choose(spec)
        env = container.environment(spec, image, self._config.hostname)

        def started() -> None:
            streams.started()
            record.stdin = streams.kept.pop("stdin", None)
            record.output = Output(self._loop, log, streams.kept)
            record.started = True
            reply.ok({"pid": record.pid, "started_at": record.started_at, "image_id": image.id})

        def failed(failure: Failure) -> None:
            streams.close()
            if members is not None:
                members.close()
            os.close(log)
            os.close(record.pidfd)
            image.release()
            self._remove_cgroup(cgroup)
            del self._containers[spec.id]
            reply.fail(failure["errno"], f"container {spec.id}: {failure['error']}")

        def ended(status: int) -> None:
            os.close(record.pidfd)
            if members is not None:
                members.kill()
            record.output.finish()
            if record.stdin is not None:
                os.close(record.stdin)
            record.wait_status = status
            record.finished_at = time.time()
            record.out_of_memory = cgroup.ran_out_of_memory()
            self._remove_cgroup(cgroup)
            self._watchers = [each for each in self._watchers if not each.closed]
            for watcher in self._watchers:
                self._server.send(watcher, {"ok": record.exit()})

        with contextlib.ExitStack() as undone:
            undone.callback(image.release)
            cgroup = self._make_cgroup(spec)
            undone.callback(self._remove_cgroup, cgroup)
            log = self._open_log(spec)
            undone.callback(os.close, log)
            streams = ContainerStreams(spec)
            undone.callback(streams.close)
            members = (
                None if namespaces.pid == NEW_PID_NAMESPACE else undone.enter_context(contextlib.closing(Members()))
            )
            pid = self._children.fork(
                lambda report: container.run_container(
                    spec,
                    image,
                    env,
                    namespaces=namespaces,
                    cgroup=cgroup,
                    streams=streams,
                    members=members,
                    report=report,
                ),
                on_start=started,
                on_failure=failed,
                on_exit=ended,
                pid_namespace=namespaces.pid,
            )
            pidfd = self._children.open_pidfd(pid)
            undone.pop_all()
        record = _Container(spec, image, env, cgroup, pid, pidfd, time.time())
        self._containers[spec.id] = record

    def _new_container(self, request: Request) -> ContainerSpec:
        spec = request.container_spec()
        if spec.id in self._containers:
            raise Refusal(errno.EEXIST, f"container {spec.id} already exists")
        try:
            container.check(spec.security_context, in_user_namespace=self._in_user_namespace)
        except ValueError as error:
            raise Refusal(errno.EINVAL, f"container {spec.id}: {error}") from error
        return spec

    def _namespaces(self, spec: ContainerSpec) -> container.Namespaces:
        options = spec.security_context.namespace_options
        if spec.sandbox is None:
            sandbox = None
        elif (sandbox := self._sandboxes.get(spec.sandbox)) is None:
            raise Refusal(errno.ESRCH, f"container {spec.id}: sandbox {spec.sandbox} does not exist")
        pid: int | None = NEW_PID_NAMESPACE
        if options.pid == security_context.NODE:
            pid = None
        elif options.pid == security_context.POD:
            pid = None if sandbox is None else sandbox.pause
            if pid is None:
                raise Refusal(errno.ESRCH, f"container {spec.id}: its sandbox has no pid namespace")
        elif options.pid == security_context.TARGET:
            if options.target_id is None:
                raise InvalidRequestError("target_id: expected the container whose pid namespace is meant")
            pid = self._running_container(options.target_id).pidfd
        if sandbox is None:
            return container.Namespaces(self._template, self._base, network=None, ipc=None, pid=pid)
        ipc = None if options.ipc == security_context.NODE else sandbox.ipc
        return container.Namespaces(self._template, self._base, sandbox.path, ipc, pid)

    def _open_log(self, spec: ContainerSpec) -> int:
        try:
            return host.open_log_file(spec.log)
        except OSError as error:
            raise Refusal(error.errno or 0, f"container {spec.id}: {spec.log}: {error.strerror}") from error

    def _make_cgroup(self, spec: ContainerSpec) -> ContainerCgroup:
        limits = Limits(memory=spec.memory_limit, cpu=spec.cpu_limit)
        # Only for a container with limits: to move a process costs 10 ms with cgroup v2.
        parents = [each for each in self._config.cgroups if any(limits.of(name) for name in each.controllers)]
        cgroup = ContainerCgroup(f"{self._config.name}:{spec.id}", parents)
        cgroup.make(limits)
        return cgroup

    def _remove_cgroup(self, cgroup: ContainerCgroup) -> None:
        self._left_cgroups = [each for each in (*self._left_cgroups, cgroup) if not each.remove()]

    def _container(self, name: str) -> _Container:
        record = self._containers.get(name)
        if record is None:
            raise Refusal(errno.ENOENT, f"container {name}: no such container")
        return record

    def _running_container(self, name: str) -> _Container:
        record = self._container(name)
        if record.wait_status is not None or not record.started:
            raise Refusal(errno.ESRCH, f"container {name} is not running")
        return record

    def _kill_container(self, request: Request, reply: Reply) -> None:
        record = self._container(request.name("id"))
        number = request.optional_integer("signal", 1, signal.SIGRTMAX) or record.image.stop_signal
        if record.wait_status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(record.pidfd, number)
        reply.ok()

    def _remove_container(self, request: Request, reply: Reply) -> None:
        record = self._containers.get(request.name("id"))
        if record is not None:
            if record.wait_status is None:
                raise Refusal(errno.EBUSY, f"container {record.spec.id} is running")
            record.image.release()
            del self._containers[record.spec.id]
        reply.ok()

    def _attach(self, request: Request, reply: Reply) -> None:
        """Pass the other ends of a container's streams, in the order in which they are asked for."""
        record = self._running_container(request.name("id"))
        passed: list[int] = []
        try:
            for name in request.texts("streams"):
                if name == "stdin":
                    passed.append(self._input(record))
                elif name in protocol.STREAMS:
                    read, write = os.pipe()
                    passed.append(read)
                    record.output.attach(name, write)
                else:
                    raise InvalidRequestError(f"streams: {protocol.shown(name)} is no stream")
            reply.ok(descriptors=passed)
        finally:
            for each in passed:
                os.close(each)

    def _input(self, record: _Container) -> int:
        if record.stdin is None:
            return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        given = os.dup(record.stdin)
        if record.spec.stdin_once and not record.spec.terminal:
            os.close(record.stdin)
            record.stdin = None
        return given

    def _environment(self, request: Request, reply: Reply) -> None:
        record = self._container(request.name("id"))
        user = record.image.user if record.image.layers else None
        reply.ok({"env": record.env, "cwd": record.spec.cwd or record.image.cwd, "user": user})

    def _counters(self, request: Request, reply: Reply) -> None:
        known = (self._containers.get(each) for each in request.texts("ids"))
        running = (each for each in known if each is not None and each.started and each.wait_status is None)
        reply.ok({each.spec.id: each.cgroup.counters() for each in running})

    # The whole

    def _state(self, request: Request, reply: Reply) -> None:
        state = protocol.MachineState(
            name=self._config.name,
            sandboxes=list(self._sandboxes),
            containers=[each.status() for each in self._containers.values() if each.started],
            services=self._services.status(),
            machines=dict(self._machines),
        )
        reply.ok(asdict(state))

    def _open(self, request: Request, reply: Reply) -> None:
        name = request.optional_name("id")
        if name is not None:
            reply.ok(descriptors=[self._running_container(name).pidfd])
            return
        own = os.pidfd_open(os.getpid())
        try:
            reply.ok(descriptors=[own])
        finally:
            os.close(own)

    def _events(self, request: Request, reply: Reply) -> None:
        connection = reply.stream()
        self._watchers.append(connection)
        for record in self._containers.values():
            if record.started and record.wait_status is not None:
                self._server.send(connection, {"ok": record.exit()})


def _choose(spec: ContainerSpec) -> Chosen:
    try:
        return chosen.choose(rootfs.IMAGES, spec.image, spec.command, spec.args)
    except images.ImageNotPresentError as error:
        raise Refusal(errno.ENOPKG, f"container {spec.id}: {error}") from error


def _unpin(path: str) -> None:
    with contextlib.suppress(OSError):
        syscalls.umount(path, syscalls.MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
