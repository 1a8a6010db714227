"""`python -m netlab.api.server --socket PATH --database PATH --config PATH`: the embedded API server.

The lab starts it and waits until the socket answers; it ends with SIGTERM, or when its parent does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from netlab.api.server.access import policy
from netlab.api.server.access.authentication import Components
from netlab.api.server.access.authority import Authority
from netlab.api.server.admission import chain
from netlab.api.server.app import create_app
from netlab.api.server.connection import protocol
from netlab.api.server.identity import AUTHENTICATED, User
from netlab.api.server.registry import kubernetes_service
from netlab.api.server.registry.allocators import Ranges
from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage import upkeep
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.etcd import Etcd
from netlab.api.server.storage.etcd_gateway import Gateway
from netlab.api.server.storage.sqlite import Sqlite, lock_of, restoring_of, snapshot_of
from netlab.api.server.storage.store import Store
from netlab.api.server.storage.watch import Hub
from netlab.api.serving.secure import SecureListener
from netlab.errors import ConflictError, NetlabError, UsageError
from netlab.net.addresses import host_port
from netlab.net.syscalls import set_parent_death_signal

BACKLOG = 1024
"""Connections that may wait to be accepted: every component opens several at once when a lab starts."""

LONGEST_SOCKET_PATH = 107
"""Bytes: sun_path of unix(7), less the zero that ends it."""

SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
"""The names of the Service by which pods reach the API."""

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
"""include/uapi/linux/in.h, in6.h."""

log = logging.getLogger(__name__)


class ComponentUser(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Who a component is."""

    name: str
    groups: list[str] = []


class ComponentAccess(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How the cluster's own components reach the API: a Unix socket that the lab's machines see, and a token each."""

    socket: str
    users: dict[str, ComponentUser]
    """By the SHA-256 digest of the token, in hexadecimal digits."""


class Secure(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How the API is served over TLS."""

    directory: str
    """Of the certificate authority."""
    socket: str
    """A Unix socket."""
    names: list[str]
    """The names and addresses, besides those of the Service `kubernetes`, under which clients know the server."""
    advertise: list[str] = []
    """The addresses at which it listens too: the endpoints of the Service `kubernetes`."""
    port: int = 6443
    components: ComponentAccess | None = None


class Configuration(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The JSON file of --config."""

    service_cidrs: list[str] = msgspec.field(name="serviceCIDRs")
    node_port_range: str = "30000-32767"
    secure: Secure | None = None


class _Server(uvicorn.Server):
    """uvicorn's server, but it ends the watches when it stops: it would wait for them for ever."""

    def __init__(self, config: uvicorn.Config, hub: Hub, secure: _SecurePart | None) -> None:
        super().__init__(config)
        self._hub = hub
        self._secure = secure
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._secure is not None:
            for listener in self._secure.listeners:
                accepting = SecureListener(listener, self._secure.context, self._make_protocol)
                self._accepting.append(asyncio.create_task(accepting.run()))

    def _make_protocol(self, ended: Callable[[], None]) -> asyncio.Protocol:
        made = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )  # type: ignore[call-arg]
        made.ended = ended  # type: ignore[attr-defined]
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the process with status 0; uvicorn would raise them again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, self, "should_exit", True)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The watches wake only after uvicorn, in the same step, has stopped taking requests: a client whose watch ends
        # asks for it again at once.
        self._hub.close()
        for task in self._accepting:
            task.cancel()
        await super().shutdown(sockets)


def main() -> int:
    """Serve until told to stop; the process's exit status."""
    parser = argparse.ArgumentParser(prog="netlab-apiserver", description="The embedded Kubernetes API server.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--database", type=Path, required=True, help="SQLite database of the objects")
    parser.add_argument("--etcd", metavar="URL", help="keep them in this etcd; beside the database are snapshots only")
    parser.add_argument("--etcd-prefix", default="", metavar="PREFIX", help="what the keys there begin with")
    parser.add_argument("--config", type=Path, required=True, help="JSON: serviceCIDRs, nodePortRange")
    parser.add_argument(
        "--guard", help="Unix socket of the lab's monitor, which vouches for callers from outside the lab"
    )
    arguments = parser.parse_args()
    set_parent_death_signal(signal.SIGTERM)
    # Before anything is made: the socket and the database are their owner's alone from their first moment.
    os.umask(0o177)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        backend = _backend(arguments.database, arguments.etcd, arguments.etcd_prefix)
        _run(arguments.socket, arguments.database, backend, arguments.config, arguments.guard)
    except NetlabError as error:
        print(f"netlab-apiserver: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _backend(database: Path, etcd: str | None, prefix: str) -> Backend:
    if etcd is None:
        return Sqlite(database)
    _hold_lock(database)
    return Etcd(Gateway(etcd), prefix, restoring_of(database))


def _hold_lock(database: Path) -> None:
    """Be the only server of this lab, as SQLite's lock otherwise has it. Held until this process ends."""
    try:
        lock = os.open(lock_of(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(
            f"the lab of {database.parent} is in use by another API server: stop that one first"
        ) from None
    except OSError as error:
        raise NetlabError(f"{lock_of(database)} cannot be locked: {error.strerror}") from None


def _run(path: Path, database: Path, backend: Backend, config: Path, guard: str | None) -> None:
    configuration = _read_configuration(config)
    ranges = Ranges.parse(configuration.service_cidrs, configuration.node_port_range)
    store = Store(backend)
    try:
        registry = Registry(store, ranges, chain.WITHOUT_CALLERS if configuration.secure is None else chain.ALL)
        # What is loaded stays: a collection that goes through all of it takes as long as a hundred writes.
        gc.freeze()
        with contextlib.ExitStack() as sockets:
            secure = None
            if configuration.secure is not None:
                secure = _secure_part(configuration.secure, ranges, sockets)
                policy.ensure(registry)
                kubernetes_service.reconcile(registry, secure.advertise, secure.port)
            # The last one: who finds it finds the others too.
            plain = [sockets.enter_context(_listen(path))]
            uvloop.run(_serve(registry, plain, secure, snapshot_of(database), guard))
        path.unlink(missing_ok=True)
    finally:
        store.close()


def _read_configuration(path: Path) -> Configuration:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Configuration)
    except OSError as error:
        raise UsageError(f"the API server's configuration {path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"the API server's configuration {path} is wrong: {error}") from None


@dataclasses.dataclass(frozen=True)
class _SecurePart:
    authority: Authority
    advertise: list[str]
    port: int
    context: ssl.SSLContext
    listeners: list[socket.socket]
    components: Components | None
    shared: socket.socket | None
    """Where components call."""


def _secure_part(secure: Secure, ranges: Ranges, sockets: contextlib.ExitStack) -> _SecurePart:
    authority = Authority(Path(secure.directory))
    names = [*SERVICE_NAMES, *ranges.first_addresses, *secure.advertise, *secure.names]
    context = authority.server_context(list(dict.fromkeys(names)))
    listeners = [sockets.enter_context(_listen(Path(secure.socket)))]
    for address in secure.advertise:
        listeners.append(sockets.enter_context(_listen_at(address, secure.port)))
    components, shared = None, None
    if secure.components is not None:
        known = secure.components.users.items()
        components = Components({key: User(each.name, (*each.groups, AUTHENTICATED)) for key, each in known})
        shared = sockets.enter_context(_listen(Path(secure.components.socket)))
    return _SecurePart(authority, secure.advertise, secure.port, context, listeners, components, shared)


def _listen_at(address: str, port: int) -> socket.socket:
    """A listening socket at an address that the lab's network may get only later."""
    ipv6 = ipaddress.ip_address(address).version == 6
    listener = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(*((socket.IPPROTO_IPV6, _IPV6_FREEBIND) if ipv6 else (socket.IPPROTO_IP, _IP_FREEBIND)), 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConflictError(f"the API cannot listen at {address} port {port}: {error.strerror or error}") from None
    return listener


def _listen(path: Path) -> socket.socket:
    """A listening socket. One that a killed server left behind is replaced: the database's lock (store.py) has already
    shown that no other server is at work here."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise UsageError(
            f"the path {path} is too long for a Unix socket ({LONGEST_SOCKET_PATH} bytes): use a shorter one"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConflictError(f"the API's socket {path} cannot be made: {error.strerror or error}") from None
    return listener


def _address(registry: Registry, secure: _SecurePart | None) -> str:
    """Where clients in the cluster reach the server over TLS."""
    if secure is None or not secure.advertise:
        return registry.first_address
    return host_port(secure.advertise[0], secure.port)


async def _serve(
    registry: Registry, plain: list[socket.socket], secure: _SecurePart | None, snapshot: Path, guard: str | None
) -> None:
    authority = secure.authority if secure is not None else None
    components = secure.components if secure is not None else None
    shared = secure.shared if secure is not None else None
    app = create_app(registry, authority, components, _address(registry, secure))
    tasks = [
        asyncio.create_task(each)
        for each in (
            upkeep.keep_snapshot(registry.store, snapshot),
            upkeep.keep_compact(registry.store),
            registry.definitions.keep(),
            *app.upkeep,
        )
    ]
    config = uvicorn.Config(
        app.asgi,
        loop="uvloop",
        http=protocol(guard, None if shared is None else shared.getsockname()),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # a request that is none is the caller's matter
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=3600,  # Only local processes connect, and they keep their connections.
        timeout_graceful_shutdown=2,
    )
    if secure is not None and secure.advertise:
        tasks.append(asyncio.create_task(kubernetes_service.keep(registry, secure.advertise, secure.port)))
    try:
        await _Server(config, registry.store.hub, secure).serve(sockets=[*plain, *([] if shared is None else [shared])])
    finally:
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    sys.exit(main())
