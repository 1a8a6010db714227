"""The embedded API server: Kubernetes' REST form over HTTP on a Unix socket, its state in SQLite."""
