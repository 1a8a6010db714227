"""pid 1 of a machine: one thread, one loop. It reaps, forks containers, supervises services, and answers its socket.

It never ends on its own: the kernel ends everything beneath it when it goes. Whatever a request asks for, an error
is an answer. What takes time (a container's mounts, a command's run) happens in forked children that report over a
pipe, so that no request waits for another's.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import heapq
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from netlab.machine import container, host, images, protocol
from netlab.machine.protocol import ContainerSpec, ContainerStatus, InvalidRequestError, Request, ServiceStatus
from netlab.net import syscalls

READY = b"ready"
"""What pid 1 reports to its maker, once its socket answers."""

_NETNS_DIR = "/run/netns"
_FIRST_RESTART_DELAY = 0.1  # seconds; doubled at each death ...
_LAST_RESTART_DELAY = 5.0
_STEADY_AFTER = 10.0  # ... until a service has run this long
_BACKLOG_LIMIT = 8 * 1024 * 1024  # bytes not read by a client, after which it is given up


def main(config: host.MachineConfig, report: int) -> NoReturn:
    """Be pid 1 of a machine; the caller has forked into a new pid namespace. Tells READY or an error to `report`."""
    try:
        # nohup(1) and its like have us begin with ignored signals.
        host.forget_signals(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
        os.closerange(3, report)
        os.closerange(report + 1, 0x7FFFFFFF)
        os.setsid()
        # Ctrl-C and kill are for programs that can end: this one's end is the power switch.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        syscalls.set_process_name(f"machine {config.name}")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        machine = Init(config, host.make_host(config))
        os.write(report, READY)
        os.close(report)
    except BaseException as error:
        container.tell_failure(report, error)
        os._exit(1)
    try:
        # After the report: the maker goes on while this is loaded, and child machines find it loaded.
        images.preload()
        gc.collect()
        gc.freeze()  # a collection in a container would write to, and so copy, every page with an object
        machine.serve()
    except BaseException:
        traceback.print_exc()
    os._exit(1)


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that cannot be carried out, said to the client with an errno."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno = number


class _Connection:
    """A client: requests come in, one at a time is worked on, replies go out."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.received = bytearray()
        self.unsent = bytearray()
        self.busy = False
        self.streaming = False
        self.closed = False


class _Reply:
    """The one answer to a request; it may be given later than the request's handler returns."""

    def __init__(self, init: Init, connection: _Connection) -> None:
        self._init = init
        self._connection = connection
        self._given = False

    def ok(self, value: Any = None, descriptor: int | None = None) -> None:
        self._give({"ok": value}, descriptor)

    def fail(self, number: int, message: str) -> None:
        self._give({"error": message, "errno": number}, None)

    def stream(self) -> _Connection:
        """Give no answer; the connection is the handler's to write to from now on."""
        self._given = True
        self._connection.streaming = True
        self._connection.busy = False
        return self._connection

    def _give(self, message: dict[str, Any], descriptor: int | None) -> None:
        """The first answer counts: a start that failed half-way fails again when its child ends."""
        if not self._given:
            self._given = True
            self._init.answer(self._connection, message, descriptor)


@dataclass(slots=True)
class _Sandbox:
    path: str
    ipc: int


@dataclass(slots=True)
class _Container:
    spec: ContainerSpec
    env: dict[str, str]
    pid: int
    pidfd: int
    started_at: float
    started: bool = False
    finished_at: float | None = None
    wait_status: int | None = None

    def exit(self) -> dict[str, Any]:
        assert self.wait_status is not None
        code, number = _decode_status(self.wait_status)
        return {"id": self.spec.id, "exit_code": code, "signal": number, "finished_at": self.finished_at}

    def status(self) -> ContainerStatus:
        code, number = (None, None) if self.wait_status is None else _decode_status(self.wait_status)
        return ContainerStatus(
            id=self.spec.id,
            pid=self.pid if self.wait_status is None else 0,
            image=self.spec.image,
            sandbox=self.spec.sandbox,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=code,
            signal=number,
            labels=self.spec.labels,
        )


@dataclass(slots=True)
class _Service:
    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    log: str
    pid: int | None = None
    restarts: int = 0
    started_at: float = 0.0
    last_exit_code: int | None = None
    delay: float = _FIRST_RESTART_DELAY
    timer: _Timer | None = None
    stopping: list[_Reply] = field(default_factory=list)

    def status(self) -> ServiceStatus:
        return ServiceStatus(
            name=self.name,
            pid=self.pid,
            restarts=self.restarts,
            started_at=self.started_at,
            last_exit_code=self.last_exit_code,
        )


@dataclass(slots=True)
class _Exec:
    output: int
    kept: bytearray = field(default_factory=bytearray)
    timed_out: bool = False


@dataclass(slots=True, order=True)
class _Timer:
    deadline: float
    number: int
    action: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        self.action = None


Failure = dict[str, Any]


class Init:
    """The state of a machine and the loop that serves it."""

    def __init__(self, config: host.MachineConfig, template: int) -> None:
        self._config = config
        self._template = template
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._own_net_namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._own_ipc_namespace = os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self._services: dict[str, _Service] = {}
        self._machines: dict[str, int] = {}
        self._watchers: list[_Connection] = []
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._on_report: dict[int, Callable[[], None]] = {}
        self._timers: list[_Timer] = []
        self._timer_count = 0
        self._handlers: dict[str, Callable[[Request, _Reply], None]] = {
            protocol.MACHINE_SPAWN: self._spawn_machine,
            protocol.SERVICE_RUN: self._run_service,
            protocol.SERVICE_STOP: self._stop_service,
            protocol.SANDBOX_CREATE: self._create_sandbox,
            protocol.SANDBOX_REMOVE: self._remove_sandbox,
            protocol.CONTAINER_RUN: self._run_container,
            protocol.CONTAINER_KILL: self._kill_container,
            protocol.CONTAINER_REMOVE: self._remove_container,
            protocol.CONTAINER_EXEC: self._exec,
            protocol.CONTAINER_ENVIRONMENT: self._environment,
            protocol.STATE: self._state,
            protocol.OPEN: self._open,
            protocol.EVENTS: self._events,
        }
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._reap)
        self._listener = _listen(config.socket)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    # The loop

    def serve(self) -> NoReturn:
        """Serve for ever."""
        while True:
            for key, _ in self._selector.select(self._time_to_next_timer()):
                self._guarded(key.data)
            for timer in self._due_timers():
                if timer.action is not None:
                    self._guarded(timer.action)

    def _guarded(self, action: Callable[[], None]) -> None:
        """A fault in one action is written down; pid 1 goes on."""
        try:
            action()
        except Exception:
            traceback.print_exc()

    def _after(self, seconds: float, action: Callable[[], None]) -> _Timer:
        self._timer_count += 1
        timer = _Timer(time.monotonic() + seconds, self._timer_count, action)
        heapq.heappush(self._timers, timer)
        return timer

    def _time_to_next_timer(self) -> float | None:
        return max(0.0, self._timers[0].deadline - time.monotonic()) if self._timers else None

    def _due_timers(self) -> Iterator[_Timer]:
        while self._timers and self._timers[0].deadline <= time.monotonic():
            yield heapq.heappop(self._timers)

    # Connections

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        peer.setblocking(False)
        connection = _Connection(peer)
        self._selector.register(peer, selectors.EVENT_READ, lambda: self._attend(connection))

    def _attend(self, connection: _Connection) -> None:
        """Read or write, whatever the socket is ready for; then work on the next request if there is a whole one."""
        if connection.unsent:
            self._flush(connection)
        if not connection.unsent and not connection.busy and not connection.closed:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            chunk = connection.peer.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk or connection.streaming:
            self._close(connection)
            return
        connection.received += chunk
        self._work(connection)

    def _work(self, connection: _Connection) -> None:
        while not connection.busy and not connection.unsent and not connection.closed and not connection.streaming:
            end = connection.received.find(b"\n")
            if end < 0:
                if len(connection.received) > protocol.LINE_LIMIT:
                    self.answer(connection, _failure(errno.EMSGSIZE, "request: too long"))
                    self._close(connection)
                return
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            connection.busy = True
            self._handle(line, _Reply(self, connection))
        self._watch(connection)

    def _handle(self, line: bytes, reply: _Reply) -> None:
        try:
            try:
                request = Request(json.loads(line))
            except ValueError as error:
                raise InvalidRequestError(f"request: not JSON: {error}") from error
            op = request.text("op")
            handler = self._handlers.get(op)
            if handler is None:
                raise InvalidRequestError(f"op: {op!r} is unknown")
            handler(request, reply)
        except Refusal as refusal:
            reply.fail(refusal.errno, str(refusal))
        except InvalidRequestError as error:
            reply.fail(errno.EINVAL, str(error))
        except OSError as error:
            reply.fail(error.errno or 0, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except Exception as error:
            traceback.print_exc()
            reply.fail(0, f"internal error of the machine: {error!r}")

    def answer(self, connection: _Connection, message: dict[str, Any], descriptor: int | None = None) -> None:
        """Send a reply, and take up the connection's next request."""
        connection.busy = False
        self._send(connection, message, descriptor)
        if connection.received:
            # Not here: an answer may be given from within the handler of this very connection.
            self._after(0, lambda: self._work(connection))

    def _send(self, connection: _Connection, message: dict[str, Any], descriptor: int | None = None) -> None:
        if connection.closed:
            return
        line = json.dumps(message).encode() + b"\n"
        if descriptor is not None:
            try:
                # Nothing is unsent at this point: a connection has one request at a time.
                sent = socket.send_fds(connection.peer, [line], [descriptor])
            except OSError:
                self._close(connection)
                return
            line = line[sent:]
        connection.unsent += line
        if len(connection.unsent) > _BACKLOG_LIMIT:
            self._close(connection)
            return
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                sent = connection.peer.send(connection.unsent)
                del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Wait for what the connection can do next."""
        if connection.closed:
            return
        events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
        if connection.busy and not connection.streaming and not connection.unsent:
            # Level-triggered: a pipelined request, or a hangup, would wake the loop again and again.
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection.peer)
            return
        try:
            key = self._selector.get_key(connection.peer)
            if key.events != events:
                self._selector.modify(connection.peer, events, key.data)
        except KeyError:
            self._selector.register(connection.peer, events, lambda: self._attend(connection))

    def _close(self, connection: _Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.peer)
        connection.peer.close()
        if connection in self._watchers:
            self._watchers.remove(connection)

    # Children

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            on_report = self._on_report.get(pid)
            if on_report is not None:
                self._guarded(on_report)
            on_exit = self._on_exit.pop(pid, None)
            if on_exit is not None:
                self._guarded(lambda action=on_exit, value=status: action(value))  # type: ignore[misc]

    def _fork(
        self,
        become: Callable[[int], NoReturn],
        *,
        on_start: Callable[[], None],
        on_failure: Callable[[Failure], None],
        on_exit: Callable[[int], None],
        pid_namespace: int | None = None,
    ) -> int:
        """Fork; the child calls `become` with the pipe for its report.

        Either `on_start` is called when the program runs, and `on_exit` with its wait status in the end; or
        `on_failure` alone, once the child that could not start is gone. `pid_namespace` is a pidfd whose pid
        namespace the child is born in, or _NEW_PID_NAMESPACE.
        """
        report_read, report_write = os.pipe()
        try:
            if pid_namespace == _NEW_PID_NAMESPACE:
                syscalls.unshare(syscalls.CLONE_NEWPID)
            elif pid_namespace is not None:
                syscalls.setns(pid_namespace, syscalls.CLONE_NEWPID)
            try:
                pid = os.fork()
            finally:
                # In the child this fails, or not; it has been born where it should be.
                if pid_namespace is not None:
                    with contextlib.suppress(OSError):
                        syscalls.setns(self._own_pid_namespace, syscalls.CLONE_NEWPID)
        except OSError:
            os.close(report_read)
            os.close(report_write)
            raise
        if pid == 0:
            try:
                become(report_write)
            finally:
                os._exit(1)
        os.close(report_write)

        def read_report() -> None:
            del self._on_report[pid]
            self._selector.unregister(report_read)
            with os.fdopen(report_read, "rb") as report:
                answer = report.read()
            if answer in (b"", READY):
                on_start()
            else:
                failure = json.loads(answer)
                self._on_exit[pid] = lambda status: on_failure(failure)

        self._on_report[pid] = read_report
        self._on_exit[pid] = on_exit
        self._selector.register(report_read, selectors.EVENT_READ, read_report)
        return pid

    # Child machines

    def _spawn_machine(self, request: Request, reply: _Reply) -> None:
        name = request.name("name")
        config = host.MachineConfig(name, request.path("socket"), request.text("hostname"), self._config.lab_dir)
        if name in self._machines:
            raise Refusal(errno.EEXIST, f"machine {name}: it exists already")

        def failed(failure: Failure) -> None:
            del self._machines[name]
            reply.fail(failure["errno"], f"machine {name}: {failure['error']}")

        pid = self._fork(
            lambda report: main(config, report),
            on_start=lambda: reply.ok({"pid": pid}),
            on_failure=failed,
            on_exit=lambda status: self._machines.__delitem__(name),
            pid_namespace=_NEW_PID_NAMESPACE,
        )
        self._machines[name] = pid

    # Services

    def _run_service(self, request: Request, reply: _Reply) -> None:
        name = request.name("name")
        if name in self._services:
            raise Refusal(errno.EEXIST, f"service {name}: it exists already")
        argv = request.texts("argv")
        if not argv:
            raise InvalidRequestError("argv: a program expected")
        service = _Service(
            name,
            argv,
            request.environment("env"),
            None if request.optional_text("cwd") is None else request.path("cwd"),
            request.path("log"),
        )

        def failed(failure: Failure) -> None:
            self._forget_service(service)
            reply.fail(failure["errno"], f"service {name}: {failure['error']}")

        self._start_service(service, lambda: reply.ok({"pid": service.pid}), failed)
        self._services[name] = service

    def _start_service(
        self, service: _Service, on_start: Callable[[], None], on_failure: Callable[[Failure], None]
    ) -> None:
        service.timer = None
        service.started_at = time.time()
        service.pid = self._fork(
            lambda report: container.run_service(service.argv, service.env, service.cwd, service.log, report),
            on_start=on_start,
            on_failure=on_failure,
            on_exit=lambda status: self._service_ended(service, status),
        )

    def _service_ended(self, service: _Service, status: int) -> None:
        assert service.pid is not None
        # What a service leaves behind would serve beside its successor.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
        service.pid = None
        service.last_exit_code, _ = _decode_status(status)
        if service.stopping:
            self._forget_service(service)
        elif self._services.get(service.name) is service:
            if time.time() - service.started_at >= _STEADY_AFTER:
                service.delay = _FIRST_RESTART_DELAY
            service.timer = self._after(service.delay, lambda: self._restart_service(service))
            service.delay = min(service.delay * 2, _LAST_RESTART_DELAY)

    def _restart_service(self, service: _Service) -> None:
        def failed(failure: Failure) -> None:
            print(f"service {service.name}: {failure['error']}", file=sys.stderr, flush=True)
            self._service_ended(service, container.EXIT_NOT_EXECUTED << 8)

        service.restarts += 1
        try:
            self._start_service(service, lambda: None, failed)
        except OSError:
            service.timer = self._after(_LAST_RESTART_DELAY, lambda: self._restart_service(service))
            raise

    def _stop_service(self, request: Request, reply: _Reply) -> None:
        name, grace = request.name("name"), request.seconds("grace")
        service = self._services.get(name)
        if service is None:
            raise Refusal(errno.ENOENT, f"service {name}: no such service")
        service.stopping.append(reply)
        if service.timer is not None:
            service.timer.cancel()
        if service.pid is None:
            self._forget_service(service)
            return
        os.kill(service.pid, signal.SIGTERM)
        service.timer = self._after(grace, lambda: self._kill_service(service))

    def _kill_service(self, service: _Service) -> None:
        if service.pid is not None:
            os.kill(service.pid, signal.SIGKILL)

    def _forget_service(self, service: _Service) -> None:
        if service.timer is not None:
            service.timer.cancel()
        del self._services[service.name]
        for reply in service.stopping:
            reply.ok()

    # Sandboxes

    def _create_sandbox(self, request: Request, reply: _Reply) -> None:
        name = request.name("id")
        if name in self._sandboxes:
            raise Refusal(errno.EEXIST, f"sandbox {name}: it exists already")
        path = f"{_NETNS_DIR}/cni-{name}"
        os.makedirs(_NETNS_DIR, exist_ok=True)  # noqa: PTH103
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444))
        try:
            try:
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
        self._sandboxes[name] = _Sandbox(path, ipc)
        reply.ok({"path": path})

    def _remove_sandbox(self, request: Request, reply: _Reply) -> None:
        name = request.name("id")
        sandbox = self._sandboxes.get(name)
        if sandbox is not None:
            for each in self._containers.values():
                if each.spec.sandbox == name and each.wait_status is None:
                    raise Refusal(errno.EBUSY, f"sandbox {name}: container {each.spec.id} runs in it")
            del self._sandboxes[name]
            os.close(sandbox.ipc)
            _unpin(sandbox.path)
        reply.ok()

    # Containers

    def _run_container(self, request: Request, reply: _Reply) -> None:
        spec = request.container_spec()
        if spec.id in self._containers:
            raise Refusal(errno.EEXIST, f"container {spec.id}: it exists already")
        sandbox = None
        if spec.sandbox is not None:
            sandbox = self._sandboxes.get(spec.sandbox)
            if sandbox is None:
                raise Refusal(errno.ESRCH, f"container {spec.id}: sandbox {spec.sandbox} does not exist")
        try:
            argv = images.command_line(spec.image, spec.command, spec.args)
        except images.ImageNotPresentError as error:
            raise Refusal(errno.ENOPKG, f"container {spec.id}: {error}") from error
        env = container.environment(spec, self._config.hostname)
        namespaces = container.Namespaces(
            mount_template=self._template,
            network=None if sandbox is None else sandbox.path,
            ipc=None if sandbox is None else sandbox.ipc,
        )

        def started() -> None:
            record.started = True
            reply.ok({"pid": record.pid, "started_at": record.started_at})

        def failed(failure: Failure) -> None:
            os.close(record.pidfd)
            del self._containers[spec.id]
            reply.fail(failure["errno"], f"container {spec.id}: {failure['error']}")

        def ended(status: int) -> None:
            os.close(record.pidfd)
            record.wait_status = status
            record.finished_at = time.time()
            for watcher in list(self._watchers):
                self._send(watcher, {"ok": record.exit()})

        pid = self._fork(
            lambda report: container.run_container(
                spec, argv, env, namespaces=namespaces, lab_dir=self._config.lab_dir, report=report
            ),
            on_start=started,
            on_failure=failed,
            on_exit=ended,
            pid_namespace=_NEW_PID_NAMESPACE,
        )
        record = _Container(spec, env, pid, self._pidfd(pid), time.time())
        self._containers[spec.id] = record

    def _pidfd(self, pid: int) -> int:
        """A pidfd of a child just forked; without one (EMFILE) the child is given up."""
        try:
            return os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._on_report.pop(pid)
            self._on_exit.pop(pid)
            raise

    def _container(self, name: str) -> _Container:
        record = self._containers.get(name)
        if record is None:
            raise Refusal(errno.ENOENT, f"container {name}: no such container")
        return record

    def _running_container(self, name: str) -> _Container:
        record = self._container(name)
        if record.wait_status is not None or not record.started:
            raise Refusal(errno.ESRCH, f"container {name}: it is not running")
        return record

    def _kill_container(self, request: Request, reply: _Reply) -> None:
        record = self._container(request.name("id"))
        number = request.integer("signal", 1, signal.SIGRTMAX)
        if record.wait_status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(record.pidfd, number)
        reply.ok()

    def _remove_container(self, request: Request, reply: _Reply) -> None:
        record = self._containers.get(request.name("id"))
        if record is not None:
            if record.wait_status is None:
                raise Refusal(errno.EBUSY, f"container {record.spec.id}: it is running")
            del self._containers[record.spec.id]
        reply.ok()

    def _exec(self, request: Request, reply: _Reply) -> None:
        record = self._running_container(request.name("id"))
        argv, limit = request.texts("command"), request.seconds("timeout")
        if not argv:
            raise InvalidRequestError("command: a program expected")
        output_read, output_write = os.pipe()
        os.set_blocking(output_read, False)
        run = _Exec(output_read)

        def expired() -> None:
            run.timed_out = True
            _kill_group(pid)

        def close() -> None:
            timer.cancel()
            with contextlib.suppress(KeyError):
                self._selector.unregister(output_read)
            os.close(output_read)

        def failed(failure: Failure) -> None:
            close()
            reply.fail(failure["errno"], f"container {record.spec.id}: {failure['error']}")

        def ended(status: int) -> None:
            _kill_group(pid)  # a probe that left something running must not gather processes
            self._read_output(run)
            close()
            code, _ = _decode_status(status)
            output = b2a_base64(run.kept, newline=False).decode()
            reply.ok({"exit_code": code, "output": output, "timed_out": run.timed_out})

        try:
            pid = self._fork(
                lambda report: container.run_exec(
                    record.pidfd, argv, record.env, cwd=record.spec.cwd, output=output_write, report=report
                ),
                on_start=lambda: None,
                on_failure=failed,
                on_exit=ended,
                pid_namespace=record.pidfd,
            )
        except OSError:
            os.close(output_read)
            raise
        finally:
            os.close(output_write)
        self._selector.register(output_read, selectors.EVENT_READ, lambda: self._read_output(run))
        timer = self._after(limit, expired)

    def _read_output(self, run: _Exec) -> None:
        """Take what a pipe can hold, once: a command that writes without end must not hold the loop."""
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(run.output, 65536)
            run.kept += chunk[: max(0, protocol.OUTPUT_LIMIT - len(run.kept))]
            if not chunk:
                # A command may close its output and go on: the pipe would be readable for ever.
                with contextlib.suppress(KeyError):
                    self._selector.unregister(run.output)

    def _environment(self, request: Request, reply: _Reply) -> None:
        record = self._container(request.name("id"))
        reply.ok({"env": record.env, "cwd": record.spec.cwd or "/"})

    # The whole

    def _state(self, request: Request, reply: _Reply) -> None:
        state = protocol.MachineState(
            name=self._config.name,
            sandboxes=list(self._sandboxes),
            containers=[each.status() for each in self._containers.values() if each.started],
            services=[each.status() for each in self._services.values()],
            machines=dict(self._machines),
        )
        reply.ok(asdict(state))

    def _open(self, request: Request, reply: _Reply) -> None:
        name = request.optional_name("id")
        if name is not None:
            reply.ok(descriptor=self._running_container(name).pidfd)
            return
        own = os.pidfd_open(os.getpid())
        try:
            reply.ok(descriptor=own)
        finally:
            os.close(own)

    def _events(self, request: Request, reply: _Reply) -> None:
        connection = reply.stream()
        self._watchers.append(connection)
        for record in self._containers.values():
            if record.started and record.wait_status is not None:
                self._send(connection, {"ok": record.exit()})


_NEW_PID_NAMESPACE = -1


def _listen(path: str) -> socket.socket:
    """A Unix socket that only its owner can connect to; a dead predecessor's file is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    before = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        raise OSError(error.errno or errno.ENAMETOOLONG, error.strerror or str(error), path) from error
    finally:
        os.umask(before)
    listener.listen(1024)
    return listener


def _unpin(path: str) -> None:
    with contextlib.suppress(OSError):
        syscalls.umount(path, syscalls.MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _decode_status(status: int) -> tuple[int, int | None]:
    """Exit code and signal of a wait status, as shells and Kubernetes give them."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (128 - code, -code)


def _failure(number: int, message: str) -> dict[str, Any]:
    return {"error": message, "errno": number}
