"""A whole Kubernetes network on one Linux machine, in which every packet can be watched."""

__version__ = "0.1.0"
