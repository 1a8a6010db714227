"""Arguments that name the ends of a connection, as netlab.proxy.places reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from netlab.cli.options import completed_lab
from netlab.errors import NetlabError
from netlab.lab.paths import OUTSIDE


class _SourceType(click.ParamType[str]):
    name = "SOURCE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        names: list[str] = []
        with contextlib.suppress(NetlabError):  # of a lab that is down nothing is known
            names = [name for name in self.names(ctx) if name.startswith(incomplete)]
        return [click.shell_completion.CompletionItem(name) for name in names]

    def names(self, ctx: click.Context) -> Iterator[str]:
        """What may be given."""
        from netlab.api.resources import PODS

        lab = completed_lab(ctx)
        yield from (f"node/{name}" for name in lab.spec().node_names)
        yield OUTSIDE
        listed = lab.client().request("GET", PODS.path(ctx.params.get("namespace", "default")))["items"]
        yield from (each["metadata"]["name"] for each in listed)


class _DestinationType(_SourceType):
    name = "DESTINATION"

    def names(self, ctx: click.Context) -> Iterator[str]:
        """What may be given; a Service with each port that it has of the protocol."""
        from netlab.api.resources import SERVICES

        protocol = ctx.params.get("proto", "tcp")
        path = SERVICES.path(ctx.params.get("namespace", "default"))
        for service in completed_lab(ctx).client().request("GET", path)["items"]:
            name = f"svc/{service['metadata']['name']}"
            if protocol == "icmp":
                yield name
            for port in service["spec"].get("ports", []):
                if port.get("protocol", "TCP").lower() == protocol:
                    yield f"{name}:{port['port']}"
        yield from super().names(ctx)


source_argument = click.argument("source", type=_SourceType())
destination_argument = click.argument("destination", type=_DestinationType())
