"""What runs on a node: the kubelet and the agent of the pod network."""
