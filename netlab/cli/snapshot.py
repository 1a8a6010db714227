"""netlab snapshot save and restore."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.cli.options import lab_option
from netlab.cli.output import say
from netlab.counted import counted
from netlab.lab.lab import Lab


@click.group()
def snapshot() -> None:
    """Save a lab's objects in a file, and restore them.

    The API server also keeps one itself, never older than half a minute, in case the lab's database is damaged.
    """


@snapshot.command()
@lab_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def save(lab: Lab, file: Path) -> None:
    """Write all objects of a lab that is up to FILE."""
    from netlab.lab.snapshot import save as save_snapshot

    header = save_snapshot(lab, file)
    click.echo(f"lab {lab.name}: {counted(header.objects, 'object')} saved in {file}")


@snapshot.command()
@lab_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
def restore(lab: Lab, file: Path | None) -> None:
    """Replace the objects of a lab that is down by those in FILE.

    A lab that does not exist is made, like the one that FILE was saved from. Without FILE, the objects are those in
    the snapshot that the API server keeps.
    """
    from netlab.lab.snapshot import restore as restore_snapshot

    header = restore_snapshot(lab, file)
    say(
        f"lab {lab.name}: {counted(header.objects, 'object')} of {header.time} restored; "
        "`netlab up` starts it with them"
    )
