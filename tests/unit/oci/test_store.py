"""The store of images: what archives bring into it, and what goes again."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.errors import ConflictError, NetlabError, NotFoundError, UsageError
from netlab.oci import config, records
from netlab.oci.store import Store
from tests import images
from tests.images import docker_archive, layer, member, oci_layout

LOWER = layer([member("shared", b"lower")])
UPPER = layer([member("own", b"upper")])
NAME = "registry.example/app:1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def held(tmp_path: Path) -> list[str]:
    """Everything in the store but its lock."""
    folder = tmp_path / "store"
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file() and each.name != "lock")


@pytest.mark.parametrize("write", [docker_archive, oci_layout])
def test_an_archive_brings_its_image(store: Store, tmp_path: Path, write: Callable[..., Path]) -> None:
    process = {"Entrypoint": ["/app"], "Cmd": ["-x"], "Env": ["A=b=c", "odd"], "User": "1:2", "WorkingDir": "w"}
    ((record, names),) = store.load(write(tmp_path / "a.tar", NAME, [LOWER, UPPER], **process, StopSignal="RTMIN+3"))
    assert names == [NAME]
    assert (record.entrypoint, record.cmd, record.env) == (["/app"], ["-x"], {"A": "b=c"})
    assert (record.user, record.cwd, record.stop_signal, record.size) == ("1:2", "/w", 37, 10)
    found = records.find(str(tmp_path / "store"), "registry.example/app:1")
    assert found == record
    assert [
        Path(records.layer(str(tmp_path / "store"), each), name).read_text()
        for each, name in zip(record.layers, ("shared", "own"), strict=True)
    ] == ["lower", "upper"]


def test_images_share_layers_which_go_with_the_last(store: Store, tmp_path: Path) -> None:
    store.load(docker_archive(tmp_path / "a.tar", "a", [LOWER]))
    store.load(docker_archive(tmp_path / "b.tar", "b", [LOWER, UPPER]), "c:1")
    assert [names for _, names in store.images()] == [["docker.io/library/a:latest"], ["docker.io/library/c:1"]]
    assert len(list((tmp_path / "store/layers").iterdir())) == 2
    store.remove("c:1")
    assert [each.name for each in (tmp_path / "store/layers").iterdir()] == store.images()[0][0].layers
    store.remove("a")
    assert (list(tmp_path.glob("store")), store.images()) == ([], [])
    with pytest.raises(NotFoundError, match="there is no image 'a'"):
        store.remove("a")


def test_a_name_can_change_hands(store: Store, tmp_path: Path) -> None:
    store.load(docker_archive(tmp_path / "a.tar", "a", [LOWER]))
    store.load(docker_archive(tmp_path / "b.tar", "a", [UPPER]))
    assert [record.size for record, _ in store.images()] == [5]
    assert len(held(tmp_path)) == 4  # names, one image, and one layer with its size


def test_what_a_lab_runs_is_not_removed(store: Store, tmp_path: Path) -> None:
    ((record, _),) = store.load(docker_archive(tmp_path / "a.tar", "a", [LOWER]))
    directory = str(tmp_path / "store")
    hold = records.hold(directory, record.id)
    assert hold is not None
    before = held(tmp_path)
    with pytest.raises(ConflictError, match="image a is in use"):
        store.remove("a")
    store.load(docker_archive(tmp_path / "b.tar", "a", [UPPER]))  # the name goes, the image stays
    assert set(before) < set(held(tmp_path))
    os.close(hold)
    store.remove("a")
    assert list(tmp_path.glob("store")) == []
    assert records.hold(directory, record.id) is None


def test_an_empty_store_stays_as_long_as_a_lab_uses_it(store: Store, tmp_path: Path) -> None:
    used = records.use(str(tmp_path / "store"))
    store.load(docker_archive(tmp_path / "a.tar", "a", [LOWER]))
    store.remove("a")
    records.remove_unused(str(tmp_path / "store"))
    assert sorted(each.name for each in (tmp_path / "store").iterdir()) == [
        *("images", "layers", "lock", "names.json", "tmp")
    ]
    os.close(used)
    records.remove_unused(str(tmp_path / "store"))
    assert list(tmp_path.glob("store")) == []


def test_what_a_crash_has_left_goes(store: Store, tmp_path: Path) -> None:
    store.load(docker_archive(tmp_path / "a.tar", "a", [LOWER]))
    before = held(tmp_path)
    for left in ("tmp/half/tree/closed", "layers/0123/tree"):
        (tmp_path / "store" / left).mkdir(parents=True)
    (tmp_path / "store/tmp/half/tree/closed/file").touch()
    (tmp_path / "store/tmp/half/tree/closed").chmod(0o000)
    (tmp_path / "store/images/0123.json").write_text("{}")
    store.load(docker_archive(tmp_path / "b.tar", "a", [LOWER]))
    assert held(tmp_path) == before
    assert list((tmp_path / "store/tmp").iterdir()) == []


def _load(directory: Path, archive: Path, name: str) -> None:
    Store(directory).load(archive, name)


def test_many_may_load_at_once(store: Store, tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "a.tar", "a", [LOWER, UPPER])
    context = multiprocessing.get_context("fork")
    loads = [context.Process(target=_load, args=(tmp_path / "store", archive, f"n{number}")) for number in range(4)]
    for each in loads:
        each.start()
    for each in loads:
        each.join()
    assert [each.exitcode for each in loads] == [0] * 4
    assert [len(names) for _, names in store.images()] == [4]


def _without(path: Path, name: str) -> Path:
    path.write_bytes(layer([member(name, b"{}")]))
    return path


def _other_architecture(path: Path) -> Path:
    text = json.loads(images.configuration([LOWER])) | {"architecture": "s390x"}
    entry = {"Config": "c", "RepoTags": ["a"], "Layers": ["l"]}
    files = {"c": json.dumps(text).encode(), "l": LOWER, "manifest.json": json.dumps([entry]).encode()}
    return images._written(path, files)


def _other_layer(path: Path) -> Path:
    entry = {"Config": "c", "RepoTags": ["a"], "Layers": ["l"]}
    files = {"c": images.configuration([LOWER]), "l": UPPER, "manifest.json": json.dumps([entry]).encode()}
    return images._written(path, files)


def _damaged_blob(path: Path) -> Path:
    data = oci_layout(path, "a", [LOWER], User="nobody").read_bytes()
    path.write_bytes(data.replace(b'"User": "nobody"', b'"User": "root00"'))
    return path


def _sparse(path: Path) -> Path:
    """A member that says it is a terabyte of nothing."""
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    path.write_bytes(layer([member("manifest.json", b"0\n".ljust(512, b"\0"), pax_headers=sparse)]))
    return path


def _empty_file(path: Path) -> Path:
    path.write_bytes(b"")
    return path


REFUSED: dict[str, Callable[[Path], Path]] = {
    "it holds no image": lambda path: _without(path, "other"),
    "its manifest is not valid|names no configuration": lambda path: _without(path, "manifest.json"),
    "is for linux/s390x, and this machine is": _other_architecture,
    "is not what the image says": _other_layer,
    "is damaged: it has another digest": _damaged_blob,
    "is no archive of images": _empty_file,
    "it holds no image: neither": _sparse,
    "is not the name of an image": lambda path: docker_archive(path, "No Name", [LOWER]),
    "from 1 to 127 layers": lambda path: docker_archive(path, "a", []),
    "StopSignal 'SIGNONE' is no signal": lambda path: docker_archive(path, "a", [LOWER], StopSignal="SIGNONE"),
    "configuration is not valid": lambda path: docker_archive(path, "a", [LOWER], Cmd="text"),
    "leads out of it": lambda path: docker_archive(path, "a", [LOWER, layer([member("../x", b"")])]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_bad_archive_changes_nothing(store: Store, tmp_path: Path, why: str) -> None:
    store.load(docker_archive(tmp_path / "a.tar", "kept", [UPPER]))
    before = held(tmp_path)
    with pytest.raises(UsageError, match=why) as caught:
        store.load(REFUSED[why](tmp_path / "bad.tar"))
    assert "\n" not in str(caught.value)
    assert (held(tmp_path), list((tmp_path / "store/tmp").iterdir())) == (before, [])


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NetlabError, match="file/store: Not a directory"):
        Store(tmp_path / "file/store").load(tmp_path / "any")


def test_an_image_is_found_by_its_digest(store: Store, tmp_path: Path) -> None:
    ((record, _),) = store.load(oci_layout(tmp_path / "a.tar", NAME, [LOWER]))
    assert records.find(str(tmp_path / "store"), f"registry.example/app@{record.digest}") == record
    assert records.find(str(tmp_path / "store"), f"registry.example/other@{record.digest}") is None


@pytest.mark.parametrize(("text", "number"), [("", 15), ("SIGQUIT", 3), ("kill", 9), ("10", 10), ("SIGRTMIN+1", 35)])
def test_stop_signals(text: str, number: int) -> None:
    assert config.parse(images.configuration([LOWER], StopSignal=text))[1]["stop_signal"] == number
