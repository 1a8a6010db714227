"""Command-line flags in Go's form, as in the real images' programs: --name value, --name=value, --switch.

Not argparse: it loads shutil with three compression libraries when used, 7 ms and 3 MB in every container.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class FlagError(Exception):
    """The command line is wrong."""


def parse(
    arguments: Sequence[str], flags: Mapping[str, tuple[Callable[[str], Any], Any]]
) -> tuple[dict[str, Any], list[str]]:
    """The values of the flags, and the other arguments. `flags` maps a name to its parser and its default.

    A parser raises `ValueError`. A flag parsed by `boolean` needs no value, and takes one only after "=".
    """
    values = {name: default for name, (_, default) in flags.items()}
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others.extend(rest)
        elif not argument.startswith("--"):
            others.append(argument)
        else:
            name, equals, text = argument.removeprefix("--").partition("=")
            if name not in flags:
                known = ", ".join(f"--{each}" for each in flags) or "none"
                raise FlagError(f"unknown flag: --{name} (known: {known})")
            parser = flags[name][0]
            if not equals:
                text = "true" if parser is boolean else next(rest, "")
            try:
                values[name] = parser(text)
            except ValueError as error:
                raise FlagError(f"invalid argument {text!r} for --{name}: {error}") from error
    return values, others


_LOGGING = {"alsologtostderr", "logtostderr", "one_output", "skip_headers", "skip_log_headers", "add_dir_header"}
_LOGGING_WITH_VALUES = {"v", "vmodule", "stderrthreshold", "log_dir", "log_file", "log_file_max_size"}


def without_logging(arguments: Sequence[str]) -> list[str]:
    """The arguments without klog's flags, which tests give to programs, as "-v=4" or "--v 4": the log is what it is."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or name not in _LOGGING | _LOGGING_WITH_VALUES:
            kept.append(argument)
        elif name in _LOGGING_WITH_VALUES and not equals:
            next(rest, "")
    return kept


def boolean(text: str) -> bool:
    """A flag's parser: true or false."""
    if text not in ("true", "false"):
        raise ValueError("true or false expected")
    return text == "true"


def port(text: str) -> int:
    """A flag's parser: a port, or -1 for none."""
    number = int(text)
    if not (number == -1 or 0 < number < 65536):
        raise ValueError("a port, or -1, expected")
    return number
