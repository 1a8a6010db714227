"""What applies plans to a kernel: a data plane of each mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from netlab.net.addresses import Family
from netlab.proxy.config import Mode, ProxyConfig
from netlab.proxy.iptables.executor import IptablesExecutor
from netlab.proxy.nftables.executor import NftablesExecutor
from netlab.proxy.plan import Frontend, Plan, Transaction


class Filling(Protocol):
    """A data plane that is not in force yet. Every method raises ProgramError, see Executor."""

    def parts(self, transaction: Transaction) -> Iterable[Any]:
        """Take on a part of the plan, or a change of one; what is to be sent, in order. Only this asks no kernel."""

    def send(self, part: Any) -> None:
        """Send it."""

    def end(self) -> None:
        """Put everything in force, at once."""


class Executor(Protocol):
    """One family's data plane in the network namespace of the process: its socket, its rules and the plan they follow.

    Every method may wait for the kernel, and raises ProgramError when it refuses; then nothing has changed in the
    kernel, and only `replace` may follow.
    """

    family: Family
    batches: int
    """How many batches the kernel has accepted from it: each makes a generation of the rules."""
    few: int
    """Frontends whose change takes so little time that handing it to a thread is not worth it."""

    def begin(self) -> Filling | None:
        """If there is nothing yet, start applying a plan that is not fully known. None: only `replace` is possible."""

    def replace(self, plan: Plan) -> None:
        """Replace whatever is in force by a plan, atomically."""

    def apply(self, transaction: Transaction) -> None:
        """Apply the difference from what is in force, atomically."""

    def assume(self, plan: Plan) -> None:
        """Assume that another process applied this plan, and change nothing: for `differences` and `explain`."""

    def intact(self) -> bool:
        """Whether the kernel still holds what was applied."""

    def differences(self) -> list[str]:
        """How the kernel differs from what was applied, in words."""

    def explain(self, frontend: Frontend) -> list[str]:
        """The elements and rules for a frontend in the plan in force; none if it is not in it."""

    def remove(self) -> None:
        """Remove what a kube-proxy in this mode made, if anything."""

    def stop(self) -> None:
        """End what a method does in another thread, as far as it runs a program. Nothing may follow."""


def executor_for(family: Family, config: ProxyConfig) -> Executor:
    """The data plane for the configuration."""
    return NftablesExecutor(family, config) if config.mode == "nftables" else IptablesExecutor(family, config)


def cleanup(mode: Mode, families: Sequence[Family]) -> None:
    """Remove what a kube-proxy in this mode made in this network namespace, if anything.

    Raises ProgramError when the kernel refuses.
    """
    for family in families:
        executor_for(family, ProxyConfig(node_name="", mode=mode)).remove()
