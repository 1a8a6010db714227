"""What a lab's monitor does, alone: boot the first machine, tell its pid, and wait for the end of standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from netlab.machine import boot
from netlab.net.peers import GUARD, Guard

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    guard = Guard(f"{directory}/{GUARD}")
    machine = boot.start("fabric", directory / "fabric.sock", hostname="fabric", lab_dir=directory)
    guard.start(machine)
    print(machine, flush=True)
    sys.stdin.read()
