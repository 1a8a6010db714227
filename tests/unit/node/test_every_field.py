"""Every field of a pod's spec: it has an effect that a test observes, or its author is warned, or it is refused.

The table of kinds is Kubernetes' own: a field that it gets and that is not listed here fails the test.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from netlab.api.core_types import PodSpec
from netlab.api.kinds import table
from netlab.api.server.objects import effects, schema

TESTS = Path(__file__).resolve().parents[2]

_SCHEDULER = "unit/controlplane/scheduler/test_decision.py::test_selection"

OBSERVED: dict[str, str] = {
    "system/node/test_kubelet.py::test_life_of_a_pod": """
        PodSpec.containers PodSpec.initContainers PodSpec.nodeName Container.name Container.image Container.command
        Container.env EnvVar.name EnvVar.value EnvVar.valueFrom EnvVarSource.fieldRef ObjectFieldSelector.fieldPath
        Container.readinessProbe Probe.httpGet ContainerPort.name""",
    "system/node/test_kubelet.py::test_pod_ends_by_itself": "PodSpec.restartPolicy PodSpec.enableServiceLinks",
    "system/node/test_kubelet.py::test_node_is_ready_once_the_network_is_configured": "PodSpec.hostNetwork",
    "system/node/test_kubelet.py::test_volumes": """
        PodSpec.volumes Volume.name Volume.emptyDir Volume.downwardAPI Container.volumeMounts VolumeMount.name
        VolumeMount.readOnly VolumeMount.mountPath Container.terminationMessagePath""",
    "system/node/test_kubelet.py::test_a_container_has_a_part_of_a_volume_and_no_link_leads_out_of_it": """
        VolumeMount.subPath VolumeMount.subPathExpr""",
    "system/node/test_kubelet.py::test_probes": """
        Container.livenessProbe Container.startupProbe Probe.exec Probe.tcpSocket Probe.periodSeconds
        Probe.failureThreshold""",
    "system/node/test_kubelet.py::test_hooks_and_grace": """
        PodSpec.terminationGracePeriodSeconds Container.lifecycle Lifecycle.postStart Lifecycle.preStop
        LifecycleHandler.exec""",
    "system/node/test_kubelet.py::test_sidecars_and_changed_images": """
        Container.restartPolicy LifecycleHandler.sleep SleepAction.seconds""",
    "system/node/test_events.py::test_pods_that_go_say_so": "PodSpec.activeDeadlineSeconds PodSpec.ephemeralContainers",
    "system/node/test_events.py::test_what_happens_to_pods_is_said": """
        Container.imagePullPolicy SecurityContext.runAsNonRoot PodSecurityContext.sysctls Sysctl.name""",
    "system/node/test_fields.py::test_a_volume_changes_whole_and_a_part_of_it_stays": """
        Container.workingDir DownwardAPIVolumeSource.items DownwardAPIVolumeFile.path DownwardAPIVolumeFile.fieldRef""",
    "system/node/test_fields.py::test_who_takes_too_much_is_evicted": """
        EmptyDirVolumeSource.medium EmptyDirVolumeSource.sizeLimit""",
    "system/node/test_fields.py::test_mounts_reach_other_containers": """
        VolumeMount.mountPropagation SecurityContext.privileged""",
    "system/machine/test_mounts.py::test_what_is_mounted_below_is_read_only_if_asked_for": """
        VolumeMount.recursiveReadOnly""",
    "system/machine/test_streams.py::test_attaching": "Container.stdin Container.stdinOnce Container.tty",
    "system/machine/test_cgroups.py::test_a_container_has_its_own_share": "Container.resources",
    "system/machine/test_security_context.py::test_powers": """
        SecurityContext.capabilities Capabilities.add Capabilities.drop""",
    "system/machine/test_security_context.py::test_a_root_file_system_that_is_only_read": """
        SecurityContext.readOnlyRootFilesystem""",
    "system/machine/test_security_context.py::test_what_is_masked_of_proc": "SecurityContext.procMount",
    "system/machine/test_security_context.py::test_sysctls_are_the_sandboxs": "Sysctl.value",
    "system/machine/test_security_context.py::test_users_and_groups": """
        SecurityContext.runAsUser SecurityContext.runAsGroup""",
    "system/machine/test_namespaces.py::test_a_container_is_in_the_pid_namespace_that_it_asks_for": """
        PodSpec.hostPID PodSpec.shareProcessNamespace EphemeralContainer.targetContainerName""",
    "unit/node/test_asking.py::test_what_is_said_of_an_answer": """
        ExecAction.command HTTPGetAction.path HTTPGetAction.port HTTPGetAction.host HTTPGetAction.scheme
        HTTPGetAction.httpHeaders HTTPHeader.name HTTPHeader.value TCPSocketAction.port TCPSocketAction.host
        Probe.grpc GRPCAction.port Probe.timeoutSeconds""",
    "unit/node/test_asking.py::test_hooks": "LifecycleHandler.httpGet LifecycleHandler.tcpSocket",
    "unit/node/test_asking.py::test_the_first_question_comes_after_the_initial_delay": "Probe.initialDelaySeconds",
    "unit/node/test_probes.py::test_thresholds": "Probe.successThreshold",
    "unit/node/test_grpchealth.py::test_a_service_is_asked_for_by_its_name": "GRPCAction.service",
    "unit/node/test_podstate.py::test_plan": """
        Probe.terminationGracePeriodSeconds Container.restartPolicyRules ContainerRestartRule.action
        ContainerRestartRule.exitCodes ContainerRestartRuleOnExitCodes.operator
        ContainerRestartRuleOnExitCodes.values""",
    "unit/node/test_podstate.py::test_readiness_gates": "PodSpec.readinessGates PodReadinessGate.conditionType",
    "unit/node/test_termination.py::test_message": "Container.terminationMessagePolicy",
    "unit/node/test_configured.py::test_variables": """
        Container.envFrom EnvFromSource.prefix EnvFromSource.configMapRef ConfigMapEnvSource.name
        EnvFromSource.secretRef
        SecretEnvSource.name
        EnvVarSource.configMapKeyRef ConfigMapKeySelector.name ConfigMapKeySelector.key
        EnvVarSource.secretKeyRef SecretKeySelector.name SecretKeySelector.key EnvVarSource.resourceFieldRef
        ConfigMapEnvSource.optional SecretEnvSource.optional
        ConfigMapKeySelector.optional SecretKeySelector.optional""",
    "unit/node/test_podfiles.py::test_expand": "Container.args",
    "unit/node/test_podfiles.py::test_hostname": "PodSpec.hostname PodSpec.subdomain PodSpec.setHostnameAsFQDN",
    "unit/node/test_podfiles.py::test_hosts": "PodSpec.hostAliases HostAlias.ip HostAlias.hostnames",
    "unit/node/test_podfiles.py::test_resolv_conf": """
        PodSpec.dnsPolicy PodSpec.dnsConfig PodDNSConfig.nameservers PodDNSConfig.searches PodDNSConfig.options
        PodDNSConfigOption.name PodDNSConfigOption.value""",
    "unit/node/test_resources.py::test_limits_are_rounded_up": "ResourceRequirements.limits",
    "unit/node/test_resources.py::test_who_is_ended_first": "ResourceRequirements.requests PodSpec.resources",
    "unit/node/test_resources.py::test_what_a_container_is_told": """
        ResourceFieldSelector.containerName ResourceFieldSelector.resource ResourceFieldSelector.divisor""",
    "unit/node/test_volumes.py::test_files_of_a_source": """
        Volume.projected ProjectedVolumeSource.sources VolumeProjection.configMap ConfigMapProjection.name
        ConfigMapProjection.items ConfigMapProjection.optional KeyToPath.key KeyToPath.path KeyToPath.mode
        VolumeProjection.downwardAPI DownwardAPIProjection.items DownwardAPIVolumeFile.mode
        VolumeProjection.serviceAccountToken ServiceAccountTokenProjection.path VolumeProjection.secret
        SecretProjection.name SecretProjection.items SecretProjection.optional""",
    "unit/node/test_volumes.py::test_a_volume_of_one_source": """
        Volume.configMap ConfigMapVolumeSource.name ConfigMapVolumeSource.items ConfigMapVolumeSource.optional
        Volume.secret SecretVolumeSource.secretName SecretVolumeSource.items SecretVolumeSource.optional
        SecretVolumeSource.defaultMode ConfigMapVolumeSource.defaultMode DownwardAPIVolumeSource.defaultMode
        DownwardAPIVolumeFile.resourceFieldRef""",
    "unit/node/test_volumes.py::test_sources_share_a_directory_and_its_mode": "ProjectedVolumeSource.defaultMode",
    "unit/node/test_volumes.py::test_a_token_is_asked_for_as_the_volume_says_and_bound_to_the_pod": """
        ServiceAccountTokenProjection.audience ServiceAccountTokenProjection.expirationSeconds
        PodSpec.serviceAccountName""",
    "unit/node/test_hostpaths.py::test_types": "Volume.hostPath HostPathVolumeSource.path HostPathVolumeSource.type",
    "unit/node/test_security.py::test_namespaces": "PodSpec.hostIPC",
    "unit/node/test_security.py::test_what_a_container_may_do": """
        PodSpec.securityContext Container.securityContext PodSecurityContext.runAsUser PodSecurityContext.runAsGroup
        PodSecurityContext.supplementalGroups PodSecurityContext.fsGroup PodSecurityContext.seccompProfile
        SecurityContext.seccompProfile SeccompProfile.type""",
    "unit/node/test_security.py::test_who_is_root_and_may_not_be": "PodSecurityContext.runAsNonRoot",
    "unit/node/test_capabilities.py::test_host_ports": """
        Container.ports ContainerPort.hostPort ContainerPort.containerPort ContainerPort.protocol
        ContainerPort.hostIP""",
    "unit/api/test_subresources.py::test_containers_are_added_to_a_pod_that_is_there": """
        EphemeralContainer.name EphemeralContainer.image EphemeralContainer.command EphemeralContainer.args
        EphemeralContainer.workingDir EphemeralContainer.env EphemeralContainer.envFrom EphemeralContainer.volumeMounts
        EphemeralContainer.terminationMessagePath EphemeralContainer.terminationMessagePolicy
        EphemeralContainer.imagePullPolicy EphemeralContainer.securityContext EphemeralContainer.stdin
        EphemeralContainer.stdinOnce EphemeralContainer.tty""",
    "unit/api/test_tokens.py::test_a_pod_gets_its_token_unless_it_or_its_account_wants_none": """
        PodSpec.automountServiceAccountToken PodSpec.serviceAccount""",
    "unit/api/test_scheduling.py::test_a_pod_has_the_priority_of_its_class": """
        PodSpec.priorityClassName PodSpec.priority""",
    "unit/api/test_scheduling.py::test_gates_only_go_and_meanwhile_the_choice_of_nodes_may_become_narrower": """
        PodSpec.schedulingGates PodSchedulingGate.name""",
    "unit/api/test_scheduling.py::test_label_keys_become_a_part_of_the_selectors": """
        PodAffinityTerm.matchLabelKeys PodAffinityTerm.mismatchLabelKeys TopologySpreadConstraint.matchLabelKeys""",
    "unit/api/admission/test_runtimeclass.py::test_a_pod_gets_what_its_class_needs": """
        PodSpec.runtimeClassName PodSpec.overhead""",
    "unit/controlplane/scheduler/test_preemption.py::test_victims": "PodSpec.preemptionPolicy",
    "unit/controlplane/test_nodes.py": "Toleration.tolerationSeconds",
    _SCHEDULER: """
        PodSpec.nodeSelector PodSpec.affinity Affinity.nodeAffinity Affinity.podAffinity Affinity.podAntiAffinity
        NodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
        NodeAffinity.preferredDuringSchedulingIgnoredDuringExecution NodeSelector.nodeSelectorTerms
        NodeSelectorTerm.matchExpressions NodeSelectorTerm.matchFields NodeSelectorRequirement.key
        NodeSelectorRequirement.operator NodeSelectorRequirement.values PreferredSchedulingTerm.weight
        PreferredSchedulingTerm.preference PodAffinity.requiredDuringSchedulingIgnoredDuringExecution
        PodAffinity.preferredDuringSchedulingIgnoredDuringExecution
        PodAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
        PodAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution PodAffinityTerm.labelSelector
        PodAffinityTerm.namespaces PodAffinityTerm.topologyKey PodAffinityTerm.namespaceSelector
        WeightedPodAffinityTerm.weight WeightedPodAffinityTerm.podAffinityTerm PodSpec.topologySpreadConstraints
        TopologySpreadConstraint.maxSkew TopologySpreadConstraint.topologyKey TopologySpreadConstraint.whenUnsatisfiable
        TopologySpreadConstraint.labelSelector TopologySpreadConstraint.minDomains
        TopologySpreadConstraint.nodeAffinityPolicy TopologySpreadConstraint.nodeTaintsPolicy
        PodSpec.tolerations Toleration.key Toleration.operator Toleration.value Toleration.effect
        PodSpec.schedulerName""",
}
"""What each test observes."""

REFUSED: dict[str, str] = {
    "unit/api/test_subresources.py::test_what_is_added_to_a_pod_is_checked_and_stays": """
        EphemeralContainer.ports EphemeralContainer.resources EphemeralContainer.livenessProbe
        EphemeralContainer.readinessProbe EphemeralContainer.startupProbe EphemeralContainer.lifecycle
        EphemeralContainer.restartPolicy EphemeralContainer.restartPolicyRules""",
}
"""What is refused, by a test."""

WARNED = "SecurityContext.allowPrivilegeEscalation PodSecurityContext.fsGroupChangePolicy"
"""Of which some values promise what is not kept (`api.server.objects.effects`)."""

NO_CHOICE = "ObjectFieldSelector.apiVersion"
"""There is one value alone."""


def _fields() -> dict[str, bool]:
    """The fields of a pod's spec, and of what is in it, each by its message: whether it is acted upon."""
    found: dict[str, bool] = {}
    waiting = [("core.v1.PodSpec", schema.fields_of("core.v1.PodSpec", PodSpec))]
    seen = set()
    while waiting:
        message, fields = waiting.pop()
        seen.add(message)
        for field in table.message(message).fields.values():
            shape = fields.shapes[field.name]
            found[f"{message.rpartition('.')[2]}.{field.name}"] = not shape.ignored
            below = (shape.item or shape).fields
            if not shape.ignored and below is not None and field.type.startswith("core.") and field.type not in seen:
                waiting.append((field.type, below))
    return found


def test_no_field_is_passed_over_in_silence() -> None:
    acted_upon = {name for name, is_acted_upon in _fields().items() if is_acted_upon}
    listed = Counter(" ".join([*OBSERVED.values(), *REFUSED.values(), WARNED, NO_CHOICE]).split())
    assert set(listed) == acted_upon
    assert {name for name, times in listed.items() if times > 1} == set()


@pytest.mark.parametrize("test", [*OBSERVED, *REFUSED])
def test_the_tests_are_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^def {name}\b", (TESTS / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("field", WARNED.split())
def test_the_warnings_are_there(field: str) -> None:
    name = field.partition(".")[2]
    assert any(rule.path.endswith(f"ecurityContext.{name}") for rule in effects._POD)
