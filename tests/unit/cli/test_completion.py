"""What the shells are answered, without a lab."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from netlab.cli.completion import answer, script

LINES = [
    ("netlab sta", ["status"]),
    ("netlab get pods", ["pods"]),
    ("netlab get pods,servi", ["pods,serviceaccounts", "pods,services", "pods,servicecidrs"]),
    ("netlab get pods ", []),
    ("netlab get pods/", []),
    ("netlab logs ", []),
    ("netlab exec web -c ", []),
    ("netlab trace web svc/web:", []),
    ("netlab up --network r", ["routed"]),
    ("netlab up --name 'A b' --network r", ["routed"]),
    ("netlab scenario run 02-pod-to-pod 02", []),
    ("netlab scenario run 02", ["02-pod-to-pod"]),
    ("netlab nosuch ", []),
    ("netlab get 'unclosed", []),
]


@pytest.fixture
def without_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETLAB_HOME", str(tmp_path / "none"))


@pytest.mark.usefixtures("without_labs")
@pytest.mark.parametrize(("line", "suggested"), LINES)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_suggestions_without_a_lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, line: str, suggested: list[str]
) -> None:
    # As each shell's script has it: bash the line, zsh its words and the number of the last, fish the line and its end.
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1 - line.count("'A b'")))
    with contextlib.suppress(Exception):  # which main() keeps to itself
        answer(f"{shell}_complete")
    lines = capsys.readouterr().out.splitlines()
    given = lines[1::3] if shell == "zsh" else [each.partition(",")[2].partition("\t")[0] for each in lines if each]
    assert given == suggested


@pytest.mark.parametrize(
    ("shell", "line", "given"),
    [
        ("bash", "netlab up --network=r", "plain,routed"),
        ("zsh", "netlab up --network=r", "plain\n--network=routed\n_"),
        ("fish", "netlab up --network=r", "plain,--network=routed"),
    ],
)
def test_the_value_of_an_option_replaces_what_the_shell_replaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, line: str, given: str
) -> None:
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", "2" if shell != "fish" else "--network=r")
    answer(f"{shell}_complete")
    assert capsys.readouterr().out.strip() == given


def test_bash_gets_what_stands_behind_the_last_colon(tmp_path: Path) -> None:
    program = tmp_path / "netlab"
    program.write_text("#!/bin/sh\nprintf 'plain,%s\\n' \"$COMP_WORDS|\"\n")
    program.chmod(0o755)
    text = f"{script('bash')}\nCOMP_LINE='netlab trace a svc/web:8 b' COMP_POINT=24\n_netlab_completion netlab\n"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", text + 'printf "%s\n" "${COMPREPLY[@]}"'],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["netlab trace a svc/web:8|"]


def test_fishs_script_leaves_the_commas_of_a_value() -> None:
    assert 'string split --max 1 ","' in script("fish")
