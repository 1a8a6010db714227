"""Which addresses this node gave to which of its pods, on disk: it is known before the API knows, and after a crash.

A note says it from the moment at which the CNI plugin asks whether the pod's container may start. The files are in
/run: they are never older than the network namespaces of which they speak.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from netlab import files

log = logging.getLogger(__name__)


class Notes:
    """The notes in a directory, a file for each pod, and what they say."""

    def __init__(self, directory: Path) -> None:
        """Read what there is. Raises `OSError` if the directory cannot be made or read."""
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.addresses: dict[str, tuple[str, ...]] = {}
        """By the pod's uid."""
        self._pod_at: dict[str, str] = {}
        for path in directory.iterdir():
            self._learn(path.name, tuple(path.read_text(encoding="ascii").split()))

    def write(self, uid: str, addresses: tuple[str, ...]) -> None:
        """Note a pod's addresses; a pod that had one of them loses it. Raises `OSError`."""
        for other in {self._pod_at.get(address, uid) for address in addresses} - {uid}:
            self.forget(other)
        files.replace(self._directory / uid, " ".join(addresses))
        self._learn(uid, addresses)

    def forget(self, uid: str) -> None:
        """A pod is gone."""
        for address in self.addresses.pop(uid, ()):
            self._pod_at.pop(address, None)
        try:
            (self._directory / uid).unlink(missing_ok=True)
        except OSError as error:
            log.warning("note of pod %s: %s", uid, error)

    def keep(self, uids: Collection[str]) -> None:
        """Forget all others."""
        for uid in [each for each in self.addresses if each not in uids]:
            self.forget(uid)

    def _learn(self, uid: str, addresses: tuple[str, ...]) -> None:
        for address in self.addresses.pop(uid, ()):
            self._pod_at.pop(address, None)
        self.addresses[uid] = addresses
        self._pod_at |= dict.fromkeys(addresses, uid)
