"""netlab trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from netlab.cli.ends import destination_argument, source_argument
from netlab.cli.options import lab_option, namespace_option, output_option
from netlab.cli.output import Progress, value
from netlab.errors import DifferenceError, UsageError
from netlab.lab.lab import Lab

_NOT_DELIVERED = 11
_SMALLEST, _LARGEST = 64, 65535


@click.command()
@lab_option
@namespace_option
@output_option("json", "yaml")
@click.option("-v", "--verbose", is_flag=True, help="Show each interface, with routes and rules in full.")
@click.option(
    "--proto", type=click.Choice(["tcp", "udp", "icmp"]), default="tcp", show_default=True, help="The probe's protocol."
)
@click.option(
    "--size",
    type=click.IntRange(_SMALLEST, _LARGEST),
    help="Size of the IP packet in bytes, unfragmented; not for tcp.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, help="Seconds to wait for the answer."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw it too: a self-contained HTML page, or with suffix .svg only its map.",
)
@source_argument
@destination_argument
def trace(
    lab: Lab,
    namespace: str,
    output: str | None,
    verbose: bool,
    proto: Any,
    size: int | None,
    timeout: float,
    report: Path | None,
    source: str,
    destination: str,
) -> None:
    """Follow one real packet hop by hop, there and back: what it is at each, what changed, and which rule did it.

    SOURCE is a pod, node/NAME, outside, or an address of one of these. DESTINATION is svc/NAME[.NAMESPACE][:PORT],
    POD:PORT, node/NAME:PORT, outside:PORT or ADDRESS:PORT ([ADDRESS]:PORT of IPv6); without a port for icmp.
    dns/NAME:PORT is looked up first, as the pod would: each question is shown, and who answered.

    First the way is predicted from the lab's state; then a probe is sent, and watched at every interface and by every
    nftables rule. When it dies, it is said where and why.

    \b
    netlab trace client-5d4f9-x2x7p svc/web:80
    netlab trace outside node/node-2:30080 --report trace.html
    netlab trace web-1 web-2 --proto icmp --size 1500
    netlab trace client dns/web.default:80

    \b
    Exit status:
       0  the packet was delivered, as predicted
      10  what was observed is not what was predicted: the error says at which hop
      11  it was refused, rejected or dropped, there or on the way back, as predicted
    """
    if size and proto == "tcp":
        raise UsageError("--size: TCP chooses the sizes of its packets itself; use --proto udp or icmp")
    from netlab.report.files import require_writable, write_page
    from netlab.trace.model import NoAddressError
    from netlab.trace.run import Request
    from netlab.trace.run import trace as follow

    if report:
        require_writable(report)
    progress = Progress()
    try:
        found = follow(lab, Request(source, destination, proto, namespace, size or 0, timeout), progress)
    except NoAddressError as error:
        progress.done()
        from netlab.cli.trace_text import names
        from netlab.cli.wrapping import width

        for line in names(error.lookup, width()):
            click.echo(line)
        raise
    progress.done()
    if report:
        from netlab.report.path import path_page, path_picture

        write_page(report, path_picture(found) if report.suffix == ".svg" else path_page(found))
    if output:
        import msgspec

        value(msgspec.to_builtins(found), output)
    else:
        from netlab.cli.trace_text import lines
        from netlab.cli.wrapping import width

        for line in lines(found, width(), verbose=verbose):
            click.echo(line)
    if not found.agrees:
        raise DifferenceError(f"not as predicted: {'; '.join(found.differences)}")
    if found.verdict.outcome != "delivered":
        sys.exit(_NOT_DELIVERED)
