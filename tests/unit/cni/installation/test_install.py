"""Installing: the executables work from anywhere, and removing takes away what was installed and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netlab.cli import cni_install
from netlab.cni.installation import client, install
from netlab.cni.installation.client import SOURCE, build
from netlab.cni.installation.modules import BUNDLE
from netlab.cni.installation.network import network_list
from netlab.cni.installation.record import RECORD
from netlab.cni.plugins.call import PLUGINS
from netlab.cni.plugins.ipam.store import Store
from netlab.cni.runtime.configurations import find_network
from netlab.errors import ConflictError, NetlabError, NotFoundError, UnsupportedError


@pytest.mark.parametrize("name", PLUGINS)
def test_an_installed_plugin_runs_with_an_empty_environment(tmp_path: Path, name: str) -> None:
    paths = install.install_plugins(tmp_path / "bin")
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == sorted(PLUGINS)
    assert {stat.S_IMODE(path.lstat().st_mode) for path in paths} == {0o755}
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in paths)
    done = subprocess.run(
        [tmp_path / "bin" / name], env={"CNI_COMMAND": "VERSION"}, cwd="/", capture_output=True, check=True
    )
    assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]
    assert done.stderr == b""


@pytest.mark.parametrize("bundle", [None, b"", b"\0\0\0\0\4\0\0\0junk", b"another Python's"])
def test_without_its_bundle_a_plugin_finds_its_modules_one_by_one(tmp_path: Path, bundle: bytes | None) -> None:
    install.install(tmp_path)
    (tmp_path / BUNDLE).unlink()
    if bundle is not None:
        (tmp_path / BUNDLE).write_bytes(bundle)
    done = subprocess.run([tmp_path / "netlab"], env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True)
    assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]
    assert done.stderr == b""


@pytest.mark.parametrize("name", PLUGINS)
def test_a_bundle_has_all_that_a_plugin_imports(tmp_path: Path, name: str) -> None:
    """Nothing of netlab's comes from its own folder, which is not even looked at."""
    install.install(tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text().replace(str(Path(install.__file__).parents[3]), "/nonexistent"))
    for command, code in (("VERSION", None), ("STATUS", 4), ("GC", 4), ("ADD", 4), ("DEL", 4), ("CHECK", 4)):
        config = json.dumps({"cniVersion": "1.1.0", "name": "n", "type": name})
        done = subprocess.run(
            [path], input=config.encode(), env={"CNI_COMMAND": command}, capture_output=True, check=False
        )
        assert json.loads(done.stdout or "{}").get("code") == code
        assert done.stderr == b""


@pytest.fixture(name="compiled")
def _compiled(tmp_path: Path) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return build(tmp_path / "client")


@pytest.mark.parametrize("name", PLUGINS)
def test_a_compiled_client_executes_the_plugin_beside_it_where_nobody_serves(
    tmp_path: Path, compiled: Path, name: str
) -> None:
    paths = install.install_plugins(tmp_path / "bin", compiled)
    assert sorted(path.name for path in paths) == sorted([*PLUGINS, *(f"{each}.py" for each in PLUGINS)])
    argv, environment = [tmp_path / "bin" / name], {"CNI_COMMAND": "VERSION"}
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, check=True)
    assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]
    (tmp_path / "bin" / f"{name}.py").unlink()
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["code"] == 100
    assert f"{name}.py" in json.loads(done.stdout)["msg"]


def test_the_compiled_client_is_installed_and_removed_like_the_others(tmp_path: Path, compiled: Path) -> None:
    installed = install.install(tmp_path / "bin", client=compiled)
    assert install.uninstall(tmp_path / "bin") == (installed, [])
    assert not list((tmp_path / "bin").iterdir())


def test_the_client_compiles_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    macros = ['-DSOCKET="/run/x"', '-DPROTOCOL="p"']
    argv = [
        "cc",
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        *macros,
        "-o",
        str(tmp_path / "client"),
        str(SOURCE),
    ]
    assert subprocess.run(argv, capture_output=True, check=False).stderr == b""


def test_a_client_that_cannot_be_built_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'client.c:1:1: fatal error: stdio.h: No such file' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(NetlabError, match="stdio"):
        build(tmp_path / "client")
    compiler.unlink()
    with pytest.raises(UnsupportedError, match="gcc"):
        build(tmp_path / "client")
    assert not list(tmp_path.iterdir())


def test_executables_are_compiled_where_that_is_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BUILT", tmp_path / "built")
    arguments = ["--bin-dir", str(tmp_path / "bin")]
    monkeypatch.setenv("PATH", str(tmp_path))  # which has no compiler
    done = CliRunner().invoke(cni_install.install, arguments)
    assert (done.exit_code, "there is no C compiler" in done.stderr) == (0, True)
    assert (tmp_path / "bin" / "netlab").read_bytes().startswith(b"#!")
    refused = CliRunner().invoke(cni_install.install, [*arguments, "--compiled"])
    assert isinstance(refused.exception, UnsupportedError)
    # One that this environment has built, and then one that is older than its source.
    (tmp_path / "built").write_bytes(b"compiled")
    for option, found in ((["--no-compiled"], b"#!"), ([], b"compiled")):
        assert CliRunner().invoke(cni_install.install, [*arguments, *option]).exit_code == 0
        assert (tmp_path / "bin" / "netlab").read_bytes().startswith(found)
    os.utime(tmp_path / "built", (1, 1))
    assert CliRunner().invoke(cni_install.install, arguments).exit_code == 0
    assert (tmp_path / "bin" / "netlab").read_bytes().startswith(b"#!")


def test_a_plugin_whose_netlab_was_moved_says_so(tmp_path: Path) -> None:
    (path, *_) = install.install_plugins(tmp_path)
    path.write_text(path.read_text().replace(str(Path(install.__file__).parents[3]), "/nonexistent"))
    done = subprocess.run([path], env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert "install` again" in json.loads(done.stdout)["msg"]


@pytest.mark.parametrize("executable", ["/opt/a b/python3", "/" + "x" * 260, ""])
def test_an_interpreter_that_no_first_line_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr("sys._base_executable", executable)
    monkeypatch.setattr("sys.executable", executable)
    with pytest.raises(UnsupportedError, match="first line"):
        install.install_plugins(tmp_path / "bin")
    assert not (tmp_path / "bin").exists()


def test_what_was_installed_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bridge").write_text("somebody else's")
    installed = install.install(tmp_path)
    checked = subprocess.run(["sha256sum", "--check", RECORD], cwd=tmp_path, capture_output=True, check=False)
    assert checked.returncode == 0
    assert install.install(tmp_path) == installed, "it is repeated without a word"
    installed[2].write_text("changed by hand")
    installed[3].unlink()
    removed, kept = install.uninstall(tmp_path)
    assert (removed, kept) == ([*installed[:2], installed[4]], [installed[2]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bridge", installed[2].name]
    with pytest.raises(NotFoundError, match="installed nothing there"):
        install.uninstall(tmp_path)


def test_an_installation_that_was_killed_half_way_can_be_removed(tmp_path: Path) -> None:
    # The record is there and one executable: what a kill after the second rename leaves.
    (tmp_path / "whole").mkdir()
    first, *_ = install.install(tmp_path / "whole")
    (tmp_path / "half").mkdir()
    for path in (first, tmp_path / "whole" / RECORD):
        path.rename(tmp_path / "half" / path.name)
    assert install.uninstall(tmp_path / "half") == ([tmp_path / "half" / first.name], [])
    assert list((tmp_path / "half").iterdir()) == []


def test_a_file_of_somebody_elses_is_not_replaced_unasked(tmp_path: Path) -> None:
    foreign = tmp_path / "netlab-portmap"
    foreign.symlink_to("/nonexistent")
    with pytest.raises(ConflictError, match=r"netlab-portmap: .* --force"):
        install.install(tmp_path)
    assert list(tmp_path.iterdir()) == [foreign]
    install.install(tmp_path, force=True)
    assert not foreign.is_symlink()


@pytest.mark.parametrize("line", ["nonsense", "digest  ../../etc/passwd"])
def test_a_record_that_leads_elsewhere_is_not_followed(tmp_path: Path, line: str) -> None:
    (tmp_path / RECORD).write_text(line + "\n")
    with pytest.raises(NetlabError, match="is not a line of sha256sum"):
        install.uninstall(tmp_path)


NETWORK = network_list("lan", ["10.22.0.0/16", "fd00:22::/64"])


def test_a_network_is_installed_once(tmp_path: Path) -> None:
    *_, path = install.install(tmp_path / "bin", tmp_path / "net.d", NETWORK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert find_network(tmp_path / "net.d", "lan").cni_version == "1.1.0"
    assert install.install(tmp_path / "bin", tmp_path / "net.d", NETWORK)[-1] == path
    path.write_text("{}")
    with pytest.raises(ConflictError, match="--force"):
        install.install(tmp_path / "bin", tmp_path / "net.d", NETWORK)
    assert path.read_text() == "{}"


def test_a_network_of_that_name_under_another_file_name(tmp_path: Path) -> None:
    (tmp_path / "00-broken.conf").write_text("{")
    (tmp_path / "99-other.conflist").write_text('{"name": "lan", "plugins": [{"type": "x"}]}')
    with pytest.raises(ConflictError, match=r"99-other\.conflist: already has a network 'lan'"):
        install.install(tmp_path / "bin", tmp_path, NETWORK)
    assert not (tmp_path / "bin").exists(), "nothing is changed"
    assert install.install(tmp_path / "bin", tmp_path, NETWORK, force=True)[-1].exists()


def test_a_subnet_of_another_network_is_not_given_twice(tmp_path: Path) -> None:
    other = {"cniVersion": "1.0.0", "name": "other", "type": "bridge", "ipam": {"subnet": "10.22.5.0/24"}}
    (tmp_path / "50-other.conf").write_text(json.dumps(other))
    (tmp_path / "60-odd.conf").write_text('{"name": "odd", "type": "x", "ipam": {"ranges": [[{"subnet": 7}], 5]}}')
    with pytest.raises(ConflictError, match=r"10\.22\.0\.0/16: overlaps 10\.22\.5\.0/24 of network 'other'"):
        install.install(tmp_path / "bin", tmp_path, NETWORK)
    assert not (tmp_path / "bin").exists(), "nothing is changed"
    assert install.install(tmp_path / "bin", tmp_path, NETWORK, force=True)[-1].exists()


def test_a_network_in_use_keeps_its_subnets(tmp_path: Path) -> None:
    def network(*subnets: str) -> dict[str, Any]:
        made = network_list("lan", subnets)
        made["plugins"][0]["ipam"]["dataDir"] = str(tmp_path / "data")
        return made

    *_, path = install.install(tmp_path / "bin", tmp_path / "net.d", network("10.22.0.0/16"))
    with Store(f"{tmp_path}/data/lan", create=True) as store:
        store.reserve(["10.22.0.7"], "c1", "eth0")
    before = path.read_bytes()
    with pytest.raises(ConflictError, match=r"it is in use, and 10\.22\.0\.7 is in none of 10\.23\.0\.0/16; delete"):
        install.install(tmp_path / "bin", tmp_path / "net.d", network("10.23.0.0/16"))
    assert path.read_bytes() == before
    install.install(tmp_path / "bin", tmp_path / "net.d", network("10.22.0.0/17", "fd00::/64"))
    install.install(tmp_path / "bin", tmp_path / "net.d", network("10.23.0.0/16"), force=True)
    assert path.read_bytes() != before
