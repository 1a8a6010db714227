"""What a lab's monitor does, alone: boot the first machine, tell its pid and cgroups, and wait for the end of input.

    python -m tests.system.machine.monitor DIRECTORY [MEMORY PIDS]

With limits, it is in cgroups whose names end in the directory's.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from netlab.lab import ids
from netlab.machine import boot
from netlab.machine.cgroups import hierarchies, labs
from netlab.machine.cgroups.limits import Limits
from netlab.net.peers import GUARD, Guard

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    guard = Guard(f"{directory}/{GUARD}")
    range_of_ids = ids.take(directory) if os.geteuid() == 0 else None
    if range_of_ids is not None:
        ids.hand_over(directory, range_of_ids)
    cgroups = []
    if sys.argv[2:]:
        memory, pids = map(int, sys.argv[2:])
        cgroups = labs.plan(hierarchies.find().parents, directory.name)
        labs.enter(cgroups, Limits(memory=memory, pids=pids), range_of_ids.first if range_of_ids else os.geteuid())
    machine = boot.start(
        "fabric",
        directory / "fabric.sock",
        hostname="fabric",
        lab_dir=directory,
        ids=range_of_ids,
        cgroups=cgroups,
        images=os.environ.get("NETLAB_TEST_IMAGES"),
    )
    guard.start(machine)
    print(json.dumps([machine, [asdict(each) for each in cgroups]]), flush=True)
    sys.stdin.read()
