"""Scenarios: lessons with manifests and checks, run and reported.

A scenario's checks.py imports only from here, not from other parts of netlab.
"""

from netlab.capture.packets import Packet
from netlab.net.addresses import host_port
from netlab.scenario.checks import check
from netlab.scenario.context import Context
from netlab.scenario.dialing import NO_ANSWER, PATIENCE, REFUSED, Answer, spare_port
from netlab.scenario.distribution import FALSE_ALARM, fair_range
from netlab.scenario.faults import Fault
from netlab.scenario.hosts import Host, Interface, Machine, Pod, Service
from netlab.scenario.recording import Recording

__all__ = [
    "FALSE_ALARM",
    "NO_ANSWER",
    "PATIENCE",
    "REFUSED",
    "Answer",
    "Context",
    "Fault",
    "Host",
    "Interface",
    "Machine",
    "Packet",
    "Pod",
    "Recording",
    "Service",
    "check",
    "fair_range",
    "host_port",
    "spare_port",
]
