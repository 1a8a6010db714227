"""Which part of a volume a mount asks for, and how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.api.core_types import VolumeMount
from netlab.errors import UsageError
from netlab.node import subpaths

_ENV = {"NAME": "web", "UP": "..", "TOP": "/tmp", "EMPTY": ""}
_REFUSED = 'failed to prepare subPath for volumeMount "v" of container "c": '


def _mount(path: str = "", expression: str = "") -> VolumeMount:
    return VolumeMount(name="v", mountPath="/v", subPath=path, subPathExpr=expression)


@pytest.mark.parametrize(
    ("path", "expression", "found"),
    [
        ("", "", ""),
        ("a//b/", "", "a/b"),
        ("$(NAME)", "", "$(NAME)"),
        ("", "logs/$(NAME)", "logs/web"),
        ("", "$(EMPTY)", ""),
    ],
)
def test_the_path(path: str, expression: str, found: str) -> None:
    assert subpaths.wanted(_mount(path, expression), "c", _ENV) == found


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("$(UP)/x", "../x must not contain '..'"),
        ("$(TOP)", "/tmp must not be an absolute path"),
        ("$(NONE)", "$(NONE) is no variable of the container"),
    ],
)
def test_a_path_that_cannot_be(expression: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        subpaths.wanted(_mount(expression=expression), "c", _ENV)
    assert str(refused.value) == _REFUSED + why


def test_what_is_missing_is_made_below_links_that_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    subpaths.make(_mount(), "c", str(tmp_path), "link/a/b")
    assert (tmp_path / "real/a/b").is_dir()
    subpaths.make(_mount(), "c", str(tmp_path), "link/a/b")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("up/x", "a link in up/x leads out of the volume"),
        ("top/x", "a link in top/x leads out of the volume"),
        ("loop", "a link in loop leads out of the volume"),
        ("file/x", "file/x leads through a file"),
    ],
)
def test_no_link_leads_out(tmp_path: Path, path: str, why: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "up").symlink_to("..")
    (volume / "top").symlink_to("/")
    (volume / "loop").symlink_to("loop")
    (volume / "file").touch()
    with pytest.raises(UsageError) as refused:
        subpaths.make(_mount(), "c", str(volume), path)
    assert str(refused.value) == _REFUSED + why
    assert not (tmp_path / "x").exists()
