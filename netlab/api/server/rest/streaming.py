"""A watch as a response that goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
from starlette.types import Message, Receive, Send

from netlab.api.errors import ApiError
from netlab.api.meta_types import Object
from netlab.api.resources import Resource
from netlab.api.server import refusals
from netlab.api.server.registry.generic import Registry
from netlab.api.server.rest.lists import ListOptions, check_reached
from netlab.api.server.rest.requests import Call
from netlab.api.server.rest.views import INITIAL_EVENTS_END, writer
from netlab.api.server.storage.watch import Change, Watch, Wording

log = logging.getLogger(__name__)

BOOKMARK_INTERVAL = 60.0
"""Seconds between the bookmarks of a watch that asks for them, as upstream."""


def open_watch(registry: Registry, call: Call, options: ListOptions) -> Watch:
    """The watch that a request asks for.

    What cannot be watched any more is said in the stream, as upstream: the request itself was a good one.
    """
    resource, hub = call.target.resource, registry.store.hub
    write = writer(call.answer, call.view)
    bookmark = (lambda revision: bookmark_of(resource, revision)) if options.wants_bookmarks else None
    wording = Wording(write, bookmark)
    try:
        if options.revision and options.sends_initial is None:
            return hub.watch(resource.collection, options.selection, options.revision, wording)
        if options.sends_initial is False:
            since = options.revision or hub.revision
            check_reached(registry.store, since)
            return hub.watch(resource.collection, options.selection, since, wording)
        check_reached(registry.store, options.revision or 0)
    except ApiError as error:
        watch = Watch(options.selection, [Change(b"ERROR", refusals.encoded(error.status))], wording=wording)
        watch.close()
        return watch
    first = [Change(b"ADDED", stored.raw) for stored in registry.list(resource, options.selection)]
    told = 0
    if options.sends_initial and options.wants_bookmarks:
        told = hub.revision
        first.append(bookmark_of(resource, told, {INITIAL_EVENTS_END: "true"}))
    return hub.watch_from_now(resource.collection, options.selection, first, wording, told)


def bookmark_of(resource: Resource[Object], revision: int, annotations: dict[str, str] | None = None) -> Change:
    """An event that tells a revision alone."""
    meta = {"resourceVersion": str(revision)} | ({"annotations": annotations} if annotations else {})
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
    return Change(b"BOOKMARK", msgspec.json.encode(obj))


async def serve(registry: Registry, call: Call, options: ListOptions, receive: Receive, send: Send) -> None:
    """Answer with a watch, until it ends, its time is up or its reader has gone."""
    watch = open_watch(registry, call, options)

    async def until_disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        watch.close()

    reader = asyncio.create_task(until_disconnected())
    try:
        headers = [(b"content-type", call.answer.format.stream_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_chunk(b""))  # The client goes on when it has the headers.
        async for lines in _lines(registry, watch, options.seconds):
            await send(_chunk(lines))
        await send({"type": "http.response.body", "body": b""})
    except OSError:
        pass  # The client is gone.
    except Exception:
        # It is too late for a refusal. The client sees that it broke off, and asks again.
        log.exception("a watch of %s broke off", call.target.resource.plural)
    finally:
        reader.cancel()
        registry.store.hub.forget(call.target.resource.collection, watch)


async def _lines(registry: Registry, watch: Watch, seconds: int) -> AsyncIterator[bytes]:
    """What is to be sent, until the watch is closed or its time is up (0: it has none)."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds if seconds else None
    while True:
        pause = BOOKMARK_INTERVAL if end is None else min(BOOKMARK_INTERVAL, end - loop.time())
        try:
            async with asyncio.timeout(pause):
                lines = await watch.take()
        except TimeoutError:
            watch.remind(registry.store.revision)
            lines = await watch.take() if watch.waiting else b""
        yield lines
        if watch.drained or (end is not None and loop.time() >= end):
            return
        if watch.waiting:
            await asyncio.sleep(0)  # So do others.


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
