"""What a server does about its objects by the clock: a snapshot to go back to, and old changes forgotten."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from netlab.api.server.storage import snapshots
from netlab.api.server.storage.store import Store

SNAPSHOT_SECONDS = 30.0
"""Between two snapshots while things change."""

COMPACTION_SECONDS = 300.0
"""Between two compactions, as upstream (--etcd-compaction-interval): a revision is known for as long at least, and for
twice as long at most, so that a page of a list does not keep for ever what has been deleted."""

log = logging.getLogger(__name__)


async def keep_snapshot(store: Store, path: Path) -> None:
    """Write a snapshot when the server starts, for all that it has was checked, and again while things change."""
    revision = 0
    while True:
        if store.revision != revision:
            revision = store.revision
            content = snapshots.lines(revision, store.contents())
            try:
                await asyncio.to_thread(snapshots.write, path, content)
            except OSError as error:
                log.warning("snapshot %s cannot be written: %s", path, error.strerror)
        await asyncio.sleep(SNAPSHOT_SECONDS)


async def keep_compact(store: Store) -> None:
    """Forget again and again what was before the last time."""
    while True:
        revision = store.revision
        await asyncio.sleep(COMPACTION_SECONDS)
        store.compact(revision)
