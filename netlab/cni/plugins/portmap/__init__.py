"""The chained plugin `netlab-portmap`: it forwards ports of the node to the container, as for `hostPort`."""
