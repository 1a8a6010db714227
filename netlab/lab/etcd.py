"""The etcd of a lab: one member, which is reached by a Unix socket alone."""

from __future__ import annotations

from pathlib import Path

from netlab.api.server.storage.watch import HISTORY

# etcd takes the part of a Unix socket's URL that looks like HOST:PORT for its path, from the current directory.
_CLIENTS, _PEERS = "client:0", "peer:0"

_MOST_BYTES = 2 * 1024 * 1024
"""Of a request: an object of 1.5 MiB, its key, and what etcd counts besides."""


def command(directory: Path, *options: str) -> list[str]:
    """What runs etcd in a directory, which is the current one and gets its data and its sockets."""
    clients, peers = f"unix://{_CLIENTS}", f"unix://{_PEERS}"
    return [
        # An etcd that was killed leaves its sockets behind, and the next one cannot listen there.
        *("/bin/sh", "-c", f'rm -f {_CLIENTS} {_PEERS}; exec "$@"', "sh", "etcd"),
        *("--name", "lab"),
        *("--data-dir", str(directory / "data")),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"lab={peers}"),
        # There is no one to lose an election to.
        *("--heartbeat-interval", "10", "--election-timeout", "100"),
        *("--auto-compaction-mode", "revision", "--auto-compaction-retention", str(HISTORY)),
        *("--max-request-bytes", str(_MOST_BYTES)),
        *("--logger", "zap", "--log-level", "warn", "--log-outputs", "stderr"),
        *options,
    ]


def socket_of(directory: Path) -> Path:
    """The socket of the etcd of a directory, or of what leads to another one."""
    return directory / _CLIENTS


def url(directory: Path) -> str:
    """Where the etcd that runs in a directory is reached (`Gateway`)."""
    return f"unix:{socket_of(directory)}"
