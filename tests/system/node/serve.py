"""A kubelet as a process of a node: `python -m tests.system.node.serve CONFIG.json`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.endpoint import Endpoint
from netlab.node.context import KubeletConfig
from netlab.node.kubelet import run


def decode(kind: type, value: Any) -> Any:
    """Paths are strings in JSON, and so is where the API is: the path of its socket."""
    if kind is Path:
        return Path(value)
    if kind is Endpoint:
        return Endpoint.of_socket(Path(value))
    raise NotImplementedError(kind)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=KubeletConfig, dec_hook=decode)))
