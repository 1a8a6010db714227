"""The socket to nftables: batches, generations, and the elements of sets."""

from __future__ import annotations

from _socket import SO_SNDBUF, SOL_SOCKET, socket
from _struct import Struct
from errno import EMSGSIZE, ENOENT, EPROTO, ERESTART

from netlab.net import netlink as nl
from netlab.net.nftables import SUBSYSTEM, be32, elements
from netlab.net.nftables.elements import Element, Set, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BATCH_BEGIN, _BATCH_END, _BATCH_GENID = 0x10, 0x11, 1
_GETGEN, _GEN_ID = SUBSYSTEM << 8 | 16, 1
_U32 = Struct("!I")
_SO_SNDBUFFORCE = 32
_ATTEMPTS = 100


class Nfnetlink(nl.Netlink):
    """A socket to nftables in the network namespace where it was opened. Every method raises `NetlinkError`."""

    def __init__(self, made: socket | None = None) -> None:
        super().__init__(nl.NETLINK_NETFILTER, made)

    def generation(self) -> int:
        """The number of the current ruleset: every batch, by any process, raises it. EPROTO: it is none."""
        (answer,) = self.ask(nl.Message("nftables", _GETGEN, 0, nl.NFGENMSG.pack(0, 0, 0)))
        number = dict(nl.attributes(answer, nl.NFGENMSG.size)).get(_GEN_ID)
        if number is None:
            raise nl.NetlinkError(EPROTO, "the ruleset's generation has an unknown form", "nftables")
        return int(_U32.unpack(number)[0])

    def elements(self, where: Set) -> list[Element]:
        """All elements of a set: errno ENOENT if it does not exist."""
        return [item for part in elements.parts(self.ask(elements.dump(where))) for item in elements.unpacked(part)]

    def dump(self, where: Set) -> dict[bytes, bytes | Verdict]:
        """Keys and data (of ranges: the last keys, then data) of all elements: like `elements`, for very large sets."""
        found: dict[bytes, bytes | Verdict] = {}
        for part in elements.parts(self.ask(elements.dump(where))):
            found.update(elements.unframed(part))
        return found

    def commit(self, messages: Sequence[nl.Message], generation: int = 0) -> None:
        """Apply all the messages or none; raises the first failure.

        With a `generation`, only if that is still the current one, and otherwise with the errno ERESTART: a decision
        based on certain elements is then applied to exactly those elements. EMSGSIZE: in a user namespace a batch has
        at most twice net.core.wmem_max bytes (4 MiB on Linux 6.18, 208 KiB before).
        """
        if not messages:
            return
        first = self._sequence
        last = first + len(messages)
        self._sequence = last + 2
        header = nl.NFGENMSG.pack(0, 0, SUBSYSTEM)
        condition = be32(_BATCH_GENID, generation) if generation else b""
        batch = [nl.Message("nftables", _BATCH_BEGIN, 0, header + condition).pack(first)]
        for sequence, message in enumerate(messages, first + 1):
            # Failures are reported for every message, success only for the last: acknowledgements of a long batch would
            # overrun the socket's buffer.
            batch.append(message.pack(sequence, nl.NLM_F_ACK if sequence == last else 0))
        batch.append(nl.Message("nftables", _BATCH_END, 0, header).pack(last + 1))
        self._send(b"".join(batch))
        failure: nl.NetlinkError | None = None
        while True:
            for kind, flags, sequence, payload in self._receive():
                if kind != nl.NLMSG_ERROR or not first <= sequence <= last:
                    continue
                subject = messages[max(sequence - first - 1, 0)].subject
                failure = failure or nl.refusal(flags, payload, subject)
                # If a batch is refused as a whole, the answer refers to its beginning.
                if sequence in {first, last}:
                    if failure is not None:
                        raise failure
                    return

    def commit_in_parts(self, messages: Sequence[nl.Message]) -> int:
        """`commit`, but in several batches if one is too long for an ordinary user's socket; returns how many."""
        try:
            self.commit(messages)
        except nl.NetlinkError as error:
            if error.errno != EMSGSIZE or len(messages) == 1:
                raise
            half = len(messages) // 2
            return self.commit_in_parts(messages[:half]) + self.commit_in_parts(messages[half:])
        return 1

    def remove(self, sets: Iterable[Set], unwanted: Callable[[Set, Element], bool]) -> list[tuple[Set, Element]]:
        """Delete the `unwanted` elements of these sets, all or none; returns them.

        The decision applies to the elements that were read: a key may belong to another element a moment later. A
        missing set has no elements. ERESTART: something changed at each of many attempts.
        """
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            generation = self.generation()
            found = [(where, item) for where in sets for item in self._present(where) if unwanted(where, item)]
            try:
                self.commit(
                    [message for where, item in found for message in elements.deletion(where, [item])], generation
                )
            except nl.NetlinkError as error:
                if error.errno != ERESTART or not attempts:
                    raise
            else:
                return found

    def _present(self, where: Set) -> list[Element]:
        try:
            return self.elements(where)
        except nl.NetlinkError as error:
            if error.errno == ENOENT:
                return []
            raise

    def _send(self, data: bytes) -> None:
        """Send the batch in one datagram, which must fit the socket's buffer."""
        if len(data) > self._socket.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2:
            try:
                self._socket.setsockopt(SOL_SOCKET, _SO_SNDBUFFORCE, len(data))
            except PermissionError:  # in a user namespace, where net.core.wmem_max holds
                self._socket.setsockopt(SOL_SOCKET, SO_SNDBUF, len(data))
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != EMSGSIZE:
                raise
            reason = f"a batch of {len(data)} bytes is longer than net.core.wmem_max allows; raise it, or commit less"
            raise nl.NetlinkError(EMSGSIZE, reason, "nftables") from None
