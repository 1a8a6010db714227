"""Kubernetes' built-in kinds as one table of facts, and what follows from it: protobuf and OpenAPI.

Only the API server loads it.
"""
