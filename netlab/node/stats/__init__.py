"""What a node's pods use (what cAdvisor does for upstream's kubelet): read when somebody asks, and only then."""
