"""What plugins can import of netlab, compiled into one file beside them, as plugins/resident/bundle.py reads it."""

from __future__ import annotations

import ast
import importlib.util
import marshal
import pkgutil
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType

import netlab.cni.plugins
import netlab.cni.spec
import netlab.net

BUNDLE = ".netlab-modules"
"""The file's name."""


def compiled() -> bytes:
    """The content of the file.

    Leaves out what only readers of the source need: what -OO drops, annotations of functions, and imports for them.
    """
    names = ["netlab", "netlab.errors", "netlab.descriptors", "netlab.cni"]
    for package in (netlab.cni.spec, netlab.cni.plugins, netlab.net):
        names += [package.__name__]
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
    flags = annotations.compiler_flag
    code: CodeType = compile(source, str(spec.origin), "exec", flags, dont_inherit=True, optimize=2)
    return code


class _Unannotated(ast.NodeTransformer):
    """Loading them would take a twentieth of a call."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        self.generic_visit(node)
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "__future__" else node  # by the flag instead: it is a module to load

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node
