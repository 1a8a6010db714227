"""Announces load balancers' addresses on the nodes' network, from one node each: what MetalLB's speaker does."""
