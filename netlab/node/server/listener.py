"""Listens at the node's addresses. Nothing of the server is loaded before the first connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.api.serving.kubelets import PORT
from netlab.node.context import NodeContext

if TYPE_CHECKING:
    from netlab.node.server.app import Pods

_RETRY = 2.0

log = logging.getLogger(__name__)


async def run(node: NodeContext, pods: Pods, client_ca: str) -> None:
    """Serve until cancelled."""
    serving = node.config.serving
    if serving is not None:
        listeners = [_unix_listener(serving.socket)]
    else:
        listeners = [await _listener(address) for address in node.config.node_ips]
    try:
        await _first_connection(listeners)
        await _serve(node, pods, client_ca, listeners)
    finally:
        for listener in listeners:
            listener.close()


async def _listener(address: str) -> socket.socket:
    """A socket at an address, which the node may only be about to get."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, PORT))
            listener.listen()
            return listener
        except OSError as error:
            listener.close()
            log.warning("cannot listen at %s, port %d: %s", address, PORT, error.strerror)
            await asyncio.sleep(_RETRY)


def _unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen()
    return listener


async def _first_connection(listeners: Sequence[socket.socket]) -> None:
    """Wait for the first connection."""
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    for listener in listeners:
        loop.add_reader(listener, connected.set)
    try:
        await connected.wait()
    finally:
        for listener in listeners:
            loop.remove_reader(listener)


async def _serve(node: NodeContext, pods: Pods, client_ca: str, listeners: Sequence[socket.socket]) -> None:
    import uvicorn
    from uvicorn.server import ServerState

    from netlab.api.serving.secure import SecureListener
    from netlab.node.server.app import create_app
    from netlab.node.server.authentication import Authenticator
    from netlab.node.server.authorization import Authorizer
    from netlab.node.server.certificate import serving_context
    from netlab.node.server.connection import Connection
    from netlab.node.server.statistics import Statistics

    config = node.config
    context = await serving_context(node, client_ca)
    statistics = Statistics(pods, node.runtime, config.node_name, config.log_dir)
    authenticator, authorizer = Authenticator(node.client), Authorizer(node.client, config.node_name)
    app = create_app(pods, node.runtime, config.log_dir, authenticator, authorizer, statistics)
    settings = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
    settings.load()
    state = ServerState()

    def protocol(ended: Callable[[], None]) -> asyncio.Protocol:
        connection = Connection(config=settings, server_state=state, app_state={})
        connection.ended = ended
        return connection

    async with asyncio.TaskGroup() as tasks:
        for listener in listeners:
            tasks.create_task(SecureListener(listener, context, protocol).run())
