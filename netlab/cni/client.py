"""The compiled client of the resident CNI process: built with the system's C compiler.

    python -m netlab.cni.client

builds it for this environment. It does exactly what netlab/cni/call.py does. Where a resident process does the work,
starting an interpreter is most of the cost of a call (docs/benchmarks.md), and this client has none to start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from netlab.cni.call import PROTOCOL, SOCKET
from netlab.errors import NetlabError, UnsupportedError

SOURCE = Path(__file__).with_suffix(".c")
BUILT = Path(sys.prefix) / "libexec" / "netlab" / "cni-client"
"""Part of this environment, so the builder may write there."""
_TIMEOUT = 60.0


def build(path: Path = BUILT) -> Path:
    """Compile the client to a path, atomically. Raises `UnsupportedError` without a compiler, `NetlabError`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise UnsupportedError(
            "there is no C compiler (cc): install gcc and libc6-dev, or keep using the Python client"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            macros = [f"-DSOCKET={json.dumps(SOCKET)}", f"-DPROTOCOL={json.dumps(PROTOCOL.decode())}"]
            argv = [compiler, "-std=c11", "-O2", *macros, "-o", str(fresh), str(SOURCE)]
            done = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT, check=False)
            if done.returncode:
                said = [line for line in os.fsdecode(done.stderr).splitlines() if "error" in line]
                raise NetlabError(f"{SOURCE}: {said[0] if said else 'the compiler failed'}")
            fresh.rename(path)
    except OSError as error:
        raise NetlabError(f"{error.filename or path}: {error.strerror}: cannot build the CNI client there") from error
    return path


if __name__ == "__main__":
    try:
        print(build())
    except NetlabError as error:
        sys.exit(f"netlab.cni.client: {error}")
