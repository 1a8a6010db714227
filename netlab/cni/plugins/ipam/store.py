"""Reservations on disk: `dataDir/NETWORK`, a folder for each network.

Each reserved address is a symbolic link to its holder, `10.244.1.5 -> CONTAINERID/eth0`, and each holder has a link to
its addresses, `.holders/CONTAINERID:eth0 -> 10.244.1.5 fd00::5`. symlink(2) writes name and content in one step and
refuses an existing name: after a kill at any point a reservation exists whole or not at all. The holder's link is made
first and removed last, so that the next DEL finds whatever an interrupted ADD or DEL left, in a few system calls
however many addresses are taken.

`.state` is locked (flock) by every process that works here. Its lines are: the boot id during which the reservations
were made, the file which that id is read from, the addresses given last, and the range sets. It is written before
reservations are made; losing all of it does no harm. `.sticky` has the addresses that identities had (see `recall`).

Nothing is synced to disk: after a power loss the containers are gone too.
"""

from __future__ import annotations

import errno
import fcntl
import posix

from netlab.cni.plugins.fields import absolute_path, option
from netlab.cni.plugins.ipam.ranges import range_of
from netlab.cni.spec import errors
from netlab.cni.spec.addresses import format_address, parse_address
from netlab.cni.spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netlab.cni.plugins.ipam.ranges import Range
    from netlab.cni.plugins.request import Request

DATA_DIR = "/var/lib/cni/netlab"
_STATE_LINES = 4
_LARGEST_STATE = 1 << 16
_LONGEST_BOOT_ID = 128
_PROBES = 64
"""Addresses to try one by one; after that, in a nearly full range, the whole folder is listed."""
_REMEMBERED = 16
"""How many last-given addresses to keep for range sets that this request does not have (`ipRanges`)."""
_STICKY_SLOTS = 4096


class Reservation:
    """An address and its holder, reserved at `since` (seconds since the epoch)."""

    __slots__ = ("address", "container_id", "ifname", "since")

    def __init__(self, address: str, container_id: str, ifname: str, since: float) -> None:
        self.address = address
        self.container_id = container_id
        self.ifname = ifname
        self.since = since


class State:
    """The contents of the file `.state`; empty where it has none."""

    __slots__ = ("boot_id", "boot_id_file", "last", "sets")

    def __init__(self, text: str) -> None:
        lines = [*text.split("\n"), *[""] * _STATE_LINES]
        self.boot_id, self.boot_id_file = lines[:2]
        self.last = lines[2].split()
        self.sets = lines[3].split()
        """For each range set `253=10.244.1.1-10.244.1.254`: the number of addresses it can give, and its ranges."""

    def __str__(self) -> str:
        # What a longer text left after the last line feed is ignored.
        return "\n".join((self.boot_id, self.boot_id_file, " ".join(self.last), " ".join(self.sets), ""))


class Store:
    """A network's reservations, locked against other processes and threads while it is open. Raises `OSError`.

    With `create`, the folder is made; otherwise `FileNotFoundError` means that the network has none. With
    `boot_id_file`, opening drops the reservations of an earlier boot: their containers are gone.
    """

    def __init__(self, folder: str, *, create: bool = False, boot_id_file: str = "") -> None:
        self.folder = folder
        self._create = create
        self._boot_id_file = boot_id_file
        self._file = -1
        self.state = State("")

    def __enter__(self) -> Store:
        path = f"{self.folder}/.state"
        boot_id = read_boot_id(self._boot_id_file) if self._boot_id_file else ""
        flags = posix.O_RDWR | posix.O_CLOEXEC | (posix.O_CREAT if self._create else 0)
        try:
            self._file = posix.open(path, flags, 0o600)
        except FileNotFoundError:
            if not self._create:
                raise
            import os  # once in a network's life; it takes a tenth of an ADD

            os.makedirs(self.folder, mode=0o700, exist_ok=True)  # noqa: PTH103
            self._file = posix.open(path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self.state = State(posix.read(self._file, _LARGEST_STATE).decode(errors="replace"))
            if boot_id:
                self._reconcile(boot_id)
        except BaseException:
            posix.close(self._file)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self._file)

    def _reconcile(self, boot_id: str) -> None:
        # A state without a boot id, or with one from another file (`bootIDFile` was changed), says nothing about a
        # reboot. The new id is on disk before the next reservation is made (`remember`); until then this is repeated.
        if self.state.boot_id not in {"", boot_id} and self.state.boot_id_file == self._boot_id_file:
            for held in self.reservations()[0]:
                posix.unlink(f"{self.folder}/{held.address}")
            for container_id, ifname in self.holders():
                posix.unlink(self._holder_link(container_id, ifname))
        self.state.boot_id, self.state.boot_id_file = boot_id, self._boot_id_file

    def remember(self, given: Sequence[str], sets: Sequence[Sequence[Range]]) -> None:
        """Record, before doing it, which address each range set gives now."""
        of_others = [text for text in self.state.last if not any(range_of(ranges, text) for ranges in sets)]
        self.state.last = [*given, *of_others[:_REMEMBERED]]
        self.state.sets = [f"{sum(item.size for item in ranges)}={','.join(map(str, ranges))}" for ranges in sets]
        posix.pwrite(self._file, str(self.state).encode(), 0)

    def first_free(self, candidates: Iterable[tuple[int, Range]]) -> tuple[str, Range] | None:
        """The first candidate that is free."""
        names: set[str] | None = None
        for number, (address, item) in enumerate(candidates):
            text = format_address(address, item.subnet.bits)
            if number == _PROBES:
                names = set(posix.listdir(self.folder))
            if not (self.is_taken(text) if names is None else text in names):
                return text, item
        return None

    def is_taken(self, address: str) -> bool:
        """Whether a file with this name exists, a reservation or not."""
        try:
            posix.lstat(f"{self.folder}/{address}")
        except FileNotFoundError:
            return False
        return True

    def holder(self, address: str) -> str:
        """The `CONTAINERID/IFNAME` that holds the address, or an empty string."""
        try:
            return posix.readlink(f"{self.folder}/{address}")
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINVAL}:  # EINVAL: not a link, so not ours
                return ""
            raise

    def addresses(self, container_id: str, ifname: str) -> list[str]:
        """What an interface was given, from its own link: an interrupted ADD may not have reserved all of it."""
        try:
            return posix.readlink(self._holder_link(container_id, ifname)).split()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENAMETOOLONG}:  # nothing was ever reserved under that name
                return []
            raise

    def reserve(self, addresses: Sequence[str], container_id: str, ifname: str) -> None:
        """Reserve free addresses for an interface that has none: all or nothing."""
        _symlink(" ".join(addresses), self._holder_link(container_id, ifname))
        try:
            for address in addresses:
                posix.symlink(f"{container_id}/{ifname}", f"{self.folder}/{address}")
        except BaseException:
            self.release(container_id, ifname)
            raise

    def release(self, container_id: str, ifname: str) -> None:
        """Free whatever the interface holds."""
        addresses = self.addresses(container_id, ifname)
        for address in addresses:
            if self.holder(address) == f"{container_id}/{ifname}":
                posix.unlink(f"{self.folder}/{address}")
        if addresses:
            posix.unlink(self._holder_link(container_id, ifname))

    def _holder_link(self, container_id: str, ifname: str) -> str:
        return f"{self.folder}/.holders/{container_id}:{ifname}"  # neither can have a colon (SPEC.md, section 2)

    def reservations(self) -> tuple[list[Reservation], list[str]]:
        """All reservations, in no order, and the names of files that are not reservations."""
        found, foreign = [], []
        for name in posix.listdir(self.folder):
            if name.startswith("."):
                continue
            container_id, slash, ifname = self.holder(name).partition("/")
            if slash and _is_address(name):
                since = posix.lstat(f"{self.folder}/{name}").st_mtime
                found.append(Reservation(name, container_id, ifname, since))
            else:
                foreign.append(name)
        return found, foreign

    def holders(self) -> list[tuple[str, str]]:
        """Container id and interface name of every holder."""
        try:
            names = posix.listdir(f"{self.folder}/.holders")
        except FileNotFoundError:
            return []
        return [(container_id, ifname) for container_id, colon, ifname in (n.partition(":") for n in names) if colon]

    def recall(self, identity: str) -> list[str]:
        """The addresses that an identity had before, even if another has them now.

        The memory has a fixed size: identities that share a slot overwrite each other.
        """
        try:
            known, *addresses = posix.readlink(self._sticky_link(identity)).split()
        except FileNotFoundError:
            return []
        return addresses if known == identity else []

    def stick(self, identity: str, addresses: Sequence[str]) -> None:
        """Remember the addresses of an identity (a string without spaces) after it is gone and across reboots."""
        link = self._sticky_link(identity)
        try:  # noqa: SIM105 - contextlib is slow to import
            posix.unlink(link)
        except FileNotFoundError:
            pass
        _symlink(f"{identity} {' '.join(addresses)}", link)

    def _sticky_link(self, identity: str) -> str:
        from binascii import crc32  # a shared object, loaded only when needed

        slot = crc32(identity.encode(errors="surrogateescape")) % _STICKY_SLOTS
        return f"{self.folder}/.sticky/{slot}"


def _symlink(target: str, path: str) -> None:
    try:
        posix.symlink(target, path)
    except FileNotFoundError:
        posix.mkdir(path.rpartition("/")[0], 0o700)
        posix.symlink(target, path)


def _is_address(name: str) -> bool:
    try:
        parse_address(name)
    except ValueError:
        return False
    return True


def read_boot_id(path: str) -> str:
    """The id of this boot, from the file. Raises `CniError`."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read(_LONGEST_BOOT_ID + 1).strip().decode(errors="replace")
    except OSError as error:
        raise CniError(errors.IO_FAILURE, f"ipam.bootIDFile: {path}: {error.strerror}") from error
    if not text or len(text) > _LONGEST_BOOT_ID or not text.isprintable():
        raise errors.invalid_config(f"ipam.bootIDFile: {path}: {text!r} is not a boot id")
    return text


def folder_of(request: Request) -> str:
    """Where a request's network has its reservations: all that a DEL has to know. Raises `CniError`."""
    return f"{absolute_path(option(request.config, 'ipam', dict, {}), 'dataDir', 'ipam.', DATA_DIR)}/{request.network}"


def holders(data_dir: str, network: str) -> list[Reservation]:
    """Who holds which address of a network. Raises `OSError`."""
    try:
        with Store(f"{data_dir}/{network}") as store:
            return store.reservations()[0]
    except FileNotFoundError:
        return []
