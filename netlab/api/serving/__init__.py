"""What the servers of a cluster share, the API server and the kubelet's: TLS, and connections that change protocol."""
