"""The executables: a launcher of each plugin in Python, for this interpreter, and the compiled client in its place."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import netlab
from netlab.cni.installation.modules import BUNDLE
from netlab.cni.plugins.call import PLUGINS
from netlab.errors import UnsupportedError

_ROOT = Path(netlab.__file__).resolve().parent.parent
_LONGEST_LINE = 255
"""BINPRM_BUF_SIZE less one (Linux 5.1): how much of an executable the kernel reads to find its interpreter."""

# It imports nothing from netlab until it knows where netlab is, and does not leave that folder first on the path, where
# a backport in site-packages could shadow the standard library.
_LAUNCHER = '''\
{interpreter}
"""The CNI plugin {name} of {root}, as `netlab cni install` wrote it for this interpreter."""

import sys
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import O_CLOEXEC, O_RDONLY, close, open, pread

bundle = None
try:
    folder = __file__.rpartition("/")[0]
    path = folder + "/{bundle}"
    file = open(path, O_RDONLY | O_CLOEXEC)
    head = pread(file, 8, 0)
    if head[:4] != MAGIC_NUMBER or file <= 2:  # another Python's; or the number of a closed standard stream
        close(file)
        raise ImportError
    size = int.from_bytes(head[4:], "little")
    code, places = loads(pread(file, size, 8))
    names = {{"__name__": "netlab.cni.plugins.resident.bundle"}}
    exec(code, names)
    bundle = names["Bundle"](__file__, path, file, 8 + size, places)
    sys.meta_path.insert(0, bundle)
except Exception:  # missing, or changed
    sys.path.insert(0, {root!r})
try:
    from netlab.cni.plugins.call import call
except ImportError:
    print({gone!r})
    sys.exit(1)
if sys.path[0] == {root!r}:
    del sys.path[0]

if bundle:
    call({name!r}, folder, bundle.stay)
call({name!r})
'''


def executables(client: Path | None) -> dict[str, bytes]:
    """The contents of each file, by name. A client comes after what it falls back to."""
    launchers = {name: _launcher(name).encode() for name in PLUGINS}
    if client is None:
        return launchers
    return {f"{name}.py": text for name, text in launchers.items()} | dict.fromkeys(PLUGINS, client.read_bytes())


def _launcher(name: str) -> str:
    # A virtual environment's interpreter is a link that finds its packages through `site`, which -S skips.
    executable: str = getattr(sys, "_base_executable", "") or sys.executable
    interpreter = f"#!{executable} -IS"
    if not executable or any(mark.isspace() for mark in executable) or len(os.fsencode(interpreter)) > _LONGEST_LINE:
        raise UnsupportedError(
            f"the interpreter {executable!r} cannot stand in an executable's first line: its path has a space or is too"
            " long; use one installed elsewhere"
        )
    gone = {
        "cniVersion": "1.0.0",
        "code": 100,
        "msg": f"netlab is no longer in {_ROOT}; run `netlab cni install` again from its new place",
    }
    return _LAUNCHER.format(
        interpreter=interpreter,
        name=name,
        root=str(_ROOT),
        bundle=BUNDLE,
        gone=json.dumps(gone),
    )
