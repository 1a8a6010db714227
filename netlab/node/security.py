"""What a container may do and what it shares, by its pod's spec, in the words of CRI. Pure."""

from __future__ import annotations

from netlab.api.core_types import Container, EphemeralContainer, Pod
from netlab.errors import UsageError
from netlab.node.podstate import PodState
from netlab.node.podstatus import container_id
from netlab.node.runtime.service import CONTAINER, NODE, POD, TARGET, NamespaceOption, SecurityContext


def of_container(pod: Pod, container: Container, state: PodState) -> SecurityContext:
    """The security context of a container's next run. Raises `UsageError`."""
    return SecurityContext(namespace_options=_namespaces(pod, container, state))


def _namespaces(pod: Pod, container: Container, state: PodState) -> NamespaceOption:
    """As pkg/kubelet/kuberuntime/util, NamespacesForPod; a target's is asked for where each container has its own."""
    pid, target_id = CONTAINER, None
    if pod.spec.hostPID:
        pid = NODE
    elif pod.spec.shareProcessNamespace:
        pid = POD
    elif isinstance(container, EphemeralContainer) and container.targetContainerName:
        target = container.targetContainerName
        run = state.run(target)
        if not run.running:
            raise UsageError(f'unable to find target container "{target}"')
        pid, target_id = TARGET, container_id(pod.metadata.uid, target, run.attempt)
    return NamespaceOption(pid=pid, ipc=NODE if pod.spec.hostIPC else POD, target_id=target_id)
