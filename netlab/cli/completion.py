"""netlab completion."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)


class _Bash(BashComplete):
    """Bash breaks words at colons too (COMP_WORDBREAKS) and replaces what stands behind the last one: svc/web:80."""

    source_template = re.sub(
        r"COMP_WORDS=\S+ COMP_CWORD=\S+ ", 'COMP_WORDS="${COMP_LINE:0:COMP_POINT}" ', BashComplete.source_template
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        incomplete = "" if not words or line[-1:].isspace() else words.pop()
        self._typed = len(incomplete) - len(re.split("[:=]", incomplete)[-1])
        return words, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        # A value of an option that was typed as --option=VALUE stands for itself.
        typed = self._typed if item.value[: self._typed].endswith((":", "=")) else 0
        return f"{item.type},{item.value[typed:]}"


def _option(incomplete: str) -> str:
    """`--option=` of `--option=VALUE`."""
    return incomplete[: incomplete.index("=") + 1] if incomplete.startswith("--") and "=" in incomplete else ""


class _WholeWord(ShellComplete):
    """For shells that replace the whole word, --option=VALUE."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = super().get_completion_args()
        self._option = _option(incomplete)
        return words, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        item.value = self._option + item.value
        return super().format_completion(item)


class _Zsh(_WholeWord, ZshComplete):
    """Zsh replaces the whole word."""


class _Fish(_WholeWord, FishComplete):
    """Fish too; and click's script takes what stands before a value's first comma for all of it."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


_KINDS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(shell: str) -> str:
    """What a shell has to run to complete netlab's command lines."""
    from netlab.cli import _COMPLETE, cli

    return _KINDS[shell](cli, {}, "netlab", _COMPLETE).source()


def answer(instruction: str) -> None:
    """Answer a shell's script (`bash_complete`): a line or more for each suggestion."""
    from netlab.cli import _COMPLETE, cli

    shell = instruction.removesuffix("_complete")
    click.echo(_KINDS[shell](cli, {}, "netlab", _COMPLETE).complete())


@click.command()
@click.argument("shell", type=click.Choice(list(_KINDS)))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(netlab completion bash)"        in ~/.bashrc
    zsh:   eval "$(netlab completion zsh)"         in ~/.zshrc
    fish:  netlab completion fish > ~/.config/fish/completions/netlab.fish
    """
    click.echo(script(shell))
