"""An HAProxy and its controller, from the start of a pod to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from netlab.api import kubeconfig
from netlab.api.client import Client
from netlab.errors import NetlabError
from netlab.ingress.controller import Controller
from netlab.ingress.haproxy.config import Settings
from netlab.ingress.haproxy.process import SOCKET, HaproxyError
from netlab.ingress.haproxy.server import Server
from netlab.machine import signals
from netlab.machine.images.netexec import on_end_signals

DIRECTORY = Path("/run/ingress")
"""Where its files are, private keys among them: a volume in memory."""

_LAME_DUCK = 1.0
"""Seconds in which to serve on after the order to end: nodes still send connections here."""
_DRAIN = 20.0
"""Seconds for connections after that. The pod has 30 in all."""

log = logging.getLogger("netlab.ingress")


async def serve(service: str, env: Mapping[str, str]) -> int:
    """Serve until told to end; the exit status."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(levelname)s] %(message)s", force=True)
    ended = asyncio.Event()
    signals.unblock_all()  # pid 1 holds some back, and HAProxy must not inherit that
    on_end_signals(asyncio.get_running_loop(), ended.set)
    settings = Settings(str(DIRECTORY / SOCKET), ipv6=_has_ipv6())
    try:
        async with Client(kubeconfig.in_cluster(env), user_agent="netlab-ingress") as client:
            server = Server(DIRECTORY, settings)
            following = asyncio.create_task(Controller(client, server, service).run())
            gone = asyncio.create_task(server.gone())
            waiting = asyncio.create_task(ended.wait())
            await asyncio.wait({following, gone, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await following
            if gone.done():
                raise HaproxyError("haproxy has ended: this pod begins anew")
            await asyncio.sleep(_LAME_DUCK)
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await server.stop(_DRAIN)
    except NetlabError as error:
        print(f"ingress: {error}", file=sys.stderr)
        return 1
    return 0


def _has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()
