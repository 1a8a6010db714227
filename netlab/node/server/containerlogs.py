"""A container's log as clients ask for it (v1.PodLogOptions): its end, since when, with times, and as it goes on."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import QueryParams

from netlab import files
from netlab.api.serving.kubelets import is_true
from netlab.errors import UsageError
from netlab.machine.crilog import Entry
from netlab.machine.crilog import entry as read_entry

_POLL = 0.01
"""Seconds between two looks at the end of a log that is followed."""
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Options:
    """What is wanted of a log."""

    follow: bool = False
    timestamps: bool = False
    since: bytes = b""
    """Not what was written before; as `Entry.time`."""
    tail: int | None = None
    """Only the last lines."""
    limit: int | None = None
    """Not more bytes than these."""
    stream: bytes = b""
    """Only what was written to it; empty: both."""


def read_options(params: QueryParams, now: datetime.datetime) -> Options:
    """The options in a request's parameters. Raises `UsageError`."""
    since = b""
    if text := params.get("sinceSeconds"):
        since = _moment(now - datetime.timedelta(seconds=_number("sinceSeconds", text, 1)))
    elif text := params.get("sinceTime"):
        try:
            since = _moment(datetime.datetime.fromisoformat(text))
        except ValueError:
            raise UsageError(f"sinceTime {text!r}: expected a time as in 2026-11-30T02:03:04Z") from None
    stream = params.get("stream", "")
    if stream not in ("", "All", "Stdout", "Stderr"):
        raise UsageError(f'stream {stream!r}: expected "All", "Stdout" or "Stderr"')
    return Options(
        follow=is_true(params.get("follow")),
        timestamps=is_true(params.get("timestamps")),
        since=since,
        tail=None if (text := params.get("tailLines")) is None else _number("tailLines", text, 0),
        limit=None if (text := params.get("limitBytes")) is None else _number("limitBytes", text, 1),
        stream=b"" if stream in ("", "All") else stream.lower().encode(),
    )


async def chunks(path: Path, options: Options, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """What is wanted of a log; `ended`: whether its container writes no more. Raises `FileNotFoundError`."""
    left = options.limit
    with path.open("rb") as file:
        async for text in _texts(file.fileno(), options, ended):
            if left is not None and len(text) >= left:
                yield text[:left]
                return
            left = None if left is None else left - len(text)
            yield text


async def _texts(descriptor: int, options: Options, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    begun, offset = b"", _first(descriptor, options)
    while True:
        over = ended()
        chunk = os.pread(descriptor, _CHUNK, offset)
        offset += len(chunk)
        *lines, begun = (begun + chunk).split(b"\n")
        if text := b"".join(_wanted(lines, options)):
            yield text
        if chunk:
            await asyncio.sleep(0)  # so do others
        elif not options.follow or over:
            return
        else:
            await asyncio.sleep(_POLL)
            offset = files.data_from(descriptor, offset)


def _wanted(lines: list[bytes], options: Options) -> Iterator[bytes]:
    for line in lines:
        found = read_entry(line.lstrip(b"\0"))
        if found is not None and _is_wanted(found, options):
            yield found.time + b" " + found.text if options.timestamps else found.text


def _is_wanted(entry: Entry, options: Options) -> bool:
    return entry.time >= options.since and options.stream in (b"", entry.stream)


def _first(descriptor: int, options: Options) -> int:
    """The offset at which the wanted lines begin."""
    start = files.data_from(descriptor, 0)
    if options.tail is None:
        return start
    end = os.fstat(descriptor).st_size
    count, offset, later = 0, end, b""
    while offset > start:
        size = min(_CHUNK, offset - start)
        offset -= size
        block = os.pread(descriptor, size, offset) + later
        lines = block.split(b"\n")
        if offset > start:
            later = lines.pop(0)
        position = offset + len(block)
        for line in reversed(lines):
            position -= len(line) + 1
            entry = read_entry(line.lstrip(b"\0"))
            if entry is not None and entry.text.endswith(b"\n") and options.stream in (b"", entry.stream):
                if count == options.tail:
                    return position + len(line) + 2
                count += 1
    return start if options.tail else end


def _moment(moment: datetime.datetime) -> bytes:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()


def _number(name: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:20]) < least or len(text) > 19:
        raise UsageError(f"{name} {text!r}: expected a whole number from {least} up")
    return int(text)
