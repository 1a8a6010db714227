"""The kubelet's server: logs, commands, attaching and ports of its pods, for the API server and whoever may ask."""
