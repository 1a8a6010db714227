"""Files of packets: what is written is read again, wherever the file ends, and so are those of other programs."""

import contextlib
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.capture.pcapng import Recording, Writer, read, write
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap
from netlab.errors import ExhaustedError, NetlabError

POD = Tap("node-1", "default/web-1", "eth0", "pod", peer="node-1 veth1")
BRIDGE = Tap("node-1", "node-1", "cni0", "bridge")
NOON = 1_800_000_000_123_456_789


def frame(tap: Tap = POD, data: bytes = b"x" * 60, *, time: int = NOON, outgoing: bool = True) -> Frame:
    return Frame(tap, time, outgoing, data, len(data))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    data = draw(st.binary(max_size=80))
    return Frame(
        draw(st.sampled_from([POD, BRIDGE])),
        draw(st.integers(0, (1 << 64) - 1)),
        draw(st.booleans()),
        data,
        len(data) + draw(st.integers(0, 1_000_000)),
    )


@given(written=st.lists(st.tuples(frames(), st.text(max_size=20).filter(lambda text: "\ud800" not in text))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[tuple[Frame, str]]) -> None:
    path = tmp_path_factory.mktemp("x") / "x.pcapng"
    comments = {number: comment for number, (_, comment) in enumerate(written) if comment}
    drops = {POD: 7, BRIDGE: 0}
    write(path, [each for each, _ in written], taps=[POD, BRIDGE], comments=comments, drops=drops, expression="udp")
    assert read(path) == Recording([POD, BRIDGE], [each for each, _ in written], comments, drops)


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.pcapng"
    write(path, [frame()])
    with path.open("rb") as old:
        write(path, [])
        assert len(old.read()) > len(path.read_bytes())


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_who_may_read_it_is_for_the_umask(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    path = tmp_path / "new" / "x.pcapng"
    before = os.umask(umask)
    try:
        write(path, [])
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [file, folder]


def test_a_file_is_whole_after_each_flush(tmp_path: Path) -> None:
    with Writer(tmp_path / "x.pcapng", [POD]) as writer:
        assert read(writer.path) == ([POD], [], {}, {})
        writer.write(frame())
        writer.flush()
        writer.write(frame(BRIDGE), "at the bridge")
        assert read(writer.path).frames == [frame()]
        writer.flush()
        assert read(writer.path) == ([POD, BRIDGE], [frame(), frame(BRIDGE)], {1: "at the bridge"}, {})


def test_what_is_told_of_drops_last_counts(tmp_path: Path) -> None:
    with Writer(tmp_path / "x.pcapng") as writer:
        writer.statistics({POD: 10}, {POD: 1})
        writer.statistics({POD: 20, BRIDGE: 3}, {POD: 2})
    assert read(writer.path).drops == {POD: 2, BRIDGE: 0}


def test_a_file_that_was_cut_off_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    written = [frame(data=bytes([number]) * 20) for number in range(5)]
    write(path, written)
    whole = path.read_bytes()
    counts = []
    for length in range(12, len(whole) + 1):  # before that it says nothing at all
        path.write_bytes(whole[:length])
        found = read(path).frames
        assert found == written[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert set(counts) == set(range(6))


def test_a_long_comment_and_a_long_name_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    write(path, [frame()], comments={0: "ä" * 100_000})
    assert 30_000 < len(read(path).comments[0]) < 33_000


def block(order: str, kind: int, body: bytes) -> bytes:
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def foreign(order: str) -> bytes:
    """As another program of the other byte order may write it: microseconds, no names, a block nobody knows."""
    sixty_fourths = struct.pack(order + "HHB3xHHq", 9, 1, 0x86, 14, 8, 1000)
    stamp = 1_800_000_000_123_456
    packet = struct.pack(order + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, 5, 5) + b"hello\0\0\0"
    later = struct.pack(order + "IIIII", 1, 0, 32, 2, 2) + b"hi\0\0"
    return b"".join(
        (
            section(order),
            block(order, 1, struct.pack(order + "HHI", 1, 0, 0)),
            block(order, 1, struct.pack(order + "HHIHH4s", 1, 0, 0, 2, 4, b"eth9") + sixty_fourths),
            block(order, 0x0BAD, b"1234"),
            block(order, 6, packet),
            block(order, 6, later),
            block(order, 3, struct.pack(order + "I", 3) + b"abc\0"),
        )
    )  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_other_programs_are_read(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(foreign(order) + foreign("<"))  # a second section has interfaces of its own
    found = read(path)
    unnamed, named = Tap("", "", "interface 0", "other"), Tap("", "", "eth9", "other")
    once = [
        Frame(unnamed, 1_800_000_000_123_456_000, False, b"hello", 5),
        Frame(named, 1_000_500_000_000, False, b"hi", 2),
        Frame(unnamed, 0, False, b"abc", 3),
    ]
    assert found.frames == once * 2
    assert found.taps == [unnamed, named]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a pcapng file"),
        (b"not a capture at all, but text", "does not begin with a section"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), "does not begin with a section"),  # pcap
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "byte-order magic"),
        (section("<") + struct.pack("<III", 6, 3, 3), "a block of 3 bytes"),
        (section("<") + block("<", 6, struct.pack("<IIIII", 5, 0, 0, 0, 0)), "or damaged"),
        (section("<") + block("<", 3, bytes(4)), "or damaged"),
        (section("<") + block("<", 1, struct.pack("<HHI", 101, 0, 0)), "link type 101"),
        (section("<") + block("<", 1, b"\1\0"), "or damaged"),
        (
            section("<")
            + block("<", 1, struct.pack("<HHIHH20s", 1, 0, 0, 1, 18, b'{"netlab":{"a":1}}')),
            "or damaged",
        ),
    ],
)  # fmt: skip
def test_another_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(NetlabError, match=rf"x\.txt: .*{says}"):
        read(path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "x"
    path.write_bytes(foreign("<")[: len(content)] + content)
    with contextlib.suppress(NetlabError):
        read(path)


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetlabError, match="file: File exists: packets cannot be written there"):
        Writer(tmp_path / "file" / "x.pcapng")
    with pytest.raises(NetlabError, match=r"x\.pcapng: No such file"):
        read(tmp_path / "x.pcapng")


def test_a_full_disk_is_told() -> None:
    with pytest.raises(ExhaustedError, match="/dev/full: No space left on device"):
        Writer(Path("/dev/full"))


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Writer(pipe) as writer:
        writer.write(frame())
    (tmp_path / "x.pcapng").write_bytes(os.read(reading, 100_000))
    os.close(reading)
    assert read(tmp_path / "x.pcapng").frames == [frame()]
    assert pipe.is_fifo()
    assert Path("/dev/full").is_char_device()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(NetlabError, match="Is a directory: packets cannot be written there"):
        Writer(tmp_path)
