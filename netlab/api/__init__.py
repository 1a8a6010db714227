"""Kubernetes-shaped objects, the client of an API server, and the embedded server."""
