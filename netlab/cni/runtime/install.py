"""Installing the plugins where a runtime looks: executables in a CNI_PATH, a network in its configuration folder.

The digest of each installed file is recorded beside it, so that uninstalling removes exactly those files.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import importlib.util
import json
import marshal
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import netlab.cni
import netlab.net
from netlab.cni.plugins.call import PLUGINS, agent_socket
from netlab.cni.plugins.resident.agent import dismiss
from netlab.cni.runtime.configurations import read_networks
from netlab.cni.runtime.subnets import parse_subnets, refuse_in_use, refuse_overlap, subnets_of
from netlab.cni.spec.names import is_identifier
from netlab.errors import ConflictError, ExhaustedError, NetlabError, NotFoundError, UnsupportedError, UsageError

RECORD = ".netlab-installed"
"""What was installed in a folder, in the format of sha256sum(1). Runtimes ignore dot files."""

_ROOT = Path(netlab.__file__).resolve().parent.parent
_EXECUTABLE = 0o755
_READABLE = 0o644
"""Like everything in /etc/cni/net.d: it holds no secret, and rootless engines and `netlab cni` read it too."""
_LONGEST_LINE = 255
"""BINPRM_BUF_SIZE less one (Linux 5.1): how much of an executable the kernel reads to find its interpreter."""
_IFNAMSIZ = 16

Object = dict[str, Any]

BUNDLE = ".netlab-modules"
"""The plugins' modules in one file beside them (netlab/cni/plugins/resident/bundle.py)."""

# It imports nothing from netlab until it knows where netlab is, and does not leave that folder first on the path, where
# a backport in site-packages could shadow the standard library.
_LAUNCHER = '''\
{interpreter}
"""The CNI plugin {name} of {root}, as `netlab cni install` wrote it for this interpreter."""

import sys
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import O_CLOEXEC, O_RDONLY, close, open, pread

bundle = None
try:
    folder = __file__.rpartition("/")[0]
    path = folder + "/{bundle}"
    file = open(path, O_RDONLY | O_CLOEXEC)
    head = pread(file, 8, 0)
    if head[:4] != MAGIC_NUMBER or file <= 2:  # another Python's; or the number of a closed standard stream
        close(file)
        raise ImportError
    size = int.from_bytes(head[4:], "little")
    code, places = loads(pread(file, size, 8))
    names = {{"__name__": "netlab.cni.plugins.resident.bundle"}}
    exec(code, names)
    bundle = names["Bundle"](__file__, path, file, 8 + size, places)
    sys.meta_path.insert(0, bundle)
except Exception:  # missing, or changed
    sys.path.insert(0, {root!r})
try:
    from netlab.cni.plugins.call import call
except ImportError:
    print({gone!r})
    sys.exit(1)
if sys.path[0] == {root!r}:
    del sys.path[0]
sys.path += {packages!r}

if bundle:
    call({name!r}, folder, bundle.stay)
call({name!r})
'''


def install_plugins(bin_dir: Path, client: Path | None = None) -> list[Path]:
    """Write the executables of all plugins into a folder, each one atomically; returns their paths.

    They start this interpreter (the virtual environment's own, if there is one) without searching for it, and know this
    installation's folders. The folder is created if needed. If there is a compiled `client` of the resident process
    (plugins/resident/client.py), it takes each plugin's name; where no resident process answers, it executes the plugin
    beside it, whose name ends in `.py`. Raises `NetlabError`.
    """
    return _write_all(bin_dir, _executables(client))


def install(
    bin_dir: Path,
    conf_dir: Path | None = None,
    network: Object | None = None,
    *,
    client: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """`install_plugins`, and a network's configuration list in `conf_dir`, recorded for `uninstall`; their paths.

    Changes nothing and raises `ConflictError` if a file, or a network of that name, is not as it was installed, if a
    subnet belongs to another network, or if containers would lose theirs, unless `force` is given.
    """
    executables = _executables(client)
    modules = _modules()
    plugins = [bin_dir / name for name in (BUNDLE, *executables)]
    configuration = conf_dir / f"10-{network['name']}.conflist" if conf_dir and network else None
    if not force:
        _refuse_foreign(plugins)
        if configuration and network:
            _refuse_foreign([configuration])
            _refuse_name(configuration, network["name"])
            given = list(subnets_of(network["plugins"]))
            refuse_overlap(configuration, given)
            refuse_in_use(configuration, given)
    # Recorded before it is written, so that a half-done installation can be removed after a kill.
    _record(bin_dir, {BUNDLE: modules, **executables})
    _write(bin_dir / BUNDLE, modules, _READABLE)
    _write_all(bin_dir, executables)
    if configuration is None:
        return plugins
    # Last: a runtime that watches the folder uses the network at once.
    text = (json.dumps(network, indent=2) + "\n").encode()
    _record(configuration.parent, {configuration.name: text})
    return [*plugins, _write(configuration, text, _READABLE)]


def uninstall(folder: Path) -> tuple[list[Path], list[Path]]:
    """Remove what was installed in a folder; returns what was removed, and what was kept because it has changed since.

    Raises `NotFoundError` if nothing was installed there.
    """
    recorded = _recorded(folder)
    if not recorded:
        raise NotFoundError(f"{folder}: netlab installed nothing there (there is no {RECORD})")
    removed, kept = [], []
    agent = agent_socket(str(folder))
    try:
        for name, digest in recorded.items():
            path = folder / name
            if _digest(path) == digest:
                path.unlink()
                removed.append(path)
            elif path.exists():
                kept.append(path)
        (folder / RECORD).unlink()
    except OSError as error:
        raise _refused(folder, error) from error
    dismiss(agent)
    return removed, kept


def network_list(
    name: str, subnets: Sequence[str], mode: str = "bridge", *, device: str = "", peers_file: str = ""
) -> Object:
    """A network that works as it is: masqueraded access to the outside, published ports, and bandwidth limits.

    `subnets` are of either family; each container gets one address of each family. `device` is the link to the other
    nodes and `peers_file` describes them, for mode vxlan. Raises `UsageError`.
    """
    if not is_identifier(name):
        raise UsageError(
            f"network {name!r}: must consist of letters, digits, '_', '.' and '-', and start with a letter or digit"
        )
    ranges: dict[int, list[Object]] = {}
    for subnet in parse_subnets(subnets):
        ranges.setdefault(subnet.version, []).append({"subnet": str(subnet)})
    main: Object = {"type": "netlab", "mode": mode}
    if mode != "routed":
        main |= {"bridge": _bridge_name(name), "hairpinMode": True}
    if mode == "vxlan":
        main["vxlan"] = {"device": device} | ({"peersFile": peers_file} if peers_file else {})
    main |= {
        "isDefaultGateway": True,
        "ipMasq": True,
        "capabilities": {"ips": True, "mac": True, "ipRanges": True, "dns": True},
        "ipam": {"type": "netlab-ipam", "ranges": list(ranges.values())},
    }
    return {
        # What every current runtime knows, and what newer ones can use (SPEC.md 1.1.0, section 1).
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": name,
        "plugins": [
            main,
            {"type": "netlab-portmap", "capabilities": {"portMappings": True}},
            {"type": "netlab-bandwidth", "capabilities": {"bandwidth": True}},
        ],
    }


def _bridge_name(network: str) -> str:
    name = f"cni-{network}"
    return name if len(name) < _IFNAMSIZ else f"cni-{hashlib.sha256(network.encode()).hexdigest()[:11]}"


def _executables(client: Path | None) -> dict[str, bytes]:
    """The contents of each file, by name. A client comes after what it falls back to."""
    launchers = {name: _launcher(name).encode() for name in PLUGINS}
    if client is None:
        return launchers
    return {f"{name}.py": text for name, text in launchers.items()} | dict.fromkeys(PLUGINS, client.read_bytes())


def _write_all(bin_dir: Path, executables: Mapping[str, bytes]) -> list[Path]:
    return [_write(bin_dir / name, content, _EXECUTABLE) for name, content in executables.items()]


def _modules() -> bytes:
    """Everything of netlab that a plugin can import, as netlab/cni/plugins/resident/bundle.py reads it.

    Leaves out what only readers of the source need: what -OO drops, and annotations of functions. `__future__`, which
    modules import, is Python's own.
    """
    names = ["__future__", "netlab", "netlab.errors", "netlab.cni", "netlab.net"]
    for package in (netlab.cni, netlab.net):
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    places: dict[str, tuple[int, int, bool]] = {}
    code = b""
    for name in names:
        spec = _spec(name)
        packed = marshal.dumps(_compiled(spec))
        places[name] = (len(code), len(packed), spec.submodule_search_locations is not None)
        code += packed
    index = marshal.dumps((_compiled(_spec("netlab.cni.plugins.resident.bundle")), places))
    return importlib.util.MAGIC_NUMBER + len(index).to_bytes(4, "little") + index + code


def _spec(name: str) -> ModuleSpec:
    found = importlib.util.find_spec(name)
    assert found is not None
    return found


def _compiled(spec: ModuleSpec) -> CodeType:
    assert isinstance(spec.loader, SourceFileLoader), "netlab is installed as files"
    source = _Unannotated().visit(ast.parse(spec.loader.get_data(str(spec.origin))))
    code: CodeType = compile(source, str(spec.origin), "exec", dont_inherit=True, optimize=2)
    return code


class _Unannotated(ast.NodeTransformer):
    """Loading them would take a twentieth of a call."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node


def _launcher(name: str) -> str:
    # A virtual environment's interpreter is a link that finds its packages through `site`, which -S skips.
    executable: str = getattr(sys, "_base_executable", "") or sys.executable
    interpreter = f"#!{executable} -IS"
    if not executable or any(mark.isspace() for mark in executable) or len(os.fsencode(interpreter)) > _LONGEST_LINE:
        raise UnsupportedError(
            f"the interpreter {executable!r} cannot stand in an executable's first line: its path has a space or is too"
            " long; use one installed elsewhere"
        )
    pyroute2 = importlib.util.find_spec("pyroute2")
    gone = {
        "cniVersion": "1.0.0",
        "code": 100,
        "msg": f"netlab is no longer in {_ROOT}; run `netlab cni install` again from its new place",
    }
    return _LAUNCHER.format(
        interpreter=interpreter,
        name=name,
        root=str(_ROOT),
        bundle=BUNDLE,
        packages=[str(Path(pyroute2.origin).parent.parent)] if pyroute2 and pyroute2.origin else [],
        gone=json.dumps(gone),
    )


def _write(path: Path, content: bytes, mode: int) -> Path:
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)  # left by a killed run
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
            os.fchmod(descriptor, mode)  # regardless of the umask
        fresh.rename(path)
    except OSError as error:
        raise _refused(path, error) from error
    return path


def _refused(path: Path, error: OSError) -> NetlabError:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return UnsupportedError(f"{error.filename or path}: {error.strerror}: become root, or choose another folder")
    kind = ExhaustedError if error.errno in {errno.ENOSPC, errno.EDQUOT} else NetlabError
    return kind(f"{error.filename or path}: {error.strerror}")


def _refuse_foreign(paths: Sequence[Path]) -> None:
    recorded = _recorded(paths[0].parent)
    for path in paths:
        if path.is_symlink() or (path.exists() and recorded.get(path.name) != _digest(path)):
            raise ConflictError(
                f"{path}: exists, and is not what netlab installed; remove it, or replace it with --force"
            )


def _recorded(folder: Path) -> dict[str, str]:
    """The digest of each file installed in a folder, by name."""
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NetlabError(f"{folder / RECORD}: {error}; remove it and the files it lists") from error
    found = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not name or "/" in name:
            raise NetlabError(f"{folder / RECORD}: {line!r} is not a line of sha256sum(1); remove it by hand")
        found[name] = digest
    return found


def _record(folder: Path, contents: Mapping[str, bytes]) -> None:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    lines = [f"{digest}  {name}\n" for name, digest in (_recorded(folder) | digests).items()]
    _write(folder / RECORD, "".join(lines).encode(), _READABLE)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _refuse_name(configuration: Path, name: str) -> None:
    conf_dir = configuration.parent
    networks = read_networks(conf_dir)[0] if conf_dir.is_dir() else []
    for network in networks:
        if network.name == name and network.source != str(configuration):
            raise ConflictError(f"{network.source}: already has a network {name!r}; choose another name or use --force")
