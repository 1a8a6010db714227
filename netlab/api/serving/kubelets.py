"""What the API server and kubelets agree on."""

from __future__ import annotations

import os

from netlab.net.addresses import host_port

PORT = 10250
"""The port of every kubelet (ports.KubeletPort)."""

RELAY = "/netlab/connect"
"""The path below which a kubelet makes connections for the API server: to the address and the port that follow."""


def is_true(text: str | None) -> bool:
    """A truth value of a query, as Go's strconv reads it; anything else is false."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


def undialled(host: str, port: int, error: OSError) -> str:
    """Why there is no connection to an address, in Go's words."""
    return f"dial tcp {host_port(host, port)}: {os.strerror(error.errno) if error.errno else 'i/o timeout'}"
