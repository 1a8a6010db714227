"""The media types of the API's bodies."""

JSON = "application/json"

PROTOBUF = "application/vnd.kubernetes.protobuf"
"""Kubernetes' own: four bytes and a runtime.Unknown."""

YAML = "application/yaml"
"""Of bodies alone: nothing is answered in it."""

MERGE_PATCH = "application/merge-patch+json"
"""RFC 7386."""

STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
"""Kubernetes' own: lists of objects are merged by key."""

JSON_PATCH = "application/json-patch+json"
"""RFC 6902."""

APPLY_PATCH = "application/apply-patch+yaml"
"""Kubernetes' own: an object that is applied by the server."""
