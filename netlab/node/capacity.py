"""What a node has, and what of it pods may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from netlab.api.meta_types import Quantity

if TYPE_CHECKING:
    from netlab.node.context import KubeletConfig


def memory() -> int:
    """Bytes of memory of the whole machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def of_node(config: KubeletConfig) -> dict[str, Quantity]:
    """All of it: each has the whole machine, as with kind. Pods ask for what they might need, and seldom use it."""
    disk = os.statvfs(config.log_dir)
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory() // 1024}Ki",
        "ephemeral-storage": f"{disk.f_frsize * disk.f_blocks // 1024}Ki",
        "pods": str(config.max_pods),
    }


def allocatable(config: KubeletConfig) -> dict[str, Quantity]:
    """What pods may use: of the memory, no more than the lab may."""
    return of_node(config) | ({"memory": f"{config.memory // 1024}Ki"} if config.memory is not None else {})
