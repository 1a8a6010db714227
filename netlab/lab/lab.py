"""A lab by its name: whether it exists and is up, and the way to its API and its machines."""

from __future__ import annotations

import dataclasses
import os

from netlab import files
from netlab.api.blocking import BlockingClient
from netlab.errors import NotFoundError, UnavailableError, UsageError
from netlab.lab import startup
from netlab.lab.paths import LabPaths, require_home
from netlab.lab.spec import LabSpec
from netlab.machine.client import Machine


@dataclasses.dataclass(frozen=True)
class Lab:
    """One lab of this user, by name; it need not exist."""

    paths: LabPaths

    @classmethod
    def of(cls, name: str) -> Lab:
        """The lab of that name. Raises `UsageError` for a name that cannot be one."""
        return cls(LabPaths.of(name))

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.paths.name

    def exists(self) -> bool:
        """Whether anything of this lab exists, up or not."""
        try:
            return self.paths.directory.is_dir()
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error

    def is_up(self) -> bool:
        """Whether the lab's processes are alive: whether its lock is held."""
        try:
            descriptor = os.open(self.paths.lock, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise startup.explained(error, self.paths.directory) from error
        with os.fdopen(descriptor, "rb"):
            return files.is_locked(descriptor)

    def spec(self) -> LabSpec:
        """The lab's specification."""
        return self.paths.read_spec()

    def client(self) -> BlockingClient:
        """A client of the lab's API. Raises `NotFoundError` or `UnavailableError` when the lab is not up.

        Raises `UsageError` when it is a node of another cluster, and has none.
        """
        self.require_up()
        if (joins := self.spec().joins) is not None:
            raise UsageError(
                f"lab {self.name} is a node of the cluster at {joins.url}: ask that, for example with kubectl"
            )
        return BlockingClient(self.paths.api_socket)

    def machine(self, name: str) -> Machine:
        """A connection to one of the lab's machines. Raises `NotFoundError` or `UnavailableError`."""
        self.require_up()
        if not self.paths.machine_socket(name).exists():
            known = sorted(path.stem for path in self.paths.machines.glob("*.sock"))
            raise NotFoundError(f"lab {self.name} has no machine {name!r}; it has {', '.join(known)}")
        return Machine(self.paths.machine_socket(name))

    def runtime(self, node: str) -> Machine:
        """A connection to what runs a node's containers. Raises `NotFoundError` or `UnavailableError`."""
        self.machine(node).close()
        return Machine(self.paths.runtime_socket(node))

    def require_up(self) -> None:
        """Raise `NotFoundError` if the lab does not exist, `UnavailableError` if its processes have ended."""
        if not self.exists():
            others = ", ".join(lab.name for lab in all_labs())
            raise NotFoundError(
                f"there is no lab {self.name!r}{f' (there is {others})' if others else ''}; `netlab up` starts one"
            )
        if not self.is_up():
            raise UnavailableError(
                f"lab {self.name} is down: its processes have ended; "
                "`netlab up` starts it again with its objects, `netlab down` removes it"
            )


def all_labs() -> list[Lab]:
    """Every lab of this user, up or not, by name. Raises what `require_home` raises."""
    try:
        folders = sorted(require_home().iterdir())
    except OSError:
        return []
    # A dangling link is a damaged lab; a folder without access is another user's lab.
    return [lab for lab in map(Lab, map(LabPaths, folders)) if os.path.lexists(lab.paths.spec)]
