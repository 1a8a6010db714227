"""Starts and stops the containers of one pod, with their hooks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from netlab.api import events
from netlab.api.core_types import Container, Pod
from netlab.errors import NetlabError, UsageError
from netlab.node import (
    capacity,
    configured,
    environment,
    imagepulls,
    logs,
    podfiles,
    podstate,
    recovery,
    resources,
    security,
    termination,
    wording,
)
from netlab.node.context import PodContext
from netlab.node.podstate import Exit, Run, Stop
from netlab.node.podstatus import container_id, terminated
from netlab.node.probing import Probing
from netlab.node.projections import has_files
from netlab.node.runtime.service import (
    ContainerConfig,
    ContainerExit,
    ImageNotPresentError,
    ImageStatus,
    Mount,
    RefusedError,
    StartError,
)
from netlab.node.volumes import MountError, Volumes

_HOOK_FAILED = "FailedPostStartHook"
_KEPT_LOGS = 2
"""Runs of a container whose output is kept: the current one and, for `logs --previous`, the one before."""

log = logging.getLogger(__name__)


class PodContainers:
    """A pod's containers. Begins to probe those that already run, since before the kubelet's restart."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._probing = Probing(context)
        pod = context.pod
        node = context.node
        self._volumes = Volumes(
            node.client,
            pod,
            node.config.pods_dir,
            certificates=node.certificates,
            allocatable=capacity.allocatable(node.config),
        )
        if has_files(pod):
            context.spawn(self._volumes.keep())
        for spec in pod.spec.all_containers():
            run = context.state.run(spec.name)
            if run.outdated:
                self._replace(spec)
            if run.running:
                self._probing.start(spec)
            elif run.exit is not None and not run.exit.message:
                message = self._message(spec, run, run.exit.code)
                run.exit = dataclasses.replace(run.exit, message=message)

    def update(self, pod: Pod) -> None:
        """The pod's object has changed."""
        images = {spec.name: spec.image for spec in self._context.pod.spec.all_containers()}
        for spec in pod.spec.all_containers():
            if spec.image != images.get(spec.name, spec.image):
                self._replace(spec)
        self._volumes.update(pod)

    def _replace(self, spec: Container) -> None:
        """Start a container again, whose image has changed, if it runs."""
        run = self._context.state.run(spec.name)
        if run.running:
            run.outdated, run.unhealthy = True, f"Container {spec.name} definition changed"
            self._context.wake.set()

    async def set_up_volumes(self) -> None:
        """Make the pod's volumes, or record why they are not there yet."""
        context, state = self._context, self._context.state
        try:
            await self._volumes.set_up()
        except MountError as error:
            state.mount_backoff = state.mount_backoff.failed()
            state.mount_retry_at = time.time() + state.mount_backoff.delay
            context.event("FailedMount", str(error))
        else:
            state.mounted, state.mount_backoff = True, podstate.SANDBOX

    def over_limit(self) -> str | None:
        """What to say of a volume that holds more than it may, if one does."""
        return self._volumes.over_limit()

    async def start(self, name: str) -> None:
        """Start a container, for the first time or again, or record why it cannot be started."""
        context, runtime = self._context, self._context.node.runtime
        spec, run = context.spec(name), context.state.run(name)
        if run.exit is not None:
            done = context.container_id(name)
            run.renew(terminated(context.pod, name, run))
            await runtime.remove_container(done)
        waited, run.waiting = run.waiting, None
        try:
            image = await imagepulls.ensure(context, spec)
            await runtime.create_container(await self._config(spec, run, image))
            context.event("Created", "Container created", events.NORMAL, container=name)
            begun = await runtime.start_container(context.container_id(name))
        except UsageError as error:
            self._cannot_start(spec, run, "CreateContainerConfigError", str(error))
        except StartError as error:
            run.ended(Exit(podstate.START_ERROR_EXIT_CODE, time.time(), 0, "StartError", str(error)))
            context.event("Failed", f"Error: failed to start container {name}: {error}", container=name)
            self._back_off(spec, run)
        except ImageNotPresentError as error:
            self._lacks_image(spec, run, str(error), again=waited is not None and "Image" in waited[0])
        except (RefusedError, OSError) as error:
            self._cannot_start(spec, run, "CreateContainerError", str(error))
        else:
            run.started_at, run.image_id = begun.started_at, begun.image_id
            run.image_backoff = podstate.IMAGE
            context.event("Started", "Container started", events.NORMAL, container=name)
            await self._post_start(spec, run)
            if run.exit is None:
                run.started = spec.startupProbe is None
                run.ready = run.started and spec.readinessProbe is None
                self._probing.start(spec)

    def stop(self, name: str, grace: float) -> None:
        """Begin to stop a container: its preStop hook, then SIGTERM."""
        run = self._context.state.run(name)
        run.stop = Stop(time.time(), grace)
        self._context.spawn(self._stop(self._context.spec(name), run, grace))

    async def kill(self, name: str) -> None:
        """End a container now."""
        await self._context.node.runtime.stop_container(self._context.container_id(name), timeout=0)
        self._context.state.run(name).killed = True

    async def remove_all(self) -> None:
        """Remove what is left of the containers, all of which have ended."""
        for name in self._context.state.runs:
            await self._context.node.runtime.remove_container(self._context.container_id(name))
        self._volumes.remove()

    def exited(self, event: ContainerExit) -> None:
        """A container of this pod has ended, or its sandbox."""
        context = self._context
        sandbox = context.state.sandbox
        if sandbox is not None and event.id == sandbox.id and event.id != context.state.lost_sandbox:
            context.state.lost_sandbox = event.id
            context.event("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", events.NORMAL)
            context.wake.set()
        for name, run in context.state.runs.items():
            if container_id(context.pod.metadata.uid, name, run.attempt) == event.id and run.exit is None:
                reason = podstate.OOM_KILLED if event.out_of_memory else ""
                message = self._message(context.spec(name), run, event.exit_code)
                run.ended(Exit(event.exit_code, event.finished_at, event.signal or 0, reason, message))
                self._probing.stop(name)
                self._back_off(context.spec(name), run)
                context.wake.set()

    def _back_off(self, spec: Container, run: Run) -> None:
        """Say so, if a container that has ended is not started again at once."""
        context, pod = self._context, self._context.pod
        if run.retry_at > time.time() and podstate.goes_on(pod, context.state, spec, run):
            what = f"Back-off restarting failed container {spec.name} in pod {wording.full_name(pod)}"
            context.event("BackOff", what, container=spec.name)

    def _cannot_start(self, spec: Container, run: Run, reason: str, message: str) -> None:
        run.waiting = (reason, message)
        run.backoff = run.backoff.failed()
        run.retry_at = time.time() + run.backoff.delay
        self._context.event("Failed", f"Error: {message}", container=spec.name)

    def _lacks_image(self, spec: Container, run: Run, why: str, *, again: bool) -> None:
        """Wait for an image that the user has to bring, in upstream's words (pkg/kubelet/images, image_manager.go)."""
        context, image = self._context, json.dumps(spec.image)
        if context.node.runtime.images is not None and run.image_backoff == podstate.IMAGE:
            run.image_backoff = podstate.PULL
        run.image_backoff = run.image_backoff.failed()
        run.retry_at = time.time() + run.image_backoff.delay
        if spec.imagePullPolicy == "Never":
            what = f"Container image {image} is not present with pull policy of Never"
            run.waiting = "ErrImageNeverPull", f"{what}: {why}"
            context.event("ErrImageNeverPull", what, container=spec.name)
        elif again:
            what = f"Back-off pulling image {image}"
            run.waiting = "ImagePullBackOff", f"{what}: ErrImagePull: {why}"
            context.event("BackOff", what, events.NORMAL, container=spec.name)
        else:
            run.waiting = "ErrImagePull", why
            context.event("Failed", f"Failed to pull image {image}: {why}", container=spec.name)
        context.event("Failed", f"Error: {run.waiting[0]}", container=spec.name)

    async def _config(self, spec: Container, run: Run, image: ImageStatus) -> ContainerConfig:
        """What a container's next run is made from. Raises `UsageError` for what its spec asks in vain."""
        context, state = self._context, self._context.state
        assert state.sandbox is not None
        security.verify_non_root(context.pod, spec, image.user)
        given = await context.node.service_variables(context.pod)
        values = await configured.read(context.node.client, context.pod.metadata.namespace, spec)
        env = self._environment(spec, given, values)
        return self._container(spec, run, self._volumes.mounts(spec, env), env)

    def _environment(self, spec: Container, given: Mapping[str, str], values: configured.Configured) -> dict[str, str]:
        pod, sandbox, node = self._context.pod, self._context.state.sandbox, self._context.node.config
        assert sandbox is not None
        return environment.environment(pod, spec, sandbox.ips, node.node_ips, given, values, capacity.allocatable(node))

    def _container(self, spec: Container, run: Run, mounts: list[Mount], env: dict[str, str]) -> ContainerConfig:
        context, pod, sandbox = self._context, self._context.pod, self._context.state.sandbox
        node = context.node.config
        assert sandbox is not None
        return ContainerConfig(
            id=context.container_id(spec.name),
            image=spec.image,
            log=str(self._log(spec, run)),
            sandbox=sandbox.id,
            command=[environment.expand(each, env) for each in spec.command],
            args=[environment.expand(each, env) for each in spec.args],
            env=env,
            cwd=spec.workingDir or None,
            hostname=podfiles.hostname(pod, node.dns.domain, node.node_name)[0],
            hosts=podfiles.hosts(pod, sandbox.ips, node.dns.domain, node.node_name),
            resolv_conf=podfiles.resolv_conf(pod, node.dns).text,
            mounts=[*mounts, self._message_mount(spec, run)],
            memory_limit=resources.memory_limit(spec),
            cpu_limit=resources.cpu_limit(spec),
            oom_score_adj=resources.oom_score_adj(pod, spec, capacity.memory()),
            stdin=spec.stdin,
            stdin_once=spec.stdinOnce,
            terminal=spec.tty,
            security_context=security.of_container(pod, spec, context.state),
            labels=recovery.labels(pod, spec, run.attempt, sandbox.ips),
        )

    def _message_mount(self, spec: Container, run: Run) -> Mount:
        """The file for a run's termination message, made."""
        path = self._volumes.make_message(spec.name, run.attempt)
        return Mount(source=str(path), target=termination.place(spec))

    def _message(self, spec: Container, run: Run, exit_code: int) -> str:
        context = self._context
        log = logs.log_path(context.node.config.log_dir, context.pod, spec.name, run.attempt)
        return termination.message(spec, exit_code, self._volumes.message_path(spec.name, run.attempt), log)

    def _log(self, spec: Container, run: Run) -> Path:
        """The file for a run's output, whose directory it makes. Removes the file of an older run."""
        pod, log_dir = self._context.pod, self._context.node.config.log_dir
        path = logs.log_path(log_dir, pod, spec.name, run.attempt)
        # Containers' output is private: other accounts may not read it.
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        old = logs.log_path(log_dir, pod, spec.name, run.attempt - _KEPT_LOGS)
        old.unlink(missing_ok=True)
        return path

    async def _post_start(self, spec: Container, run: Run) -> None:
        context = self._context
        hook = spec.lifecycle.postStart if spec.lifecycle else None
        if hook is None:
            return
        if wrong := await context.asker(spec)(hook, podstate.grace_period(context.pod, context.state)):
            log.warning("pod %s: container %s: postStart hook: %s", context.pod.key, spec.name, wrong)
            run.unhealthy = _HOOK_FAILED
            context.event("FailedPostStartHook", "PostStartHook failed", container=spec.name)

    async def _stop(self, spec: Container, run: Run, grace: float) -> None:
        context = self._context
        identity = context.container_id(spec.name)
        context.event("Killing", self._reason_to_stop(spec, run), events.NORMAL, container=spec.name)
        hook = spec.lifecycle.preStop if spec.lifecycle else None
        if hook is not None and (wrong := await context.asker(spec)(hook, grace)):
            log.warning("pod %s: container %s: preStop hook: %s", context.pod.key, spec.name, wrong)
            context.event("FailedPreStopHook", "PreStopHook failed", container=spec.name)
        with contextlib.suppress(NetlabError):
            # If it fails, the SIGKILL at the end of the grace period still comes.
            await context.node.runtime.stop_container(identity, grace)

    def _reason_to_stop(self, spec: Container, run: Run) -> str:
        pod, state = self._context.pod, self._context.state
        if not run.unhealthy or podstate.ending(pod, state):
            return f"Stopping container {spec.name}"
        again = run.outdated or (run.unhealthy != _HOOK_FAILED and podstate.restarts_unhealthy(pod, spec))
        return f"{run.unhealthy}, will be restarted" if again else run.unhealthy
