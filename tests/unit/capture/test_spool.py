"""The spool: what is appended is read in order, from memory and from the disk, and what was read takes no room."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.capture import spool
from netlab.capture.drain import Progress
from netlab.capture.spool import Appender, Block, Mark, Reader


def all_of(reader: Reader) -> list[Block | Mark]:
    return list(iter(reader.next, None))


@pytest.fixture
def files() -> Iterator[spool.Files]:
    made = spool.create()
    yield made
    for descriptor in made:
        os.close(descriptor)


@given(
    memory=st.sampled_from([0, 100, 1000, 1 << 20]),
    steps=st.lists(st.one_of(st.integers(1, 300), st.just("mark"), st.just("read")), max_size=60),
)
def test_records_are_read_in_order_wherever_they_lie(memory: int, steps: list[int | str]) -> None:
    files, sizes = spool.create(), Progress()
    appender, reader = Appender(files, sizes, memory), Reader(files, sizes)
    written: list[Block | Mark] = []
    read: list[Block | Mark] = []
    for number, step in enumerate(steps):
        if step == "read":
            read += all_of(reader)
            assert read == written
        elif step == "mark":
            appender.mark(number)
            written.append(Mark(number))
        else:
            assert isinstance(step, int)
            blocks = [bytes([number]) * step, bytes([number + 1]) * step]
            appender.blocks(number, [memoryview(block) for block in blocks])
            written += [Block(number, block) for block in blocks]
    assert read + all_of(reader) == written
    for descriptor in files:
        os.close(descriptor)


def test_what_was_read_is_given_back(files: spool.Files) -> None:
    sizes = Progress()
    appender, reader = Appender(files, sizes, 10 << 20), Reader(files, sizes)
    for _ in range(40):
        appender.blocks(0, [memoryview(bytes(1 << 20))])
    taken = [os.fstat(descriptor).st_blocks * 512 for descriptor in files]
    assert 10 << 20 < taken[0] < 13 << 20
    assert sum(taken) > 40 << 20
    assert len(all_of(reader)) == 40
    assert sum(os.fstat(descriptor).st_blocks * 512 for descriptor in files) < 1 << 20


def test_hundreds_of_blocks_are_appended_at_once(files: spool.Files) -> None:
    sizes = Progress()
    blocks = [number.to_bytes(4) for number in range(3000)]
    Appender(files, sizes, 1 << 20).blocks(1, [memoryview(block) for block in blocks])
    assert all_of(Reader(files, sizes)) == [Block(1, block) for block in blocks]
