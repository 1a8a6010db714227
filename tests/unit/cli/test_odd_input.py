"""Odd input of any kind is refused with a documented status: nothing that a user gives is an internal error."""

import contextlib
import errno
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.cli import cli, refused
from netlab.errors import NetlabError, UsageError
from netlab.lab import spec
from netlab.oci import registries
from netlab.scenario import definition
from tests.unit.scenario.test_definition import make

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}

# Those that need no lab to do what they do; and `up`, whose files are below.
ACTING = ("up", "scenario run", "scenario new", "doctor", "completion", "proxy run", "proxy cleanup", "cni ")


def commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        elif not f"{' '.join((*names, name))} ".startswith(ACTING):
            yield (*names, name)


COMMANDS = list(commands(cli))
OPTIONS = [
    "-f",
    "-n",
    "-c",
    "-o",
    "-l",
    "--name",
    "--node",
    "--pod",
    "--proto",
    "--size",
    "--count",
    "--all",
    "-A",
    "--",
]
ODD = [
    *("", " ", "-", "é", "漢字", "\udcff", "a/b", "../x", "/", "/etc/passwd", "/nonexistent/a", "x" * 300, "\x1b[31m"),
    *(
        "\n",
        "\x7f",
        "0",
        "-1",
        "9" * 40,
        "1e9",
        "nan",
        "inf",
        "a=b",
        "a,b",
        ",",
        "=",
        "!",
        "[::1]:80",
        "::1",
        "1.2.3.4:x",
    ),
    *(
        "svc/",
        "svc/x:0",
        "svc/x:99999",
        "node/",
        "pod/",
        "outside",
        "all",
        "pods",
        "pods,nodes",
        "*",
        "?x=",
        "${HOME}",
        "~",
    ),
]


def status_of(arguments: list[str]) -> int:
    """As main() ends."""
    try:
        cli.main(arguments, standalone_mode=False)
    except NetlabError as error:
        return error.exit_status
    except OSError as error:
        return refused(error).exit_status
    except click.ClickException as error:
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home without labs, and an empty standard input."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETLAB_HOME", str(folder / "labs"))
        patch.setattr(registries, "SKOPEO", "/nonexistent/skopeo")  # no registry is asked for odd names
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        patch.chdir(folder)
        yield folder


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
"""What execve(2) can pass on: no NUL."""


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(COMMANDS),
    st.lists(st.one_of(st.sampled_from(ODD), st.sampled_from(OPTIONS), WORDS), max_size=5),
)
def test_arguments(nowhere: Path, command: tuple[str, ...], words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert status_of([*command, *words]) in DOCUMENTED
    assert not (nowhere / "labs").exists()


@pytest.mark.parametrize("home", ["/etc/passwd", "/dev/null", "/proc/1/x", "relative", "/" + "x" * 300])
@pytest.mark.parametrize("command", [["list"], ["status"], ["get", "pods"], ["up", "--nodes", "0"], ["down"]])
def test_homes_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str, command: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETLAB_HOME", home)
    with contextlib.redirect_stdout(io.StringIO()):
        assert status_of(command) in DOCUMENTED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), 1, "a/b: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device", b"/x"), 7, "/x: No space left on device"),
        (OSError(errno.EMFILE, "Too many open files"), 7, "Too many open files"),
        (OSError("odd"), 1, "odd"),
    ],
)
def test_what_the_system_refuses_is_an_error_of_the_users(error: OSError, status: int, said: str) -> None:
    assert (refused(error).exit_status, str(refused(error))) == (status, said)


# --- files ------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["IPv4", "vxlan", "mine", "pod-to-pod", "10.0.0.0/8", "::/0", "Lab", "Pod", "v1", "netlab/v1"]),
)
FIELDS = [
    *(field.name for kind in (spec.LabSpec, definition.Header) for field in msgspec.structs.fields(kind)),
    *("apiVersion", "kind", "metadata", "spec", "items"),
]
KEYS = st.one_of(st.sampled_from(FIELDS), st.text(max_size=4), st.integers(), st.booleans(), st.none())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
LABS = st.one_of(
    VALUES,
    st.builds(lambda value: {"apiVersion": "netlab/v1", "kind": "Lab", "spec": value}, VALUES),
    st.builds(
        lambda name, value: {"apiVersion": "netlab/v1", "kind": "Lab", "spec": {name: value}},
        st.sampled_from(FIELDS),
        VALUES,
    ),
)
HEADERS = st.one_of(
    VALUES,
    st.builds(
        lambda name, value: {"name": "mine", "title": "Mine", "traffic": "pod-to-pod", name: value},
        st.sampled_from(FIELDS),
        VALUES,
    ),
)


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(LABS)
def test_lab_files(nowhere: Path, value: Any) -> None:
    file = nowhere / "lab.yaml"
    file.write_text(dumped(value), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(UsageError):
        values, _ = spec.load(file)
        spec.from_values(values, str(file))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(HEADERS)
def test_scenario_files(nowhere: Path, value: Any) -> None:
    folder = nowhere / "mine"
    if not folder.exists():
        make(folder)
    (folder / "scenario.yaml").write_text(dumped(value), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(UsageError):
        definition.load(folder)


@pytest.mark.parametrize("value", ["!!int abc", "!!timestamp 9999-99-99", "!!float x", "!!bool maybe", "!!binary x"])
def test_values_that_are_not_of_their_tag(nowhere: Path, tmp_path: Path, value: str) -> None:
    """A YAML library's own constructors raise whatever int() or datetime() raise of them."""
    header = f"name: mine\ntitle: {value}\ntraffic: pod-to-pod\n"
    files = {
        "pod.yaml": f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {value}\n",
        "lab.yaml": f"apiVersion: netlab/v1\nkind: Lab\nspec:\n  nodes: {value}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    commands = [
        ["apply", "-f", str(tmp_path / "pod.yaml")],
        ["up", "-f", str(tmp_path / "pod.yaml")],
        ["up", "-f", str(tmp_path / "lab.yaml")],
        ["scenario", "show", str(make(tmp_path / "mine", header=header))],
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        assert [status_of(command) for command in commands] == [UsageError.exit_status] * len(commands)
    assert not (nowhere / "labs").exists()
