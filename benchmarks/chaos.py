"""Kill a lab's processes at random for two minutes, on each store, while clients write, watch and call a Service.

    python -m benchmarks.chaos [--seconds 120] [--store sqlite] [--seed N]

Ends with an error if an acknowledged write is lost, a call of the Service fails, or a client hangs; tells how long
writes were held up at most.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.e2e import chaos
from tests.e2e.conftest import Netlab


def main() -> None:
    """Try each store, and print what there was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long, on each store")
    parser.add_argument("--store", action="append", choices=["sqlite", "etcd"], help="both, if not given")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    for store in arguments.store or ["sqlite", "etcd"]:
        home = Path(tempfile.mkdtemp(prefix="netlab-"))
        lab, end = Netlab(home), time.monotonic() + arguments.seconds
        try:
            found = chaos.run(lab, store, lambda _, end=end: time.monotonic() < end, arguments.seed)  # type: ignore[misc]
        finally:
            lab.run("down", "--all")
            shutil.rmtree(home)
        killed = ", ".join(f"{name} {count}" for name, count in sorted(collections.Counter(found.kills).items()))
        print(
            f"{store}: {len(found.kills)} killed ({killed}); {len(found.acknowledged)} writes acknowledged and there, "
            f"{found.refused} tried again, {found.longest:.1f} s without one at most; {found.calls} calls, "
            f"{len(found.failures)} failed (seed {arguments.seed})"
        )


if __name__ == "__main__":
    main()
