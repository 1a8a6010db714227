"""Containers' output: from the engine's log into the node's, in CRI's form, from where the last follower was."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from netlab.machine import host
from netlab.machine.docker.engine import ID, LOG, name_of
from netlab.machine.docker.streams import HEAD, NAMES

if TYPE_CHECKING:
    from docker import APIClient

_TAIL = 64 * 1024
_PATIENCE = 2.0
"""Seconds in which the rest of an ended container's output has to come."""
_CHUNK = 32 * 1024


class Followers:
    """Follows the logs of containers, each in a thread of its own."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def follow(self, inspected: dict[str, Any]) -> None:
        """Follow a container's log, if nobody does."""
        labels = inspected["Config"]["Labels"]
        identity = labels[ID]
        with self._lock:
            if identity not in self._threads:
                arguments = (identity, labels[LOG], inspected["Config"]["Tty"])
                thread = threading.Thread(target=self._follow, args=arguments, daemon=True)
                self._threads[identity] = thread
                thread.start()

    def finish(self, identity: str) -> None:
        """Wait for the rest of an ended container's output."""
        with self._lock:
            thread = self._threads.pop(identity, None)
        if thread is not None:
            thread.join(_PATIENCE)

    def _follow(self, identity: str, path: str, terminal: bool) -> None:
        import requests

        log = host.open_log_file(path)
        try:
            with contextlib.suppress(requests.RequestException, OSError):
                last = _last_moment(path)
                for stream, line in self._lines(identity, last, terminal=terminal):
                    moment, _, text = line.partition(b" ")
                    if moment > last:
                        os.write(log, entry(moment, stream, text))
        finally:
            os.close(log)

    def _lines(self, identity: str, last: bytes, *, terminal: bool) -> Iterator[tuple[str, bytes]]:
        """The container's output, each piece with its moment before it, and the stream from which it came."""
        client = self._client
        wanted = {"follow": 1, "stdout": 1, "stderr": 1, "timestamps": 1}
        # The engine takes whole seconds; pieces of the same one are told apart by their moments.
        since = {"since": int(datetime.datetime.fromisoformat(last.decode()).timestamp())} if last else {}
        url = f"{client.base_url}/v{client.api_version}/containers/{name_of(identity)}/logs"
        with client.get(url, params=wanted | since, stream=True, timeout=None) as answer:
            if not answer.ok:
                return
            raw = answer.raw
            if terminal:
                yield from (("stdout", line) for line in iter(raw.readline, b""))
                return
            while len(head := raw.read(HEAD.size)) == HEAD.size:
                number, length = HEAD.unpack(head)
                yield NAMES.get(number, "stdout"), raw.read(length)


def entry(moment: bytes, stream: str, text: bytes) -> bytes:
    """The line of a node's log for a piece of output; one without a newline goes on."""
    whole = text.endswith(b"\n")
    return b"%b %b %b %b\n" % (moment, stream.encode(), b"F" if whole else b"P", text.removesuffix(b"\n"))


def _last_moment(path: str) -> bytes:
    """When the last line of a log was written; empty for a new one."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().splitlines()
    return lines[-1].partition(b" ")[0] if lines else b""
