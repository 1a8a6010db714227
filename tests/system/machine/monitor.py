"""What a lab's monitor does, alone: boot the first machine, tell its pid, and wait for the end of standard input."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from netlab.lab import ids
from netlab.machine import boot
from netlab.net.peers import GUARD, Guard

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    guard = Guard(f"{directory}/{GUARD}")
    range_of_ids = ids.take(directory) if os.geteuid() == 0 else None
    if range_of_ids is not None:
        ids.hand_over(directory, range_of_ids)
    machine = boot.start("fabric", directory / "fabric.sock", hostname="fabric", lab_dir=directory, ids=range_of_ids)
    guard.start(machine)
    print(machine, flush=True)
    sys.stdin.read()
