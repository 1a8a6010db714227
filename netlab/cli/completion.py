"""netlab completion."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(netlab completion bash)"        in ~/.bashrc
    zsh:   eval "$(netlab completion zsh)"         in ~/.zshrc
    fish:  netlab completion fish > ~/.config/fish/completions/netlab.fish
    """
    from click.shell_completion import get_completion_class

    from netlab.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "netlab", "_NETLAB_COMPLETE").source())
