"""Where a CNI plugin asks whether a pod's policies are in force: a Unix socket, one question a connection.

    {"namespace": "default", "name": "web", "uid": "...", "addresses": ["10.244.1.2"]}    ->    {} or {"error": "..."}

The answer comes when they are. So a container's first packet is judged, and while there is no enforcer no container of
a pod starts that it could have to judge. The plugin's side is netlab.cni.plugins.main.policies.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

_LONGEST = 4096
"""The most bytes of a question."""
_PATIENCE = 10.0
"""Seconds for which a question waits for its answer; a plugin waits longer, and its runtime asks again."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")

log = logging.getLogger(__name__)


class Newcomer(msgspec.Struct):
    """A pod that has got its network, and whose containers wait."""

    namespace: str
    name: str
    uid: str
    addresses: tuple[str, ...]


async def serve(path: Path, admit: Callable[[Newcomer], Awaitable[None]]) -> None:
    """Answer questions until cancelled: `admit` returns when the pod's policies are in force. Raises `OSError`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            error = await _answered(reader, admit)
            writer.write(json.dumps({"error": error} if error else {}).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, asyncio.LimitOverrunError) as gone:
            log.info("policy desk: a caller has gone: %s", gone)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=_listening(path), limit=_LONGEST)
    async with server:
        await server.serve_forever()


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))  # its directory is the enforcer's alone
        path.chmod(0o600)
    except OSError:
        listening.close()
        raise
    return listening


async def _answered(reader: asyncio.StreamReader, admit: Callable[[Newcomer], Awaitable[None]]) -> str:
    try:
        newcomer = msgspec.json.decode(await reader.readline(), type=Newcomer)
        for address in newcomer.addresses:
            ipaddress.ip_address(address)
    except (msgspec.DecodeError, ValueError) as error:
        return f"the question cannot be understood: {error}"
    if not _UID.fullmatch(newcomer.uid):
        return f"uid: {newcomer.uid!r} is none"
    try:
        await asyncio.wait_for(admit(newcomer), _PATIENCE)
    except TimeoutError:
        return f"the policies of pod {newcomer.namespace}/{newcomer.name} are not in force after {_PATIENCE:g} s"
    except OSError as error:
        return f"pod {newcomer.namespace}/{newcomer.name} cannot be noted: {error}"
    return ""
