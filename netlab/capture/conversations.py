"""Groups packets by connection: who talks to whom, how often in each direction, and how it ended. Pure."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from netlab.capture import rendering
from netlab.capture.correlate import Journey
from netlab.capture.headers import FIN, ICMP, ICMPV6, RST, SYN, TCP, Flow, Headers
from netlab.capture.icmp import brief, is_query

_LINGER = 200_000_000
"""Nanoseconds after the end of a connection for which the last acknowledgement still belongs to it."""

_SILENCE = 1_000_000_000
"""Nanoseconds of silence after which a connection is shown, even if it has not ended."""

_LONG = 5_000_000_000
"""Nanoseconds after which a connection is shown, even if it is active."""

_MOST = 1 << 16
"""How many conversations are kept."""


@dataclasses.dataclass
class Conversation:
    """The packets of a connection so far. Times are in nanoseconds since the epoch.

    `client` is the flow that the client sends, `reached` the same flow as the far end sees it, after all translations.
    """

    protocol: int
    client: Flow
    reached: Flow
    began: int
    last: int
    requests: int = 0
    replies: int = 0
    over: bool = False
    _end: str = ""
    _finished: int = 0
    """FIN of the client (1) and of the server (2)."""

    @property
    def end(self) -> str:
        """How it ended, in a word or two; empty if it was simply answered."""
        if self._end:
            return self._end
        if self.requests and not self.replies:
            return "no answer"
        return "open" if self.protocol == TCP and not self.over else ""

    def add(self, journey: Journey) -> None:
        """Add a packet."""
        headers = journey.sightings[0].headers
        self.last = max(self.last, journey.sightings[-1].time)
        self.requests += not journey.reply
        self.replies += journey.reply
        reached = rendering.reached(journey)
        if reached != self.client or self.reached == self.client:
            self.reached = reached
        if headers.protocol == TCP:
            self._add_segment(headers, reply=journey.reply)
        elif headers.quoted:
            self._end, self.over = brief(headers), True
        elif headers.protocol in (ICMP, ICMPV6) and not is_query(headers):
            self._end = brief(headers)

    def _add_segment(self, headers: Headers, *, reply: bool) -> None:
        if headers.flags & RST:
            # A reset after the connection was closed means nothing.
            if not self.over:
                self._end = "refused" if reply and self.replies == 1 else "reset"
            self.over = True
        if headers.flags & FIN:
            self._finished |= 2 if reply else 1
            self.over = self.over or self._finished == 3


class Conversations:
    """Gathers packets, and returns each conversation when it has ended, is silent, or has lasted for long."""

    def __init__(self) -> None:
        self._open: collections.OrderedDict[tuple[int, Flow], Conversation] = collections.OrderedDict()
        self._ready: list[Conversation] = []

    def add(self, journeys: Iterable[Journey]) -> None:
        """Add packets."""
        for journey in journeys:
            headers = journey.sightings[0].headers
            key = ((headers.quoted or headers).protocol, journey.client)
            known = self._open.get(key)
            if known is not None and known.over and headers.protocol == TCP and headers.flags & SYN:
                self._ready.append(self._open.pop(key))  # a new connection reuses the ports
                known = None
            if known is None:
                began = journey.sightings[0].time
                known = self._open[key] = Conversation(*key, rendering.reached(journey), began, began)
                if len(self._open) > _MOST:
                    self._ready.append(self._open.popitem(last=False)[1])
            known.add(journey)

    def ended(self, time: int) -> list[Conversation]:
        """Those that have ended, are silent or long at that time, if no earlier packet will come, by beginning."""

        def is_ready(one: Conversation) -> bool:
            quiet = time - one.last
            return quiet > (_LINGER if one.over else _SILENCE) or time - one.began > _LONG

        keys = [key for key, one in self._open.items() if is_ready(one)]
        return self._handed_out([self._open.pop(key) for key in keys])

    def flush(self) -> list[Conversation]:
        """All that have not been returned yet."""
        left = list(self._open.values())
        self._open.clear()
        return self._handed_out(left)

    def _handed_out(self, more: list[Conversation]) -> list[Conversation]:
        found, self._ready = sorted(self._ready + more, key=_began), []
        return found


def _began(one: Conversation) -> int:
    return one.began
