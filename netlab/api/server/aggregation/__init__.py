"""The API groups of a cluster: those of this server, and those of others behind Services (kube-aggregator)."""
