"""What can be done with objects: Kubernetes' generic registry, and what single kinds add to it."""
