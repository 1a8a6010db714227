"""Addresses for Services of type LoadBalancer, from pools: what a cloud's controller, or MetalLB's, does."""
