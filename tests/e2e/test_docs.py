"""Every console block of the documentation, run as pasted: it prints what its page shows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import pages

_PAGES = sorted(
    str(page.relative_to(pages.ROOT))
    for pattern in ("README.md", "docs/*.md", "scenarios/README.md", "scenarios/*/README.md")
    for page in pages.ROOT.glob(pattern)
    if "```console" in page.read_text(encoding="utf-8")
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[pages.Reader]:
    """A shell with a home of its own, whose labs are taken down."""
    home = Path(tempfile.mkdtemp(prefix="netlab-"))  # pytest's own paths are too long for a Unix socket's
    found = pages.Reader(tmp_path, home)
    try:
        yield found
        found.run("netlab down --all")
    finally:
        found.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("page", _PAGES)
def test_what_a_page_shows_is_printed(page: str, reader: pages.Reader) -> None:
    for block in pages.blocks((pages.ROOT / page).read_text(encoding="utf-8")):
        if block.skipped:
            continue
        reader.run(block.before)
        for command in block.commands:
            for _ in range(block.tries):
                wrong = block.differences(command, reader.run(command.text))
                if not wrong:
                    break
            assert not wrong, f"{page}, {wrong}"


def test_few_blocks_are_not_run() -> None:
    skipped = {
        f"{page}: {block.skipped}"
        for page in _PAGES
        for block in pages.blocks((pages.ROOT / page).read_text(encoding="utf-8"))
        if block.skipped
    }
    assert skipped == {
        "README.md: it writes to the host",
        "docs/api.md: it writes to the user's kubeconfig",
        "docs/api.md: needs etcdctl (Debian: etcd-client)",
        "docs/packets.md: it is watched while other commands run",
        "docs/packets.md: it reads the file of the capture above",
        "docs/packets.md: it writes docs/trace.svg, the picture below",
        "docs/runtimes.md: needs a Docker engine, and root",
    }
