"""Pages in a real browser: what it makes of them, and what it draws."""

from __future__ import annotations

import html
import json
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

_TIMEOUT = 120
_HALF = ("--force-device-scale-factor=0.5",)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """Chromium without a window, with a profile of its own. It reaches nothing: pages are files."""

    def __init__(self, program: str) -> None:
        self._program = program

    def dom(self, page: Path) -> str:
        """The document as the browser has it after it loaded the page."""
        return self._run("--dump-dom", page.as_uri()).decode()

    def measure(self, page: Path, script: str, widths: Sequence[int]) -> list[Any]:
        """What the body of a JavaScript function of (page, window) returns for the page in frames of these widths.

        A window of Chromium's cannot be as narrow as a telephone, and pages allow no script: so it is that of a page
        around them.
        """
        with tempfile.TemporaryDirectory() as directory:
            around = Path(directory, "around.html")
            frames = (
                f'<iframe src="{page.as_uri()}" style="width:{width}px;height:900px"></iframe>' for width in widths
            )
            around.write_text(
                f"""<!DOCTYPE html><meta charset="utf-8"><style>iframe {{ display: block; border: 0; }}</style>
                <pre id="found"></pre>{"".join(frames)}
                <script>onload = () => {{
                  const measure = (page, window) => {{ {script} }};
                  const frames = [...document.querySelectorAll("iframe")].map(frame => frame.contentWindow);
                  const found = frames.map(frame => measure(frame.document, frame));
                  document.getElementById("found").textContent = JSON.stringify(found);
                }}</script>"""
            )
            dom = self._run("--allow-file-access-from-files", "--dump-dom", around.as_uri()).decode()
        found = dom.partition('<pre id="found">')[2].partition("</pre>")[0]
        assert found, "the script failed"
        return list(json.loads(html.unescape(found)))

    def screenshot(self, page: Path, *, width: int = 1200, height: int = 1400, dark: bool = False) -> Picture:
        """What one sees of a page in a window of that size, at half of it: its pixels are counted one by one."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "page.png")
            scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
            self._run(f"--screenshot={path}", f"--window-size={width},{height}", *_HALF, scheme, page.as_uri())
            return Picture(path.read_bytes())

    def _run(self, *arguments: str) -> bytes:
        # Its profile is here: it has no home of its own, and waits for the lock of another's.
        with tempfile.TemporaryDirectory() as home:
            argv = [self._program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            argv += ["--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9", f"--user-data-dir={home}", *arguments]
            done = subprocess.run(
                argv, capture_output=True, timeout=_TIMEOUT, check=True, env=os.environ | {"HOME": home}
            )  # fmt: skip
        return done.stdout


@pytest.fixture(scope="session")
def browser() -> Browser:
    for name in _PROGRAMS:
        if program := shutil.which(name):
            return Browser(program)
    pytest.skip("there is no chromium (Debian: apt-get install chromium)")


class Picture:
    """The pixels of a PNG of 8 bits a colour (RFC 2083), which is what Chromium writes."""

    def __init__(self, content: bytes) -> None:
        data = b""
        for kind, body in _chunks(content):
            if kind == b"IHDR":
                self.width, self.height, depth, colour = struct.unpack(">IIBB", body[:10])
                assert depth == 8
                self._size = {2: 3, 6: 4}[colour]
            elif kind == b"IDAT":
                data += body
        self._rows = list(self._unfiltered(zlib.decompress(data)))

    def colours(self) -> Counter[bytes]:
        """How many pixels have each colour (red, green, blue)."""
        size = self._size
        return Counter(bytes(row[at : at + 3]) for row in self._rows for at in range(0, len(row), size))

    def _unfiltered(self, data: bytes) -> Iterator[bytearray]:
        """The rows without the filters of RFC 2083, 6."""
        size, length = self._size, self.width * self._size
        above = bytearray(length)
        for begin in range(0, len(data), length + 1):
            kind, row = data[begin], bytearray(data[begin + 1 : begin + 1 + length])
            if kind == 2:
                row = bytearray((a + b) & 0xFF for a, b in zip(row, above, strict=True))
            elif kind:
                for at in range(length):
                    left = row[at - size] if at >= size else 0
                    corner = above[at - size] if at >= size else 0
                    row[at] = (row[at] + _predicted(kind, left, above[at], corner)) & 0xFF
            yield row
            above = row


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 1:
        return left
    if kind == 3:
        return (left + above) // 2
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length
