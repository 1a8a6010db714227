"""The scheduler's plugins, in upstream's order and with its weights; of storage and of images there are none."""

from __future__ import annotations

from netlab.controlplane.scheduler.plugins.interpodaffinity import INTER_POD_AFFINITY
from netlab.controlplane.scheduler.plugins.nodeaffinity import NODE_AFFINITY, NODE_NAME
from netlab.controlplane.scheduler.plugins.resources import BALANCED_ALLOCATION, NODE_PORTS, NODE_RESOURCES_FIT
from netlab.controlplane.scheduler.plugins.taints import NODE_UNSCHEDULABLE, TAINT_TOLERATION
from netlab.controlplane.scheduler.plugins.topologyspread import POD_TOPOLOGY_SPREAD

PLUGINS = (
    NODE_UNSCHEDULABLE,
    NODE_NAME,
    TAINT_TOLERATION,
    NODE_AFFINITY,
    NODE_PORTS,
    NODE_RESOURCES_FIT,
    POD_TOPOLOGY_SPREAD,
    INTER_POD_AFFINITY,
    BALANCED_ALLOCATION,
)
"""A node is refused for what the first of them finds."""
