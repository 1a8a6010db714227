"""Answers kept on the wire, by question: only the identifier at their beginning differs from one client to the next."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable

from netlab.dns.metrics import Label

_ID = 2
"""Bytes of the identifier (RFC 1035, section 4.1.1)."""

_MOST = 32_768
"""Answers. One takes some 400 bytes; a client that asks for ever new names empties the whole."""

_ORDERS = 8
"""How many orders are kept of an answer with several records."""


class _Entry:
    __slots__ = ("answers", "label", "wanted")

    def __init__(self, label: Label, wanted: int) -> None:
        self.answers: list[bytes] = []
        self.label = label
        self.wanted = wanted


class Kept:
    """The answers, each until what it is about changes."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._about: defaultdict[Hashable, list[bytes]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: bytes) -> tuple[bytes, Label] | None:
        """The answer to a message, and its label; None if it has to be made."""
        entry = self._entries.get(question[_ID:])
        if entry is None or len(entry.answers) < entry.wanted:
            return None
        answers = entry.answers
        return question[:_ID] + (answers[0] if len(answers) == 1 else random.choice(answers)), entry.label  # noqa: S311

    def keep(self, question: bytes, answer: bytes, *, about: Hashable, label: Label, is_ordered: bool) -> None:
        """Keep an answer until `forget(about)`; of one whose order is to differ, several are made."""
        key = question[_ID:]
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= _MOST:
                self.clear()
            entry = self._entries[key] = _Entry(label, 1 if is_ordered else _ORDERS)
            self._about[about].append(key)
        entry.answers.append(answer[_ID:])

    def forget(self, about: Hashable) -> None:
        """What the answers are about has changed."""
        for key in self._about.pop(about, ()):
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Everything has changed."""
        self._entries.clear()
        self._about.clear()
