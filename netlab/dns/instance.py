"""What a Corefile makes of a server: its plugins and what they know, until another Corefile takes its place."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Awaitable, Hashable
from typing import TYPE_CHECKING

from netlab.dns.answering import Answering, Asked, block_of
from netlab.dns.cluster import ClusterNames
from netlab.dns.corefile import Block, Corefile
from netlab.dns.forwarding import RefusedError, UnansweredError, Upstreams
from netlab.dns.kept import Kept
from netlab.dns.metrics import Metrics, Transport

if TYPE_CHECKING:
    from netlab.dns.messages import Answer, Question

_NO_REACHABLE_AUTHORITY = 22
"""RFC 8914, section 4.23."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _Exchange:
    """A question, who asks it, and which block it concerns."""

    wire: bytes
    question: Question
    block: Block
    transport: Transport
    client: str
    began: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def tcp(self) -> bool:
        return self.transport[0] == "tcp"

    @property
    def zone(self) -> str:
        return f"{self.block.zones[0]}."


class Instance:
    """The answers by one Corefile."""

    def __init__(self, corefile: Corefile, cluster: ClusterNames | None, metrics: Metrics) -> None:
        """`cluster` is what the Corefile's `kubernetes` knows, if it has one."""
        self.corefile = corefile
        self.kept = {block.port: Kept() for block in corefile.blocks}
        """Answers, by the port at which they are given."""
        self._cluster = cluster
        if cluster is not None:
            cluster.changed = self._changed
        self._metrics = metrics
        self._answering = {block: Answering(block, self._cluster) for block in corefile.blocks}
        self._upstreams = {each: Upstreams(each) for block in corefile.blocks for each in block.forwards}

    async def follow(self) -> None:
        """Follow the API, if there is anything to know of it, until cancelled."""
        if self._cluster is not None:
            await self._cluster.run()

    async def synced(self) -> None:
        """Wait until all that there is to know is known."""
        if self._cluster is not None:
            await self._cluster.synced()

    def is_ready(self) -> bool:
        """Whether it is."""
        return self._cluster is None or self._cluster.is_synced()

    def _changed(self, about: Hashable) -> None:
        for kept in self.kept.values():
            kept.forget(about)
        for each in self._answering.values():
            # It grows, also from one server to its successor; changes of one second need no numbers of their own.
            each.serial = int(time.time())

    def answer(self, port: int, wire: bytes, transport: Transport, client: str) -> bytes | Awaitable[bytes] | None:
        """The answer to a message, or what to wait for; None where nothing is to be said.

        Never raises: what a message has done to us is in the log.
        """
        try:
            return self._answer(port, wire, transport, client)
        except Exception:
            from netlab.dns.messages import failure

            self._metrics.failures += 1
            log.exception("a question of %s could not be answered", client)
            return failure(wire)

    def _answer(self, port: int, wire: bytes, transport: Transport, client: str) -> bytes | Awaitable[bytes] | None:
        from netlab.dns import messages

        question = messages.read(wire)
        if not isinstance(question, messages.Question):
            return question
        block = block_of(self.corefile, port, question.name)
        if block is None:
            return messages.write(question, messages.Answer("REFUSED", authoritative=False), tcp=transport[0] == "tcp")
        exchange = _Exchange(wire, question, block, transport, client)
        if block.kubernetes and not self.is_ready():
            return self._written(exchange, messages.Answer("SERVFAIL", authoritative=False))
        told = self._answering[block].answer(question.name, question.type)
        if isinstance(told, Asked):
            return self._asked(exchange, told)
        # An alias stands before what it leads to.
        if varies := block.loadbalance and len(told.answer.answers) > 1 and told.keep:
            told.answer.answers = messages.shuffled(told.answer.answers)
        written = self._written(exchange, told.answer)
        if told.keep and not (exchange.tcp or block.log or question.has_options):
            about = self._cluster.subject(question.name) if self._cluster is not None else None
            label = (exchange.zone, question.type, told.answer.rcode)
            self.kept[port].keep(wire, written, about=about, label=label, is_ordered=not varies)
        return written

    async def _asked(self, exchange: _Exchange, asked: Asked) -> bytes:
        """The answer of other servers; where they were asked for an alias's target, after the alias."""
        from netlab.dns import messages

        onward = messages.about(exchange.question, asked.alias) if asked.alias else exchange.wire
        zone = f"{asked.forward.zone}."
        try:
            found = await self._upstreams[asked.forward].ask(onward, tcp=exchange.tcp)
        except RefusedError:
            self._metrics.forwarded[zone, "refused"] += 1
            return self._written(exchange, asked.begun or messages.Answer("REFUSED", authoritative=False))
        except UnansweredError:
            self._metrics.forwarded[zone, "unanswered"] += 1
            servers = ", ".join(each.host for each in asked.forward.upstreams)
            log.warning("%s. %s: none of %s answered", exchange.question.name, exchange.question.type, servers)
            because = (_NO_REACHABLE_AUTHORITY, f"none of {servers} answered")
            return self._written(
                exchange, asked.begun or messages.Answer("SERVFAIL", authoritative=False, because=because)
            )
        rcode = messages.rcode_of(found)
        self._metrics.forwarded[zone, rcode] += 1
        if asked.begun is None:
            self._tell(exchange, rcode, found)
            return found
        return self._written(exchange, messages.joined(asked.begun, found))

    def _written(self, exchange: _Exchange, answer: Answer) -> bytes:
        from netlab.dns import messages

        written = messages.write(exchange.question, answer, tcp=exchange.tcp, nsid=exchange.block.nsid)
        self._tell(exchange, answer.rcode, written)
        return written

    def _tell(self, exchange: _Exchange, rcode: str, written: bytes) -> None:
        """Count an answer and, with plugin `log`, write the line that CoreDNS does."""
        question = exchange.question
        self._metrics.answers[exchange.transport, (exchange.zone, question.type, rcode)] += 1
        if exchange.block.log:
            identifier, took = int.from_bytes(exchange.wire[:2], "big"), time.perf_counter() - exchange.began
            asked = f"{question.type} IN {question.name}. {exchange.transport[0]} {len(exchange.wire)}"
            log.info('%s - %d "%s" %s %d %.6fs', exchange.client, identifier, asked, rcode, len(written), took)
