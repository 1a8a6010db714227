"""What a Deployment's ReplicaSets should be: upstream's deployment controller (pkg/controller/deployment), pure."""
