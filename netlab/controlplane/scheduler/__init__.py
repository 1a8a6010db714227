"""The scheduler: pods without a node get one, in the manner of kube-scheduler.

podinfo, nodeinfo      what is derived once from a pod or a node, and counted as pods come and go
cache                  all nodes and what is placed on them, counts over them, nominations
plugins/               upstream's plugins: what refuses a node, and what scores one
decision               the node for a pod, or why there is none; preemption: whose place it may take
waiting                which changes may help a pod that waits, and from when on
controller             the executor: bindings, conditions, events, victims
"""
