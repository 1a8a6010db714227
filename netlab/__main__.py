"""`python -m netlab`, and the `netlab` program."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """Run the command line."""
    # Until it is loaded there is nothing to clean up: an interrupt just ends the process, without a traceback. (The
    # signal module would load other modules first.)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from netlab.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
