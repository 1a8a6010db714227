"""The main plugin, `netlab`: it connects a container to the node."""
