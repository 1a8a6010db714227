"""HTTP's way into a cluster: Ingresses, made into a routing table, and that into the configuration of an HAProxy.

`rules` is the planner (objects to a table), `model` the table, `haproxy/` what a table is in HAProxy's words and the
process that follows them, `controller` what brings them together. It runs as a pod, by `program`.
"""
