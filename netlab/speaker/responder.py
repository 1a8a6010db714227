"""Answers on a link for addresses that no interface has, so that the proxy's rules alone decide about their packets.

An address on an interface would be one of the node's own: every server that listens on all addresses, kubelet among
them, and every NodePort would be reached there. The kernel's proxy entries stay when their owner is killed, and answer
beside the node that took over. A packet socket ends with its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from netlab.descriptors import Closing
from netlab.net import bpf
from netlab.net.addresses import address_text, of_family
from netlab.net.bpf import Program
from netlab.speaker import frames
from netlab.speaker.frames import Question

_LARGEST = 2048
_BURST = 64
"""Frames that are read before others have their turn."""

log = logging.getLogger(__name__)


class Responder(Closing):
    """Answers for the `announced` addresses at an interface, from the running event loop, until it is closed.

    Each has a time of the event loop from which on it is left to others: a process that was stopped finds questions
    waiting when it goes on, before it has learned that another node has taken over.

    `networks` are those that the addresses are of, and `source` is an IPv6 address of the interface, from which
    neighbour advertisements come. Raises `OSError` if there is no such interface, or such sockets are not allowed.
    """

    def __init__(self, interface: str, networks: Sequence[str], source: str | None) -> None:
        self.announced: Mapping[str, float] = {}
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._index = socket.if_nametoindex(interface)
        with contextlib.ExitStack() as made:
            self._sockets: dict[int, socket.socket] = {}
            if of_family(networks, "IPv4"):
                self._sockets[4] = _listener(made, interface, frames.ETH_P_ARP, frames.arp_filter(networks))
            if of_family(networks, "IPv6"):
                self._sockets[6] = _listener(made, interface, frames.ETH_P_IPV6, frames.neighbour_filter(networks))
                # Switches learn of joined groups (MLD), and may keep other solicitations from this port.
                self._member = made.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            self._made = made.pop_all()
        for version, each in self._sockets.items():
            self._mac: bytes = each.getsockname()[4]
            self._loop.add_reader(each, self._serve, each, self._answer_arp if version == 4 else self._answer_neighbour)

    def close(self) -> None:
        """Fall silent."""
        for each in self._sockets.values():
            self._loop.remove_reader(each)
        self._made.close()

    def announce(self, addresses: Mapping[str, float]) -> None:
        """Answer for exactly these addresses from now on, for each until its time."""
        before, after = _groups(self.announced), _groups(addresses)
        for group in before - after:
            self._membership(socket.IPV6_LEAVE_GROUP, group)
        for group in after - before:
            self._membership(socket.IPV6_JOIN_GROUP, group)
        self.announced = addresses

    def tell(self, address: str) -> None:
        """Say unasked that the address is here: neighbours that had it elsewhere follow."""
        if not self._has(address):
            return
        if ":" not in address:
            self._send(self._sockets[4], frames.arp_announcement(address, self._mac))
        elif self._source is not None:
            self._send(self._sockets[6], frames.neighbour_announcement(address, self._mac, self._source))

    def _membership(self, option: int, group: bytes) -> None:
        request = struct.pack("@16sI", group, self._index)  # struct ipv6_mreq
        try:
            self._member.setsockopt(socket.IPPROTO_IPV6, option, request)
        except OSError as error:  # a socket has room for some hundreds; most networks send solicitations anyway
            log.warning("announcing: multicast group %s: %s", address_text(group), error.strerror)

    def _serve(self, listener: socket.socket, answer: Callable[[bytes], bytes | None]) -> None:
        for _ in range(_BURST):
            try:
                frame = listener.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # the link went down; it is logged once
                log.warning("announcing: %s", error.strerror)
                return
            if (said := answer(frame)) is not None:
                self._send(listener, said)

    def _answer_arp(self, frame: bytes) -> bytes | None:
        question = self._ours(frames.arp_question(frame))
        return None if question is None else frames.arp_answer(question, self._mac)

    def _answer_neighbour(self, frame: bytes) -> bytes | None:
        question = self._ours(frames.neighbour_question(frame))
        if question is None or self._source is None:
            return None
        return frames.neighbour_answer(question, self._mac, self._source)

    def _ours(self, question: Question | None) -> Question | None:
        return question if question is not None and self._has(question.target) else None

    def _has(self, address: str) -> bool:
        return self._loop.time() < self.announced.get(address, 0)

    def _send(self, speaker: socket.socket, frame: bytes) -> None:
        # A lost answer is asked for again.
        with contextlib.suppress(OSError):
            speaker.send(frame)


def _groups(addresses: Iterable[str]) -> set[bytes]:
    return {frames.solicited_node(address) for address in addresses if ":" in address}


def _listener(made: contextlib.ExitStack, interface: str, protocol: int, program: Program) -> socket.socket:
    # Of protocol 0 it gets nothing until it is bound, and then what the filter lets pass.
    listener = made.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
    bpf.attach(listener, program)
    listener.bind((interface, protocol))
    return listener
