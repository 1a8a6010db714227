"""Arguments that name the ends of a connection, as netlab.proxy.places reads them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from netlab.cli.suggestions import lab_of, objects, pods, suggest
from netlab.lab.paths import OUTSIDE


def _sources(ctx: click.Context) -> Iterator[str]:
    yield from (f"node/{name}" for name in lab_of(ctx).spec().node_names)
    yield OUTSIDE
    yield from pods(ctx)


def _destinations(ctx: click.Context) -> Iterator[str]:
    """A Service with each port that it has of the protocol, and all that can be a source."""
    from netlab.api.resources import SERVICES

    protocol = ctx.params.get("proto", "tcp")
    for service in objects(ctx, SERVICES):
        name = f"svc/{service['metadata']['name']}"
        if protocol == "icmp":
            yield name
        for port in service["spec"].get("ports", []):
            if port.get("protocol", "TCP").lower() == protocol:
                yield f"{name}:{port['port']}"
    yield from _sources(ctx)


source_argument = click.argument("source", shell_complete=suggest(_sources))
destination_argument = click.argument("destination", shell_complete=suggest(_destinations))
