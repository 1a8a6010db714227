"""Asks other servers: a question is passed on as it came, under an identifier and from a port that nobody can guess."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import socket

from netlab.dns.corefile import Address, Forward
from netlab.net.addresses import socket_family

_PATIENCE = 2.0
"""Seconds for one server, as in CoreDNS."""

_MOST_WAITING = 1000
"""Questions at once, where the Corefile says nothing."""

_LARGEST = 65535


class RefusedError(Exception):
    """Too many questions wait already."""


class UnansweredError(Exception):
    """No server has answered."""


class Upstreams:
    """The servers of one `forward`."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._turn = itertools.cycle(range(len(forward.upstreams)))
        self._waiting = 0

    async def ask(self, question: bytes, *, tcp: bool) -> bytes:
        """The answer of the first server that gives one, with the question's identifier.

        Raises `RefusedError` when too many wait, `UnansweredError` when none answers.
        """
        if self._waiting >= (self._forward.max_concurrent or _MOST_WAITING):
            raise RefusedError
        self._waiting += 1
        try:
            for upstream in self._order():
                try:
                    async with asyncio.timeout(_PATIENCE):
                        return await (_ask_tcp if tcp else _ask_udp)(upstream, question)
                except (OSError, TimeoutError, EOFError):
                    continue
            raise UnansweredError
        finally:
            self._waiting -= 1

    def _order(self) -> list[Address]:
        """Whom to ask first, and whom then."""
        upstreams = list(self._forward.upstreams)
        match self._forward.policy:
            case "random":
                random.shuffle(upstreams)
            case "round_robin":
                first = next(self._turn)
                upstreams = upstreams[first:] + upstreams[:first]
        return upstreams


async def _ask_udp(upstream: Address, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    asked = secrets.token_bytes(2) + question[2:]
    with socket.socket(socket_family(upstream.host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
        # Connected: the kernel drops what others send.
        client.connect(upstream)
        await loop.sock_sendall(client, asked)
        while True:
            answer = await loop.sock_recv(client, _LARGEST)
            if _answers(answer, asked):
                return question[:2] + answer[2:]


async def _ask_tcp(upstream: Address, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        asked = secrets.token_bytes(2) + question[2:]
        writer.write(len(asked).to_bytes(2, "big") + asked)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not _answers(answer, asked):
        raise EOFError
    return question[:2] + answer[2:]


def _answers(answer: bytes, question: bytes) -> bool:
    """Whether it is the answer to this very question (RFC 5452, section 9.1)."""
    if len(answer) < 12 or answer[:2] != question[:2] or not answer[2] & 0x80:
        return False
    end = _end_of_question(question)
    # A server that understood nothing answers with a header alone.
    return int.from_bytes(answer[4:6], "big") == 0 or answer[12:end].lower() == question[12:end].lower()


def _end_of_question(message: bytes) -> int:
    """Where the first question ends; questions have no compressed names before them to point to."""
    at = 12
    while message[at]:
        at += 1 + message[at]
    return at + 5
