"""How large rings are."""

import mmap

import pytest

from netlab.capture.ring import SNAPLEN, layout

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("taps", "memory", "ring", "block", "snaplen"),
    [
        (1, 256 * MEBIBYTE, 16 * MEBIBYTE, 256 << 10, SNAPLEN),
        (8, 256 * MEBIBYTE, 16 * MEBIBYTE, 256 << 10, SNAPLEN),
        (300, 256 * MEBIBYTE, MEBIBYTE // 2, 128 << 10, SNAPLEN),
        (300, 64 * MEBIBYTE, MEBIBYTE // 8, 32 << 10, (32 << 10) - 1024),
        (3000, 256 * MEBIBYTE, 64 << 10, 16 << 10, (16 << 10) - 1024),
        (8, 0, 64 << 10, 16 << 10, (16 << 10) - 1024),
    ],
)
def test_taps_share_memory(taps: int, memory: int, ring: int, block: int, snaplen: int) -> None:
    found = layout(taps, memory)
    assert (found.block * found.blocks, found.block, found.snaplen) == (ring, block, snaplen)


@pytest.mark.parametrize("memory", [0, 1, 123_456_789, 1 << 28, 1 << 34])
@pytest.mark.parametrize("taps", [1, 2, 3, 7, 8, 100, 999, 65_536])
def test_the_kernel_takes_every_size(taps: int, memory: int) -> None:
    found = layout(taps, memory)
    assert found.block % mmap.PAGESIZE == 0
    assert found.blocks >= 4
    assert found.snaplen < found.block
    assert 8 <= found.retire <= 200


def test_no_more_is_kept_than_was_asked_for() -> None:
    assert layout(1, 1 << 28, 96).snaplen == 96
