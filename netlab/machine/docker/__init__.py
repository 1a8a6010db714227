"""Containers by a Docker engine of the host, for labs whose runtime it is: in place of forks of a machine's pid 1.

The engine is in the host's namespaces, and so is the process that speaks for it (serve.py). Nodes reach that process by
a socket each, in the protocol of machines; none of them, and no pod, ever gets the engine's own socket.
"""
