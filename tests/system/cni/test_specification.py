"""What the specification asks of every plugin and of its delegation, and what a resident process must not change."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.cni.installation import client
from netlab.cni.installation.install import install_plugins
from netlab.cni.plugins import call
from netlab.cni.plugins.call import PLUGINS as NAMES
from netlab.cni.plugins.delegate import Delegate
from netlab.cni.plugins.request import Request
from netlab.cni.spec import errors, results
from netlab.cni.spec.errors import CniError
from netlab.cni.spec.versions import VERSIONS
from netlab.net import syscalls
from tests import sandbox
from tests.sandbox import isolated
from tests.system.cni import pods
from tests.system.cni.pods import GO_PLUGINS, PLUGINS

CONFIG = {"cniVersion": "1.1.0", "name": "net", "ipam": {"type": "fake"}}


def environment(command: str, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS),
        **more,
    }


def execute(plugin: str, command: str, config: object = CONFIG, **more: str) -> subprocess.CompletedProcess[bytes]:
    """One execution, in the way that the fixture has chosen."""
    if os.environ.get("NETLAB_TEST_WAY") == "resident":
        pods.start_resident()
    stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
    return subprocess.run(
        [PLUGINS / plugin], input=stdin, env=environment(command, **more), capture_output=True, check=False
    )


MALFORMED = [
    ("ADD", b"", errors.DECODING_FAILURE),
    ("ADD", b"\xff{", errors.DECODING_FAILURE),
    ("DEL", b"[" * 100_000, errors.DECODING_FAILURE),
    ("ADD", b'{"cniVersion":"2.0.0","name":"net"}', errors.INCOMPATIBLE_VERSION),
    ("CHECK", b'{"cniVersion":"0.3.1","name":"net"}', errors.INCOMPATIBLE_VERSION),
    ("GC", b'{"cniVersion":"1.0.0","name":"net"}', errors.INCOMPATIBLE_VERSION),
    ("STATUS", b'{"cniVersion":"1.0.0","name":"net"}', errors.INCOMPATIBLE_VERSION),
    ("DEL", b'{"cniVersion":"1.0.0","name":"/"}', errors.INVALID_CONFIG),
    ("WHAT", b"{}", errors.INVALID_ENVIRONMENT),
]


@pytest.mark.parametrize("plugin", NAMES)
@pytest.mark.usefixtures("way")
@isolated
def test_every_plugin_answers_malformed_calls_with_an_error_object(plugin: str) -> None:
    for command, stdin, code in MALFORMED:
        answer = execute(plugin, command, stdin)
        assert (answer.returncode, answer.stderr) == (1, b""), (command, stdin[:80])
        error = json.loads(answer.stdout)
        assert (error["code"], error["cniVersion"] in VERSIONS) == (code, True), error
    assert pods.links() == {"lo"}


@pytest.mark.parametrize("plugin", NAMES)
@pytest.mark.usefixtures("way")
@isolated
def test_every_plugin_knows_every_version(plugin: str) -> None:
    for version in VERSIONS:
        answer = execute(plugin, "VERSION", {"cniVersion": version})
        assert json.loads(answer.stdout) == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


@pytest.mark.usefixtures("way")
@isolated
def test_nobody_is_waited_for_at_a_terminal_and_closed_streams_are_none(tmp_path: Path) -> None:
    execute("netlab", "VERSION")
    controller, terminal = pty.openpty()
    answer = subprocess.run(
        [PLUGINS / "netlab"], stdin=terminal, env=environment("ADD"), capture_output=True, check=False, timeout=60
    )
    assert json.loads(answer.stdout)["msg"] == "standard input is not JSON: it is empty"
    os.close(controller)
    os.close(terminal)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" <&-', PLUGINS / "netlab"], env=environment("ADD"), capture_output=True, check=False
    )
    assert (closed.returncode, json.loads(closed.stdout)["code"]) == (1, errors.IO_FAILURE)


@pytest.mark.parametrize("plugin", NAMES)
def test_a_python_that_is_too_old_is_a_cni_error(plugin: str) -> None:
    code = "import sys; sys.version_info = (3, 9); path = sys.argv[1]; exec(compile(open(path).read(), path, 'exec'))"
    answer = subprocess.run([sys.executable, "-c", code, PLUGINS / plugin], capture_output=True, check=False)
    assert answer.returncode == 1
    assert "netlab needs 3.11" in json.loads(answer.stdout)["msg"]


def test_an_installation_that_is_broken_is_a_cni_error(tmp_path: Path) -> None:
    for module in ("__init__.py", "cni/__init__.py", "cni/plugins/__init__.py", "cni/plugins/call.py"):
        path = tmp_path / "netlab" / module
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((Path(call.__file__).parents[2] / module).read_bytes())
    (tmp_path / "cni_plugins").mkdir()
    executable = tmp_path / "cni_plugins" / "netlab"
    executable.write_bytes((PLUGINS / "netlab").read_bytes())
    executable.chmod(0o755)
    answer = subprocess.run([executable], env=environment("ADD"), input=b"", capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (1, b"")
    error = json.loads(answer.stdout)
    assert (error["code"], "cannot import name 'answer'" in error["msg"]) == (errors.INTERNAL, True)


def test_an_executable_of_another_name_says_which_there_are(tmp_path: Path) -> None:
    link = tmp_path / "netlab-nothing"
    link.symlink_to(PLUGINS / "netlab")
    answer = subprocess.run([link], env=environment("VERSION"), input=b"", capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (1, b"")
    assert "netlab, netlab-ipam" in json.loads(answer.stdout)["msg"]


# Delegation: section 4.

FAKE = """#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$0.calls"
cat > "$0.stdin"
echo "the fake says $CNI_COMMAND" >&2
"""


def fake(folder: Path, text: str) -> Path:
    """An IPAM plugin that tells what it was asked, and then does as the script says."""
    path = folder / "fake"
    path.write_text(FAKE + text)
    path.chmod(0o755)
    return path


def calls(path: Path) -> list[str]:
    return Path(f"{path}.calls").read_text().splitlines()


def asked(folder: Path, command: str = "ADD", stderr: int = 2, **config: Any) -> Request:
    return Request(command, environment(command, CNI_PATH=f"/nonexistent:{folder}"), {**CONFIG, **config}, stderr)


def say(value: object) -> str:
    return f"echo '{json.dumps(value)}'\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_delegate_gets_all_and_its_result_is_read(tmp_path: Path, version: str) -> None:
    given = {
        "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.0.0.1"]},
    }
    said = {"cniVersion": version, "interfaces": [{"name": "x"}], **results.write(given, version)}
    said["ips"] = [{**ip, "interface": 0} for ip in said["ips"]]
    path = fake(tmp_path, say(said))
    request = asked(tmp_path, cniVersion=version, runtimeConfig={"ips": ["10.0.0.5"]}, unknown=[1, None])
    log = os.memfd_create("stderr")
    request.stderr = log
    delegate = Delegate(request)
    assert delegate.add() == given
    assert json.loads(Path(f"{path}.stdin").read_text()) == request.config
    assert os.pread(log, 100, 0) == b"the fake says ADD\n"
    os.close(log)
    delegate.check()
    delegate.delete()
    assert calls(path) == ["ADD c", "CHECK c", "DEL c"]


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        (say({"code": 11, "msg": "not now", "details": "why"}) + "exit 1", 11, "IPAM plugin fake: not now"),
        ("echo oops; exit 3", errors.DELEGATE_FAILED, "IPAM plugin fake: exit status 3"),
        ("kill -9 $$", errors.DELEGATE_FAILED, "IPAM plugin fake: killed by signal 9"),
        (say({"code": "x", "msg": 5}) + "exit 1", errors.DELEGATE_FAILED, "IPAM plugin fake: exit status 1"),
        ("echo oops", errors.DECODING_FAILURE, "IPAM plugin fake: answer is not JSON"),
        ("echo []", errors.DECODING_FAILURE, "IPAM plugin fake: answer is not an object"),
        (say({"ips": [{"address": "x"}]}), errors.DECODING_FAILURE, "result of the IPAM plugin fake.ips[0].address"),
        (say({"cniVersion": "9.9.9"}), errors.INCOMPATIBLE_VERSION, "fake.cniVersion: '9.9.9'"),
    ],
)
def test_an_add_that_fails_is_followed_by_a_delete(tmp_path: Path, script: str, code: int, said: str) -> None:
    path = fake(tmp_path, script)
    with pytest.raises(CniError) as caught:
        Delegate(asked(tmp_path)).add()
    assert caught.value.code == code
    assert said in caught.value.msg
    assert calls(path) == ["ADD c", "DEL c"]


@pytest.mark.parametrize(
    ("script", "raised"),
    [
        ("", None),
        (say({"code": 4, "msg": "unknown CNI_COMMAND: GC"}) + "exit 1", None),
        (say({"code": 4, "msg": "CNI_PATH is missing"}) + "exit 1", errors.INVALID_ENVIRONMENT),
        (say({"code": 50, "msg": "no"}) + "exit 1", errors.NOT_AVAILABLE),
        (say({"code": 1, "msg": "incompatible CNI versions"}) + "exit 1", errors.INCOMPATIBLE_VERSION),
    ],
)
def test_gc_and_status_are_forwarded_to_whoever_knows_them(tmp_path: Path, script: str, raised: int | None) -> None:
    path = fake(tmp_path, script)
    for command, ask in (("GC", Delegate.collect_garbage), ("STATUS", Delegate.status)):
        delegate = Delegate(asked(tmp_path, command))
        if raised is None:
            ask(delegate)
        else:
            with pytest.raises(CniError) as caught:
                ask(delegate)
            assert caught.value.code == raised
        assert calls(path)[-1].split()[0] == command


def test_a_missing_delegate_is_named_and_a_status_says_that_no_add_can_be_served(tmp_path: Path) -> None:
    delegate = Delegate(asked(tmp_path))
    codes = {}
    for name in ("add", "delete", "check", "collect_garbage", "status"):
        with pytest.raises(CniError, match=f"ipam.type: no executable 'fake' in CNI_PATH .*{tmp_path}") as caught:
            getattr(delegate, name)()
        codes[name] = caught.value.code
    assert codes.pop("status") == errors.NOT_AVAILABLE
    assert set(codes.values()) == {errors.INVALID_CONFIG}
    delegate.release()


@pytest.mark.parametrize("plugin_ipam", [None, {}, {"type": ""}])
def test_without_a_delegate_there_are_no_addresses(tmp_path: Path, plugin_ipam: object) -> None:
    delegate = Delegate(asked(tmp_path, ipam=plugin_ipam))
    assert delegate.add() == {}
    for ask in (delegate.delete, delegate.check, delegate.collect_garbage, delegate.status):
        ask()


@pytest.mark.parametrize("kind", ["a/b", "..", "."])
def test_a_delegate_that_is_a_path_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(CniError, match=r"^ipam\.type: ") as caught:
        Delegate(asked(tmp_path, ipam={"type": kind}))
    assert caught.value.code == errors.INVALID_CONFIG


@pytest.mark.skipif(not (GO_PLUGINS / "static").exists(), reason="containernetworking-plugins not installed")
@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_the_go_plugin_static_is_a_delegate(version: str) -> None:
    plugin_ipam = {"type": "static", "addresses": [{"address": "10.0.0.5/24"}, {"address": "fd00::5/64"}]}
    delegate = Delegate(asked(GO_PLUGINS, cniVersion=version, ipam=plugin_ipam))
    assert [ip["address"] for ip in delegate.add()["ips"]] == ["10.0.0.5/24", "fd00::5/64"]
    delegate.delete()


@pytest.mark.usefixtures("way")
@isolated
def test_a_delete_without_its_delegate_frees_the_rest_and_says_what_is_left(tmp_path: Path) -> None:
    path = fake(tmp_path, say({"ips": [{"address": "10.0.0.5/24"}]}))
    with pods.sandboxes(1) as (one,):
        variables = {"CNI_PATH": str(tmp_path), "CNI_NETNS": one}
        assert execute("netlab", "ADD", **variables).returncode == 0
        path.rename(tmp_path / "away")
        error = json.loads(execute("netlab", "DEL", **variables).stdout)
        assert (error["code"], "no executable 'fake'" in error["msg"]) == (errors.INVALID_CONFIG, True)
        assert pods.links() == {"lo", "cni0"}
        (tmp_path / "away").rename(path)
        assert execute("netlab", "DEL", **variables).stdout == b""
        assert calls(path) == ["ADD c", "DEL c"]


@pytest.mark.usefixtures("way")
@isolated
def test_an_add_whose_answer_nobody_reads_is_undone(tmp_path: Path) -> None:
    execute("netlab", "VERSION")
    path = fake(tmp_path, say({"ips": []}))
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pods.sandboxes(1) as (one,):
        subprocess.run(
            [PLUGINS / "netlab"],
            input=json.dumps(CONFIG).encode(),
            stdout=write_end,
            env=environment("ADD", CNI_PATH=str(tmp_path), CNI_NETNS=one),
            check=False,
        )
        assert calls(path) == ["ADD c", "DEL c"]
        assert pods.links() <= {"lo", "cni0"}


# The resident process.


@pytest.fixture(params=["python", "compiled"])
def executable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The executable of the main plugin: in Python, and as the compiled client of the resident process."""
    if request.param == "python":
        return PLUGINS / "netlab"
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    install_plugins(tmp_path / "bin", client.build(tmp_path / "client"))
    return tmp_path / "bin" / "netlab"


@contextlib.contextmanager
def resident() -> Iterator[subprocess.Popen[bytes]]:
    """A resident process in this isolated test, which it starts as a host's administrator would."""
    assert sandbox.entered(), "its socket would be the host's"
    syscalls.mount("tmpfs", "/run", "tmpfs")
    process = subprocess.Popen([sys.executable, "-m", "netlab.cni.plugins.resident.serve"], stderr=subprocess.PIPE)
    try:
        wait_for(Path(call.SOCKET).exists)
        yield process
    finally:
        process.kill()
        process.communicate()


def descriptors(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


STDERR = """#!/bin/sh
cat > /dev/null
ls -l /proc/$$/fd | grep -q "net:" && exit 9  # what the resident process was handed is not inherited
echo "served by $PPID" >&2
echo '{"code": 11, "msg": "not now"}'
exit 1
"""


def ask_who_serves(executable: Path, folder: Path, **options: Any) -> int:
    """The process that does the work of a call: what its delegate says on the caller's standard error."""
    (folder / "fake").write_text(STDERR)
    (folder / "fake").chmod(0o755)
    answer = subprocess.run(
        [*options.pop("before", []), executable],
        input=json.dumps(CONFIG).encode(),
        env=environment("DEL", **{"CNI_PATH": str(folder), "CNI_NETNS": "", **options}),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (answer.returncode, json.loads(answer.stdout)["code"]) == (1, errors.TRY_AGAIN), answer
    said = answer.stderr.decode().split()
    assert said[:-1] == ["served", "by"], answer.stderr
    return int(said[-1])


@isolated
def test_who_serves_whom(tmp_path: Path, executable: Path) -> None:
    with resident() as server:
        assert ask_who_serves(executable, tmp_path) == server.pid
        assert Path(call.SOCKET).stat().st_mode & 0o777 == 0o600
        # In another mount namespace the same paths may lead elsewhere.
        assert ask_who_serves(executable, tmp_path, before=["unshare", "--mount"]) != server.pid
        assert ask_who_serves(executable, tmp_path) == server.pid
        # /proc/self is another process's there.
        assert ask_who_serves(executable, tmp_path, CNI_NETNS="/proc/self/ns/net") != server.pid
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert not Path(call.SOCKET).exists()
        assert ask_who_serves(executable, tmp_path) != server.pid


def talk(request: bytes, descriptors: list[int]) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(call.SOCKET)
        socket.send_fds(connection, [request], descriptors)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1)


@isolated
def test_a_request_that_is_not_understood_is_declined_and_one_that_breaks_off_harms_nobody(
    tmp_path: Path, executable: Path
) -> None:
    with resident() as server:
        mounts = os.fsencode(Path("/proc/self/ns/mnt").readlink())
        whole = b"\0".join([call.PROTOCOL, mounts, b"netlab", b"CNI_COMMAND=VERSION"]) + b"\0\0"
        null = os.open("/dev/null", os.O_RDWR)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        four = [null, null, null, namespace]
        assert talk(whole, four) == b"\0"
        for other in (
            whole.replace(call.PROTOCOL, b"netlab-cni-0"),
            whole.replace(mounts, b"mnt:[1]"),
            whole.replace(b"\0netlab\0", b"\0nothing\0"),
        ):
            assert talk(other, four) == call.DECLINED
        assert talk(whole, four[:3]) == call.DECLINED
        for broken in (
            *(whole[:-1], whole[:5], b"\0\0", b"\xff" * 100_000 + b"\0\0"),
            whole.replace(b"=VERSION", b"VERSION"),
        ):
            assert talk(broken, four) in {b"", call.DECLINED}
        held = descriptors(server)
        for _ in range(3):
            talk(whole[:-1], four)
        wait_for(lambda: descriptors(server) <= held)
        assert ask_who_serves(executable, tmp_path) == server.pid


@isolated
def test_a_caller_that_dies_before_its_input_ends_holds_nothing(tmp_path: Path, executable: Path) -> None:
    with resident() as server:
        # More than there are threads; this process goes on to hold the other end of their input.
        stdin, held = os.pipe()
        callers = [
            subprocess.Popen([executable], stdin=stdin, stdout=subprocess.DEVNULL, env=environment("ADD"))
            for _ in range(20)
        ]
        wait_for(lambda: descriptors(server) > 16 * 5)
        for caller in callers:
            caller.kill()
            caller.wait()
        assert ask_who_serves(executable, tmp_path) == server.pid
        os.close(held)
        os.close(stdin)


@isolated
def test_a_caller_that_dies_before_the_answer_leaves_nothing(tmp_path: Path, executable: Path) -> None:
    """Nobody knows of what such an ADD made; the delegate's DEL is the sign that it was undone."""
    path = fake(tmp_path, f'[ $CNI_COMMAND = ADD ] || exit 0\nread _ < "$0.gate"\n{say({"ips": []})}')
    os.mkfifo(f"{path}.gate")
    with resident(), pods.sandboxes(1) as (one,):
        caller = subprocess.Popen(
            [executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment("ADD", CNI_PATH=str(tmp_path), CNI_NETNS=one),
        )
        assert caller.stdin
        caller.stdin.write(json.dumps({**CONFIG, "bridge": "cni0"}).encode())
        caller.stdin.close()
        wait_for(Path(f"{path}.calls").exists)
        caller.kill()
        caller.wait()
        assert caller.stdout
        caller.stdout.close()
        Path(f"{path}.gate").write_text("go\n")
        wait_for(lambda: calls(path)[-1] == "DEL c")
        wait_for(lambda: pods.links() <= {"lo", "cni0"})


@isolated
def test_a_resident_process_that_dies_during_a_call_says_try_again(tmp_path: Path, executable: Path) -> None:
    path = fake(tmp_path, "sleep 60 < /dev/null > /dev/null 2>&1\n")
    with resident() as server:
        caller = subprocess.Popen(
            [executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment("DEL", CNI_PATH=str(tmp_path)),
        )
        assert caller.stdin
        caller.stdin.write(json.dumps(CONFIG).encode())
        caller.stdin.close()
        wait_for(Path(f"{path}.calls").exists)
        server.kill()
        assert caller.stdout
        assert json.loads(caller.stdout.read())["code"] == errors.TRY_AGAIN
        caller.stdout.close()
        assert caller.wait(60) == 1


@isolated
def test_calls_that_are_hard_to_hand_over_are_answered(tmp_path: Path, executable: Path) -> None:
    """With a standard stream that is closed, or with more variables than the compiled client has room for."""
    with resident() as server:
        shell = ["sh", "-c", 'exec "$0" "$@" <&-']
        closed = subprocess.run(
            [*shell, executable], env=environment("DEL"), capture_output=True, check=False, timeout=60
        )
        assert json.loads(closed.stdout)["code"] == errors.IO_FAILURE, closed
        # By way of the executable in Python, which has room for them.
        assert ask_who_serves(executable, tmp_path, CNI_ARGS=f"IgnoreUnknown=1;K={'x' * 100_000}") == server.pid


SLOW = {
    "json",
    "re",
    "typing",
    "pathlib",
    "subprocess",
    "dataclasses",
    "enum",
    "socket",
    "ctypes",
    "ipaddress",
    "pyroute2",
}


@pytest.mark.parametrize("version", VERSIONS)
@isolated
def test_what_every_container_waits_for_imports_little(tmp_path: Path, version: str) -> None:
    """Every module costs the start of a container 0.2 ms or more, and these cost milliseconds."""
    (plugin,) = pods.network(tmp_path, version=version, ipMasq=True).plugins
    config = json.dumps({**plugin, "name": "net", "cniVersion": version}).encode()
    with pods.sandboxes(2) as sandboxes:
        for command, number in (("ADD", 0), ("ADD", 1), ("DEL", 1)):  # the first one may make what is made once
            answer = subprocess.run(
                [sys.executable, "-IS", "-X", "importtime", PLUGINS / "netlab"],
                input=config,
                env=environment(command, CNI_CONTAINERID=f"c{number}", CNI_NETNS=sandboxes[number]),
                capture_output=True,
                check=True,
            )
            imported = {line.rpartition("|")[2].strip() for line in answer.stderr.decode().splitlines()}
            assert "netlab.cni.plugins.main.commands" in imported
            assert number == 0 or not imported & SLOW
