"""A scenario to begin with."""

from pathlib import Path

import pytest

from netlab.errors import ConflictError, UsageError
from netlab.scenario.creation import create
from netlab.scenario.definition import load


def test_what_is_made_is_a_scenario_called_like_its_folder(tmp_path: Path) -> None:
    made = create(tmp_path / "deep" / "my-lesson")
    assert all(path.is_file() for path in made)
    scenario = load(tmp_path / "deep" / "my-lesson")
    assert scenario.name == "my-lesson"
    assert scenario.text.startswith(f"# {scenario.header.title}\n")
    assert "netlab scenario run ./my-lesson" in scenario.text
    assert "NAME" not in "".join(path.read_text() for path in made)


@pytest.mark.parametrize("name", ["Mine", "a b", "x" * 41, "é", "-a"])
def test_a_name_that_no_scenario_can_have_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a DNS label"):
        create(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConflictError, match="already exists"):
        create(tmp_path / "mine")
    with pytest.raises(UsageError, match="Not a directory"):
        create(tmp_path / "mine" / "below")
    assert (tmp_path / "mine").read_text() == "x"
