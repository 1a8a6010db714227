"""The daemon set controller: a pod on each node that is to have one."""
