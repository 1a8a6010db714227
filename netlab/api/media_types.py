"""The media types of the API's bodies."""

JSON = "application/json"

MERGE_PATCH = "application/merge-patch+json"
"""RFC 7386."""

STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
"""Kubernetes' own: lists of objects are merged by key."""

JSON_PATCH = "application/json-patch+json"
"""RFC 6902."""
