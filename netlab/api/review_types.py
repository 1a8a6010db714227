"""authentication.k8s.io/v1 and authorization.k8s.io/v1: questions that are answered and not stored (1.37)."""

from __future__ import annotations

import msgspec

from netlab.api.core_types import ObjectReference
from netlab.api.meta_types import Ignored, Int64, Object, Struct


class UserInfo(Struct):
    """authentication.v1.UserInfo."""

    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class TokenRequestSpec(Struct):
    """authentication.v1.TokenRequestSpec."""

    audiences: list[str] = []
    expirationSeconds: Int64 | None = None
    boundObjectRef: ObjectReference | None = None


class TokenRequestStatus(Struct):
    """authentication.v1.TokenRequestStatus."""

    token: str = ""
    expirationTimestamp: str | None = None


class TokenRequest(Object):
    """authentication.v1.TokenRequest."""

    spec: TokenRequestSpec = msgspec.field(default_factory=TokenRequestSpec)
    status: TokenRequestStatus = msgspec.field(default_factory=TokenRequestStatus)


class TokenReviewSpec(Struct):
    """authentication.v1.TokenReviewSpec."""

    token: str = ""
    audiences: list[str] = []


class TokenReviewStatus(Struct):
    """authentication.v1.TokenReviewStatus."""

    authenticated: bool = False
    user: UserInfo = msgspec.field(default_factory=UserInfo)
    audiences: list[str] = []
    error: str = ""


class TokenReview(Object):
    """authentication.v1.TokenReview."""

    spec: TokenReviewSpec = msgspec.field(default_factory=TokenReviewSpec)
    status: TokenReviewStatus = msgspec.field(default_factory=TokenReviewStatus)


class SelfSubjectReviewStatus(Struct):
    """authentication.v1.SelfSubjectReviewStatus."""

    userInfo: UserInfo = msgspec.field(default_factory=UserInfo)


class SelfSubjectReview(Object):
    """authentication.v1.SelfSubjectReview: who asks."""

    status: SelfSubjectReviewStatus = msgspec.field(default_factory=SelfSubjectReviewStatus)


class ResourceAttributes(Struct):
    """authorization.v1.ResourceAttributes."""

    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    fieldSelector: Ignored = None
    labelSelector: Ignored = None


class NonResourceAttributes(Struct):
    """authorization.v1.NonResourceAttributes."""

    path: str = ""
    verb: str = ""


class SelfSubjectAccessReviewSpec(Struct):
    """authorization.v1.SelfSubjectAccessReviewSpec."""

    resourceAttributes: ResourceAttributes | None = None
    nonResourceAttributes: NonResourceAttributes | None = None


class SubjectAccessReviewSpec(SelfSubjectAccessReviewSpec):
    """authorization.v1.SubjectAccessReviewSpec."""

    user: str = ""
    groups: list[str] = []
    uid: str = ""
    extra: dict[str, list[str]] = {}


class SubjectAccessReviewStatus(Struct):
    """authorization.v1.SubjectAccessReviewStatus."""

    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluationError: str = ""


class SelfSubjectAccessReview(Object, kw_only=True):
    """authorization.v1.SelfSubjectAccessReview: whether the one who asks may do something."""

    spec: SelfSubjectAccessReviewSpec
    status: SubjectAccessReviewStatus = msgspec.field(default_factory=SubjectAccessReviewStatus)


class SubjectAccessReview(Object, kw_only=True):
    """authorization.v1.SubjectAccessReview and LocalSubjectAccessReview: whether a user may do something."""

    spec: SubjectAccessReviewSpec
    status: SubjectAccessReviewStatus = msgspec.field(default_factory=SubjectAccessReviewStatus)


class SelfSubjectRulesReviewSpec(Struct):
    """authorization.v1.SelfSubjectRulesReviewSpec."""

    namespace: str = ""


class ResourceRule(Struct):
    """authorization.v1.ResourceRule."""

    verbs: list[str]
    apiGroups: list[str] = []
    resources: list[str] = []
    resourceNames: list[str] = []


class NonResourceRule(Struct):
    """authorization.v1.NonResourceRule."""

    verbs: list[str]
    nonResourceURLs: list[str] = []


class SubjectRulesReviewStatus(Struct):
    """authorization.v1.SubjectRulesReviewStatus."""

    resourceRules: list[ResourceRule] = []
    nonResourceRules: list[NonResourceRule] = []
    incomplete: bool = False
    evaluationError: str = ""


class SelfSubjectRulesReview(Object, kw_only=True):
    """authorization.v1.SelfSubjectRulesReview: all that the one who asks may do."""

    spec: SelfSubjectRulesReviewSpec
    status: SubjectRulesReviewStatus = msgspec.field(default_factory=SubjectRulesReviewStatus)
