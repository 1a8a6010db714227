"""Compiling the client of the resident CNI process (plugins/resident/client.c) with the system's C compiler.

    python -m netlab.cni.installation.client

builds it for this environment. It does exactly what plugins/call.py does. Where a resident process does the work,
starting an interpreter is most of the cost of a call (docs/benchmarks.md), and this client has none to start. It is
linked statically where that is possible: loading the C library is a fifth of what is left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from netlab.cni.plugins import call
from netlab.errors import NetlabError, UnsupportedError

SOURCE = Path(call.__file__).parent / "resident" / "client.c"
BUILT = Path(sys.prefix) / "libexec" / "netlab" / "cni-client"
"""Part of this environment, so the builder may write there."""
_TIMEOUT = 60.0


def ready(folder: Path) -> Path:
    """A client that is up to date: this environment's, or one built in `folder`. Raises as `build`."""
    sources = (SOURCE, Path(call.__file__))
    if BUILT.exists() and all(source.stat().st_mtime <= BUILT.stat().st_mtime for source in sources):
        return BUILT
    return build(folder / BUILT.name)


def build(path: Path = BUILT) -> Path:
    """Compile the client to a path, atomically. Raises `UnsupportedError` without a compiler, `NetlabError`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise UnsupportedError("there is no C compiler (cc): install gcc and libc6-dev, or use the Python client")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            _compile([compiler, "-std=c11", "-O2", "-s"], fresh)
            fresh.rename(path)
    except OSError as error:
        raise NetlabError(f"{error.filename or path}: {error.strerror}: cannot build the CNI client there") from error
    return path


def _compile(compiler: list[str], path: Path) -> None:
    macros = [f"-DSOCKET={json.dumps(call.SOCKET)}", f"-DPROTOCOL={json.dumps(call.PROTOCOL.decode())}"]
    said = b""
    for linking in (["-static"], []):  # not every system has the C library for it
        argv = [*compiler, *linking, *macros, "-o", str(path), str(SOURCE)]
        done = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT, check=False)
        if done.returncode == 0:
            return
        said = done.stderr
    errors = [line for line in os.fsdecode(said).splitlines() if "error" in line]
    raise NetlabError(f"{SOURCE}: {errors[0] if errors else 'the compiler failed'}")


if __name__ == "__main__":
    try:
        print(build())
    except NetlabError as error:
        sys.exit(f"netlab.cni.installation.client: {error}")
