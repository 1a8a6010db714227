"""admissionregistration.k8s.io/v1, with the field names of the Kubernetes API."""

from __future__ import annotations

import msgspec

from netlab.api.meta_types import LabelSelector, Object, Struct


class ServiceReference(Struct):
    """admissionregistration/v1.ServiceReference."""

    namespace: str = ""
    name: str = ""
    path: str = ""
    port: int = 443


class WebhookClientConfig(Struct):
    """admissionregistration/v1.WebhookClientConfig; caBundle is base64 of PEM."""

    url: str | None = None
    service: ServiceReference | None = None
    caBundle: str = ""


class RuleWithOperations(Struct):
    """admissionregistration/v1.RuleWithOperations."""

    operations: list[str] = []
    apiGroups: list[str] = []
    apiVersions: list[str] = []
    resources: list[str] = []
    scope: str = "*"


class MatchCondition(Struct):
    """admissionregistration/v1.MatchCondition: an expression of CEL."""

    name: str = ""
    expression: str = ""


class Webhook(Struct):
    """admissionregistration/v1.MutatingWebhook, and ValidatingWebhook, which has no reinvocationPolicy."""

    name: str = ""
    clientConfig: WebhookClientConfig = msgspec.field(default_factory=WebhookClientConfig)
    rules: list[RuleWithOperations] = []
    failurePolicy: str = "Fail"
    matchPolicy: str = "Equivalent"
    namespaceSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    objectSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    sideEffects: str | None = None
    timeoutSeconds: int = 10
    admissionReviewVersions: list[str] = []
    matchConditions: list[MatchCondition] = []
    reinvocationPolicy: str = "Never"


class WebhookConfiguration(Object):
    """admissionregistration/v1.MutatingWebhookConfiguration and ValidatingWebhookConfiguration."""

    webhooks: list[Webhook] = []
