"""The console blocks of the documentation: what a reader would paste, and what the page says is printed then.

    python -m tests.e2e.pages PAGE...

writes into the pages what their commands print here; review the difference before committing it.

A line that begins with `$ ` is a command, which `> ` continues, and so does a backslash at its end; the lines
up to the next command are its output. A line `…` stands for any lines, and a `…` at the end of a line for its rest.
Invisible comments just before a block say what a reader need not know:

    <!-- not run: REASON -->
    <!-- alike: A B -->          words that stand for each other, such as the names of backends of which any may answer
    <!-- at random: REASON -->   repeat each command until it prints what the page shows
    <!-- before: COMMAND -->     run this first: what the text says of the lab
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANY_LINES = "…"
_PROMPT, _MORE = "$ ", "> "
_BLOCK = re.compile(r"(?ms)^(?P<notes>(?:<!--[^>]*-->\n\n?)*)^```console\n(?P<body>.*?)^```$")
_NOTE = re.compile(r"<!-- (not run|alike|at random|before): (.*?) -->")
_SLOWEST = 120.0
"""Seconds after which a command counts as hung."""
_TRIES = 50
"""Of a command at random: one whose chance is a third fails once in 10**9."""

# Whatever differs from one run to the next, by what stands in its place. The fixed addresses of the plan stay.
_VARYING = [
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(_\d+)?\b", "UID"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    (r"\bveth[0-9a-f]+(@\w+)?", "VETH"),
    (r"-[0-9a-z]{8,10}-[0-9a-z]{5}\b", "-POD"),
    (r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-NAME"),
    (r"\b10\.244\.\d+\.\d+\b", "POD"),
    (r"\b10\.96\.\d+\.\d+\b(?!/)", "SERVICE"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|\+00:00)?", "TIME"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "TIME"),
    (r"\b(udp +17|tcp +6) \d+", r"\1 TIME"),
    (r"\brevision \d+", "REVISION"),
    (r"\b\d+(\.\d+)? ?(ns|µs|ms|s|milliseconds|sec)\b", "TIME"),
    (r":(?!(?:53|80|81|443|4789|8080|8081|10256|30080)\b)\d+\b", ":PORT"),
    (r"\b(3[0-9]{4}|[4-6]\d{4})\b(?<!30080)", "PORT"),
    (r"\b0\.\d+\b", "FRACTION"),
    (r"\b\d+[smhd]\b", "AGE"),
]


@dataclass
class Command:
    """A line of a block, and the lines that the page shows after it."""

    text: str
    output: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """A block of a page: `line` is its place, `skipped` why it is not run (empty: it is)."""

    line: int
    commands: list[Command]
    skipped: str = ""
    alike: frozenset[str] = frozenset()
    tries: int = 1
    before: str = ""

    def differences(self, command: Command, printed: list[str]) -> str:
        """How what was printed differs from the page; empty if it does not."""
        wanted = [self._plain(line) for line in command.output]
        found = [self._plain(line) for line in printed]
        if _matches([line for line in wanted if line], [line for line in found if line]):
            return ""
        shown = "\n  ".join(command.output) or "nothing"
        return f"line {self.line}: $ {command.text}\nthe page shows\n  {shown}\nand here it printed\n  " + "\n  ".join(
            printed
        )

    def _plain(self, line: str) -> str:
        for pattern, name in _VARYING:
            line = re.sub(pattern, name, line)
        for word in sorted(self.alike, key=len, reverse=True):
            line = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", "ALIKE", line)
        return " ".join(line.split())


def blocks(text: str) -> list[Block]:
    """The console blocks of a page."""
    found = []
    for match in _BLOCK.finditer(text):
        notes = dict(_NOTE.findall(match["notes"]))
        line = text.count("\n", 0, match.start("body")) + 1
        alike = frozenset(notes.get("alike", "").split())
        tries = _TRIES if "at random" in notes else 1
        found.append(
            Block(line, _commands(match["body"]), notes.get("not run", ""), alike, tries, notes.get("before", ""))
        )
    return found


def _commands(body: str) -> list[Command]:
    found: list[Command] = []
    continued = False
    for line in body.splitlines():
        if continued and line.startswith(_MORE):
            found[-1].text += "\n" + line.removeprefix(_MORE)
            continue
        if found and found[-1].text.endswith("\\") and not found[-1].output:
            found[-1].text += "\n" + line
        elif line.startswith(_PROMPT):
            found.append(Command(line.removeprefix(_PROMPT)))
        else:
            found[-1].output.append(line)
        continued = not found[-1].output
    return found


def _matches(wanted: list[str], found: list[str]) -> bool:
    if not wanted:
        return not found
    if wanted[0] == ANY_LINES:
        return any(_matches(wanted[1:], found[start:]) for start in range(len(found) + 1))
    same = found and (wanted[0] == found[0] or (wanted[0].endswith(ANY_LINES) and found[0].startswith(wanted[0][:-1])))
    return bool(same) and _matches(wanted[1:], found[1:])


class Reader:
    """A shell in which a page's commands are run, one after another, as if pasted; close it at the end.

    Its folder looks like a checkout, and what the commands write stays in it. Raises `TimeoutError` for a command
    that hangs.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        for name in ("docs", "scenarios", "cni_plugins", "README.md"):
            (folder / name).symlink_to(ROOT / name)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=os.environ | {"NETLAB_HOME": str(home), "PATH": path, "COLUMNS": "120"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> list[str]:
        """The lines that a command prints, to either stream."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        script = self._folder / ".pasted"
        script.write_text(f"{command}\n", encoding="utf-8")
        # Its own standard input: a command that reads it must not swallow the next ones.
        self._shell.stdin.write(". ./.pasted </dev/null; printf '\\n\\001\\n'\n")
        self._shell.stdin.flush()
        watch = threading.Timer(_SLOWEST, self._shell.kill)
        watch.start()
        lines: list[str] = []
        try:
            for line in self._shell.stdout:
                if line == "\1\n":
                    return _trimmed(lines)
                lines.append(line.rstrip())
        finally:
            watch.cancel()
        raise TimeoutError(f"{command}: no end after {_SLOWEST:.0f} s; printed so far: {lines}")

    def close(self) -> None:
        """End the shell."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()


def _trimmed(lines: list[str]) -> list[str]:
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _write(page: Path) -> None:
    """Put what the commands print now into a page."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="netlab-") as folder:
        (work := Path(folder) / "w").mkdir()
        reader = Reader(work, Path(folder) / "h")
        try:

            def filled(match: re.Match[str]) -> str:
                (block,) = blocks(match[0])
                if block.skipped:
                    return match[0]
                lines = []
                reader.run(block.before)
                for command in block.commands:
                    printed = reader.run(command.text)
                    kept = not block.differences(command, printed)
                    first, *rest = command.text.split("\n")
                    joined = first.endswith("\\")
                    lines += [
                        _PROMPT + first,
                        *(line if joined else _MORE + line for line in rest),
                        *(command.output if kept else printed),
                    ]
                return f"{match['notes']}```console\n" + "\n".join(lines) + "\n```"

            page.write_text(_BLOCK.sub(filled, text), encoding="utf-8")
        finally:
            reader.run("netlab down --all")
            reader.close()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _write(Path(argument))
