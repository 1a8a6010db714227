"""The modules of installed plugins, in one file beside them: finding each one separately takes a tenth of a call.

    file = Python's magic number, the index's length (4 bytes, little endian), index, code
    index = marshal((code of this module, {name: (offset in code, size, whether it is a package)}))

A plugin executes this module from that file, before it can import anything of netlab's: C modules only.
"""

import marshal
import posix
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    Places = dict[str, tuple[int, int, bool]]


class Bundle:
    """Finds modules in the open `file`, for sys.meta_path.

    `launcher` and `path` are those of the executable and of the file; the code begins at `start`.
    """

    def __init__(self, launcher: str, path: str, file: int, start: int, places: "Places") -> None:
        self._launcher = launcher
        self._path = path
        self._file = file
        self._start = start
        self._places = places

    def stay(self, config: bytes) -> None:
        """Leave a process behind that has loaded its modules from here, after the call with that configuration."""
        from netlab.cni.plugins.resident.stay import stay

        stay(self._launcher, self._path, self._file, config)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder."""
        if name not in self._places:
            return None
        return ModuleSpec(name, self, is_package=self._places[name][2])  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """As importlib.abc.Loader: an ordinary module will do."""

    def exec_module(self, module: "ModuleType") -> None:
        """As importlib.abc.Loader."""
        offset, size, _ = self._places[module.__name__]
        exec(marshal.loads(posix.pread(self._file, size, self._start + offset)), module.__dict__)  # noqa: S102, S302
