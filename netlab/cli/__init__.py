"""The command line: one file per noun, loaded when its command is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from netlab import __version__
from netlab.cli import streams
from netlab.errors import ExhaustedError, NetlabError, write_failure
from netlab.visible import visible, visible_lines

_COMMANDS = {
    "up": ("lab", "Start a lab: a whole cluster in about a second."),
    "down": ("lab", "Stop a lab and remove every trace of it."),
    "status": ("lab", "Show a lab's machines, components, nodes and network."),
    "list": ("lab", "List the labs of this user."),
    "apply": ("objects", "Create or change the objects in manifests, all or none."),
    "wait": ("wait", "Wait until objects are ready or gone, or until all nodes have caught up."),
    "get": ("get", "Show objects."),
    "delete": ("objects", "Delete objects, by name or by manifest."),
    "kubeconfig": ("kubectl", "Print a kubeconfig, by which any Kubernetes client reaches a lab."),
    "kubectl": ("kubectl", "Run the kubectl on the PATH for a lab."),
    "exec": ("exec", "Run a command in a pod, on a node or in the outside world."),
    "shell": ("exec", "Open a shell in a pod, on a node or in the outside world."),
    "logs": ("logs", "Show what a pod's container printed."),
    "top": ("top", "Show what uses a lab most: pods, nodes and connections, live."),
    "capture": ("capture", "Watch packets at every interface at once, through NAT and tunnels."),
    "trace": ("trace", "Follow one real packet hop by hop, and name the rule that decided at each."),
    "image": ("image", "Bring container images to this user's labs: load, pull, list, rm."),
    "topology": ("topology", "Show machines, pods and interfaces, and what each is wired to."),
    "node": ("node", "Make a node for another cluster, whose API server a kubeconfig names."),
    "snapshot": ("snapshot", "Save a lab's objects in a file, and restore them."),
    "scenario": ("scenario", "Run lessons that prove how each kind of traffic works."),
    "cni": ("cni", "Call CNI plugins as a container runtime does, and install netlab's own."),
    "proxy": ("proxy", "Explain why a connection goes where it goes; run kube-proxy outside a lab."),
    "policy": ("policy", "Explain who may talk to whom, and why; enforce policies outside a lab."),
    "doctor": ("doctor", "Check what this machine provides, and what breaks without it."),
    "completion": ("completion", "Print the completion script for a shell."),
}

_COMPLETE = "_NETLAB_COMPLETE"
"""What a shell's completion script has in its environment."""

_INTERRUPTED = 130
_INTERNAL = 70
"""EX_SOFTWARE of sysexits.h."""


class _LazyGroup(click.Group):
    """Knows its commands by name and loads one only when it is called: --help must answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"netlab.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name if cmd_name != "list" else "list_labs")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see `netlab --help`"
            ctx.fail(f"no such command: {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="netlab %(version)s")
def cli() -> None:
    """A whole Kubernetes network on one Linux machine, in which every packet can be watched.

    \b
    netlab up                                   a cluster of three nodes
    netlab apply -f FILE                        Kubernetes manifests, unchanged
    netlab exec POD -- COMMAND                  or node/NAME, or outside
    netlab scenario run all                     every lesson, with its checks
    """


def main() -> NoReturn:
    """The `netlab` program: runs the command line and exits. An error is one line, with the exit status of its kind."""
    # Debian leaves these out of an ordinary user's PATH, and nft lives there.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    streams.prepare()
    if instruction := os.environ.get(_COMPLETE):
        _answer_shell(instruction)
    try:
        status = _called()
        sys.stdout.flush()
    except streams.ReaderGoneError:
        status = 0
    except NetlabError as error:
        _say(visible(f"netlab: {error}"))
        status = error.exit_status
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        _say(shown.getvalue().rstrip("\n"))
        status = error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        # Python remembers an interruption within source that is run from a string, as dataclasses do while a module
        # loads, and `python -m` then ends by the signal even if it was caught, unless more is run (Modules/main.c,
        # Py_RunMain; Python/pythonrun.c, run_eval_code_obj).
        exec("")  # noqa: S102
        _say("netlab: interrupted")
        status = _INTERRUPTED
    except OSError as error:
        # A file or folder of the user's, or the system's own limits: not a mistake of netlab's.
        if os.environ.get("NETLAB_DEBUG"):
            traceback.print_exc()
        failure = refused(error)
        _say(visible(f"netlab: {failure}"))
        status = failure.exit_status
    except Exception as error:
        if os.environ.get("NETLAB_DEBUG"):
            traceback.print_exc()
        said = f"netlab: internal error: {type(error).__name__}: {error}"
        _say(visible(f"{said}; please report it (NETLAB_DEBUG=1 shows more)"))
        status = _INTERNAL
    try:
        sys.stdout.flush()
    except (NetlabError, streams.ReaderGoneError):
        streams.discard()
    sys.exit(status or 0)


def refused(error: OSError) -> NetlabError:
    """What the system refused, as an error for people: the thing and the reason."""
    kind = ExhaustedError if error.errno in (errno.EMFILE, errno.ENFILE) else write_failure(error)
    reason = error.strerror or str(error) or type(error).__name__
    return kind(f"{os.fsdecode(error.filename)}: {reason}" if isinstance(error.filename, str | bytes) else reason)


def _called() -> Any:
    """What the command line makes the exit status."""
    try:
        return cli.main(standalone_mode=False)
    except SystemExit as error:
        return error.code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # of standard error nobody can be told
        click.echo(visible_lines(text), err=True)


def _answer_shell(instruction: str) -> NoReturn:
    """Print suggestions. Nothing else may reach the line that is being typed, whatever is wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        from netlab.cli.completion import answer

        answer(instruction)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt):
        sys.exit(1)
    sys.exit(0)
