"""Makes and removes the sandbox of one pod, with retries."""

from __future__ import annotations

import asyncio
import logging
import time

from netlab.api import events
from netlab.errors import NetlabError
from netlab.node import capabilities, podfiles, podstate
from netlab.node.context import PodContext
from netlab.node.podstate import SANDBOX, Sandbox

log = logging.getLogger(__name__)


async def make(context: PodContext) -> None:
    """Make a pod's sandbox, or record why it has none yet."""
    pod, state, node = context.pod, context.state, context.node
    if not state.sandbox_attempt:
        for warning in podfiles.resolv_conf(pod, node.config.dns).warnings:
            context.event("DNSConfigForming", warning)
    if pod.spec.hostNetwork:
        state.sandbox, state.ips = Sandbox(None, node.config.node_ips), node.config.node_ips
        return
    if not node.network_ready.is_set():
        state.sandbox_error = f"network is not ready: {node.sandboxes.network_error()}"
        context.event("NetworkNotReady", state.sandbox_error)
        context.reporter.report()
        await _network_or_news(context)
        return
    if _is_another(state):
        context.event("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", events.NORMAL)
    attempt, state.sandbox_attempt = state.sandbox_attempt, state.sandbox_attempt + 1
    try:
        podfiles.hostname(pod, node.config.dns.domain, node.config.node_name)
        async with node.sandboxes.slots:
            # Not before its turn: in a burst every pod would report, and most are ready soon after they begin.
            context.reporter.report()
            state.sandbox = await node.sandboxes.make(
                pod.metadata,
                attempt,
                capabilities.runtime_config(pod),
                podfiles.hostname(pod, node.config.dns.domain, node.config.node_name)[0],
                shared_pids=bool(pod.spec.shareProcessNamespace),
            )
    except NetlabError as error:
        state.sandbox_error = str(error)
        _failed(context, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
        return
    state.ips = state.sandbox.ips
    state.sandbox_error, state.sandbox_backoff, state.sandbox_retry_at = "", SANDBOX, 0.0


def _is_another(state: podstate.PodState) -> bool:
    """Whether a pod had a sandbox that went unseen; the end of one that was seen has been said."""
    if state.sandbox_error or state.lost_sandbox:
        return False
    return bool(state.sandbox_attempt) or any(run.exit for run in state.runs.values())


async def _network_or_news(context: PodContext) -> None:
    """Wait for the node's network; a pod that is deleted in the meantime does not."""
    waits = [asyncio.create_task(each.wait()) for each in (context.node.network_ready, context.wake)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


async def remove(context: PodContext) -> None:
    """Remove a pod's sandbox, after its containers have ended."""
    state, node = context.state, context.node
    assert state.sandbox is not None
    if state.sandbox.id is not None:
        try:
            await node.sandboxes.remove(state.sandbox.id, context.pod.metadata)
        except NetlabError as error:
            _failed(context, "FailedKillPod", f"error killing pod: {error}")
            return
    state.sandbox = None


async def replace(context: PodContext) -> None:
    """Remove a sandbox that has ended by itself, so that the pod gets another one."""
    await remove(context)
    if context.state.sandbox is None:
        podstate.initialize_again(context.pod, context.state)


def _failed(context: PodContext, reason: str, message: str) -> None:
    state = context.state
    state.sandbox_backoff = state.sandbox_backoff.failed()
    state.sandbox_retry_at = time.time() + state.sandbox_backoff.delay
    log.warning("pod %s: %s", context.pod.key, message)
    context.event(reason, message)
