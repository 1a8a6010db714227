"""What is particular to each kind: its defaults, its rules, and the status that it starts with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from netlab.api import stored_kinds
from netlab.api.resources import (
    APISERVICES,
    CERTIFICATESIGNINGREQUESTS,
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    HORIZONTALPODAUTOSCALERS_V1,
    INGRESSCLASSES,
    INGRESSES,
    JOBS,
    LEASES,
    LIMITRANGES,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    PRIORITYCLASSES,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    ROLEBINDINGS,
    ROLES,
    RUNTIMECLASSES,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICECIDRS,
    SERVICES,
    STATEFULSETS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    Resource,
)
from netlab.api.server.objects import autoscaling, custom, defaults, definitions, registration
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.objects.validation import (
    access,
    certificates,
    cluster,
    ephemeral_containers,
    ingresses,
    jobs,
    network_policies,
    pods,
    quotas,
    rules,
    secret,
    services,
    webhooks,
    workloads,
)
from netlab.api.server.objects.validation import definitions as definition_rules
from netlab.api.server.objects.validation import registration as registration_rules
from netlab.api.server.objects.validation.scheduling import priority_class, priority_class_update


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What is particular to a kind: functions of `defaults` and of the validation, and the status it starts with."""

    default: Callable[[JSONObject], None]
    validate: Callable[[Any, Problems], None]
    validate_update: Callable[[Any, Any, Problems], None] = rules.any_update
    first_status: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    complete_status: Callable[[JSONObject], None] = defaults.nothing
    validate_part: Callable[[Any, Any, str, Problems], None] | None = None
    """Of a part of the status, by its subresource."""
    check: Callable[[JSONObject, JSONObject | None, Problems], None] = rules.any_json
    """Of an object as JSON, and the one that was there."""


STRATEGIES: dict[str, Strategy] = {
    NAMESPACES.plural: Strategy(defaults.namespace, cluster.namespace, first_status={"phase": "Active"}),
    NODES.plural: Strategy(defaults.node, cluster.node, cluster.node_update, complete_status=defaults.node_status),
    PODS.plural: Strategy(
        defaults.pod,
        pods.pod,
        pods.pod_update,
        {"phase": "Pending"},
        defaults.pod_status,
        check=ephemeral_containers.none_at_first,
    ),
    SERVICES.plural: Strategy(
        defaults.service, services.service, services.service_update, first_status={"loadBalancer": {}}
    ),
    EVENTS.plural: Strategy(defaults.event, cluster.event),
    DEPLOYMENTS.plural: Strategy(defaults.deployment, workloads.deployment, workloads.workload_update),
    REPLICASETS.plural: Strategy(
        defaults.replica_set,
        workloads.replica_set,
        workloads.workload_update,
        complete_status=defaults.replica_set_status,
    ),
    REPLICATIONCONTROLLERS.plural: Strategy(
        defaults.replication_controller,
        workloads.replication_controller,
        complete_status=defaults.replica_set_status,
    ),
    DAEMONSETS.plural: Strategy(
        defaults.daemon_set,
        workloads.daemon_set,
        workloads.workload_update,
        complete_status=defaults.daemon_set_status,
    ),
    STATEFULSETS.plural: Strategy(
        defaults.stateful_set,
        workloads.stateful_set,
        workloads.stateful_set_update,
        complete_status=defaults.stateful_set_status,
    ),
    CONTROLLERREVISIONS.plural: Strategy(
        defaults.nothing, workloads.controller_revision, workloads.controller_revision_update
    ),
    JOBS.plural: Strategy(defaults.job, jobs.job, jobs.job_update),
    CRONJOBS.plural: Strategy(defaults.cron_job, jobs.cron_job),
    PODDISRUPTIONBUDGETS.plural: Strategy(defaults.nothing, workloads.budget, complete_status=defaults.budget_status),
    PRIORITYCLASSES.plural: Strategy(defaults.priority_class, priority_class, priority_class_update),
    SECRETS.plural: Strategy(defaults.secret, secret.secret, secret.secret_update),
    ENDPOINTSLICES.plural: Strategy(defaults.endpoint_slice, services.endpoint_slice, services.endpoint_slice_update),
    RUNTIMECLASSES.plural: Strategy(defaults.nothing, cluster.runtime_class, cluster.runtime_class_update),
    LEASES.plural: Strategy(defaults.nothing, cluster.lease),
    CONFIGMAPS.plural: Strategy(defaults.nothing, access.config_map, access.config_map_update),
    SERVICEACCOUNTS.plural: Strategy(defaults.nothing, access.service_account),
    CERTIFICATESIGNINGREQUESTS.plural: Strategy(
        defaults.nothing, certificates.request, validate_part=certificates.update
    ),
    LIMITRANGES.plural: Strategy(defaults.limit_range, quotas.limit_range),
    RESOURCEQUOTAS.plural: Strategy(defaults.nothing, quotas.quota, quotas.quota_update),
    ENDPOINTS.plural: Strategy(defaults.endpoints, access.endpoints),
    ROLES.plural: Strategy(defaults.nothing, access.role),
    CLUSTERROLES.plural: Strategy(defaults.nothing, access.cluster_role),
    ROLEBINDINGS.plural: Strategy(defaults.binding, access.role_binding, access.binding_update),
    CLUSTERROLEBINDINGS.plural: Strategy(defaults.binding, access.cluster_role_binding, access.binding_update),
    NETWORKPOLICIES.plural: Strategy(defaults.network_policy, network_policies.network_policy),
    INGRESSES.plural: Strategy(defaults.nothing, ingresses.ingress, first_status={"loadBalancer": {}}),
    INGRESSCLASSES.plural: Strategy(defaults.ingress_class, ingresses.ingress_class, ingresses.ingress_class_update),
    SERVICECIDRS.plural: Strategy(defaults.nothing, rules.anything),
    APISERVICES.plural: Strategy(
        registration.default,
        registration_rules.api_service,
        complete_status=registration.complete_status,
        validate_part=registration_rules.api_service_status,
    ),
    MUTATINGWEBHOOKCONFIGURATIONS.plural: Strategy(defaults.mutating_webhooks, webhooks.configuration),
    VALIDATINGWEBHOOKCONFIGURATIONS.plural: Strategy(defaults.webhooks, webhooks.configuration),
    CUSTOMRESOURCEDEFINITIONS.plural: Strategy(
        definitions.default,
        rules.anything,
        complete_status=definitions.complete_status,
        check=definition_rules.check,
    ),
    **{
        row.plural: Strategy(
            functools.partial(defaults.listed, defaults=row.defaults), rules.anything, first_status=row.first_status
        )
        for row in stored_kinds.ROWS
    },
    HORIZONTALPODAUTOSCALERS_V1.plural: Strategy(
        autoscaling.default, rules.anything, first_status={"currentMetrics": None, "desiredReplicas": 0}
    ),
}


def strategy_of(resource: Resource[Any]) -> Strategy:
    """What is particular to a resource; of a custom one, what its definition says."""
    if isinstance(resource, CustomResource):
        return Strategy(defaults.nothing, rules.anything, check=functools.partial(custom.check, resource))
    return STRATEGIES[resource.plural]
