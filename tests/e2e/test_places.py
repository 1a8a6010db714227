import ctypes
import json
import os
import pty
import resource
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from netlab.lab.lab import Lab
from netlab.lab.paths import FABRIC, LabPaths
from netlab.machine import crilog
from netlab.net import syscalls
from tests.e2e.conftest import Netlab, eventually

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  nodeName: node-1
  containers:
  - {name: web, image: agnhost, args: [netexec]}
  - {name: shell, image: any, command: [sh, -c, "echo first; echo second; exec sleep 1000"]}
"""


@pytest.fixture(scope="module")
def talker(lab: Netlab) -> Iterator[Netlab]:
    lab.ok("apply", "-f", "-", stdin=PODS)
    for _ in range(300):
        statuses = lab.json("get", "pod", "talker").get("status", {}).get("containerStatuses", [])
        if len(statuses) == 2 and all(s["ready"] for s in statuses):
            break
        time.sleep(0.1)
    yield lab
    lab.ok("delete", "pod", "talker", "--grace-period", "1")


STATUSES = [
    (["true"], 0),
    (["sh", "-c", "exit 42"], 42),
    (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
    (["/nonexistent/program"], 127),
    (["/etc"], 126),
]


@pytest.mark.parametrize("place", ["talker", "pod/talker", "node/node-1", "outside"])
@pytest.mark.parametrize(("command", "status"), STATUSES)
def test_the_exit_status_is_passed_through(talker: Netlab, place: str, command: list[str], status: int) -> None:
    assert talker.run("exec", place, "--", *command).returncode == status


def test_a_command_runs_in_the_pod(talker: Netlab) -> None:
    pod = talker.json("get", "pod", "talker")
    assert talker.ok("exec", "talker", "--", "hostname") == "talker\n"
    assert pod["status"]["podIP"] in talker.ok("exec", "talker", "-c", "shell", "--", "cat", "/etc/hosts")
    assert pod["status"]["podIP"] in talker.ok("exec", "talker", "--", "ip", "-brief", "address")


def test_input_and_output_are_the_callers(talker: Netlab) -> None:
    assert talker.ok("exec", "talker", "--", "tr", "a-z", "A-Z", stdin="words") == "WORDS"


def test_options_of_the_command_are_the_commands(talker: Netlab) -> None:
    assert talker.ok("exec", "talker", "--", "echo", "-n", "--name", "x") == "--name x"


def peculiar() -> None:
    """What a caller may have that is not the command's."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_NOFILE, (999, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    os.dup2(os.open("/", os.O_RDONLY), 9, inheritable=True)


LOOK = "umask; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; env | sort; pwd; cat /proc/self/limits"


@pytest.mark.parametrize("place", ["talker", "node/node-1"])
def test_what_is_the_callers_stays_with_the_caller(talker: Netlab, place: str) -> None:
    argv = talker.argv("exec", place, *(["-c", "shell"] if place == "talker" else []), "--", "sh", "-c", LOOK)
    plain, odd = (
        subprocess.run(
            argv,
            env=talker.environment | extra,
            cwd=cwd,
            preexec_fn=prepare,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for extra, cwd, prepare in (({}, "/", None), ({"SECRET": "x", "TERM": "odd"}, "/usr", peculiar))
    )
    assert odd == plain
    umask, blocked, ignored, *rest = odd.splitlines()
    assert (umask, blocked) == ("0022", "SigBlk:\t0000000000000000")
    # Signals of the terminal stay ignored where the tests are run so, as by nohup.
    assert not int(ignored.removeprefix("SigIgn:\t"), 16) & 1 << signal.SIGUSR1 - 1
    assert rest[:4] == ["0", "1", "2", "3"]
    assert "TERM=" not in odd


SYS_ADD_KEY, SYS_KEYCTL = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
SEARCH = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall({SYS_KEYCTL}, 10, -3, b"user", b"netlab-test", 0)  # KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING
print("found" if found >= 0 else errno.errorcode[ctypes.get_errno()])
"""


def trusted() -> None:
    """Be a caller with a key in its session keyring and, where it may have one, a supplementary group."""
    syscalls.join_new_session_keyring()
    assert ctypes.CDLL(None).syscall(SYS_ADD_KEY, b"user", b"netlab-test", b"secret", 6, -3) > 0
    if os.geteuid() == 0:
        os.setgroups([4242])


def by_trusted(netlab: Netlab, *arguments: str) -> str:
    """What a call by such a caller prints."""
    argv, env = netlab.argv(*arguments), netlab.environment
    return subprocess.run(argv, env=env, preexec_fn=trusted, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture(scope="module", params=["default", "trusted"])
def lab_of_trusted(talker: Netlab, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a lab: the usual one, or one that such a caller has brought up, as root a privileged one."""
    try:
        subprocess.run(["true"], preexec_fn=trusted, check=True)
    except subprocess.SubprocessError:
        pytest.skip("this host has no keyrings")
    if request.param == "trusted":
        by_trusted(talker, "up", "--name", "trusted", "--nodes", "1", *(["--privileged"] if os.geteuid() == 0 else []))
        talker.ok("apply", "--name", "trusted", "-f", "-", stdin=PODS)
        talker.ok("wait", "--name", "trusted", "--for", "condition=Ready", "pod/talker")
    yield request.param
    if request.param == "trusted":
        talker.ok("down", "--name", "trusted")


@pytest.mark.parametrize("place", ["talker", "node/node-1", "outside", "fabric"])
def test_the_callers_keys_and_groups_stay_with_the_caller(talker: Netlab, lab_of_trusted: str, place: str) -> None:
    here = ["exec", "--name", lab_of_trusted, place]
    # A container may not even search (seccomp).
    answers = {"ENOKEY", "EPERM"} if place == "talker" else {"ENOKEY"}
    assert by_trusted(talker, *here, "--", "python3", "-c", SEARCH).strip() in answers
    for process in ("self", "1"):
        (groups,) = by_trusted(talker, *here, "--", "grep", "^Groups:", f"/proc/{process}/status").splitlines()
        assert os.geteuid() != 0 or groups.split() == ["Groups:"]


def test_the_keys_of_the_one_who_brought_a_lab_up_are_not_in_it(talker: Netlab, lab_of_trusted: str) -> None:
    lab = Lab(LabPaths(talker.home / lab_of_trusted))
    log = lab.paths.logs / "search.log"
    with lab.machine(FABRIC) as fabric:
        # It stays until the lab ends: what ends is restarted.
        fabric.run_service("search", ["python3", "-uc", f"{SEARCH}\nimport time; time.sleep(100000)"], log=log)
        eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    assert set(log.read_text().split()) == {"ENOKEY"}


def test_the_limits_are_the_containers(talker: Netlab) -> None:
    of_pid_1 = talker.ok("exec", "talker", "-c", "shell", "--", "cat", "/proc/1/limits")
    assert talker.ok("exec", "talker", "-c", "shell", "--", "cat", "/proc/self/limits") == of_pid_1


def test_no_environment_of_a_caller_is_seen_in_a_built_in_image(talker: Netlab) -> None:
    seen = talker.ok("exec", "talker", "--", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ")
    assert {line.partition("=")[0] for line in seen.splitlines()} <= {"PATH", "LANG", "NETLAB_HOME", "HOME"}
    argv = talker.argv("exec", "talker", "--", "/agnhost", "netexec", "--http-port=9999", "--udp-port=9998")
    server = subprocess.Popen(argv, env=talker.environment | {"SECRET": "x"}, stderr=subprocess.PIPE)
    assert server.stderr is not None
    assert b"Started" in server.stderr.readline()
    looked = talker.ok("exec", "talker", "--", "sh", "-c", "cat /proc/[0-9]*/environ 2>&1; true")
    server.terminate()
    server.communicate()
    assert "Permission denied" in looked
    assert "SECRET" not in looked


def test_a_closed_standard_input_is_an_empty_one(talker: Netlab) -> None:
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *talker.argv("exec", "talker", "--", "cat")],
        env=talker.environment,
        capture_output=True,
        check=True,
    )
    assert (closed.stdout, closed.stderr) == (b"", b"")


SUGGESTED = [
    ("get pods ", ["talker"]),
    ("delete pod tal", ["talker"]),
    ("delete pod talker ", []),
    ("get pod/", ["pod/talker"]),
    ("get nodes,pods ", ["node-1", "node-2", "talker"]),
    ("get pods -n kube-s", ["kube-system"]),
    ("get pods -n kube-system ", []),
    ("logs ", ["talker"]),
    ("logs talker -c ", ["web", "shell"]),
    ("exec talker -c s", ["shell"]),
    ("exec ", ["talker", "node/node-1", "node/node-2", "outside", "fabric"]),
    ("shell node/", ["node/node-1", "node/node-2"]),
    ("capture --pod=", ["talker"]),
    ("capture --node node-", ["node-1", "node-2"]),
    ("get pods --name nosuch ", []),
]


@pytest.mark.parametrize(("line", "suggested"), SUGGESTED)
def test_names_of_the_lab_complete_a_line_and_nothing_else_is_said(
    talker: Netlab, line: str, suggested: list[str]
) -> None:
    asked = {"_NETLAB_COMPLETE": "bash_complete", "COMP_WORDS": f"netlab {line}"}
    done = subprocess.run(talker.argv(), env=talker.environment | asked, capture_output=True, text=True, check=False)
    assert ([each.removeprefix("plain,") for each in done.stdout.split()], done.stderr) == (suggested, "")


NOT_FOUND = [
    (["exec", "talkr", "--", "true"], 3, "did you mean talker?"),
    (["exec", "node/node-9", "--", "true"], 3, "node-9"),
    (["exec", "talker", "-c", "nobody", "--", "true"], 3, "it has web, shell"),
    (["exec", "outside", "-c", "web", "--", "true"], 2, "leave out -c"),
    (["exec", "deploy/web", "--", "true"], 2, "must be a POD"),
    (["logs", "absent"], 3, "there is no pod 'absent'"),
    (["logs", "talker", "-c", "shell", "-p"], 3, "no earlier run"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), NOT_FOUND)
def test_a_wrong_place_is_said_in_one_line(talker: Netlab, arguments: list[str], status: int, message: str) -> None:
    assert message in talker.fails(status, *arguments)


COLOURED = """
apiVersion: v1
kind: Pod
metadata: {name: painter}
spec:
  nodeName: node-1
  containers: [{name: c, image: sh, command: [sh, -c, 'printf "\\033[31mred\\tgröße\\r\\n"; exec sleep 1000']}]
"""


def test_a_log_on_a_terminal_controls_nothing_unless_asked_for_raw(lab: Netlab) -> None:
    lab.ok("apply", "-f", "-", stdin=COLOURED)
    eventually(lambda: lab.run("logs", "painter").stdout != "")
    assert lab.ok("logs", "painter") == "\x1b[31mred\tgröße\n"  # Python's text mode has \r\n as \n

    def on_a_terminal(*options: str) -> bytes:
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123
            subprocess.run(
                lab.argv("logs", "painter", *options), env=lab.environment, stdout=theirs, check=True, timeout=60
            )
            os.close(theirs)
            return terminal.read(1000)

    assert on_a_terminal() == "\\x1b[31mred\tgröße\r\n".encode()
    assert on_a_terminal("--raw").startswith(b"\x1b[31mred\t")
    lab.ok("delete", "pod", "painter", "--grace-period", "1")


def test_logs_are_what_the_container_printed(talker: Netlab) -> None:
    assert talker.ok("logs", "talker", "-c", "shell") == "first\nsecond\n"
    assert talker.ok("logs", "talker", "-c", "shell", "--tail", "1") == "second\n"


BURST = """
apiVersion: v1
kind: Pod
metadata: {name: burst}
spec:
  nodeName: node-1
  containers:
  - {name: c, image: sh, command: [sh, -c, "seq 2000000; echo done; exec sleep 1000"]}
"""


def test_a_burst_takes_no_more_room_than_it_may_and_its_end_is_whole(lab: Netlab) -> None:
    lab.ok("apply", "-f", "-", stdin=BURST)
    eventually(lambda: lab.run("logs", "burst", "--tail", "1").stdout == "done\n")
    (log,) = (lab.home / "default/logs").glob("**/default_burst_*/c/0.log")
    eventually(lambda: log.stat().st_blocks * 512 <= 20 << 20)
    *numbers, _ = lab.ok("logs", "burst").splitlines()
    assert list(map(int, numbers)) == list(range(2_000_001 - len(numbers), 2_000_001))
    assert len(numbers) * len(crilog.head("stdout") + b"F 2000000\n") > 10_000_000
    lab.ok("delete", "pod", "burst", "--grace-period", "1")


def test_a_shell_has_a_terminal(talker: Netlab) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        talker.argv("shell", "talker"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=talker.environment | {"SHELL": "/bin/sh"},
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, b"tty; hostname; exit 7\n")
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(leader)
    assert process.wait(30) == 7
    assert b"\ntalker" in seen


def test_the_topology_is_what_the_kernel_has_and_both_ends_of_a_wire_name_each_other(talker: Netlab) -> None:
    machines = json.loads(talker.ok("topology", "-o", "json"))["machines"]
    places = {place["name"]: place for machine in machines for place in (machine, *machine["pods"])}
    assert {"fabric", "node-1", "node-2", "outside", "default/talker"} <= set(places)
    ends = {
        (name, each["name"]): (each["peer"]["owner"], each["peer"]["interface"])
        for name, place in places.items()
        for each in place["interfaces"]
        if each["peer"]
    }
    assert ends["default/talker", "eth0"][0] == "node-1"
    assert all(ends[other] == one for one, other in ends.items())
    links = json.loads(talker.ok("exec", "node/node-1", "--", "ip", "-j", "address"))
    told = {each["name"]: each for each in places["node-1"]["interfaces"]}
    assert {link["ifname"] for link in links} == set(told)
    for link in links:
        mine = told[link["ifname"]]
        assert (mine["mac"], mine["mtu"], mine["bridge"]) == (link["address"], link["mtu"], link.get("master", ""))
        assert set(mine["addresses"]) == {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}
    tree = talker.ok("topology")
    assert f"── node-1 {ends['default/talker', 'eth0'][1]}\n" in tree
