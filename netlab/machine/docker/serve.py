"""Speaks for a Docker engine to the nodes of a lab: a socket for each node, in the protocol of machines.

It runs on the host, like the engine, and knows nothing that the engine does not: when it is ended, the next one goes on
where it was, and containers run meanwhile.

    python -m netlab.machine.docker.serve LAB ENGINE NODE=SOCKET...
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from binascii import b2a_base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from netlab.descriptors import allow_many
from netlab.errors import NetlabError
from netlab.machine import protocol
from netlab.machine.client import Machine
from netlab.machine.docker import builtin, engine, images, streams
from netlab.machine.docker.containers import Containers, Node, status
from netlab.machine.docker.logs import Followers
from netlab.machine.loop import Loop
from netlab.machine.protocol import ContainerStatus, MachineState, Request
from netlab.machine.server import Connection, Refusal, Reply, Server
from netlab.net import syscalls
from netlab.net.peers import Peer

if TYPE_CHECKING:
    from docker import APIClient

_THREADS = 8
"""How many of the engine's calls run at once: more would only queue there."""
_RETRY = 0.5
"""Seconds until the engine's events are asked for again, if they ended."""


@dataclass(frozen=True)
class Answer:
    """What a call brought: a value, and descriptors, which are closed once they are passed on."""

    value: Any = None
    descriptors: list[int] = field(default_factory=list)


Work = Callable[[], Answer | None]


class Desk:
    """Has threads work, and gives answers in the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")
        self._done: collections.deque[Callable[[], None]] = collections.deque()
        self._wake_read, self._wake_write = socket.socketpair()
        loop.watch(self._wake_read.fileno(), self._attend)

    def soon(self, action: Callable[[], None]) -> None:
        """Call it in the loop's thread; for any thread."""
        self._done.append(action)
        self._wake_write.send(b"\0")

    def work(self, work: Work, reply: Reply, *, long: bool = False) -> None:
        """Have a thread work, one of its own if it takes `long`, and then answer."""
        if long:
            threading.Thread(target=self._work, args=(work, reply), daemon=True).start()
        else:
            self._pool.submit(self._work, work, reply)

    def aside(self, work: Callable[[], None]) -> None:
        """Have a thread work for nobody's answer."""
        self._pool.submit(_guarded, work)

    def _work(self, work: Work, reply: Reply) -> None:
        try:
            answer = work() or Answer()
        except Exception as error:
            number = getattr(error, "errno", None) or 0
            message = str(error) if isinstance(error, Refusal | OSError) else f"internal error: {error!r}"
            self.soon(lambda: reply.fail(number, message))
        else:
            self.soon(lambda: _give(reply, answer))

    def _attend(self) -> None:
        self._wake_read.recv(4096)
        while self._done:
            self._done.popleft()()


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except Refusal as refusal:
        _say(refusal)
    except Exception:
        traceback.print_exc()


def _say(what: object) -> None:
    print(what, file=sys.stderr, flush=True)


def _give(reply: Reply, answer: Answer) -> None:
    reply.ok(answer.value, answer.descriptors)
    for each in answer.descriptors:
        os.close(each)


class NodeServer:
    """Answers one node's kubelet, and those on the host who may ask."""

    def __init__(
        self, loop: Loop, desk: Desk, client: APIClient, node: Node, built_in: builtin.BuiltIn, path: Path
    ) -> None:
        self.node = node
        self._desk = desk
        self._client = client
        self._containers = Containers(client, node, built_in)
        self._followers = Followers(client)
        self._watchers: list[Connection] = []
        self._handlers: dict[str, Callable[[Request, Reply], None]] = {
            protocol.SANDBOX_CREATE: self._create_sandbox,
            protocol.SANDBOX_REMOVE: self._remove_sandbox,
            protocol.CONTAINER_RUN: self._run,
            protocol.CONTAINER_KILL: self._kill,
            protocol.CONTAINER_REMOVE: self._remove,
            protocol.CONTAINER_EXEC: self._exec,
            protocol.CONTAINER_STREAM: self._stream,
            protocol.CONTAINER_ATTACH: self._attach,
            protocol.CONTAINER_ENVIRONMENT: self._environment,
            protocol.CONTAINER_COUNTERS: self._counters,
            protocol.IMAGE_STATUS: self._image_status,
            protocol.IMAGE_PULL: self._pull,
            protocol.STATE: self._state,
            protocol.OPEN: self._open,
            protocol.EVENTS: self._events,
        }
        self._pid_namespace = os.readlink(f"/proc/{node.pid}/ns/pid")  # noqa: PTH115
        self._server = Server(loop, str(path), self._why_refused, self._handle)

    def _why_refused(self, connection: socket.socket) -> str:
        """The callers are the node's own components, and root of the host; no container of the engine's is either."""
        try:
            with Peer(connection) as peer:
                if peer.uid == os.geteuid() and (peer.depth() == 0 or peer.pid_namespace() == self._pid_namespace):
                    return ""
                return "the caller is not of this node"
        except OSError:
            return "the caller has ended"

    def _handle(self, request: Request, reply: Reply) -> None:
        op = request.text("op")
        handler = self._handlers.get(op)
        if handler is None:
            raise protocol.InvalidRequestError(f"op: {protocol.shown(op)} is unknown")
        handler(request, reply)

    # Sandboxes and containers

    def _create_sandbox(self, request: Request, reply: Reply) -> None:
        name, hostname = request.name("id"), request.text("hostname")
        self._desk.work(lambda: Answer(descriptors=[self._containers.run_sandbox(name, hostname)]), reply)

    def _remove_sandbox(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        self._desk.work(lambda: self._containers.remove_sandbox(name), reply)

    def _run(self, request: Request, reply: Reply) -> None:
        spec = request.container_spec()

        def work() -> Answer:
            begun = self._containers.run(spec)
            self.follow(spec.id)
            return Answer(asdict(begun))

        self._desk.work(work, reply)

    def _kill(self, request: Request, reply: Reply) -> None:
        name, number = request.name("id"), request.optional_integer("signal", 1, signal.SIGRTMAX)
        self._desk.work(lambda: self._containers.kill(name, number), reply)

    def _remove(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        self._desk.work(lambda: self._containers.remove(name), reply)

    # Commands and streams

    def _exec(self, request: Request, reply: Reply) -> None:
        name, argv, limit = request.name("id"), request.texts("command"), request.seconds("timeout")

        def work() -> Answer:
            running = self._begin(name, argv, stdout=True, stderr=True)
            output, timed_out = bytearray(), threading.Event()

            def expire() -> None:
                timed_out.set()
                if pid := running.pid:
                    os.kill(pid, signal.SIGKILL)

            timer = threading.Timer(limit, expire)
            with running.start() as connection:
                timer.start()
                for _, data in streams.pieces(connection):
                    output.extend(data[: max(0, protocol.OUTPUT_LIMIT - len(output))])
            timer.cancel()
            text = b2a_base64(output, newline=False).decode()
            return Answer({"exit_code": running.exit_code(), "output": text, "timed_out": timed_out.is_set()})

        self._desk.work(work, reply, long=True)

    def _begin(self, name: str, argv: list[str], **options: bool) -> streams.Exec:
        if not argv:
            raise Refusal(errno.EINVAL, "command: expected a program")
        self._containers.running(name)
        with engine.refusals(f"container {name}"):
            return streams.Exec(self._client, engine.name_of(name), builtin.executable(argv), **options)

    def _stream(self, request: Request, reply: Reply) -> None:
        name, argv, terminal = request.name("id"), request.texts("command"), request.flag("terminal")
        given = [os.dup(each) for each in request.descriptors]
        named = dict(zip(request.texts("streams"), given, strict=False))

        def work() -> Answer:
            with contextlib.ExitStack() as undone:
                for each in given:
                    undone.callback(os.close, each)
                wanted = dict.fromkeys(named, True)
                running = self._begin(name, argv, **(_TERMINAL if terminal else _NO_STREAMS | wanted))
                with engine.refusals(f"container {name}"), running.start() as connection:
                    if terminal:
                        self._on_terminal(connection, running, given[0])
                    else:
                        undone.pop_all()
                        streams.carry(connection, named)
                    return Answer({"exit_code": running.exit_code()})

        self._desk.work(work, reply, long=True)

    def _on_terminal(self, connection: socket.socket, running: streams.Exec, to: int) -> None:
        terminal, carrying = streams.carry_terminal(connection, running.resize)
        try:
            with socket.socket(fileno=os.dup(to)) as receiver:
                socket.send_fds(receiver, [b"\0"], [terminal])
        finally:
            os.close(terminal)
        carrying.join()

    def _attach(self, request: Request, reply: Reply) -> None:
        name, wanted = request.name("id"), request.texts("streams")

        def work() -> Answer:
            inspected = self._containers.running(name)
            with engine.refusals(f"container {name}"):
                connection = streams.attached(self._client, engine.name_of(name), wanted)
            if inspected["Config"]["Tty"]:
                terminal, _ = streams.carry_terminal(
                    connection, lambda rows, columns: self._client.resize(engine.name_of(name), rows, columns)
                )
                return Answer(descriptors=[os.dup(terminal) for _ in wanted[1:]] + [terminal])
            ours: list[int] = []
            theirs: dict[str, int] = {}
            for stream in wanted:
                reading, writing = os.pipe()
                mine, theirs[stream] = (writing, reading) if stream == "stdin" else (reading, writing)
                ours.append(mine)
            threading.Thread(target=_carry, args=(connection, theirs), daemon=True).start()
            return Answer(descriptors=ours)

        self._desk.work(work, reply)

    # What there is

    def _environment(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        self._desk.work(lambda: Answer(self._containers.environment(name)), reply)

    def _counters(self, request: Request, reply: Reply) -> None:
        names = request.texts("ids")
        self._desk.work(lambda: Answer(self._containers.counters(names)), reply)

    def _image_status(self, request: Request, reply: Reply) -> None:
        image, command = request.text("image"), request.texts("command")

        def work() -> Answer:
            found = images.status(self._client, image, command)
            return Answer(None if found is None else asdict(found))

        self._desk.work(work, reply)

    def _pull(self, request: Request, reply: Reply) -> None:
        image = request.text("image")
        self._desk.work(lambda: images.pull(self._client, image), reply, long=True)

    def _state(self, request: Request, reply: Reply) -> None:
        def work() -> Answer:
            state = MachineState(
                name=self.node.name,
                sandboxes=self._containers.sandboxes(),
                containers=self._containers.statuses(),
                services=[],
                machines={},
            )
            return Answer(asdict(state))

        self._desk.work(work, reply)

    def _open(self, request: Request, reply: Reply) -> None:
        name = request.name("id")
        self._desk.work(lambda: Answer(descriptors=[self._containers.open(name)]), reply)

    # The ends of containers

    def _events(self, request: Request, reply: Reply) -> None:
        connection = reply.stream()
        self._watchers.append(connection)
        self._desk.aside(self.look)

    def look(self) -> None:
        """Follow the logs of the containers there are, and tell of those that have ended, and of such sandboxes."""
        for each in self._containers.ended_sandboxes():
            self._tell(each)
        for each in self._containers.statuses():
            self.follow(each.id)
            if not each.running:
                self._tell(each)

    def follow(self, identity: str) -> None:
        """Follow the log of a container."""
        with contextlib.suppress(Refusal):
            self._followers.follow(self._containers.inspect(identity))

    def ended(self, identity: str) -> None:
        """A container or sandbox has ended, says the engine."""
        with contextlib.suppress(Refusal):  # it has been removed since
            found = status(self._containers.inspect(identity))
            if not found.running:
                self._tell(found)

    def _tell(self, found: ContainerStatus) -> None:
        # The kubelet may look for its last words.
        self._followers.finish(found.id)
        told = {
            "id": found.id,
            "exit_code": found.exit_code,
            "signal": found.signal,
            "finished_at": found.finished_at,
            "out_of_memory": found.out_of_memory,
        }
        self._desk.soon(lambda: self._send({"ok": told}))

    def _send(self, message: dict[str, Any]) -> None:
        self._watchers = [each for each in self._watchers if not each.closed]
        for watcher in self._watchers:
            self._server.send(watcher, message)


_NO_STREAMS = {"stdin": False, "stdout": False, "stderr": False}
_TERMINAL = {"stdin": True, "stdout": True, "stderr": True, "tty": True}


def _carry(connection: socket.socket, given: dict[str, int]) -> None:
    with connection:
        streams.carry(connection, given)


def _follow_events(client: APIClient, lab: str, servers: dict[str, NodeServer], desk: Desk) -> NoReturn:
    """Tell of the ends of containers, forever; whatever was missed meanwhile, too."""
    import requests
    from docker.errors import APIError

    while True:
        try:
            wanted = {"type": "container", "event": "die", "label": f"{engine.LAB}={lab}"}
            events = client.events(decode=True, filters=wanted)
            for server in servers.values():
                desk.aside(server.look)
            for event in events:
                labels = event["Actor"]["Attributes"]
                if engine.ID in labels:
                    desk.aside(functools.partial(servers[labels[engine.NODE]].ended, labels[engine.ID]))
        except (APIError, requests.RequestException) as error:
            _say(f"the Docker engine does not answer: {error}")
        time.sleep(_RETRY)


def _pid(lab: str, node: str) -> int:
    """The pid, on this host, of a node's machine, once that is there."""
    path = Path(lab, "machines", f"{node}.sock")
    while not path.exists():
        time.sleep(0.005)
    with Machine(path) as machine:
        pidfd = machine.open()
    try:
        lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines()
    finally:
        os.close(pidfd)
    return int(next(line.removeprefix("Pid:") for line in lines if line.startswith("Pid:")))


def main() -> None:
    """Serve until ended."""
    lab, where, *pairs = sys.argv[1:]
    sockets = dict(each.split("=", 1) for each in pairs)
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.set_process_name("lab docker")
    allow_many()
    try:
        client = engine.connect(where)
        built_in = builtin.make(client, lab)
        loop = Loop()
        desk = Desk(loop)
        servers = {
            name: NodeServer(loop, desk, client, Node(lab, name, _pid(lab, name)), built_in, Path(path))
            for name, path in sockets.items()
        }
    except (NetlabError, Refusal) as error:
        _say(error)
        sys.exit(1)
    threading.Thread(target=_follow_events, args=(client, lab, servers, desk), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
