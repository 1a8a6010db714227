"""The kubelet's server: logs, commands, attaching and ports of its pods, for clients that may use them."""
