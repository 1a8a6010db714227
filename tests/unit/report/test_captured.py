"""Files of packets as journeys."""

from pathlib import Path

import pytest

from netlab.capture.pcapng import write
from netlab.report.captured import captured
from tests.unit.report.frames import CLIENT, WEB
from tests.unit.report.scapy_frames import handshake


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """What each of two places saw, and once more what one of them did."""
    paths = [tmp_path / name for name in ("client.pcapng", "web.pcapng", "again.pcapng")]
    for path, tap in zip(paths, (CLIENT, WEB, WEB), strict=True):
        write(path, [frame for frame in handshake() if frame.tap == tap], taps=[tap])
    return paths


def test_a_packet_that_is_in_several_files_is_one(files: list[Path]) -> None:
    found = captured(files)
    assert found.taps == [CLIENT, WEB]
    assert [[seen.tap for seen in journey.sightings] for journey in found.journeys] == [[CLIENT, WEB], [WEB, CLIENT]]
    assert [journey.reply for journey in found.journeys] == [False, True]
    assert found.troubles == []


def test_what_comes_after_the_handshake_is_told_apart_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    frames = handshake()
    later = [
        frame._replace(time=frame.time + 10**9, data=frame.data[:46] + b"\x50\x10" + frame.data[48:])
        for frame in frames
    ]
    write(path, [*frames, *later], taps=[CLIENT, WEB])
    assert [journey.reply for journey in captured([path]).journeys] == [False, True, False, True]


def test_troubles_are_told(tmp_path: Path, files: list[Path]) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    write(files[0], [], taps=[CLIENT], drops={CLIENT: 7})
    found = captured([files[0], junk])
    assert found.taps == [CLIENT]
    assert found.journeys == []
    assert found.troubles[0] == "client.pcapng: 7 packets lost at lesson/client eth0"
    assert "not a pcapng file" in found.troubles[1]
