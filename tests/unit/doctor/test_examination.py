import os
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.doctor.examination import Check, conclude, examine
from netlab.errors import UnsupportedError


def _found() -> str:
    return "there"


def _lacking() -> str:
    raise UnsupportedError("not there")


def _refused() -> str:
    raise PermissionError(1, "Operation not permitted", "thing")


def _dies() -> str:
    os._exit(3)


def _check(
    name: str, probe: Callable[[], str] = _found, *, required: bool = True, after: tuple[str, ...] = ()
) -> Check:
    return Check(name, probe, "costs", "remedy", required, after)


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([_check("a")], [("passed", "there")]),
        ([_check("a", _lacking)], [("failed", "not there")]),
        ([_check("a", _refused)], [("failed", "[Errno 1] Operation not permitted: 'thing'")]),
        ([_check("a", _lacking, required=False)], [("lacking", "not there")]),
        ([_check("a", _lacking), _check("b", after=("a",))], [("failed", "not there"), ("untried", "needs a")]),
        (
            [_check("a", _lacking), _check("b", after=("a",)), _check("c", after=("b",)), _check("d")],
            [("failed", "not there"), ("untried", "needs a"), ("untried", "needs b"), ("passed", "there")],
        ),
        (
            [_check("a"), _check("b", _dies), _check("c", required=False)],
            [("passed", "there"), ("failed", "the check itself crashed"), ("lacking", "the check itself crashed")],
        ),
    ],
)
def test_a_check_comes_to_what_its_probe_did(checks: list[Check], expected: list[tuple[str, str]]) -> None:
    assert [(finding.status, finding.found) for finding in examine(checks)] == expected


def test_examination_leaves_the_caller_where_it_is() -> None:
    def moves() -> str:
        os.chdir("/")
        return "moved"

    here = Path.cwd()
    examine([_check("a", moves)])
    assert Path.cwd() == here


def test_what_nobody_reported_died() -> None:
    assert [finding.status for finding in conclude([_check("a")], {})] == ["failed"]
