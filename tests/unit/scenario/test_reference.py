"""The reference in scenarios/README.md: it names all that a checks.py can use."""

import ast
import inspect
import re
import textwrap

import pytest

from netlab import scenario
from netlab.lab.paths import scenarios_dir

README = (scenarios_dir() / "README.md").read_text(encoding="utf-8")
TEXT = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
"""Without its blocks of code."""

RUNNERS = {"Context": {"begin", "close", "expected", "networks", "observed", "pcaps"}}
"""What the runner and the hosts call, and no check."""


def words(text: str) -> set[str]:
    """The identifiers within backticks."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[A-Za-z_]+", code)}


def table(title: str) -> str:
    """The table whose head begins with the title."""
    return re.search(rf"^\| `{title}`.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)[1]  # type: ignore[index]


def public(kind: type) -> set[str]:
    """The names of a class's public methods and attributes."""
    names = set(vars(kind)) | set(getattr(kind, "__annotations__", {}))
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize(
    ("title", "kinds"),
    [
        ("Context", [scenario.Context]),
        ("Host", [scenario.Host, scenario.Pod, scenario.Machine]),
        ("Service", [scenario.Service]),
        ("Answer", [scenario.Answer]),
        ("Recording", [scenario.Recording]),
        ("Packet", [scenario.Packet]),
    ],
)
def test_every_public_name_is_in_the_table_of_its_class(title: str, kinds: list[type]) -> None:
    names = {name for kind in kinds for name in public(kind)} - RUNNERS.get(title, set())
    assert names - words(table(title)) == set()


def test_every_exported_name_is_there() -> None:
    assert set(scenario.__all__) - words(TEXT) - {"check"} == set()
    assert "@check(" in README
