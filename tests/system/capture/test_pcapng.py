"""Captures as Wireshark reads them, whenever their writer ended."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netlab.capture import pcapng
from netlab.capture.engine import Engine
from netlab.capture.ring import Frame
from netlab.capture.taps import Tap
from tests.sandbox import isolated
from tests.system.capture.wires import PAIR, PORT, ip, send, source

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

FILTER = f"udp port {PORT}"


def tshark(path: Path, *fields: str) -> list[tuple[str, ...]]:
    """These fields of each packet."""
    argv = ["tshark", "-n", "-r", "-", "-T", "fields"]
    for field in fields:
        argv += ["-e", field]
    # From standard input: root's tshark gives up its right to read a file that is another's.
    with path.open("rb") as file:
        shown = subprocess.run(argv, stdin=file, capture_output=True, text=True, check=False)
    assert shown.returncode == 0 or "cut short in the middle of a packet" in shown.stderr, shown.stderr
    return [tuple(line.split("\t")) for line in shown.stdout.splitlines()]


@isolated
def test_wireshark_names_the_interfaces_and_has_comments_directions_and_nanoseconds(tmp_path: Path) -> None:
    ip(PAIR)
    path = tmp_path / "x.pcapng"
    with Engine([source("left"), source("right", "node-1")], FILTER) as engine:
        send(1)
        engine.stop()
        frames = list(engine.frames())
    pcapng.write(path, frames, taps=engine.taps, comments={1: "nach links → rechts"}, expression=FILTER)
    found = tshark(
        path,
        "frame.interface_name",
        "frame.interface_description",
        "frame.comment",
        "frame.packet_flags_direction",
        "frame.time_epoch",
        "udp.dstport",
        "frame.len",
    )
    times = [f"{frame.time // 10**9}.{frame.time % 10**9:09}" for frame in frames]
    left, right = engine.taps
    assert found == [
        ("default/web-1 left", left.description, "", "0x00000002", times[0], str(PORT), "50"),
        ("node-1 right", right.description, "nach links → rechts", "0x00000001", times[1], str(PORT), "50"),
    ]


def test_wireshark_has_the_filter_and_the_drops_of_each_interface(tmp_path: Path) -> None:
    if shutil.which("capinfos") is None:
        pytest.skip("capinfos is not installed")
    path = tmp_path / "x.pcapng"
    taps = [Tap("node-1", "node-1", "eth0", "underlay"), Tap("node-1", "node-1", "cni0", "bridge")]
    with pcapng.Writer(path, taps, expression=FILTER, comment="of a test") as writer:
        writer.write(Frame(taps[0], 1, True, bytes(60), 60))
        writer.statistics({taps[0]: 10, taps[1]: 5}, {taps[0]: 3, taps[1]: 0})
    with path.open("rb") as file:
        shown = subprocess.run(["capinfos", "-"], stdin=file, capture_output=True, text=True, check=True).stdout
    assert shown.count(f"Filter string = {FILTER}") == 2
    assert shown.count("Number of stat entries = 1") == 2
    assert "Name = node-1 cni0" in shown
    assert "of a test" in shown


@isolated
def test_a_writer_killed_in_the_middle_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    ip(PAIR)
    path = tmp_path / "x.pcapng"
    code = f"""if True:
        import sys, threading
        from pathlib import Path
        from netlab.capture.engine import Engine
        from netlab.capture.pcapng import Writer
        from tests.system.capture.wires import send, source
        with Engine([source("left"), source("right")], {FILTER!r}) as engine, Writer(Path(sys.argv[1])) as writer:
            threading.Thread(target=lambda: [send(100, first=first) for first in range(0, 10_000_000, 100)]).start()
            while True:
                for frame in engine.read(1):
                    writer.write(frame)
                writer.flush()
                print(flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    read = pcapng.read(path)
    assert len(read.frames) > 100
    shown = tshark(path, "frame.interface_name", "udp.dstport")
    assert shown == [(frame.tap.name, str(PORT)) for frame in read.frames]
