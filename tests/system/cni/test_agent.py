"""The process that a call of an installed plugin leaves behind: who answers, when it ends, what it does not hold."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import json
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import traceback
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.installation import client, install
from netlab.cni.installation.modules import BUNDLE
from netlab.cni.plugins.call import agent_socket
from netlab.cni.plugins.resident.agent import dismissed
from netlab.cni.spec import errors
from netlab.net import syscalls
from tests.sandbox import isolated
from tests.system.cni import pods

BIN = Path("/run/bin")
"""On a tmpfs of the test's own, where another user can execute it."""
CONFIG = {"cniVersion": "1.1.0", "name": "net", "ipam": {"type": "fake"}, "lingerSeconds": 600}
"""It ends with the test, or when the test makes it end."""
_HUNG = 300
"""Seconds after which a test that waits for what does not happen says where it waits."""
FAKE = '#!/bin/sh\ncat > /dev/null\necho $PPID >> "$0.by"\n'


def own_host(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test as pid 1 of namespaces of its own: what it leaves behind ends with it."""

    @isolated
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        read_end, write_end = os.pipe()
        syscalls.unshare(syscalls.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            _as_pid_1(write_end, lambda: test(*args, **kwargs))
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            report = pipe.read()
        os.waitpid(child, 0)
        if report.startswith("skip: "):
            pytest.skip(report[6:])
        assert not report, report

    return run


def _as_pid_1(write_end: int, test: Callable[[], None]) -> None:
    report = ""
    faulthandler.dump_traceback_later(_HUNG, exit=True, file=write_end)
    try:
        try:
            syscalls.mount("proc", "/proc", "proc")
        except OSError as error:
            pytest.skip(f"no /proc of its own: {error}")
        syscalls.mount("tmpfs", "/run", "tmpfs")
        test()
    except pytest.skip.Exception as skipped:
        report = f"skip: {skipped}"
    except BaseException:
        report = traceback.format_exc()
    os.write(write_end, report.encode())
    os._exit(0)


@pytest.fixture(params=["python", "compiled"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The compiled client, or None: both ways that plugins can be installed."""
    if request.param == "python":
        return None
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return client.build(tmp_path / "client")


def prepare(built: Path | None = None, delegate: str = FAKE) -> None:
    install.install(BIN, client=built)
    (BIN / "fake").write_text(delegate)
    (BIN / "fake").chmod(0o755)


def start(command: str = "DEL", config: dict[str, Any] = CONFIG, *before: str, **more: Any) -> subprocess.Popen[bytes]:
    """A call, with its configuration written."""
    environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0", "CNI_PATH": str(BIN)}
    environment |= {"PATH": os.environ["PATH"], **more.pop("environment", {})}
    caller = subprocess.Popen(
        [*before, BIN / "netlab"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **more
    )
    assert caller.stdin
    caller.stdin.write(json.dumps(config).encode())
    caller.stdin.close()
    caller.stdin = None
    return caller


def finish(caller: subprocess.Popen[bytes]) -> Any:
    """The call's answer."""
    output, _ = caller.communicate(timeout=60)
    return json.loads(output) if output else None


def who_answers(*before: str, config: dict[str, Any] = CONFIG, **more: Any) -> int:
    """The process that does the work of a call; 0 for the one that was called."""
    caller = start("DEL", config, *before, **more)
    assert finish(caller) is None
    pid = int((BIN / "fake.by").read_text().split()[-1])
    return 0 if pid == caller.pid else pid


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until a condition is true; `_HUNG` ends it. Its value."""
    while not (value := condition()):
        time.sleep(0.01)
    return value


def field(pid: int, name: str) -> str:
    """A field of /proc/PID/status."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())[name]


def agent() -> int:
    """The process that serves at the agent's socket, once it does."""

    def listener() -> int:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(agent_socket(str(BIN)))
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return int(pid)
        return 0

    return int(wait_for(listener))


def ended(pid: int) -> None:
    """Wait for the agent's end."""
    assert os.waitpid(pid, 0) == (pid, 0)


def reap() -> None:
    """Wait for the end of every process that calls have left behind."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def nothing_stays() -> None:
    """No process is left of any call: this is pid 1, and would have inherited it."""
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@own_host
def test_the_first_call_answers_itself_and_an_agent_the_next_ones(built: Path | None) -> None:
    prepare(built)
    assert who_answers() == 0
    pid = agent()
    # Nothing has cut it short: who waits for the end of a call's streams, as who_answers does, does not wait for it.
    assert [who_answers() for _ in range(3)] == [pid] * 3
    (mode, folder) = (Path(agent_socket(str(BIN))).stat().st_mode, Path("/run/netlab").stat().st_mode)
    assert (mode & 0o777, folder & 0o777) == (0o600, 0o700)
    # /proc/self is another process's there, and in another mount namespace the same paths may lead elsewhere.
    assert who_answers(environment={"CNI_NETNS": "/proc/self/ns/net"}) == 0
    assert who_answers("unshare", "--mount") == 0
    assert who_answers() == pid


@own_host
def test_it_ends_after_some_rest_and_leaves_no_file(built: Path | None) -> None:
    prepare(built)
    for _ in range(2):
        assert who_answers(config={**CONFIG, "lingerSeconds": 1}) == 0
        reap()
        assert list(Path("/run/netlab").iterdir()) == []


@own_host
def test_of_sixteen_first_calls_one_stays(built: Path | None) -> None:
    prepare(built)
    for answer in map(finish, [start() for _ in range(16)]):
        assert answer is None
    pid = agent()
    left = 0
    while left != pid:
        # All others end by themselves; what is still running when there is nothing else to wait for is the agent.
        children = {int(each) for each in Path("/proc/1/task/1/children").read_text().split()}
        if children == {pid}:
            left = pid
        else:
            os.waitpid(min(children - {pid}), 0)
    assert who_answers() == pid


def without_modules() -> None:
    (BIN / BUNDLE).unlink()
    who_answers()


def with_a_folder_of_all() -> None:
    Path("/run/netlab").mkdir()
    Path("/run/netlab").chmod(0o777)
    who_answers()
    reap()  # it looks at the folder only when it has detached itself


NOTHING: dict[str, Callable[[], object]] = {
    "another mount namespace": lambda: who_answers("unshare", "--mount"),
    "another network namespace": lambda: who_answers("unshare", "--net"),
    "a network that wants none": lambda: who_answers(config={**CONFIG, "lingerSeconds": 0}),
    "a DEL with nonsense": lambda: who_answers(config={**CONFIG, "lingerSeconds": "x"}),
    "a DEL with too much": lambda: who_answers(config={**CONFIG, "lingerSeconds": 1 << 40}),
    "a failure": lambda: finish(start("ADD")),
    "VERSION": lambda: finish(start("VERSION")),
    "no configuration": lambda: finish(start("STATUS", {})),
    "modules from elsewhere": without_modules,
    "a folder that others write to": with_a_folder_of_all,
}


@pytest.mark.parametrize("of", NOTHING)
@own_host
def test_nothing_stays(of: str) -> None:
    prepare()
    NOTHING[of]()
    nothing_stays()


@own_host
def test_it_keeps_nothing_of_its_caller(built: Path | None) -> None:
    prepare(built)
    read_end, write_end = os.pipe()
    master, terminal = pty.openpty()

    def inherit() -> None:
        os.setsid()
        ioctl(terminal, termios.TIOCSCTTY, 0)
        os.chdir("/run/bin")
        os.umask(0o077)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])

    caller = start(stderr=terminal, pass_fds=[write_end], preexec_fn=inherit)
    for ours in (write_end, terminal):
        os.close(ours)
    assert finish(caller) is None
    assert os.read(read_end, 1) == b"", "it has a pipe of the caller's"
    with pytest.raises(OSError, match="Input/output"):  # the terminal has no other end
        os.read(master, 1)
    os.close(master)
    pid = agent()
    assert Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") == b""
    held = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # its threads open and close their own namespace
            held.add(str(each.readlink()))
    # Its own namespace, to which its threads return; nothing on the file system of the plugins.
    own = {"/dev/null", str(Path("/proc/1/ns/net").readlink())}
    known = ("socket:", "pipe:", "/memfd:", "/run/netlab/")
    assert [each for each in held if not each.startswith(known) and each not in own] == []
    wait_for(lambda: field(pid, "SigBlk") == "0" * 16)  # the C library blocks all while it starts a thread
    # Less the C library's own (32 and 33), which no program can set back.
    ignored = {each for each in signal.valid_signals() if int(field(pid, "SigIgn"), 16) & 1 << each - 1}
    assert ignored == {signal.SIGPIPE}
    assert field(pid, "Umask") == "0022"
    terminal_number = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4]
    assert terminal_number == "0"
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert who_answers() == pid
    os.kill(pid, signal.SIGTERM)
    ended(pid)


@contextlib.contextmanager
def container(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A network namespace, and what an ADD to it takes."""
    with pods.sandboxes(1) as (path,):
        yield path, {"environment": {"CNI_NETNS": path, "CNI_CONTAINERID": f"c{number}"}}


@own_host
def test_no_namespace_outlives_its_container(built: Path | None) -> None:
    prepare(built)
    who_answers()
    pid = agent()
    config = {**CONFIG, "bridge": "br0", "ipam": {}}
    with container(1) as (_, options):
        _, host, _ = finish(start("ADD", config, **options))["interfaces"]
        assert host["name"] in pods.links()
    wait_for(lambda: host["name"] not in pods.links())
    # Nor one that is the caller's.
    with container(2) as (path, options):
        pods.ip("link", "add", "ours", "type", "veth", "peer", "name", "theirs", "netns", path.split("/")[2])
        assert who_answers("nsenter", f"--net={path}", **options) == pid
    wait_for(lambda: "ours" not in pods.links())
    homes = {str((each / "ns/net").readlink()) for each in Path(f"/proc/{pid}/task").iterdir()}
    assert homes == {str(Path("/proc/1/ns/net").readlink())}


@own_host
def test_one_that_was_killed_is_replaced(built: Path | None) -> None:
    prepare(built)
    who_answers()
    pid = agent()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert Path(agent_socket(str(BIN))).exists()
    assert who_answers() == 0
    assert agent() != pid
    assert who_answers() == agent()


@own_host
def test_who_calls_one_that_is_killed_is_to_try_again(built: Path | None) -> None:
    prepare(built, FAKE + '[ ! -e "$0.gate" ] || read _ < "$0.gate"\n')
    who_answers()
    pid = agent()
    os.mkfifo(BIN / "fake.gate")
    caller = start()
    with (BIN / "fake.gate").open("w"):  # the delegate has opened it
        os.kill(pid, signal.SIGKILL)
        assert finish(caller)["code"] == errors.TRY_AGAIN


def rewrite(name: str) -> None:
    """As `netlab cni install` does."""
    content = (BIN / name).read_bytes()
    (BIN / "new").write_bytes(content)
    (BIN / "new").chmod(0o755)
    (BIN / "new").rename(BIN / name)


@pytest.mark.parametrize("name", [BUNDLE, "netlab.py"])
@pytest.mark.parametrize("change", [rewrite, lambda name: os.utime(BIN / name)])
@own_host
def test_it_ends_when_what_it_was_loaded_from_changes(tmp_path: Path, name: str, change: Callable[[str], None]) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    prepare(client.build(tmp_path / "client"))
    who_answers()
    pid = agent()
    change(name)
    assert who_answers() == 0, "it answers no call with the old modules"
    ended(pid)
    assert who_answers() != pid
    pid = agent()
    change(name)
    ended(pid)  # at rest


@own_host
def test_it_ends_with_its_installation(built: Path | None) -> None:
    prepare(built)
    who_answers()
    pid = agent()
    install.uninstall(BIN)
    assert os.waitpid(pid, os.WNOHANG) == (pid, 0)
    assert list(Path("/run/netlab").iterdir()) == []


@own_host
def test_its_end_is_waited_for_where_it_notices_first_what_is_taken_away(built: Path | None) -> None:
    prepare(built)
    who_answers()
    pid = agent()
    with dismissed(agent_socket(str(BIN))):
        os.kill(pid, signal.SIGSTOP)
        Path(agent_socket(str(BIN))).unlink()  # as it does before it ends
        later = os.fork()
        if later == 0:
            time.sleep(0.2)
            os.kill(pid, signal.SIGCONT)
            os._exit(0)
    assert os.waitpid(pid, os.WNOHANG) == (pid, 0)
    os.waitpid(later, 0)


@own_host
def test_another_user_neither_uses_it_nor_takes_its_place(built: Path | None) -> None:
    if Path("/proc/self/uid_map").read_text().split()[2] == "1":
        pytest.skip("there is one user here")
    prepare(built)
    (BIN / "fake.by").touch()
    (BIN / "fake.by").chmod(0o666)
    assert who_answers() == 0
    pid = agent()
    other = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
    children = Path("/proc/1/task/1/children")
    before = children.read_text()
    answer = finish(start("DEL", CONFIG, *other))
    assert answer["code"] == errors.KERNEL_REFUSED, "it may not do itself what it has to do itself"
    assert children.read_text() == before, "it leaves nothing"
    assert who_answers() == pid
    os.kill(pid, signal.SIGTERM)
    ended(pid)
    # A socket in its place, of another's: made by root's carelessness, as nobody else may write there.
    Path("/run/netlab").chmod(0o755)
    read_end, write_end = os.pipe()
    impostor = os.fork()
    if impostor == 0:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(agent_socket(str(BIN)))
        os.setresuid(1234, 1234, 1234)
        listener.listen()
        os.write(write_end, b".")
        signal.pause()
    os.read(read_end, 1)
    assert who_answers() == 0
    os.kill(impostor, signal.SIGKILL)


@own_host
def test_callers_that_say_nothing_hold_nobody_back(built: Path | None) -> None:
    prepare(built)
    who_answers()
    pid = agent()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for connection in silent:
        connection.connect(agent_socket(str(BIN)))
    assert [who_answers() for _ in range(3)] == [pid] * 3
