"""Creates the folder of a new scenario from a template, which passes without changes."""

from __future__ import annotations

import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from netlab.errors import ConflictError, UsageError
from netlab.scenario.definition import Header

_NAME = "NAME"
"""The placeholder for the name in the template's texts."""


def create(folder: Path) -> list[Path]:
    """Make the folder of a scenario with the folder's name. Returns the paths of its files.

    Raises `UsageError` for a name that no scenario can have or a folder that cannot be made, and `ConflictError` if it
    already exists.
    """
    name = folder.absolute().name
    try:
        Header(name=name, title="-", traffic="pod-to-pod")
    except ValueError as error:
        raise UsageError(str(error)) from None
    template = resources.files("netlab.scenario") / "template"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConflictError(f"{folder}: already exists and is left as it is: choose another name") from None
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    try:
        return sorted(_copy(template, folder, name))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from None


def _copy(template: Traversable, folder: Path, name: str) -> list[Path]:
    made = []
    for entry in template.iterdir():
        path = folder / entry.name
        if entry.is_file():
            path.write_text(entry.read_text(encoding="utf-8").replace(_NAME, name), encoding="utf-8")
            made.append(path)
        elif entry.name != "__pycache__":  # `make setup` compiles Python files
            path.mkdir()
            made += _copy(entry, path, name)
    return made
