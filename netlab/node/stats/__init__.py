"""What a node's pods use (what cAdvisor does for upstream's kubelet): read on request, and only then."""
