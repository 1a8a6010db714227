"""netlab doctor."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from netlab.cli.options import output_option
from netlab.cli.output import table, value
from netlab.errors import ChecksFailedError
from netlab.visible import visible

if TYPE_CHECKING:
    from netlab.doctor.examination import Finding


@click.command()
@output_option("json", "yaml")
def doctor(output: str | None) -> None:
    """Check what this machine provides, and what breaks without it.

    Each check really tries it, in throwaway namespaces. Exits with status 9 if a lab cannot work.

    \b
    failed   a lab does not work without it
    lacking  only the named feature does not work
    untried  another check must pass first
    """
    from netlab.doctor.checks import checks
    from netlab.doctor.examination import examine

    findings = examine(checks())
    if output:
        value([_plain(finding) for finding in findings], output)
    else:
        _print(findings)
    failed = [finding.check.name for finding in findings if finding.status == "failed"]
    if failed:
        raise ChecksFailedError(f"labs do not work here without {', '.join(failed)}; the remedies are above")


def _plain(finding: Finding) -> dict[str, object]:
    check = finding.check
    return {
        "name": check.name,
        "status": finding.status,
        "required": check.required,
        "found": finding.found,
        "cost": check.cost,
        "remedy": check.remedy,
    }


def _print(findings: list[Finding]) -> None:
    table(["CHECK", "STATUS", "FOUND"], [[f.check.name, f.status, f.found] for f in findings])
    for finding in findings:
        if finding.status in ("failed", "lacking"):
            click.echo(f"\n{finding.check.name}: {visible(finding.found)}")
            click.echo(f"    costs   {finding.check.cost}")
            click.echo(f"    remedy  {finding.check.remedy}")
    counts = Counter(finding.status for finding in findings)
    click.echo(f"\n{', '.join(f'{number} {status}' for status, number in counts.items())}")
