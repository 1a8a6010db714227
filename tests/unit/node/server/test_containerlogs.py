"""What clients ask of a container's log."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from netlab.errors import UsageError
from netlab.node.server import containerlogs
from netlab.node.server.containerlogs import Options

NOW = datetime.datetime(2026, 11, 30, 2, 0, 10, tzinfo=datetime.UTC)
LINES = [
    b"2026-11-30T02:00:01.000000000Z stdout F one",
    b"2026-11-30T02:00:02.000000000Z stderr F two",
    b"2026-11-30T02:00:03.000000000Z stdout P thr",
    b"2026-11-30T02:00:03.500000000Z stdout F ee",
    b"2026-11-30T02:00:04.000000000Z stdout F four",
]


def shown(path: Path, query: str) -> bytes:
    options = containerlogs.read_options(QueryParams(query), NOW)

    async def read() -> bytes:
        return b"".join([chunk async for chunk in containerlogs.chunks(path, options, lambda: True)])

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", b"one\ntwo\nthree\nfour\n"),
        ("tailLines=0", b""),
        ("tailLines=1", b"four\n"),
        ("tailLines=2", b"three\nfour\n"),
        ("tailLines=3", b"two\nthree\nfour\n"),
        ("tailLines=100", b"one\ntwo\nthree\nfour\n"),
        ("limitBytes=6", b"one\ntw"),
        ("tailLines=2&limitBytes=3", b"thr"),
        ("sinceSeconds=8", b"two\nthree\nfour\n"),
        ("sinceTime=2026-11-30T02:00:04Z", b"four\n"),
        ("sinceTime=2026-11-30T03:00:03.400%2B01:00", b"ee\nfour\n"),
        ("timestamps=true&tailLines=1", b"2026-11-30T02:00:04.000000000Z four\n"),
        ("stream=Stderr", b"two\n"),
        ("stream=Stderr&tailLines=1", b"two\n"),
        ("follow=true", b"one\ntwo\nthree\nfour\n"),
    ],
)
def test_what_is_shown(tmp_path: Path, query: str, expected: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(line + b"\n" for line in LINES))
    assert shown(path, query) == expected


def test_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    text = [f"{number} " + "x" * (number % 300) for number in range(10_000)]
    path.write_bytes(b"".join(b"2026-11-30T02:00:04.000000000Z stdout F %s\n" % line.encode() for line in text))
    assert shown(path, "tailLines=7000").decode().splitlines() == text[-7000:]


def test_a_log_that_grows_is_followed_to_the_end_of_its_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LINES[0] + b"\n")
    over: list[bool] = []

    async def follow() -> bytes:
        found = b""
        async for chunk in containerlogs.chunks(path, Options(follow=True), lambda: bool(over)):
            found += chunk
            if not over:
                with path.open("ab") as file:
                    file.write(LINES[1] + b"\n")
                over.append(True)
        return found

    assert asyncio.run(follow()) == b"one\ntwo\n"


@pytest.mark.parametrize(
    "query", ["tailLines=-1", "tailLines=x", "limitBytes=0", "sinceSeconds=0", "sinceTime=now", "stream=both"]
)
def test_what_makes_no_sense_is_refused(query: str) -> None:
    with pytest.raises(UsageError, match=query.partition("=")[0]):
        containerlogs.read_options(QueryParams(query), NOW)


def test_options_are_read() -> None:
    wanted: dict[str, Any] = {"follow": True, "timestamps": True, "tail": 3, "limit": 4, "stream": b"stdout"}
    query = "follow=1&timestamps=t&tailLines=3&limitBytes=4&stream=Stdout"
    assert containerlogs.read_options(QueryParams(query), NOW) == Options(**wanted)
