"""Which text a container leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.api.core_types import Container
from netlab.node.termination import LONGEST, message, place

FALLBACK = "FallbackToLogsOnError"


@pytest.mark.parametrize(
    ("policy", "code", "written", "logged", "expected"),
    [
        ("File", 0, b"OK", b"log", "OK"),
        ("File", 1, b"", b"log", ""),
        ("File", 1, None, b"log", ""),
        (FALLBACK, 1, b"", b"log", "log"),
        (FALLBACK, 1, b"mine", b"log", "mine"),
        (FALLBACK, 0, b"", b"log", ""),
        (FALLBACK, 1, b"", None, ""),
        (FALLBACK, 1, b"", b"x\n" * 100, "x\n" * 80),
        (FALLBACK, 1, b"", b"y" * 9000, "y" * 2048),
        ("File", 0, b"a" + b"b" * LONGEST, b"", "b" * LONGEST),
        ("File", 0, b"\xff", b"", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_message(
    tmp_path: Path, policy: str, code: int, written: bytes | None, logged: bytes | None, expected: str
) -> None:
    path, log = tmp_path / "message", tmp_path / "log"
    for file, content in ((path, written), (log, logged)):
        if content is not None:
            file.write_bytes(content)
    spec = Container(name="c", image="i", terminationMessagePolicy=policy)
    assert message(spec, code, path, log) == expected
    assert place(spec) == "/dev/termination-log"
