"""Cluster DNS: the program of the `coredns` Deployment, and what its clients ask it."""
