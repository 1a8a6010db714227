"""The Docker engine of a lab: whether there is one, the process that speaks for it, and what the lab leaves in it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import NoReturn

from netlab import files
from netlab.backoff import RESTART
from netlab.errors import NetlabError, UnsupportedError
from netlab.lab.paths import LabPaths
from netlab.lab.spec import LabSpec


def prepare(paths: LabPaths) -> None:
    """Choose the engine, by DOCKER_HOST, and remove what an earlier boot of the lab left there.

    Raises `UnsupportedError` when there is none, or the caller is not root.
    """
    from netlab.machine.docker import engine

    if os.geteuid() != 0:
        raise UnsupportedError(
            "--runtime docker: the network namespaces of the engine's containers belong to root of this host: be root"
        )
    where = engine.address()
    engine.remove_all(engine.connect(where), os.path.realpath(paths.directory))
    files.replace(paths.engine, f"{where}\n")


def clear(paths: LabPaths) -> None:
    """Remove all that the lab has in its engine, if it has one. Raises `NetlabError` when that does not answer."""
    try:
        where = paths.engine.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    from netlab.machine.docker import engine

    try:
        engine.remove_all(engine.connect(where), os.path.realpath(paths.directory))
    except NetlabError as error:
        raise NetlabError(f"lab {paths.name}: its containers cannot be removed: {error}") from error


def start(paths: LabPaths, spec: LabSpec) -> None:
    """Keep the process that speaks for the engine running, from a thread of this one."""
    threading.Thread(target=_supervise, args=(paths, spec), name="docker", daemon=True).start()


def _supervise(paths: LabPaths, spec: LabSpec) -> NoReturn:
    where = paths.engine.read_text(encoding="utf-8").strip()
    sockets = [f"{node}={paths.docker_socket(node)}" for node in spec.node_names]
    backoff = RESTART
    while True:
        began = time.monotonic()
        with (paths.logs / "docker.log").open("ab") as log:
            command = [sys.executable, "-m", "netlab.machine.docker.serve", os.path.realpath(paths.directory), where]
            subprocess.run([*command, *sockets], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        backoff = backoff.failed(time.monotonic() - began)
        time.sleep(backoff.delay)
